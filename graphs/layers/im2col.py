"""Im2col: the windows of a convolution, laid out as channels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.channels_last import as_picture, from_picture, is_picture
from graphs.layer import Site, Tensor, canonical_axis, layer, spell
from graphs.layers import windows as sliding
from graphs.layers.windowed import Windowed
from graphs.layers.windows import Sizes, Windows
from weights import Shape


@layer("Im2col", "convolution_param")
@dataclass(frozen=True)
class Im2col(Windowed):
    """Caffe's Im2colLayer over N, C, H, W, or any other number of spatial axes: at each place of the top, the values of
    a window; the top's channels are the bottom's channel, row and column within the window, the last one fastest."""

    without_effect = frozenset({"engine", "force_nd_im2col"})
    unread = frozenset({"num_output", "bias_term", "group", "weight_filler", "bias_filler"})
    note = "any number of spatial axes, axis"

    def top_shapes(self, x: Shape) -> Shape:
        axis = canonical_axis(self.axis, x)
        sizes = x[axis + 1 :]
        if not sizes:
            raise ValueError(f"axis {self.axis} is the last of {spell(x)}; Caffe wants one more, to lay windows along")
        windows = self.windows(x)
        return (*x[:axis], x[axis] * math.prod(windows.kernel), *windows.over(x, sizes))

    def reference(self, x: np.ndarray) -> np.ndarray:
        windows, pictures = self.windows(x.shape), self.pictures(x)
        batch, channels, *rest = pictures.shape
        sizes = tuple(rest)
        out = windows.count(sizes)
        y = np.empty((batch, channels, *windows.kernel, *out), x.dtype)
        padded = sliding.pad_spatial(pictures, windows.pads, windows.past_end(sizes))
        for offset in sliding.offsets(windows.kernel):
            seen = sliding.at_offset(padded, offset, windows.strides, windows.dilations, out)
            y[sliding.BOTH + offset] = seen
        return y.reshape(self.top_shapes(x.shape))

    def emit(self, tf: Any, site: Site, x: Tensor) -> Tensor:
        axis = canonical_axis(self.axis, site.bottom)
        windows, sizes = self.windows(site.bottom).as_two(), (1, 1, *site.bottom[axis + 1 :])
        sizes = sizes[-len(windows.kernel) :]
        out, inputs, outputs = windows.count(sizes), site.bottom[axis], site.top[axis]
        batch = 1 if axis == 0 else -1
        x = as_picture(tf, x, site.bottom, axis)
        padding = sliding.tensorflow_padding(windows.pads, windows.past_end(sizes))
        if isinstance(padding, list):
            x = tf.pad(x, padding)
        if len(sizes) == 2 and 0 not in windows.dilations:
            how = ([1, *pair, 1] for pair in (windows.kernel, windows.strides, windows.dilations))
            patches = tf.image.extract_patches(x, *how, "VALID")
            # TensorFlow's channels are row, column, channel.
            patches = tf.reshape(patches, [batch, *out, math.prod(windows.kernel), inputs])
        else:
            patches = tf.stack([_seen(tf, x, windows, out, offset) for offset in sliding.offsets(windows.kernel)], -2)
        last = len(sizes) + 2
        patches = tf.transpose(patches, [*range(last - 1), last, last - 1])
        name = site.name if is_picture(site.bottom, axis) else None
        patches = tf.reshape(patches, [batch, *out, outputs], name=name)
        return from_picture(tf, patches, site.top, axis, site.name)


def _seen(tf: Any, x: Tensor, windows: Windows, out: Sizes, offset: Sizes) -> Tensor:
    """Returns what each window sees at one of its places."""
    starts = [place * gap for place, gap in zip(offset, windows.dilations)]
    ends = [start + (count - 1) * step + 1 for start, count, step in zip(starts, out, windows.strides)]
    return tf.strided_slice(x, [0, *starts], [0, *ends], [1, *windows.strides], begin_mask=1, end_mask=1)
