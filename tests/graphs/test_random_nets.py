"""Some thousand small nets by chance: graph against reference, and both against OpenCV where it reads the net."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest

from converter.caffemodel import write_caffemodel
from converter.describe import Request, describe, message_of
from converter.port import Port
from converter.prototxt import parse_prototxt, print_prototxt
from graphs import infer, run_reference
from graphs.emit import build
from graphs.names import name_values
from graphs.tensorflow1 import tensorflow1
from tests.graphs.random_nets import definition
from weights import Parameter

TOLERANCE = 2e-5
"""Of a blob's largest magnitude, as against Caffe; beside it, 30 times what float32 moves the reference itself."""

IN_OPENCV = {
    *("Input", "Convolution", "InnerProduct", "ReLU", "TanH", "Sigmoid", "BNLL", "Concat", "Dropout", "PReLU"),
    *("Softmax", "AbsVal", "Split"),
}
"""Layers that OpenCV's importer computes as Caffe does, in the forms that these nets have."""


def port_of(seed: int) -> tuple[Port, dict[str, np.ndarray]]:
    """Returns a net by chance with parameters by chance, and what to feed it."""
    text, labels = definition(seed)
    described = describe(parse_prototxt(text), Request())
    shapes = infer(described.network)
    names = name_values(shapes)
    rng = np.random.default_rng(seed)
    parameters: dict[str, Parameter] = {}
    for layer, variables in zip(shapes, names.variables):
        for spec, variable in zip(layer.parameters, variables):
            drawn = rng.standard_normal(spec.layout.caffe).astype(np.float32)
            is_spread = spec.name in ("variance", "scale_factor")
            array = np.asarray(np.abs(drawn) + 0.5 if is_spread else drawn, np.float32)
            parameters.setdefault(variable, Parameter(variable, spec.layout, array))
    feeds = {
        blob: (rng.integers(0, 2, shape) if blob in labels else rng.standard_normal(shape)).astype(np.float32)
        for blob, shape in described.network.inputs.items()
    }
    return Port(described.network, shapes, names, parameters), feeds


def by_graph(ports: list[tuple[Port, dict[str, np.ndarray]]]) -> Iterator[dict[tuple[str, str], np.ndarray]]:
    """Yields each net's values, all fetched together from one graph that holds them all."""
    tf = tensorflow1("the tests")
    feeds: dict[str, np.ndarray] = {}
    fetches: list[dict[tuple[str, str], str]] = []
    with tf.Graph().as_default() as whole:
        for place, (port, given) in enumerate(ports):
            with tf.Graph().as_default() as graph:
                build(port.network, port.shapes, port.names, tf, _constant(tf, port))
            tf.import_graph_def(graph.as_graph_def(), name=f"net{place}")
            tops = {
                (layer.node.name, top): f"net{place}/{name}:0"
                for layer, names in zip(port.shapes, port.names.tops)
                for top, name in zip(layer.node.tops, names)
            }
            fetches.append(tops)
            feeds |= {
                tensor: np.moveaxis(given[top], 1, -1) if given[top].ndim >= 4 else given[top]
                for (_, top), tensor in tops.items()
                if top in given and whole.get_tensor_by_name(tensor).op.type == "Placeholder"
            }
    with tf.Session(graph=whole) as session:
        for values in session.run(fetches, feeds):
            yield {key: np.moveaxis(value, -1, 1) if value.ndim >= 4 else value for key, value in values.items()}


def _constant(tf: Any, port: Port) -> Any:
    return lambda name, spec: tf.constant(port.parameters[name].tensorflow(), name=name)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(20))
def test_graph_and_reference_agree(part):
    ports = [port_of(seed) for seed in range(100 * part, 100 * (part + 1))]
    compared = 0
    for seed, (port, feeds), values in zip(range(100 * part, 100 * (part + 1)), ports, by_graph(ports)):
        with np.errstate(all="ignore"):
            exact, rounded = (
                run_reference(port.shapes, port.arrays(), feeds, dtype) for dtype in (np.float64, np.float32)
            )
        assert values.keys() == exact.keys()
        for key, value in values.items():
            what = f"net {seed}, {key}:\n{definition(seed)[0]}"
            assert value.shape == exact[key].shape, what
            compared += value.size > 0
            far = ~(np.abs(exact[key]) < 1e30) | ~(np.abs(rounded[key]) < 1e30)  # float32 ends there
            error, noise = (np.abs(one - exact[key])[~far].max(initial=0) for one in (value, rounded[key]))
            scale = np.abs(exact[key][~far]).max(initial=0)
            assert error <= TOLERANCE * scale + 30 * noise, what
    assert compared > 900


@pytest.mark.slow
def test_opencv_agrees():
    compared = 0
    for seed in range(2000):
        port, feeds = port_of(seed)
        plain = {node.layer.type for node in port.network.nodes} <= IN_OPENCV
        if not plain or set(feeds) != {"data"} or not any(layer.parameters for layer in port.shapes):
            continue
        file = io.BytesIO()
        message = message_of(port.network)
        write_caffemodel(file, message, port.arrays())
        net = cv2.dnn.readNetFromCaffe(bytearray(print_prototxt(message).encode()), bytearray(file.getvalue()))
        net.setInput(feeds["data"], "data")
        last = {top: node.name for node in port.network.nodes for top in node.tops if len(node.tops) == 1}
        values = run_reference(port.shapes, port.arrays(), feeds)
        for blob in port.network.outputs:
            if blob not in last:
                continue
            expected = net.forward(last[blob])
            got = values[last[blob], blob]
            assert got.size == expected.size
            error = np.abs(got.ravel() - expected.ravel()).max()
            assert error <= 1e-4 * np.abs(expected).max(), f"net {seed}, {blob}:\n{definition(seed)[0]}"
            compared += 1
    assert compared > 50
