"""Im2col: the windows of a convolution, laid out as channels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.layer import Site, Tensor, layer
from graphs.layers import windows
from graphs.layers.convolution import Windowed
from weights import Shape


@layer("Im2col", "convolution_param")
@dataclass(frozen=True)
class Im2col(Windowed):
    """Caffe's Im2colLayer over N, C, H, W: at each place of the top, the values of a window; the top's channels are
    the bottom's channel, row and column within the window, the last one fastest."""

    without_effect = frozenset({"engine", "force_nd_im2col"})
    note = "two spatial axes"

    def top_shapes(self, x: Shape) -> Shape:
        self.check_windows(x)
        return (x[0], x[1] * math.prod(self.kernel), *self.windows_over(x))

    def reference(self, x: np.ndarray) -> np.ndarray:
        batch, channels, *out = self.top_shapes(x.shape)
        y = np.empty((batch, x.shape[1], *self.kernel, *out), x.dtype)
        padded = windows.pad_spatial(x, self.pads, self.pads)
        for i, j in windows.offsets(self.kernel):
            y[:, :, i, j] = windows.at_offset(padded, (i, j), self.strides, self.dilations, (out[0], out[1]))
        return y.reshape(batch, channels, *out)

    def emit(self, tf: Any, site: Site, x: Tensor) -> Tensor:
        if any(self.pads):
            x = tf.pad(x, windows.tensorflow_padding(self.pads, self.pads))
        sizes, strides, rates = ([1, *pair, 1] for pair in (self.kernel, self.strides, self.dilations))
        patches = tf.image.extract_patches(x, sizes, strides, rates, "VALID")
        # TensorFlow's channels are row, column, channel.
        _, channels, height, width = site.top
        patches = tf.reshape(patches, [-1, height, width, math.prod(self.kernel), site.bottom[1]])
        patches = tf.transpose(patches, [0, 1, 2, 4, 3])
        return tf.reshape(patches, [-1, height, width, channels], name=site.name)
