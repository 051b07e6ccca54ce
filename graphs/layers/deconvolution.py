"""Deconvolution: a convolution's gradient as a layer, which makes pictures larger."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.channels_last import channels_last
from graphs.layer import Site, Tensor, layer, spell
from graphs.layers import windows
from graphs.layers.convolution import Weighted
from graphs.layers.windows import Pair
from weights import Layout, Shape


@layer("Deconvolution", "convolution_param")
@dataclass(frozen=True)
class Deconvolution(Weighted):
    """Caffe's DeconvolutionLayer over N, C, H, W: each value, times the kernel, is added to the window that it stands
    for; ``stride`` is how far those windows lie apart in the top, ``pad`` what is cut off its border.

    Weights are (C, num_output / group, kernel_h, kernel_w) in Caffe and (kernel_h, kernel_w, num_output / group, C) in
    TensorFlow; where every output is its own group, (kernel_h, kernel_w, num_output, C / num_output) as the gradient
    of ``tf.nn.depthwise_conv2d`` has it.
    """

    without_effect = frozenset({"engine", "force_nd_im2col"})
    note = "groups, depthwise, dilation, rectangular, with and without bias; two spatial axes"

    def top_shapes(self, x: Shape) -> Shape:
        self.check(x)
        down, right = (size - 2 * pad for size, pad in zip(self._whole(windows.spatial(x)), self.pads))
        if min(down, right) < 1:
            raise ValueError(f"pad {spell(self.pads)} leaves nothing of its top; its bottom is {spell(x)}")
        return (x[0], self.num_output, down, right)

    def _whole(self, size: Pair) -> Pair:
        """Returns the size of the top before ``pad`` is cut off."""
        down, right = (stride * (one - 1) + extent for one, stride, extent in zip(size, self.strides, self.extent))
        return down, right

    def _is_depthwise(self) -> bool:
        return self.group == self.num_output > 1

    def _layout(self, x: Shape) -> Layout:
        caffe = (x[1], self.num_output // self.group, *self.kernel)
        if self._is_depthwise():
            return Layout(caffe, view=(self.group, x[1] // self.group, *self.kernel), order=(2, 3, 0, 1))
        return Layout(caffe, order=(2, 3, 1, 0))

    def multiply_adds(self, bottoms: tuple[Shape, ...], tops: tuple[Shape, ...]) -> int:
        return math.prod(bottoms[0]) * (self.num_output // self.group) * math.prod(self.kernel)

    def reference(self, x: np.ndarray, weights: np.ndarray, biases: np.ndarray | None = None) -> np.ndarray:
        _, _, height, width = self.top_shapes(x.shape)
        size = windows.spatial(x.shape)
        whole = np.zeros((len(x), self.num_output, *self._whole(size)), x.dtype)
        inputs, outputs = x.shape[1] // self.group, self.num_output // self.group
        for g in range(self.group):
            source, kernels = x[:, g * inputs : (g + 1) * inputs], weights[g * inputs : (g + 1) * inputs]
            target = whole[:, g * outputs : (g + 1) * outputs]
            for i, j in windows.offsets(self.kernel):
                seen = windows.at_offset(target, (i, j), self.strides, self.dilations, size)
                seen += np.einsum("nchw,co->nohw", source, kernels[:, :, i, j])
        (top, left), bias = self.pads, 0 if biases is None else biases[:, None, None]
        return whole[:, :, top : top + height, left : left + width] + bias

    def emit(self, tf: Any, site: Site, x: Tensor, weights: Tensor, biases: Tensor | None = None) -> Tensor:
        strides = self.strides
        # TensorFlow's kernels for CPU know no gaps in a window, and the depthwise one takes one stride for both axes.
        weights = _spread(tf, weights, self._layout(site.bottom).tensorflow, (0, 1), self.dilations)
        if self._is_depthwise() and strides[0] != strides[1]:
            x, strides = _spread(tf, x, channels_last(site.bottom), (1, 2), strides), (1, 1)

        # Where the cut is what SAME cuts at any size, it costs nothing; elsewhere all is computed and then cut.
        is_same = all(0 < extent - 2 * pad <= step for extent, pad, step in zip(self.extent, self.pads, strides))
        is_cut = any(self.pads) and not is_same
        padding = "SAME" if any(self.pads) and is_same else "VALID"
        (top, left), (_, _, height, width) = self.pads, site.top
        size = (height + 2 * top, width + 2 * left) if is_cut else (height, width)
        last = site.name if biases is None else None
        y = self._emit_sums(
            tf, site, x, weights, size, strides=[1, *strides, 1], padding=padding, name=None if is_cut else last
        )
        if is_cut:
            y = tf.slice(y, [0, top, left, 0], [-1, height, width, -1], name=last)
        return y if biases is None else tf.nn.bias_add(y, biases, name=site.name)

    def _emit_sums(self, tf: Any, site: Site, x: Tensor, weights: Tensor, size: Pair, name: Any, **how: Any) -> Tensor:
        """Returns the top of that size, without bias; ``how`` is what each of TensorFlow's functions is told."""
        is_open = site.bottom[0] < 0
        items = tf.gather(tf.shape(x), 0) if is_open else site.bottom[0]

        def shape(channels: int) -> Any:
            return tf.stack([items, *size, channels]) if is_open else [items, *size, channels]

        if self._is_depthwise():
            whole = shape(self.num_output)
            return tf.nn.depthwise_conv2d_backprop_input(whole, weights, x, name=name, **how)
        if self.group == 1:
            return tf.nn.conv2d_transpose(x, weights, shape(self.num_output), name=name, **how)
        part = shape(self.num_output // self.group)
        parts = zip(tf.split(x, self.group, axis=3), tf.split(weights, self.group, axis=3))
        return tf.concat([tf.nn.conv2d_transpose(*one, part, **how) for one in parts], axis=3, name=name)


def _spread(tf: Any, x: Tensor, shape: Shape, axes: Pair, steps: Pair) -> Tensor:
    """Returns ``x``, which has ``shape``, with ``steps`` - 1 zeros between neighbours along ``axes``."""
    sizes = list(shape)
    for axis, step in zip(axes, steps):
        if step == 1:
            continue
        before, after = sizes[: axis + 1], sizes[axis + 1 :]
        x = tf.reshape(x, [*before, 1, *after])
        x = tf.pad(x, [*([0, 0] for _ in before), [0, step - 1], *([0, 0] for _ in after)])
        x = tf.reshape(x, [*before[:-1], before[-1] * step, *after])
        sizes[axis] = (sizes[axis] - 1) * step + 1
        whole = [-1] * len(shape)  # what tf.slice calls the rest
        x = tf.slice(x, [0] * len(shape), [*whole[:axis], sizes[axis], *whole[axis + 1 :]])
    return x
