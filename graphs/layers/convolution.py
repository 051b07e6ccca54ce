"""Convolution: plain, grouped, depthwise, dilated, along any number of axes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from graphs.layer import Site, Tensor, layer
from graphs.layers import windows as sliding
from graphs.layers.convolving import Convolving
from graphs.layers.windowed import Weighted
from graphs.layers.windows import Sizes, Windows
from weights import Layout, Shape


@layer("Convolution", "convolution_param")
@dataclass(frozen=True)
class Convolution(Weighted):
    """Caffe's ConvolutionLayer over N, C, H, W, or any other number of spatial axes.

    Weights are (num_output, C / group, kernel_h, kernel_w) in Caffe and (kernel_h, kernel_w, C / group, num_output)
    in TensorFlow; where every channel is its own group, (kernel_h, kernel_w, C, num_output / C) as
    ``tf.nn.depthwise_conv2d`` has it.
    """

    without_effect = frozenset({"engine", "force_nd_im2col"})
    note = "any number of spatial axes, axis, groups, depthwise, dilation, several bottoms, with and without bias"

    is_same: ClassVar[bool] = False
    """Whether it is padded as TensorFlow's SAME."""

    def _out(self, windows: Windows, x: Shape, sizes: Sizes) -> Sizes:
        return windows.over(x, sizes)

    def _is_depthwise(self, x: Shape) -> bool:
        return self.group == self.channels(x) > 1

    def _layout(self, x: Shape) -> Layout:
        channels, kernel = self.channels(x), self.windows(x).kernel
        caffe = (self.num_output, channels // self.group, *kernel)
        if self._is_depthwise(x) and len(kernel) == 2:
            return Layout(caffe, view=(channels, self.num_output // channels, *kernel), order=(2, 3, 0, 1))
        return Layout(caffe, order=(*range(2, len(caffe)), 1, 0))

    def multiply_adds(self, bottoms: tuple[Shape, ...], tops: tuple[Shape, ...]) -> int:
        x = bottoms[0]
        return sum(map(math.prod, tops)) * (self.channels(x) // self.group) * math.prod(self.windows(x).kernel)

    def _reference(self, windows: Windows, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
        batch, channels, *sizes = x.shape
        out = windows.count(tuple(sizes))
        padded = sliding.pad_spatial(x, windows.pads, windows.past_end(tuple(sizes)))
        y = np.zeros((batch, self.num_output, math.prod(out)), x.dtype)
        inputs, outputs = channels // self.group, self.num_output // self.group
        for g in range(self.group):
            source = padded[:, g * inputs : (g + 1) * inputs]
            kernels = weights[g * outputs : (g + 1) * outputs]
            for offset in sliding.offsets(windows.kernel):
                seen = sliding.at_offset(source, offset, windows.strides, windows.dilations, out)
                product = kernels[sliding.BOTH + offset] @ seen.reshape(batch, inputs, -1)
                y[:, g * outputs : (g + 1) * outputs] += product
        return y.reshape(batch, self.num_output, *out)

    def _emit(
        self, tf: Any, site: Site, x: Tensor, weights: Tensor, windows: Windows, sizes: Sizes, name: str | None
    ) -> Tensor:
        channels, is_alone = self.channels(site.bottom), self._is_depthwise(site.bottom)
        ends = (channels, self.num_output // channels) if is_alone else (channels // self.group, self.num_output)
        if self._layout(site.bottom).tensorflow != (*windows.kernel, *ends):
            weights = tf.reshape(weights, [*windows.kernel, *ends])
        learns = site.phase == "TRAIN"
        how = Convolving(windows, sizes, ends, self.group, is_alone, learns, self.is_same)
        return how.emit(tf, x, weights, name)
