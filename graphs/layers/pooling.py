"""Pooling: MAX and AVE with Caffe's rounding, padding and overhang."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.layer import Layer, Site, Tensor, layer, spell
from graphs.layers import windows
from graphs.layers.windows import Pair
from weights import Shape


@layer(
    "Pooling",
    "pooling_param",
    without_effect=("engine",),
    note="MAX and AVE; padding, overhang, round_mode, ceil_mode, global_pooling",
)
@dataclass(frozen=True)
class Pooling(Layer):
    """Caffe's PoolingLayer over N, C, H, W.

    Output sizes round up, so the last windows may hang over the bottom and right edge. MAX ignores what lies outside
    the picture; AVE counts zeros as far as the padding reaches, and divides by the window clipped to the padded
    picture.
    """

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
        return windows.pair(self.kernel_size, self.kernel_h, self.kernel_w, "kernel_size", 0)

    def top_shapes(self, x: Shape) -> Shape:
        size, kernel = windows.spatial(x), self.kernel(x)
        self._check(kernel)
        out = [self._out(*axis) for axis in zip(size, kernel, self.strides, self.pads)]
        if min(out) < 1:
            raise ValueError(
                f"window {spell(kernel)} with pad {spell(self.pads)} is larger than its bottom, {spell(x)}"
            )
        if any((o - 1) * s >= length + p for o, s, length, p in zip(out, self.strides, size, self.pads)):
            raise ValueError(f"stride {spell(self.strides)} puts its last window outside of its bottom, {spell(x)}")
        return (*x[:2], *out)

    def _check(self, kernel: Pair) -> None:
        if self.pool not in ("MAX", "AVE"):
            raise ValueError(f"pool {self.pool} is not supported; expected MAX or AVE")
        if self.global_pooling and (self.kernel_size or self.kernel_h or self.kernel_w):
            raise ValueError("sets kernel_size beside global_pooling, which is the whole picture; Caffe accepts one")
        if self.global_pooling and (self.pads != (0, 0) or self.strides != (1, 1)):
            raise ValueError("sets pad or stride beside global_pooling; Caffe accepts pad 0 and stride 1")
        if min(kernel) < 1 or min(self.strides) < 1:
            raise ValueError(f"kernel_size is {spell(kernel)} and stride {spell(self.strides)}; Caffe wants 1 or more")
        if self.pads[0] >= kernel[0] or self.pads[1] >= kernel[1]:
            raise ValueError(f"pad {spell(self.pads)} is not smaller than its window, {spell(kernel)}")

    def _out(self, size: int, kernel: int, stride: int, pad: int) -> int:
        room = size + 2 * pad - kernel
        if room < 0:
            return 0
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

    def reference(self, x: np.ndarray) -> np.ndarray:
        y = np.empty(self.top_shapes(x.shape), x.dtype)
        (height, width), kernel = x.shape[2:], self.kernel(x.shape)
        for row, column in np.ndindex(*y.shape[2:]):
            top, left = row * self.strides[0] - self.pads[0], column * self.strides[1] - self.pads[1]
            bottom, right = min(top + kernel[0], height + self.pads[0]), min(left + kernel[1], width + self.pads[1])
            area = (bottom - top) * (right - left)
            window = x[:, :, max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
            pooled = window.max(axis=(2, 3)) if self.pool == "MAX" else window.sum(axis=(2, 3)) / area
            y[:, :, row, column] = pooled
        return y

    def emit(self, tf: Any, site: Site, x: Tensor) -> Tensor:
        if self.global_pooling:
            reduce = tf.reduce_max if self.pool == "MAX" else tf.reduce_mean
            return reduce(x, axis=[1, 2], keepdims=True, name=site.name)
        kernel, out = self.kernel(site.bottom), (site.top[2], site.top[3])
        padding = windows.tensorflow_padding(self.pads, self._overhang(site.bottom, out))
        if self.pool == "MAX":
            return tf.nn.max_pool2d(x, list(kernel), list(self.strides), padding, name=site.name)
        return self._emit_average(tf, site, x if padding == "VALID" else tf.pad(x, padding))

    def _emit_average(self, tf: Any, site: Site, padded: Tensor) -> Tensor:
        # TensorFlow divides by the whole window; Caffe by what of it lies within the padded picture.
        kernel, sizes = self.kernel(site.bottom), windows.spatial(site.bottom)
        rows, columns = (
            [k / (min(o * s - p + k, size + p) - (o * s - p)) for o in range(count)]
            for k, s, p, size, count in zip(kernel, self.strides, self.pads, sizes, site.top[2:])
        )
        if all(math.isclose(correction, 1) for correction in rows + columns):
            return tf.nn.avg_pool2d(padded, list(kernel), list(self.strides), "VALID", name=site.name)
        y = tf.nn.avg_pool2d(padded, list(kernel), list(self.strides), "VALID")
        y = tf.multiply(y, tf.constant(rows, tf.float32, [len(rows), 1, 1]))
        return tf.multiply(y, tf.constant(columns, tf.float32, [1, len(columns), 1]), name=site.name)
