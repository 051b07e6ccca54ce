"""tools.benchmark's PyTorch form: the numbers that Caffe recorded, or a refusal that says why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from converter import convert
from tools.benchmark.torch_layers import torch_network
from weights import Refused

torch = pytest.importorskip("torch")

WITH_TORCH_FORM = (
    "batchnorm",
    "concat_axis2",
    "concat_channels",
    "conv_basic",
    "conv_depthwise",
    "conv_dilated",
    "conv_group2",
    "conv_one_by_one",
    "conv_rect",
    "conv_stride2_pad1",
    "dropout_test",
    "eltwise_max",
    "eltwise_prod",
    "eltwise_sum",
    "eltwise_sum_coeff",
    "flatten",
    "in_place_chain",
    "inner_product_axis2",
    "inner_product_from_4d",
    "inner_product_nobias",
    "legacy_input_dim",
    "lrn_alexnet",
    "lrn_k2_n3",
    "lrn_strong",
    "lrn_within",
    "mini_alexnet",
    "mini_resnet",
    "pool_ave_2x2_odd",
    "pool_ave_3x2_pad1",
    "pool_default_pool_stride1",
    "pool_global_ave",
    "pool_max_3x2",
    "pool_max_3x2_pad1",
    "pool_max_clip_last",
    "pool_max_floor",
    "relu",
    "relu_leaky",
    "scale",
    "scale_bias",
    "shared_parameters",
    "softmax",
    "v1_layers",
)


@pytest.mark.parametrize("case", WITH_TORCH_FORM)
def test_computes_what_caffe_recorded(case: str, golden: Path, agree):
    files = [path for path in (golden / case / "net.prototxt", golden / case / "weights.caffemodel") if path.exists()]
    port = convert(*files)
    recorded = np.load(golden / case / "reference.npz")
    inputs = {name[6:]: torch.tensor(recorded[name]) for name in recorded.files if name.startswith("input/")}
    parameters = {name: torch.tensor(one.caffe) for name, one in port.parameters.items()}
    values = torch_network(port).values(inputs, parameters)
    expected = {name: recorded[name] for name in recorded.files if name.startswith("layer/")}
    compared = 0
    for (layer, top), value in values.items():
        if f"layer/{layer}/{top}" in expected:
            agree(value.numpy(), expected[f"layer/{layer}/{top}"], 2e-5, layer)
            compared += 1
    assert compared == len(values)


def test_refuses_every_layer_that_has_none(golden: Path):
    with pytest.raises(Refused, match=r"layer 'y' \(MVN\): type MVN has no PyTorch form here"):
        torch_network(convert(golden / "mvn" / "net.prototxt"))


def test_refuses_what_would_compute_something_else(tmp_path: Path):
    definition = tmp_path / "net.prototxt"
    definition.write_text(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 7 dim: 11 } } }\n'
        'layer { name: "wide" type: "Pooling" bottom: "x" top: "wide" '
        "pooling_param { pool: MAX kernel_size: 3 pad: 2 stride: 2 } }\n"
        'layer { name: "places" type: "Pooling" bottom: "x" top: "y" top: "mask" '
        "pooling_param { pool: MAX kernel_size: 3 stride: 2 } }\n"
        'layer { name: "drop" type: "Dropout" bottom: "x" top: "drop" }\n'
    )
    with pytest.raises(Refused) as refused:
        torch_network(convert(definition, phase="TRAIN"))
    assert [reason.partition(": ")[2] for reason in refused.value.reasons] == [
        "pads more than half of its window, which PyTorch does not take",
        "has a second top, the places of its maxima, which has no PyTorch form here",
        "drops values in phase TRAIN; only phase TEST has a PyTorch form here",
    ]
