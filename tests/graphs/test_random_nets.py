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
from tests.graphs.random_nets import PLAIN, definition
from weights import Parameter

TOLERANCE = 2e-5
"""Of a blob's largest magnitude, as against Caffe; beside it, 30 times what float32 moves the reference itself."""

IN_OPENCV = {
    *("Input", "Convolution", "InnerProduct", "ReLU", "TanH", "Sigmoid", "BNLL", "Concat", "Dropout", "PReLU"),
    *("Softmax", "AbsVal", "LRN", "ELU", "Power", "Exp", "Eltwise"),
}
"""Layers that OpenCV's importer computes as Caffe does, in the forms that these nets have."""


def port_of(seed: int, **what: Any) -> tuple[Port, dict[str, np.ndarray]]:
    """Returns a net by chance with parameters by chance, and what to feed it."""
    text, labels = definition(seed, **what)
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
    seeds = range(100 * part, 100 * (part + 1))
    ports = [port_of(seed) for seed in seeds]
    compared = 0
    for seed, (port, feeds), values in zip(seeds, ports, by_graph(ports)):
        with np.errstate(all="ignore"):
            exact, rounded = (
                run_reference(port.shapes, port.arrays(), feeds, dtype) for dtype in (np.float64, np.float32)
            )
        assert values.keys() == exact.keys()
        beyond: set[str] = set()  # blobs that float32 can't hold, and what is made of them
        for node in port.network.nodes:
            for top in node.tops:
                key = node.name, top
                assert values[key].shape == exact[key].shape, f"net {seed}, {key}:\n{definition(seed)[0]}"
                far = ~(np.abs(exact[key]) < 1e30) | ~(np.abs(rounded[key]) < 1e30)
                if not beyond.intersection(node.bottoms):
                    error, noise = (
                        np.abs(one - exact[key])[~far].max(initial=0) for one in (values[key], rounded[key])
                    )
                    scale = np.abs(exact[key][~far]).max(initial=0)
                    assert error <= TOLERANCE * scale + 30 * noise, f"net {seed}, {key}:\n{definition(seed)[0]}"
                    compared += not far.all()
                if far.any() or beyond.intersection(node.bottoms):
                    beyond.add(top)
    assert compared > 900


@pytest.mark.slow
def test_opencv_agrees():
    """With the reference, in nets that it reads: it does not read ``transpose``, nor windows larger than pictures."""
    compared = 0
    for seed in range(700):
        port, feeds = port_of(seed, layers=4, kinds=PLAIN)
        text = definition(seed, layers=4, kinds=PLAIN)[0]
        is_known = {node.layer.type for node in port.network.nodes} <= IN_OPENCV and "transpose" not in text
        if not is_known or set(feeds) != {"data"} or not port.parameters:
            continue
        values = run_reference(port.shapes, port.arrays(), feeds)
        for (blob, node), expected in by_opencv(port, feeds["data"]).items():
            got = values[node, blob]
            error = np.abs(got - expected.reshape(got.shape)).max()
            assert error <= TOLERANCE * np.abs(expected).max(), f"net {seed}, {blob} differs by {error:.3g}:\n{text}"
            compared += 1
    assert compared > 100


def by_opencv(port: Port, data: np.ndarray) -> dict[tuple[str, str], np.ndarray]:
    """Returns (blob, the layer that made it last) -> value of a net's outputs; nothing where OpenCV refuses the net."""
    file, message = io.BytesIO(), message_of(port.network)
    write_caffemodel(file, message, port.arrays())
    last = {node.tops[0]: node.name for node in port.network.nodes if node.tops[0] in port.network.outputs}
    try:
        net = cv2.dnn.readNetFromCaffe(bytearray(print_prototxt(message).encode()), bytearray(file.getvalue()))
        net.setInput(data, "data")
        return {(blob, node): net.forward(node) for blob, node in last.items()}
    except cv2.error:
        return {}
