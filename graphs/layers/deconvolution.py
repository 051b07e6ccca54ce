"""Deconvolution: a convolution's gradient as a layer, which makes pictures larger."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.layer import Site, Tensor, layer, spell
from graphs.layers import windows
from graphs.layers.convolution import Weighted
from graphs.layers.windows import Pair
from weights import Layout, Shape


@layer(
    "Deconvolution",
    "convolution_param",
    without_effect=("engine", "force_nd_im2col"),
    note="groups, depthwise, dilation, rectangular, with and without bias; two spatial axes",
)
@dataclass(frozen=True)
class Deconvolution(Weighted):
    """Caffe's DeconvolutionLayer over N, C, H, W: each value, times the kernel, is added to the window that it stands
    for; ``stride`` is how far those windows lie apart in the top, ``pad`` what is cut off its border.

    Weights are (C, num_output / group, kernel_h, kernel_w) in Caffe and (kernel_h, kernel_w, num_output / group, C) in
    TensorFlow; where every output is its own group, (kernel_h, kernel_w, num_output, C / num_output) as the gradient
    of ``tf.nn.depthwise_conv2d`` has it.
    """

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
            source, kernels = (
                array.swapaxes(0, 1)[g * inputs : (g + 1) * inputs] for array in (x, weights.swapaxes(0, 1))
            )
            target = whole[:, g * outputs : (g + 1) * outputs]
            for i, j in windows.offsets(self.kernel):
                seen = windows.at_offset(target, (i, j), self.strides, self.dilations, size)
                seen += np.einsum("cnhw,co->nohw", source, kernels[:, :, i, j])
        (top, left), bias = self.pads, 0 if biases is None else biases[:, None, None]
        return whole[:, :, top : top + height, left : left + width] + bias

    def emit(self, tf: Any, site: Site, x: Tensor, weights: Tensor, biases: Tensor | None = None) -> Tensor:
        last = site.name if biases is None else None
        y = self._emit_sums(tf, site, x, weights, last)
        return y if biases is None else tf.nn.bias_add(y, biases, name=site.name)

    def _emit_sums(self, tf: Any, site: Site, x: Tensor, weights: Tensor, name: str | None) -> Tensor:
        strides, (kernel_h, kernel_w, *channels) = self.strides, self._layout(site.bottom).tensorflow
        # TensorFlow's kernels for CPU know no gaps in a window, and the depthwise one takes one stride for both axes.
        weights = _spread(tf, weights, (kernel_h, kernel_w, *channels), (0, 1), self.dilations)
        if self._is_depthwise() and strides[0] != strides[1]:
            batch, count, *size = site.bottom
            x, strides = _spread(tf, x, (batch, *size, count), (1, 2), strides), (1, 1)

        # Where the cut is what SAME cuts at any size, it costs nothing; elsewhere all is computed and then cut.
        is_same = all(0 < extent - 2 * pad <= step for extent, pad, step in zip(self.extent, self.pads, strides))
        is_cut = any(self.pads) and not is_same
        padding = "SAME" if any(self.pads) and is_same else "VALID"
        top, left = self.pads
        _, _, height, width = site.top
        size = [height + 2 * top, width + 2 * left] if is_cut else [height, width]
        y = self._emit_whole(tf, site, x, weights, size, list(strides), padding, None if is_cut else name)
        return tf.slice(y, [0, top, left, 0], [-1, height, width, -1], name=name) if is_cut else y

    def _emit_whole(
        self,
        tf: Any,
        site: Site,
        x: Tensor,
        weights: Tensor,
        size: list[int],
        strides: list[int],
        padding: str,
        name: str | None,
    ) -> Tensor:
        batch = site.bottom[0]
        batch = tf.gather(tf.shape(x), 0) if batch < 0 else batch

        def shape(channels: int) -> Any:
            whole = [batch, *size, channels]
            return tf.stack(whole) if site.bottom[0] < 0 else whole

        if self._is_depthwise():
            return tf.nn.depthwise_conv2d_backprop_input(
                shape(self.num_output), weights, x, [1, *strides, 1], padding, name=name
            )
        if self.group == 1:
            return tf.nn.conv2d_transpose(x, weights, shape(self.num_output), strides, padding, name=name)
        part_shape = shape(self.num_output // self.group)
        parts = [
            tf.nn.conv2d_transpose(part, kernels, part_shape, strides, padding)
            for part, kernels in zip(tf.split(x, self.group, axis=3), tf.split(weights, self.group, axis=3))
        ]
        return tf.concat(parts, axis=3, name=name)


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
