"""Caffe's layers as ONNX nodes, exactly or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any

import numpy as np

from graphs.layer import Layer, canonical_axis
from graphs.layers.convolution import Convolution
from graphs.layers.elementwise import Dropout, ReLU, Split
from graphs.layers.eltwise import Eltwise
from graphs.layers.inner_product import InnerProduct
from graphs.layers.lrn import LRN
from graphs.layers.normalization import BatchNorm, Scale
from graphs.layers.pooling import Pooling
from graphs.layers.shaping import Concat, Flatten
from graphs.layers.softmax import Softmax
from weights import Shape


@dataclass(frozen=True, eq=False)
class Place:
    """Where a layer stands in the ONNX graph.

    ``reads`` and ``makes`` are names of values, ``bottoms`` and ``tops`` their shapes in Caffe's layout (-1 for a free
    batch), ``parameters`` name -> array. What a layer needs beside these goes to ``constants``.
    """

    phase: str
    reads: tuple[str, ...]
    makes: tuple[str, ...]
    bottoms: tuple[Shape, ...]
    tops: tuple[Shape, ...]
    parameters: Mapping[str, np.ndarray]
    constants: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def top(self) -> str:
        """The first top's name."""
        return self.makes[0]

    def inner(self, part: str) -> str:
        """Returns a name for a value within the layer."""
        return f"{self.top}/onnx/{part}"

    def constant(self, part: str, value: Any, dtype: type = np.float32) -> str:
        """Returns the name of a constant that is added for this layer."""
        self.constants[self.inner(part)] = np.asarray(value, dtype)
        return self.inner(part)


def _node(operator: str, inputs: list[str], output: str, **attributes: Any) -> Any:
    from onnx import helper

    return helper.make_node(operator, inputs, [output], name=output, **attributes)


@singledispatch
def nodes_of(layer: Layer, at: Place) -> list[Any]:
    """Returns the ``onnx.NodeProto`` that compute the layer. Raises ValueError with the reason where ONNX can't, or
    where nobody wrote it down yet."""
    raise ValueError(f"type {layer.type} has no ONNX form here")


@nodes_of.register
def _convolution(layer: Convolution, at: Place) -> list[Any]:
    windows, sizes = layer.windows(at.bottoms[0]), at.bottoms[0][2:]
    if canonical_axis(layer.axis, at.bottoms[0]) != 1 or not sizes or 0 in windows.dilations:
        raise ValueError("has axis, dilation 0 or a number of spatial axes that have no ONNX form here")
    group = at.bottoms[0][1] // next(iter(at.parameters.values())).shape[1]
    return [
        _node(
            "Conv",
            [bottom, *at.parameters],
            top,
            kernel_shape=windows.kernel,
            strides=windows.strides,
            pads=windows.pads + windows.past_end(sizes),
            dilations=windows.dilations,
            group=group,
        )
        for bottom, top in zip(at.reads, at.makes)
    ]


@nodes_of.register
def _pooling(layer: Pooling, at: Place) -> list[Any]:
    if len(at.makes) > 1:
        raise ValueError("has a second top, the places of its maxima, which has no ONNX form here")
    if layer.global_pooling:
        return [_node("GlobalMaxPool" if layer.pool == "MAX" else "GlobalAveragePool", list(at.reads), at.top)]
    kernel, size, out = layer.kernel(at.bottoms[0]), at.bottoms[0][2:], at.tops[0][2:]
    # How far the last windows reach past the picture. Spelled out as padding, it leaves nothing to ceil_mode, whose
    # rule for a last window in the padding is not Caffe's.
    reach = [
        max(0, (o - 1) * stride + k - pad - length)
        for o, stride, k, pad, length in zip(out, layer.strides, kernel, layer.pads, size)
    ]
    window = {"kernel_shape": kernel, "strides": layer.strides}
    if layer.pool == "MAX":
        return [_node("MaxPool", list(at.reads), at.top, pads=[*layer.pads, *reach], **window)]
    if not any(layer.pads):
        return [_node("AveragePool", list(at.reads), at.top, pads=[0, 0, *reach], count_include_pad=0, **window)]
    # Caffe's padding counts in an average; what reaches past it does not.
    padded = at.inner("padded")
    pads = at.constant("pads", [0, 0, *layer.pads] * 2, np.int64)
    past = [max(0, beyond - pad) for beyond, pad in zip(reach, layer.pads)]
    return [
        _node("Pad", [*at.reads, pads], padded),
        _node("AveragePool", [padded], at.top, pads=[0, 0, *past], count_include_pad=0, **window),
    ]


@nodes_of.register
def _lrn(layer: LRN, at: Place) -> list[Any]:
    if layer.norm_region != "ACROSS_CHANNELS":
        raise ValueError(f"norm_region {layer.norm_region} has no ONNX form here")
    parameters = {"size": layer.local_size, "alpha": layer.alpha, "beta": layer.beta, "bias": layer.k}
    return [_node("LRN", list(at.reads), at.top, **parameters)]


@nodes_of.register
def _inner_product(layer: InnerProduct, at: Place) -> list[Any]:
    axis = canonical_axis(layer.axis, at.bottoms[0])
    rows, product = at.reads[0], at.top if len(at.tops[0]) == 2 else at.inner("product")
    nodes = []
    if len(at.bottoms[0]) != 2 or axis != 1:
        rows = at.inner("rows")
        nodes.append(_node("Flatten", list(at.reads), rows, axis=axis))
    nodes.append(_node("Gemm", [rows, *at.parameters], product, transB=0 if layer.transpose else 1))
    if product != at.top:
        nodes.append(_reshaped(at, product))
    return nodes


@nodes_of.register
def _relu(layer: ReLU, at: Place) -> list[Any]:
    if layer.negative_slope == 0:
        return [_node("Relu", list(at.reads), at.top)]
    return [_node("LeakyRelu", list(at.reads), at.top, alpha=layer.negative_slope)]


@nodes_of.register
def _dropout(layer: Dropout, at: Place) -> list[Any]:
    if at.phase == "TRAIN":
        raise ValueError("drops values in phase TRAIN; only phase TEST has an ONNX form here")
    return [_node("Identity", list(at.reads), at.top)]


@nodes_of.register
def _split(layer: Split, at: Place) -> list[Any]:
    return [_node("Identity", list(at.reads), top) for top in at.makes]


@nodes_of.register
def _softmax(layer: Softmax, at: Place) -> list[Any]:
    return [_node("Softmax", list(at.reads), at.top, axis=canonical_axis(layer.axis, at.bottoms[0]))]


@nodes_of.register
def _concat(layer: Concat, at: Place) -> list[Any]:
    axis = layer.axis if layer.concat_dim is None else layer.concat_dim
    return [_node("Concat", list(at.reads), at.top, axis=canonical_axis(axis, at.bottoms[0]))]


@nodes_of.register
def _flatten(layer: Flatten, at: Place) -> list[Any]:
    return [_reshaped(at, at.reads[0])]


@nodes_of.register
def _eltwise(layer: Eltwise, at: Place) -> list[Any]:
    if layer.operation == "MAX":
        return [_node("Max", list(at.reads), at.top)]
    nodes, bottoms = [], list(at.reads)
    if layer.operation == "PROD":
        for index, bottom in enumerate(bottoms[1:-1]):
            product = at.inner(f"product{index}")
            nodes.append(_node("Mul", [bottoms[0], bottom], product))
            bottoms[0] = product
        return [*nodes, _node("Mul", [bottoms[0], bottoms[-1]], at.top)]
    for index, coefficient in enumerate(layer.coeff):
        if coefficient != 1:
            weighed = at.inner(f"weighed{index}")
            nodes.append(_node("Mul", [bottoms[index], at.constant(f"coeff{index}", coefficient)], weighed))
            bottoms[index] = weighed
    return [*nodes, _node("Sum", bottoms, at.top)]


@nodes_of.register
def _batch_norm(layer: BatchNorm, at: Place) -> list[Any]:
    if layer.use_global_stats is False or (layer.use_global_stats is None and at.phase == "TRAIN"):
        raise ValueError("takes the batch's own statistics, which have no ONNX form here")
    mean, variance, factor = at.parameters.values()
    scale = 0 if factor[0] == 0 else 1 / factor[0]
    statistics = {"scale": np.ones_like(mean), "bias": 0 * mean, "mean": mean * scale, "variance": variance * scale}
    constants = [at.constant(name, array) for name, array in statistics.items()]
    return [_node("BatchNormalization", [*at.reads, *constants], at.top, epsilon=layer.eps)]


@nodes_of.register
def _scale(layer: Scale, at: Place) -> list[Any]:
    span = at.bottoms[1] if len(at.bottoms) == 2 else next(iter(at.parameters.values())).shape
    axis = canonical_axis(layer.axis, at.bottoms[0]) if span else 0
    spread = (1,) * axis + tuple(span) + (1,) * (len(at.bottoms[0]) - axis - len(span))
    names, nodes = [*at.reads[1:], *at.parameters], []
    for index, name in enumerate(names):
        names[index] = at.inner(f"spread{index}")
        nodes.append(_node("Reshape", [name, at.constant(f"shape{index}", spread, np.int64)], names[index]))
    if len(names) == 1:
        return [*nodes, _node("Mul", [at.reads[0], names[0]], at.top)]
    product = at.inner("product")
    return [*nodes, _node("Mul", [at.reads[0], names[0]], product), _node("Add", [product, names[1]], at.top)]


def _reshaped(at: Place, value: str) -> Any:
    """Returns the node that gives a value the top's shape."""
    return _node("Reshape", [value, at.constant("shape", at.tops[0], np.int64)], at.top)
