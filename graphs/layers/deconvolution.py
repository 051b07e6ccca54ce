"""Deconvolution: a convolution's gradient as a layer, which makes pictures larger."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphs.layer import Site, Tensor, canonical_axis, layer, spell
from graphs.layers import windows as sliding
from graphs.layers.convolving import along_first, pad_axes, spread
from graphs.layers.windowed import Weighted
from graphs.layers.windows import Sizes, Windows
from weights import Layout, Shape


@layer("Deconvolution", "convolution_param")
@dataclass(frozen=True)
class Deconvolution(Weighted):
    """Caffe's DeconvolutionLayer over N, C, H, W, or any other number of spatial axes: each value, times the kernel, is
    added to the window that it stands for; ``stride`` is how far those windows lie apart in the top, ``pad`` what is
    cut off its border.

    Weights are (C, num_output / group, kernel_h, kernel_w) in Caffe and (kernel_h, kernel_w, num_output / group, C) in
    TensorFlow; where every output is its own group, (kernel_h, kernel_w, num_output, C / num_output) as the gradient
    of ``tf.nn.depthwise_conv2d`` has it.
    """

    without_effect = frozenset({"engine", "force_nd_im2col"})
    note = "any number of spatial axes, axis, groups, depthwise, dilation, several bottoms, with and without bias"

    def _out(self, windows: Windows, x: Shape, sizes: Sizes) -> Sizes:
        out = _out(windows, sizes)
        if min(out, default=1) < 1:
            raise ValueError(f"pad {spell(windows.pads)} leaves nothing of its top; its bottom is {spell(x)}")
        return out

    def _is_depthwise(self) -> bool:
        return self.group == self.num_output > 1

    def _layout(self, x: Shape) -> Layout:
        channels, kernel = self.channels(x), self.windows(x).kernel
        caffe = (channels, self.num_output // self.group, *kernel)
        if self._is_depthwise() and len(kernel) == 2:
            return Layout(caffe, view=(self.group, channels // self.group, *kernel), order=(2, 3, 0, 1))
        return Layout(caffe, order=(*range(2, len(caffe)), 1, 0))

    def multiply_adds(self, bottoms: tuple[Shape, ...], tops: tuple[Shape, ...]) -> int:
        kernel = self.windows(bottoms[0]).kernel
        return sum(map(math.prod, bottoms)) * (self.num_output // self.group) * math.prod(kernel)

    def _reference(self, windows: Windows, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
        batch, channels, *rest = x.shape
        sizes = tuple(rest)
        whole = np.zeros((batch, self.num_output, *_whole(windows, sizes)), x.dtype)
        inputs, outputs = channels // self.group, self.num_output // self.group
        for g in range(self.group):
            source, kernels = x[:, g * inputs : (g + 1) * inputs], weights[g * inputs : (g + 1) * inputs]
            target = whole[:, g * outputs : (g + 1) * outputs]
            for offset in sliding.offsets(windows.kernel):
                seen = sliding.at_offset(target, offset, windows.strides, windows.dilations, sizes)
                seen += np.einsum("nc...,co->no...", source, kernels[sliding.BOTH + offset])
        kept = tuple(slice(pad, pad + size) for pad, size in zip(windows.pads, _out(windows, sizes)))
        return whole[sliding.BOTH + kept]

    def _emit(
        self, tf: Any, site: Site, x: Tensor, weights: Tensor, windows: Windows, sizes: Sizes, name: str | None
    ) -> Tensor:
        channels, is_alone = self.channels(site.bottom), self._is_depthwise() and len(sizes) == 2
        # Where the batch is free, its size is one more value of the graph.
        items = None if site.bottom[0] < 0 else math.prod(site.bottom[: canonical_axis(self.axis, site.bottom)])
        how = Deconvolving(windows, sizes, channels, self.num_output, self.group, is_alone, items)
        if self._layout(site.bottom).tensorflow != how.weights:
            weights = tf.reshape(weights, list(how.weights))
        return how.emit(tf, x, weights, name)


@dataclass(frozen=True)
class Deconvolving:
    """A deconvolution along two axes or more, of ``items`` pictures, None where they are free.

    Weights are kernel, outputs of a group, channels; where each output ``is_alone``, kernel, outputs, channels of each.
    """

    windows: Windows
    sizes: Sizes
    channels: int
    outputs: int
    group: int
    is_alone: bool
    items: int | None

    def emit(self, tf: Any, x: Tensor, weights: Tensor, name: str | None) -> Tensor:
        """Returns the deconvolution, its last operation by that name where there is one."""
        if len(self.sizes) > 3:
            return self._emit_along_first(tf, x, weights, name)
        windows, strides, axes = self.windows, self.windows.strides, len(self.sizes)
        if self.outputs == self.group and not self.is_alone:
            # A stride between one value says nothing, but may be taken for another axis' in the gradient, as
            # Convolving has it.
            strides = tuple(1 if size == 1 else stride for size, stride in zip(self.sizes, strides))
        # TensorFlow's kernels for CPU know no gaps in a window, and the depthwise one takes one stride for both axes.
        weights = spread(tf, weights, self.weights, range(axes), windows.dilations)
        if self.is_alone and strides[0] != strides[1]:
            x, strides = spread(tf, x, self._pictures, (1, 2), strides), (1, 1)

        # Where the cut is what SAME cuts at any size, it costs nothing; elsewhere all is computed and then cut.
        pads, size = windows.pads, _out(windows, self.sizes)
        is_same = all(0 < extent - 2 * pad <= step for extent, pad, step in zip(windows.extent, pads, strides))
        is_cut = any(pads) and not is_same
        padding = "SAME" if any(pads) and is_same else "VALID"
        made = tuple(length + 2 * pad for length, pad in zip(size, pads)) if is_cut else size
        how = {"strides": [1, *strides, 1], "padding": padding}
        y = self._emit_sums(tf, x, weights, made, None if is_cut else name, **how)
        return tf.slice(y, [0, *pads, 0], [-1, *size, -1], name=name) if is_cut else y

    def _emit_sums(self, tf: Any, x: Tensor, weights: Tensor, size: Sizes, name: str | None, **how: Any) -> Tensor:
        """Returns the top of that size; ``how`` is what each of TensorFlow's functions is told."""
        items = tf.gather(tf.shape(x), 0) if self.items is None else self.items
        axis = len(size) + 1

        def shape(channels: int) -> Any:
            return tf.stack([items, *size, channels]) if self.items is None else [items, *size, channels]

        if self.is_alone:
            return tf.nn.depthwise_conv2d_backprop_input(shape(self.outputs), weights, x, name=name, **how)
        transpose = tf.nn.conv2d_transpose if len(size) == 2 else tf.nn.conv3d_transpose
        if self.group == 1:
            return transpose(x, weights, shape(self.outputs), name=name, **how)
        part = shape(self.outputs // self.group)
        parts = zip(tf.split(x, self.group, axis=axis), tf.split(weights, self.group, axis=axis))
        return tf.concat([transpose(*one, part, **how) for one in parts], axis=axis, name=name)

    def _emit_along_first(self, tf: Any, x: Tensor, weights: Tensor, name: str | None) -> Tensor:
        windows, reach = self.windows, self.windows.extent[0] - 1
        x = spread(tf, x, self._pictures, [1], windows.strides)
        batch, first, *inner = self._pictures
        held = (batch, (first - 1) * windows.strides[0] + 1, *inner)
        x = pad_axes(tf, x, held, [[0, 0], [reach, reach], *([[0, 0]] * len(self.sizes))])
        out = _out(windows, self.sizes)
        items = None if self.items is None else self.items * out[0]
        rest = replace(self, windows=windows.without_first(), sizes=self.sizes[1:], items=items)
        return along_first(
            tf,
            x,
            weights,
            starts=[windows.pads[0] + reach - place * windows.dilations[0] for place in range(windows.kernel[0])],
            step=1,
            inner=(*rest.sizes, self.channels),
            kernel=rest.weights,
            out=(*out, self.outputs),
            convolve=lambda part, kernel: rest.emit(tf, part, kernel, None),
            name=name,
        )

    @property
    def _pictures(self) -> Shape:
        return (-1 if self.items is None else self.items, *self.sizes, self.channels)

    @property
    def weights(self) -> Shape:
        """The shape of its weights."""
        if self.is_alone:
            return (*self.windows.kernel, self.outputs, self.channels // self.group)
        return (*self.windows.kernel, self.outputs // self.group, self.channels)


def _whole(windows: Windows, sizes: Sizes) -> Sizes:
    """Returns the sizes of a top before ``pad`` is cut off."""
    return tuple(stride * (size - 1) + extent for size, stride, extent in zip(sizes, windows.strides, windows.extent))


def _out(windows: Windows, sizes: Sizes) -> Sizes:
    return tuple(size - 2 * pad for size, pad in zip(_whole(windows, sizes), windows.pads))
