"""Caffe's layers as PyTorch's functions, exactly or not at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce, singledispatch
from typing import TYPE_CHECKING, Any

from graphs.layer import Layer, canonical_axis, listed
from graphs.layers.convolution import Convolution
from graphs.layers.data import Input
from graphs.layers.elementwise import Dropout, ReLU, Split
from graphs.layers.eltwise import Eltwise
from graphs.layers.inner_product import InnerProduct
from graphs.layers.lrn import LRN
from graphs.layers.normalization import BatchNorm, Scale
from graphs.layers.pooling import Pooling
from graphs.layers.shaping import Concat, Flatten
from graphs.layers.softmax import Softmax
from graphs.network import Inferred
from weights import Refused

if TYPE_CHECKING:
    from converter.port import Port

Step = Callable[..., Any]
"""Takes a layer's bottoms, then its parameters, in Caffe's layout; returns its top, or a list where it has several."""


@dataclass(frozen=True)
class TorchNetwork:
    """A network as steps: each layer, what computes it, and the names of its parameters."""

    steps: tuple[tuple[Inferred, Step, tuple[str, ...]], ...]

    def values(self, inputs: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[tuple[str, str], Any]:
        """Returns (layer, top) -> tensor. ``inputs`` is blob -> tensor, ``parameters`` variable name -> tensor, both in
        Caffe's layout."""
        blobs = dict(inputs)
        values = {}
        for layer, step, names in self.steps:
            tops = listed(step(*(blobs[bottom] for bottom in layer.node.bottoms), *(parameters[n] for n in names)))
            blobs.update(zip(layer.node.tops, tops))
            values.update({(layer.node.name, top): value for top, value in zip(layer.node.tops, tops)})
        return values

    def outputs(self, inputs: Mapping[str, Any], parameters: Mapping[str, Any], wanted: Mapping[str, str]) -> list[Any]:
        """Returns the tensors of ``wanted``, which is blob -> the layer that makes it."""
        values = self.values(inputs, parameters)
        return [values[maker, blob] for blob, maker in wanted.items()]


def torch_network(port: Port) -> TorchNetwork:
    """Returns the port as PyTorch computes it. Raises Refused with every layer that has no such form."""
    steps, problems = [], []
    for layer, names in zip(port.shapes, port.names.variables):
        if isinstance(layer.node.layer, Input):
            continue
        try:
            steps.append((layer, step_of(layer.node.layer, layer, port.network.phase), names))
        except ValueError as error:
            problems.append(f"{layer.node}: {error}")
    if problems:
        raise Refused(*problems)
    return TorchNetwork(tuple(steps))


def functional() -> Any:
    """Returns ``torch.nn.functional``."""
    import torch.nn.functional

    return torch.nn.functional


@singledispatch
def step_of(layer: Layer, at: Inferred, phase: str) -> Step:
    """Returns what computes the layer. Raises ValueError with the reason where nothing here does."""
    raise ValueError(f"type {layer.type} has no PyTorch form here")


@step_of.register
def _convolution(layer: Convolution, at: Inferred, phase: str) -> Step:
    windows, sizes, nn = layer.windows(at.bottoms[0]), at.bottoms[0][2:], functional()
    convolve = {1: nn.conv1d, 2: nn.conv2d, 3: nn.conv3d}.get(len(sizes))
    if convolve is None or canonical_axis(layer.axis, at.bottoms[0]) != 1 or 0 in windows.dilations:
        raise ValueError("has axis, dilation 0 or a number of spatial axes that have no PyTorch form here")
    if any(windows.overhang(sizes)):
        raise ValueError("has a window that is larger than its bottom, which PyTorch does not take")

    def step(*values: Any) -> list[Any]:
        bottoms, (weights, *biases) = layer.parted(values)
        bias = biases[0] if biases else None
        group = at.bottoms[0][1] // weights.shape[1]
        how = (bias, windows.strides, windows.pads, windows.dilations, group)
        return [convolve(x, weights, *how) for x in bottoms]

    return step


@step_of.register
def _inner_product(layer: InnerProduct, at: Inferred, phase: str) -> Step:
    linear, axis = functional().linear, canonical_axis(layer.axis, at.bottoms[0])

    def step(x: Any, weights: Any, biases: Any = None) -> Any:
        return linear(x.flatten(axis), weights.T if layer.transpose else weights, biases)

    return step


@step_of.register
def _pooling(layer: Pooling, at: Inferred, phase: str) -> Step:
    if len(at.node.tops) > 1:
        raise ValueError("has a second top, the places of its maxima, which has no PyTorch form here")
    if layer.global_pooling:
        return lambda x: x.amax((2, 3), keepdim=True) if layer.pool == "MAX" else x.mean((2, 3), keepdim=True)
    nn, kernel = functional(), layer.kernel(at.bottoms[0])
    if any(2 * pad > size for pad, size in zip(layer.pads, kernel)):
        raise ValueError("pads more than half of its window, which PyTorch does not take")
    pool = nn.max_pool2d if layer.pool == "MAX" else nn.avg_pool2d  # divides by the clipped window, as Caffe does
    rounds_up = layer.round_mode == "CEIL" and layer.ceil_mode
    return lambda x: pool(x, kernel, layer.strides, layer.pads, ceil_mode=rounds_up)


@step_of.register
def _lrn(layer: LRN, at: Inferred, phase: str) -> Step:
    nn, size, alpha, beta = functional(), layer.local_size, layer.alpha, layer.beta
    if layer.norm_region == "ACROSS_CHANNELS":
        return lambda x: nn.local_response_norm(x, size, alpha, beta, layer.k)  # it divides alpha by size too
    return lambda x: x * (1 + alpha * nn.avg_pool2d(x * x, size, 1, size // 2)) ** -beta


@step_of.register
def _relu(layer: ReLU, at: Inferred, phase: str) -> Step:
    nn, slope = functional(), layer.negative_slope
    return nn.relu if slope == 0 else lambda x: nn.leaky_relu(x, slope)


@step_of.register
def _dropout(layer: Dropout, at: Inferred, phase: str) -> Step:
    if phase == "TRAIN":
        raise ValueError("drops values in phase TRAIN; only phase TEST has a PyTorch form here")
    return lambda x: x


@step_of.register
def _split(layer: Split, at: Inferred, phase: str) -> Step:
    return lambda x: [x] * len(at.node.tops)


@step_of.register
def _softmax(layer: Softmax, at: Inferred, phase: str) -> Step:
    return lambda x: x.softmax(layer.axis)


@step_of.register
def _concat(layer: Concat, at: Inferred, phase: str) -> Step:
    import torch

    axis = layer.axis if layer.concat_dim is None else layer.concat_dim
    return lambda *bottoms: torch.cat(bottoms, axis)


@step_of.register
def _flatten(layer: Flatten, at: Inferred, phase: str) -> Step:
    return lambda x: x.flatten(layer.axis, layer.end_axis)


@step_of.register
def _eltwise(layer: Eltwise, at: Inferred, phase: str) -> Step:
    import torch

    if layer.operation == "SUM":
        coefficients = layer.coeff or (1.0,) * len(at.bottoms)
        return lambda *bottoms: sum(x if c == 1 else c * x for c, x in zip(coefficients, bottoms))
    combine = torch.maximum if layer.operation == "MAX" else torch.mul
    return lambda *bottoms: reduce(combine, bottoms)


@step_of.register
def _batch_norm(layer: BatchNorm, at: Inferred, phase: str) -> Step:
    if layer.use_global_stats is False or (layer.use_global_stats is None and phase == "TRAIN"):
        raise ValueError("takes the batch's own statistics, which have no PyTorch form here")
    batch_norm = functional().batch_norm

    def step(x: Any, mean: Any, variance: Any, factor: Any) -> Any:
        scale = (factor != 0) / factor.where(factor != 0, 1)
        return batch_norm(x, mean * scale, variance * scale, eps=layer.eps)

    return step


@step_of.register
def _scale(layer: Scale, at: Inferred, phase: str) -> Step:
    span = at.bottoms[1] if len(at.bottoms) == 2 else at.parameters[0].layout.caffe
    axis = canonical_axis(layer.axis, at.bottoms[0]) if span else 0
    after = (1,) * (len(at.bottoms[0]) - axis - len(span))

    def step(x: Any, factor: Any, offset: Any = None) -> Any:
        y = x * factor.reshape(*factor.shape, *after)
        return y if offset is None else y + offset.reshape(*offset.shape, *after)

    return step
