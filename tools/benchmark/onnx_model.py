"""A port as an ONNX model, so that ONNX Runtime can be timed on the same network.

The model is in Caffe's layout (N, C, H, W), with Caffe's own weights; its values bear the names that the frozen graph
gives to them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from graphs.layers.data import Input
from tools.benchmark.onnx_layers import Place, nodes_of
from weights import Refused, Shape

if TYPE_CHECKING:
    from converter.port import Port

OPSET, IR_VERSION = 17, 8  # what ONNX Runtime 1.18 and all later ones read
LARGEST = 2**31 - (64 << 20)
"""Bytes of weights that fit in a protobuf message beside the graph itself."""


def onnx_model(port: Port) -> Any:
    """Returns the port as an ``onnx.ModelProto``.

    Raises Refused with every layer that has no ONNX form, and where weights are absent or pass protobuf's 2 GiB.
    """
    from onnx import helper, numpy_helper

    arrays = _parameters(port)
    blobs: dict[str, tuple[str, Shape]] = {}  # by the blob's name: its value's, and its shape
    fed: list[tuple[str, Shape]] = []
    nodes, problems = [], []
    for layer, tops, variables in zip(port.shapes, port.names.tops, port.names.variables):
        if isinstance(layer.node.layer, Input):
            fed += zip(tops, layer.open_tops)
        else:
            reads = tuple(blobs[bottom][0] for bottom in layer.node.bottoms)
            parameters = {name: arrays[name] for name in variables}
            place = Place(port.network.phase, reads, tops, layer.open_bottoms, layer.open_tops, parameters)
            try:
                nodes += nodes_of(layer.node.layer, place)
                arrays |= place.constants
            except ValueError as error:
                problems.append(f"{layer.node}: {error}")
        blobs |= zip(layer.node.tops, zip(tops, layer.open_tops))
    if problems:
        raise Refused(*problems)
    read = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        port.network.name or "network",
        _values(fed),
        _values(blobs[blob] for blob in port.network.outputs),
        [numpy_helper.from_array(array, name) for name, array in arrays.items() if name in read],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    return helper.make_model(graph, producer_name="caffeport", ir_version=IR_VERSION, opset_imports=opsets)


def _parameters(port: Port) -> dict[str, np.ndarray]:
    if not port.parameters and any(layer.parameters for layer in port.shapes):
        raise Refused("an ONNX model needs weights; give the net's .caffemodel too")
    arrays = {name: parameter.caffe for name, parameter in port.parameters.items()}
    size = sum(array.nbytes for array in arrays.values())
    if size > LARGEST:
        raise Refused(f"the weights are {size / 2**30:.1f} GiB, and an ONNX model in one piece ends at 2 GiB")
    return arrays


def _values(ends: Iterable[tuple[str, Shape]]) -> list[Any]:
    """Returns what the graph says of its inputs or outputs: float32, with a name for a free batch."""
    from onnx import TensorProto, helper

    return [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N" if size < 0 else size for size in shape])
        for name, shape in ends
    ]
