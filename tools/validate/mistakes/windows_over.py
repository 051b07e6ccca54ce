"""Where windows lie: padding of convolutions, rounding and divisor of poolings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from graphs.layer import canonical_axis, spell
from graphs.layers import windows as sliding
from graphs.layers.convolution import Convolution
from graphs.layers.pooling import Pooling
from graphs.layers.windows import Pair, Sizes
from tools.validate.mistakes.scene import Scene, Step, Variant

Sides = tuple[Sizes, Sizes]
"""What is added (above and left, below and right)."""


def same_padding(size: Sizes, extent: Sizes, stride: Sizes) -> Sides:
    """Returns what TensorFlow's SAME adds to a picture of ``size``: the odd one below and on the right."""
    total = [
        max((-(-length // step) - 1) * step + reach - length, 0) for length, reach, step in zip(size, extent, stride)
    ]
    return tuple(one // 2 for one in total), tuple(-(-one // 2) for one in total)


def convolution_padding(scene: Scene, step: Step) -> Iterator[Variant]:
    """Yields a convolution with TensorFlow's SAME or VALID for Caffe's padding, or without its dilation."""
    layer, shape = step.layer, np.shape(scene.truth.get(step.bottoms[0], 0)) if step.bottoms else ()
    if not isinstance(layer, Convolution) or len(shape) < 3 or canonical_axis(layer.axis, shape) != 1:
        return
    windows = layer.windows(shape)
    pads = spell(windows.pads)
    bare = step.having(pad=(0,), pad_h=None, pad_w=None)

    def same(x: np.ndarray) -> np.ndarray:
        return sliding.pad_spatial(x, *same_padding(x.shape[2:], windows.extent, windows.strides))

    wanted = "VALID" if not any(windows.pads) else f"pad {pads} on both sides, spelled out"
    yield Variant(
        "SAME for explicit padding",
        f"the port pads with TensorFlow's SAME, which adds more at the end and goes by the stride; Caffe has {wanted}",
        (bare.fed_through(same),),
    )
    if any(windows.pads):
        yield Variant(
            "VALID for explicit padding", f"the port does not pad; Caffe has pad {pads} on both sides", (bare,)
        )
    if windows.has_gaps:
        yield Variant(
            "dilation missing",
            f"the port's kernel has no gaps; Caffe has dilation {spell(windows.dilations)}",
            (step.having(dilation=()),),
        )


def pooling_windows(scene: Scene, step: Step) -> Iterator[Variant]:
    """Yields a pooling with other rounding, padding, divisor or values outside, or the other method; those that err in
    one thing first."""
    if not isinstance(step.layer, Pooling) or step.layer.global_pooling:
        yield from _global(step)
        return
    layer = step.layer
    found = []
    for method in (layer.pool, "AVE" if layer.pool == "MAX" else "MAX"):
        for lies in _LIES:
            for outside in _OUTSIDE[method]:
                names = _names(layer, method, lies, outside)
                if names:
                    found.append((names, method, lies, outside))
    for names, method, lies, outside in sorted(found, key=lambda one: len(one[0])):
        explanation = "; ".join(_WAYS_OUT[name].format(layer=layer) for name in names)
        yield Variant(
            " + ".join(names), explanation, (step.computing(_pooling(layer, method, lies, outside)),)
        )  # fmt: skip


def _global(step: Step) -> Iterator[Variant]:
    if isinstance(step.layer, Pooling):
        other = "AVE" if step.layer.pool == "MAX" else "MAX"
        changed = step.having(pool=other)
        yield Variant("pooling method", _WAYS_OUT["pooling method"].format(layer=step.layer), (changed,))


_LIES: dict[str, Callable[[Pooling], list[str]]] = {
    "caffe": lambda layer: [],
    "other": lambda layer: [
        "ceil for floor" if layer.round_mode == "FLOOR" or not layer.ceil_mode else "floor for ceil"
    ],
    "same": lambda layer: ["SAME for explicit padding"],
    "valid": lambda layer: ["VALID for explicit padding"] if any(layer.pads) else ["floor for ceil"],
}
"""Where windows lie -> the mistakes in that."""

_OUTSIDE: dict[str, dict[str, list[str]]] = {
    "MAX": {"nothing": [], "zeros": ["zeros around MAX"]},
    "AVE": {"padded": [], "inside": ["AVE divisor"], "whole": ["AVE divisor"]},
}
"""What counts outside of the picture, by method -> the mistakes in that."""

_WAYS_OUT = {
    "floor for ceil": "the port drops the last windows, which hang over the edge; Caffe rounds sizes up: pad below and "
    "on the right",
    "ceil for floor": "the port has windows that hang over the edge; this layer's round_mode is FLOOR",
    "SAME for explicit padding": "the port pads with TensorFlow's SAME; Caffe pads {layer.pads} on both sides, and "
    "rounds up",
    "VALID for explicit padding": "the port does not pad; Caffe has pad {layer.pads} on both sides, and rounds up",
    "zeros around MAX": "the port takes zeros outside of the picture for values; pad with minus infinity",
    "AVE divisor": "the port divides by another number of values than Caffe, which divides by the window clipped to "
    "the padded picture",
    "pooling method": "the port does not pool by {layer.pool}",
}


def _names(layer: Pooling, method: str, lies: str, outside: str) -> list[str]:
    lying = _LIES[lies](layer)
    if method != layer.pool:  # what counts outside is then of the other method, and no mistake of its own
        return ["pooling method", *lying]
    if lies == "same" and outside == "inside":  # TensorFlow's SAME does that by itself
        return lying
    return [*lying, *_OUTSIDE[method][outside]]


def _pooling(layer: Pooling, method: str, lies: str, outside: str) -> Callable[[np.ndarray], np.ndarray]:
    def compute(x: np.ndarray) -> np.ndarray:
        size, kernel, strides = sliding.spatial(x.shape), layer.kernel(x.shape), layer.strides
        pads, out = layer.pads, layer.pooled(x.shape)[2:]
        if lies == "other":
            turned = "CEIL" if layer.round_mode == "FLOOR" or not layer.ceil_mode else "FLOOR"
            out = replace(layer, round_mode=turned, ceil_mode=True).pooled(x.shape)[2:]
        elif lies == "same":
            above, left = same_padding(size, kernel, strides)[0]
            pads = above, left
            out = tuple(-(-length // step) for length, step in zip(size, strides))
        elif lies == "valid":
            pads = (0, 0)
            out = tuple((length - reach) // step + 1 for length, reach, step in zip(size, kernel, strides))
        return _pooled(x, method, outside, kernel, strides, pads, out)

    return compute


def _pooled(
    x: np.ndarray, method: str, outside: str, kernel: Pair, strides: Pair, pads: Pair, out: tuple[int, ...]
) -> np.ndarray:
    height, width = x.shape[2:]
    y = np.empty((*x.shape[:2], *out))
    for row, column in np.ndindex(*out):
        top, left = row * strides[0] - pads[0], column * strides[1] - pads[1]
        bottom, right = top + kernel[0], left + kernel[1]
        seen = x[:, :, max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
        hangs = seen.shape[2:] != kernel
        if method == "MAX":
            largest = seen.max(axis=(2, 3))
            y[:, :, row, column] = np.maximum(largest, 0) if hangs and outside == "zeros" else largest
            continue
        rows, columns = min(bottom, height + pads[0]) - top, min(right, width + pads[1]) - left
        areas = {"padded": rows * columns, "inside": seen.shape[2] * seen.shape[3], "whole": kernel[0] * kernel[1]}
        y[:, :, row, column] = seen.sum(axis=(2, 3)) / areas[outside]
    return y
