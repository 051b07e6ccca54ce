"""Pooling: MAX and AVE with Caffe's rounding, padding and overhang; the places of the maxima."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.layer import Layer, Site, Tensor, layer, spell
from graphs.layers import windows
from graphs.layers.windows import Pair
from weights import Shape

LOWEST = -float(np.finfo(np.float32).max)
"""What MAX starts from (C's -FLT_MAX)."""


@layer("Pooling", "pooling_param")
@dataclass(frozen=True)
class Pooling(Layer):
    """Caffe's PoolingLayer over N, C, H, W.

    Output sizes round up, so the last windows may hang over the bottom and right edge. MAX ignores what lies outside
    the picture; AVE counts zeros as far as the padding reaches, and divides by the window clipped to the padded
    picture. The second top of a MAX has each maximum's place, row * width + column, the first of equal ones.

    Without padding, a stride larger than the window may put the last one outside of the picture: MAX is then
    -FLT_MAX, its place -1, and AVE 0 / 0 where the window starts right at the edge, else 0.
    """

    tops = (1, 2)
    counts_tops = True
    without_effect = frozenset({"engine"})
    note = "MAX and AVE; padding, overhang, round_mode, ceil_mode, global_pooling; MAX's mask as a second top"

    pool: str = "MAX"
    kernel_size: int | None = None
    stride: int | None = None
    pad: int | None = None
    kernel_h: int | None = None
    kernel_w: int | None = None
    stride_h: int | None = None
    stride_w: int | None = None
    pad_h: int | None = None
    pad_w: int | None = None
    global_pooling: bool = False
    round_mode: str = "CEIL"
    ceil_mode: bool = True

    @property
    def strides(self) -> Pair:
        """Step (down, right)."""
        return windows.pair(self.stride, self.stride_h, self.stride_w, "stride", 1)

    @property
    def pads(self) -> Pair:
        """Padding on each side (above and below, left and right)."""
        return windows.pair(self.pad, self.pad_h, self.pad_w, "pad", 0)

    def kernel(self, x: Shape) -> Pair:
        """Window (height, width) over a bottom of that shape."""
        if self.global_pooling:
            return windows.spatial(x)
        if self._has_half_beside:
            return windows.pair(self.kernel_size, None, None, "kernel_size", 0)
        return windows.pair(self.kernel_size, self.kernel_h, self.kernel_w, "kernel_size", 0)

    @property
    def _has_half_beside(self) -> bool:
        """Whether one of kernel_h and kernel_w stands beside kernel_size, which Caffe then takes alone."""
        return self.kernel_size is not None and (self.kernel_h is None) != (self.kernel_w is None)

    def top_shapes(self, x: Shape, *, tops: int = 1) -> Shape | list[Shape]:
        if tops == 2 and self.pool != "MAX":
            raise ValueError(f"has a second top, the places of maxima, which pool {self.pool} has not")
        return self.pooled(x) if tops == 1 else [self.pooled(x)] * 2

    def pooled(self, x: Shape) -> Shape:
        """Returns the shape of the pooled picture. Raises ValueError where Caffe would refuse the bottom."""
        size, kernel = windows.spatial(x), self.kernel(x)
        self._check(kernel)
        out = [self._out(*axis) for axis in zip(size, kernel, self.strides, self.pads)]
        if min(out) < 1:
            raise ValueError(
                f"window {spell(kernel)} with pad {spell(self.pads)} is larger than its bottom, {spell(x)}, by more "
                "than Caffe rounds up"
            )
        return (*x[:2], *out)

    def notes(self, *bottoms: Shape) -> Iterator[str]:
        if self._has_half_beside:
            yield f"sets one of kernel_h and kernel_w beside kernel_size {self.kernel_size}, which alone Caffe reads"
        if any(self._outside(bottoms[0])):
            made = "-3.4e38 (-FLT_MAX)" if self.pool == "MAX" else "0, or NaN where the window starts at the edge"
            yield f"stride {spell(self.strides)} puts its last window outside of its bottom; there Caffe gives {made}"

    def _outside(self, x: Shape) -> tuple[bool, bool]:
        """Returns whether the last windows (down, right) lie outside of the picture."""
        return tuple(self._beyond(x, axis) >= 0 for axis in (0, 1))  # type: ignore[return-value]

    def _beyond(self, x: Shape, axis: int) -> int:
        """Returns how far behind the picture's end the last window starts, on the axis down (0) or right (1)."""
        start = (self.pooled(x)[2 + axis] - 1) * self.strides[axis] - self.pads[axis]
        return start - windows.spatial(x)[axis]

    def _check(self, kernel: Pair) -> None:
        if self.pool not in ("MAX", "AVE"):
            raise ValueError(f"pool {self.pool} is not supported, nor by Caffe without a GPU; expected MAX or AVE")
        if self.global_pooling and {self.kernel_size, self.kernel_h, self.kernel_w} != {None}:
            raise ValueError("sets kernel_size beside global_pooling, which is the whole picture; Caffe accepts one")
        if self.global_pooling and (self.pads != (0, 0) or self.strides != (1, 1)):
            raise ValueError("sets pad or stride beside global_pooling; Caffe accepts pad 0 and stride 1")
        if min(kernel) < 1 or min(self.strides) < 1:
            raise ValueError(f"kernel_size is {spell(kernel)} and stride {spell(self.strides)}; Caffe wants 1 or more")
        if self.pads[0] >= kernel[0] or self.pads[1] >= kernel[1]:
            raise ValueError(f"pad {spell(self.pads)} is not smaller than its window, {spell(kernel)}")

    def _out(self, size: int, kernel: int, stride: int, pad: int) -> int:
        room = size + 2 * pad - kernel  # below 0: one window over what there is, if it rounds up to that
        rounds_up = self.round_mode == "CEIL" and self.ceil_mode
        out = (-(-room // stride) if rounds_up else room // stride) + 1
        if any(self.pads) and (out - 1) * stride >= size + pad:
            out -= 1  # a last window that would start in the padding
        return out

    def _overhang(self, x: Shape, out: Pair) -> Pair:
        """Returns how far the last windows reach past the picture (down, right), at least 0."""
        down, right = (
            max(0, (o - 1) * stride + kernel - pad - size)
            for o, stride, kernel, pad, size in zip(out, self.strides, self.kernel(x), self.pads, windows.spatial(x))
        )
        return down, right

    def works_in_place(self, *bottoms: Shape) -> bool:
        return False

    def reference(self, x: np.ndarray, *, tops: int = 1) -> np.ndarray | list[np.ndarray]:
        return self.values(x) if tops == 1 else [self.values(x), self._places(x)]

    def values(self, x: np.ndarray) -> np.ndarray:
        """Returns the pooled picture, computed plainly."""
        y = np.empty(self.pooled(x.shape), x.dtype)
        (height, width), kernel = x.shape[2:], self.kernel(x.shape)
        for row, column in np.ndindex(*y.shape[2:]):
            top, left = row * self.strides[0] - self.pads[0], column * self.strides[1] - self.pads[1]
            bottom, right = min(top + kernel[0], height + self.pads[0]), min(left + kernel[1], width + self.pads[1])
            area = (bottom - top) * (right - left)
            window = x[:, :, max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
            if self.pool == "MAX":
                y[:, :, row, column] = window.max(axis=(2, 3), initial=LOWEST)
            else:
                with np.errstate(invalid="ignore"):  # 0 / 0 outside of the picture, as in Caffe
                    y[:, :, row, column] = window.sum(axis=(2, 3)) / area
        return y

    def _places(self, x: np.ndarray) -> np.ndarray:
        """Returns where each maximum lies in the picture."""
        y = np.empty(self.pooled(x.shape), x.dtype)
        kernel = self.kernel(x.shape)
        places = np.arange(x.shape[2] * x.shape[3]).reshape(x.shape[2:])
        for row, column in np.ndindex(*y.shape[2:]):
            top, left = row * self.strides[0] - self.pads[0], column * self.strides[1] - self.pads[1]
            rows, columns = slice(max(top, 0), top + kernel[0]), slice(max(left, 0), left + kernel[1])
            seen = places[rows, columns].reshape(-1)
            if not seen.size:
                y[:, :, row, column] = -1
                continue
            first = x[:, :, rows, columns].reshape(*x.shape[:2], -1).argmax(axis=2)
            y[:, :, row, column] = seen[first]
        return y

    def emit(self, tf: Any, site: Site, x: Tensor) -> Tensor | list[Tensor]:
        if len(site.names) == 2:
            return self._emit_with_places(tf, site, x)
        return self.emit_values(tf, x, site.bottom, site.name)

    def emit_values(self, tf: Any, x: Tensor, shape: Shape, name: str | None = None) -> Tensor:
        """Returns the pooled picture, of a bottom ``x`` of ``shape``."""
        if self.global_pooling:
            reduce = tf.reduce_max if self.pool == "MAX" else tf.reduce_mean
            return reduce(x, axis=[1, 2], keepdims=True, name=name)
        padding = self._padding(shape)
        if self.pool == "MAX":
            if any(self._outside(shape)):  # more than TensorFlow pads by itself
                x, padding = tf.pad(x, padding, constant_values=LOWEST), "VALID"
            return tf.nn.max_pool2d(x, list(self.kernel(shape)), list(self.strides), padding, name=name)
        return self._emit_average(tf, x if padding == "VALID" else tf.pad(x, padding), shape, name)

    def _padding(self, x: Shape) -> str | list[list[int]]:
        return windows.tensorflow_padding(self.pads, self._overhang(x, windows.spatial(self.pooled(x))))

    def _emit_with_places(self, tf: Any, site: Site, x: Tensor) -> list[Tensor]:
        padding = self._padding(site.bottom)
        if not isinstance(padding, str):
            x = tf.pad(x, padding, constant_values=LOWEST)
        kernel = self.kernel(site.bottom)
        values, places = tf.nn.max_pool_with_argmax(x, [1, *kernel, 1], [1, *self.strides, 1], "VALID")
        # TensorFlow's places count channels, and the padding.
        _, channels, _, width = site.bottom
        places = tf.math.floordiv(places, channels)
        if not isinstance(padding, str):
            _, (top, _), (left, right), _ = padding
            rows = tf.math.floordiv(places, width + left + right)
            places = tf.subtract(places, tf.add(tf.multiply(rows, left + right), top * width + left))
        if any(self._outside(site.bottom)):
            rows, columns = (
                tf.reshape([1] * (count - is_outside) + [0] * is_outside, shape)
                for count, is_outside, shape in zip(site.top[2:], self._outside(site.bottom), ([-1, 1, 1], [-1, 1]))
            )
            is_inside = tf.cast(tf.multiply(rows, columns), tf.int64)
            places = tf.subtract(tf.multiply(tf.add(places, 1), is_inside), 1)
        return [tf.identity(values, name=site.names[0]), tf.cast(places, tf.float32, name=site.names[1])]

    def _emit_average(self, tf: Any, padded: Tensor, shape: Shape, name: str | None) -> Tensor:
        # TensorFlow divides by the whole window; Caffe by what of it lies within the padded picture, which is less at
        # the last row and the last column alone.
        kernel, sizes, out = self.kernel(shape), windows.spatial(shape), windows.spatial(self.pooled(shape))
        last = [
            k / within if (within := min(k, size + 2 * p - (count - 1) * s)) else math.nan
            for k, s, p, size, count in zip(kernel, self.strides, self.pads, sizes, out)
        ]
        is_whole = last == [1, 1]
        y = tf.nn.avg_pool2d(padded, list(kernel), list(self.strides), "VALID", name=name if is_whole else None)
        if is_whole:
            return y
        rows, columns = (
            tf.pad([correction], [[count - 1, 0]], constant_values=1.0) for correction, count in zip(last, out)
        )
        return tf.multiply(tf.multiply(y, tf.reshape(rows, [-1, 1, 1])), tf.reshape(columns, [-1, 1]), name=name)
