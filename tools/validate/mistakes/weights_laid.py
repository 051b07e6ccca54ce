"""Weights in the wrong order: fully connected ones after a convolution, transposed ones, groups, biases."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from graphs.layers.convolution import Convolution
from graphs.layers.inner_product import InnerProduct
from graphs.layers.shaping import Flatten, Reshape
from tools.validate.mistakes.scene import Change, Scene, Step, Variant
from weights import Shape

FLATTENED = "C,H,W for H,W,C"


def flattened_order(scene: Scene, step: Step) -> Iterator[Variant]:
    """Yields the first fully connected layer, or what flattens before it, with H, W, C taken for Caffe's C, H, W."""
    shape = _picture_shape(scene, step)
    if shape is None:
        return
    way_out = "permute the weights once from C, H, W to H, W, C, or transpose to N, C, H, W before flattening"
    yield Variant(
        FLATTENED,
        f"the port flattens H, W, C where the weights are in Caffe's C, H, W order; {way_out}",
        (step.fed_through(lambda x: x.reshape(-1, *shape[1:]).transpose(0, 2, 3, 1).reshape(x.shape)),),
    )
    channels, height, width = shape[1:]
    yield Variant(
        FLATTENED,
        "the port flattens C, H, W where the weights were permuted to H, W, C already; do one of them",
        (step.fed_through(lambda x: x.reshape(-1, height, width, channels).transpose(0, 3, 1, 2).reshape(x.shape)),),
    )
    yield Variant(
        "rows and columns swapped",
        "the port flattens C, W, H where Caffe has C, H, W; swap the spatial axes of the weights",
        (step.fed_through(lambda x: x.reshape(-1, *shape[1:]).swapaxes(2, 3).reshape(x.shape)),),
    )


def _picture_shape(scene: Scene, step: Step) -> Shape | None:
    """Returns the shape N, C, H, W of what a step flattens, None where it flattens none."""
    if not isinstance(step.layer, (InnerProduct, Flatten, Reshape)) or not step.bottoms:
        return None
    shape = np.shape(scene.truth.get(step.bottoms[0], 0))
    maker = scene.maker(step.bottoms[0])
    if len(shape) == 2 and maker is not None and isinstance(maker.layer, (Flatten, Reshape)):
        shape = np.shape(scene.truth.get(maker.bottoms[0], 0))
    return shape if len(shape) == 4 and shape[2] * shape[3] > 1 else None


def transposed_weights(scene: Scene, step: Step) -> Iterator[Variant]:
    """Yields weights whose axes were swapped, or whose numbers were read in another order."""
    if not step.arrays or not isinstance(step.layer, (Convolution, InnerProduct)):
        return
    weights, *rest = step.arrays
    for what, other in _readings(weights):
        if other.shape == weights.shape:
            yield Variant(
                "weights transposed",
                f"the port has its weights {what}; Caffe's are {_axes(weights)}, TensorFlow's "
                f"{'K, outputs' if weights.ndim == 2 else 'height, width, inputs, outputs'}: transpose, do not reshape",
                (step.holding(other, *rest),),
            )


def _axes(weights: np.ndarray) -> str:
    return "outputs, K" if weights.ndim == 2 else "outputs, inputs, height, width"


def _readings(weights: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    if weights.ndim == 2:
        yield "transposed", weights.T
        yield "reshaped where they had to be transposed", weights.reshape(weights.shape[::-1]).T
        return
    if weights.ndim != 4:
        yield "with the kernel turned around", np.flip(weights, tuple(range(2, weights.ndim)))
        yield "with inputs and outputs swapped", weights.swapaxes(0, 1)
        return
    outputs, inputs, height, width = weights.shape
    yield "with rows and columns of the kernel swapped", weights.swapaxes(2, 3)
    yield "with the kernel turned by 180 degrees", weights[:, :, ::-1, ::-1]
    yield "with inputs and outputs swapped", weights.swapaxes(0, 1)
    reshaped = weights.reshape(height, width, inputs, outputs)
    yield "reshaped where they had to be transposed", reshaped.transpose(3, 2, 0, 1)
    yield (
        "reshaped where they had to be transposed",
        weights.reshape(height, width, outputs, inputs).transpose(2, 3, 0, 1),
    )


def biases(scene: Scene, step: Step) -> Iterator[Variant]:
    """Yields biases left out, or added twice."""
    if not step.arrays or len(step.arrays) < 2 or not isinstance(step.layer, (Convolution, InnerProduct)):
        return
    weights, bias = step.arrays[:2]
    yield Variant(
        "biases missing", f"the port does not add the biases of {step.name}", (step.holding(weights, 0 * bias),)
    )
    yield Variant(
        "biases doubled", f"the port adds the biases of {step.name} twice", (step.holding(weights, 2 * bias),)
    )


def group_order(scene: Scene, step: Step) -> Iterator[Variant]:
    """Yields a grouped convolution whose groups read or make the wrong channels."""
    if not isinstance(step.layer, Convolution) or step.layer.group == 1:
        return
    group = step.layer.group

    def said(what: str) -> str:
        return (
            f"the port {what}; Caffe's group g of {group} reads the g-th part of its bottom's channels, one after the "
            "other, and makes the g-th part of its top's: split and concatenate in that order"
        )

    for what, change in (("the last group first", _turned(group)), *_interleavings(group)):
        yield Variant("group order", said(f"concatenates its groups' outputs with {what}"), (step.followed_by(change),))
        yield Variant("group order", said(f"splits its input with {what}"), (step.fed_through(change),))
    yield Variant(
        "group order",
        said("feeds every group the first part of its input"),
        (step.fed_through(lambda x: np.concatenate([x[:, : x.shape[1] // group]] * group, axis=1)),),
    )
    if step.arrays:
        weights = step.arrays[0]
        turned = _turned(group)(weights[None])[0]
        yield Variant(
            "group order", said("gives its groups each other's weights"), (step.holding(turned, *step.arrays[1:]),)
        )


def _turned(group: int) -> Change:
    return lambda x: np.concatenate(np.split(x, group, axis=1)[::-1], axis=1)


def _interleavings(group: int) -> Iterator[tuple[str, Change]]:
    def dealt(parts: int) -> Change:
        return lambda x: (
            x.reshape(x.shape[0], parts, -1, *x.shape[2:]).swapaxes(1, 2).reshape(x.shape)
            if x.shape[1] % parts == 0
            else x
        )

    yield "its groups' channels taken in turn", dealt(group)
    yield "its channels dealt out to the groups", lambda x: dealt(x.shape[1] // group)(x)


def permuted_channels(scene: Scene, step: Step) -> Iterator[Variant]:
    """Yields the one order of the channels that the port's values are in, where there is one."""
    key = scene.target
    if not scene.is_target(step) or key not in scene.truth:
        return
    truth, got = np.asarray(scene.truth[key], np.float64), np.asarray(scene.got, np.float64)
    if truth.shape != got.shape or truth.ndim < 2 or truth.shape[1] > 4096 or truth.shape[1] < 2:
        return
    one, other = (np.moveaxis(array, 1, 0).reshape(array.shape[1], -1) for array in (got, truth))
    nearest = (np.sum(one**2, axis=1)[:, None] + np.sum(other**2, axis=1) - 2 * one @ other.T).argmin(axis=1)
    if len(set(nearest.tolist())) != len(nearest) or (nearest == np.arange(len(nearest))).all():
        return
    moved = [(place, int(source)) for place, source in enumerate(nearest) if place != source]
    shown = ", ".join(f"{place} is {source}" for place, source in moved[:6])
    yield Variant(
        "channels in another order",
        f"the port has the right channels in another order: {shown}{' and so on' if len(moved) > 6 else ''}",
        (step.followed_by(lambda x: x[:, nearest]),),
    )
