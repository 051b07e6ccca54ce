"""Every layer's tensor can be fetched together with any other, in plain TensorFlow, whatever its optimizer fuses."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from converter import convert
from graphs.tensorflow1 import tensorflow1
from weights import Parameter

CONV = "type: 'Convolution' convolution_param { num_output: 5 kernel_size: 3 }"
DEPTHWISE = "type: 'Convolution' convolution_param { num_output: 3 group: 3 kernel_size: 3 }"
LEAKY = "type: 'ReLU' relu_param { negative_slope: 0.1 }"
PRODUCT = "type: 'Eltwise' eltwise_param { operation: PROD }"

# Name -> layers as (name, bottoms, what it is): what TensorFlow computes in one operation, as the layers of a net.
NETS = {
    "leaky": [("c", "data", CONV), ("y", "c", LEAKY)],
    "leaky, depthwise": [("c", "data", DEPTHWISE), ("y", "c", LEAKY)],
    "leaky, fully connected": [
        ("c", "data", "type: 'InnerProduct' inner_product_param { num_output: 7 }"),
        ("y", "c", LEAKY),
    ],
    "leaky after Scale": [
        ("c", "data", CONV.replace("kernel_size", "bias_term: false kernel_size")),
        ("s", "c", "type: 'Scale' scale_param { bias_term: true }"),
        ("y", "s", LEAKY),
    ],
    "leaky after Bias": [
        ("c", "data", CONV.replace("kernel_size", "bias_term: false kernel_size")),
        ("s", "c", "type: 'Bias'"),
        ("y", "s", LEAKY),
    ],
    "leaky after a sum": [("c", "data", CONV), ("d", "data", CONV), ("s", "c d", "type: 'Eltwise'"), ("y", "s", LEAKY)],
    "relu after a sum": [
        ("c", "data", CONV),
        ("d", "data", CONV),
        ("s", "c d", "type: 'Eltwise'"),
        ("y", "s", "type: 'ReLU'"),
    ],
    "swish": [("c", "data", CONV), ("y", "c", "type: 'Swish'")],
    "swish of two layers": [("c", "data", CONV), ("s", "c", "type: 'Sigmoid'"), ("y", "c s", PRODUCT)],
    "swish of two layers, by Scale": [
        ("c", "data", CONV),
        ("s", "c", "type: 'Sigmoid'"),
        ("y", "c s", "type: 'Scale' scale_param { axis: 0 }"),
    ],
    "swish without a convolution": [("s", "data", "type: 'Sigmoid'"), ("y", "data s", PRODUCT)],
    "mish": [("c", "data", CONV), ("p", "c", "type: 'BNLL'"), ("t", "p", "type: 'TanH'"), ("y", "c t", PRODUCT)],
    "leaky as a maximum": [
        ("c", "data", CONV),
        ("s", "c", "type: 'Power' power_param { scale: 0.1 }"),
        ("y", "c s", "type: 'Eltwise' eltwise_param { operation: MAX }"),
    ],
    "hard swish": [
        ("c", "data", CONV),
        ("p", "c", "type: 'Power' power_param { shift: 3 }"),
        ("r", "p", "type: 'ReLU6'"),
        ("s", "r", "type: 'Power' power_param { scale: 0.1666667 }"),
        ("y", "c s", PRODUCT),
    ],
    "batch normalization": [
        ("c", "data", CONV),
        ("n", "c", "type: 'BatchNorm'"),
        ("s", "n", "type: 'Scale' scale_param { bias_term: true }"),
        ("y", "s", "type: 'ReLU'"),
    ],
    "instance normalization": [("c", "data", CONV), ("n", "c", "type: 'MVN'"), ("y", "n", LEAKY)],
    "elu": [("c", "data", CONV), ("y", "c", "type: 'ELU'")],
    "a bias for each picture": [
        ("c", "data", "type: 'InnerProduct' inner_product_param { num_output: 7 }"),
        ("b", "c", "type: 'Bias' bias_param { axis: 0 }"),
        ("y", "b", LEAKY),
    ],
    "a factor and a bias for each picture": [
        ("c", "data", "type: 'InnerProduct' inner_product_param { num_output: 7 }"),
        ("s", "c", "type: 'Scale' scale_param { axis: 0 bias_term: true }"),
        ("y", "s", LEAKY),
    ],
    "a bias for each row": [
        ("c", "data", CONV),
        ("b", "c", "type: 'Bias' bias_param { axis: 2 }"),
        ("y", "b", LEAKY),
    ],
    "in place": [("c", "data", CONV), ("y", "c", LEAKY + " #in place")],
}


def definition(layers: list[tuple[str, str, str]]) -> str:
    lines = ['layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 7 dim: 11 } } }']
    for name, bottoms, what in layers:
        read = " ".join(f'bottom: "{bottom}"' for bottom in bottoms.split())
        top = bottoms if "#in place" in what else name
        lines.append(f'layer {{ name: "{name}" {read} top: "{top}" {what.removesuffix(" #in place")} }}')
    return "\n".join(lines)


@pytest.mark.parametrize("name", NETS)
def test_any_two_layers_together(name, tmp_path, rng):
    (tmp_path / "net.prototxt").write_text(definition(NETS[name]))
    port = convert(tmp_path / "net.prototxt")
    for layer, variables in zip(port.shapes, port.names.variables):
        for spec, variable in zip(layer.parameters, variables):
            first = rng.uniform(0.5, 1, spec.layout.caffe)  # no zeros, which the optimizer would take out
            port.parameters[variable] = Parameter(variable, spec.layout, first.astype(np.float32))
    port.save(tmp_path / "net.pb")
    manifest = json.loads((tmp_path / "net.pb.json").read_text())
    tensors = [top["tensor"] for layer in manifest["layers"] for top in layer["tops"]][1:]
    assert len(tensors) == len(NETS[name])
    items = 3 if port.shapes.free_batch else 2
    x = rng.standard_normal((items, 7, 11, 3)).astype(np.float32)
    tf = tensorflow1("the tests")
    with tf.Graph().as_default(), tf.Session() as session:
        tf.import_graph_def(tf.GraphDef.FromString((tmp_path / "net.pb").read_bytes()), name="")
        alone = {tensor: session.run(tensor, {"data:0": x}) for tensor in tensors}
        for together in (tensors, *itertools.combinations(tensors, 2)):
            for tensor, value in zip(together, session.run(list(together), {"data:0": x})):
                np.testing.assert_allclose(
                    value, alone[tensor], rtol=1e-5, atol=1e-5, err_msg=f"{tensor} in {together}"
                )
