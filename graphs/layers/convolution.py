"""Convolution: plain, grouped, depthwise, dilated, rectangular; and what others share with it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.layer import Filler, Layer, ParameterSpec, Site, Tensor, canonical_axis, layer, spell
from graphs.layers import windows
from graphs.layers.windows import Pair
from weights import Layout, Shape


@dataclass(frozen=True)
class Windowed(Layer):
    """What Caffe's ConvolutionParameter says of windows: where they lie on N, C, H, W."""

    pad: tuple[int, ...] = ()
    kernel_size: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    pad_h: int | None = None
    pad_w: int | None = None
    kernel_h: int | None = None
    kernel_w: int | None = None
    stride_h: int | None = None
    stride_w: int | None = None
    axis: int = 1
    dilation: tuple[int, ...] = ()

    @property
    def kernel(self) -> Pair:
        """Window (height, width)."""
        return windows.pair(self.kernel_size, self.kernel_h, self.kernel_w, "kernel_size", 0)

    @property
    def strides(self) -> Pair:
        """Step (down, right)."""
        return windows.pair(self.stride, self.stride_h, self.stride_w, "stride", 1)

    @property
    def pads(self) -> Pair:
        """Zeros on each side (above and below, left and right)."""
        h, w = self.pad_h, self.pad_w
        if h is not None or w is not None:  # unlike a kernel's or a stride's, one half of a pad may be left out
            h, w = h or 0, w or 0
        return windows.pair(self.pad, h, w, "pad", 0)

    @property
    def dilations(self) -> Pair:
        """Distance of neighbours within a window (down, right)."""
        return windows.pair(self.dilation, None, None, "dilation", 1)

    @property
    def extent(self) -> Pair:
        """What a window spans with its gaps (height, width)."""
        down, right = (dilation * (kernel - 1) + 1 for dilation, kernel in zip(self.dilations, self.kernel))
        return down, right

    def windows_over(self, x: Shape) -> Pair:
        """Returns how many windows there are over a bottom of that shape (down, right). Raises ValueError for none."""
        down, right = (
            (size + 2 * pad - extent) // stride + 1
            for size, pad, extent, stride in zip(windows.spatial(x), self.pads, self.extent, self.strides)
        )
        if min(down, right) < 1:
            raise ValueError(
                f"kernel {spell(self.kernel)} with pad {spell(self.pads)} and dilation {spell(self.dilations)} "
                f"is larger than its bottom, {spell(x)}"
            )
        return down, right

    def check_windows(self, x: Shape) -> None:
        """Raises ValueError where windows of these sizes can't lie on a bottom of that shape."""
        windows.spatial(x)
        if canonical_axis(self.axis, x) != 1:
            raise ValueError(f"axis {self.axis} leaves other than two spatial axes; only axis 1 is supported")
        for name, values in (("kernel_size", self.kernel), ("stride", self.strides), ("dilation", self.dilations)):
            if min(values) < 1:
                raise ValueError(f"{name} is {spell(values)}; Caffe wants 1 or more")


@dataclass(frozen=True)
class Weighted(Windowed):
    """What Convolution and Deconvolution share beside their windows: outputs, groups, parameters."""

    num_output: int = 0
    bias_term: bool = True
    group: int = 1
    weight_filler: Filler = Filler()
    bias_filler: Filler = Filler()

    def check(self, x: Shape) -> None:
        """Raises ValueError where Caffe would refuse a bottom of that shape."""
        self.check_windows(x)
        if self.num_output < 1:
            raise ValueError(f"num_output is {self.num_output}; Caffe wants 1 or more")
        if self.group < 1 or x[1] % self.group or self.num_output % self.group:
            raise ValueError(
                f"group {self.group} does not divide both its {x[1]} input channels and num_output {self.num_output}"
            )

    def parameters(self, x: Shape) -> tuple[ParameterSpec, ...]:
        weights = ParameterSpec("weights", self._layout(x), self.weight_filler)
        biases = ParameterSpec("biases", Layout((self.num_output,)), self.bias_filler)
        return (weights, biases) if self.bias_term else (weights,)

    def _layout(self, x: Shape) -> Layout:
        raise NotImplementedError


@layer("Convolution", "convolution_param")
@dataclass(frozen=True)
class Convolution(Weighted):
    """Caffe's ConvolutionLayer over N, C, H, W.

    Weights are (num_output, C / group, kernel_h, kernel_w) in Caffe and (kernel_h, kernel_w, C / group, num_output)
    in TensorFlow; where every channel is its own group, (kernel_h, kernel_w, C, num_output / C) as
    ``tf.nn.depthwise_conv2d`` has it.
    """

    without_effect = frozenset({"engine", "force_nd_im2col"})
    note = "groups, depthwise, dilation, rectangular, with and without bias; two spatial axes"

    def top_shapes(self, x: Shape) -> Shape:
        self.check(x)
        return (x[0], self.num_output, *self.windows_over(x))

    def _is_depthwise(self, x: Shape) -> bool:
        return self.group == x[1] > 1

    def _layout(self, x: Shape) -> Layout:
        caffe = (self.num_output, x[1] // self.group, *self.kernel)
        if self._is_depthwise(x):
            return Layout(caffe, view=(x[1], self.num_output // x[1], *self.kernel), order=(2, 3, 0, 1))
        return Layout(caffe, order=(2, 3, 1, 0))

    def multiply_adds(self, bottoms: tuple[Shape, ...], tops: tuple[Shape, ...]) -> int:
        return math.prod(tops[0]) * (bottoms[0][1] // self.group) * math.prod(self.kernel)

    def reference(self, x: np.ndarray, weights: np.ndarray, biases: np.ndarray | None = None) -> np.ndarray:
        shape = self.top_shapes(x.shape)
        padded = windows.pad_spatial(x, self.pads, self.pads)
        y = np.zeros(shape, x.dtype)
        inputs, outputs = x.shape[1] // self.group, self.num_output // self.group
        for g in range(self.group):
            source = padded[:, g * inputs : (g + 1) * inputs]
            target = y[:, g * outputs : (g + 1) * outputs].reshape(shape[0], outputs, -1)
            kernels = weights[g * outputs : (g + 1) * outputs]
            for i, j in windows.offsets(self.kernel):
                seen = windows.at_offset(source, (i, j), self.strides, self.dilations, windows.spatial(shape))
                target += kernels[:, :, i, j] @ seen.reshape(shape[0], inputs, -1)
            y[:, g * outputs : (g + 1) * outputs] = target.reshape(shape[0], outputs, *shape[2:])
        return y if biases is None else y + biases[:, None, None]

    def emit(self, tf: Any, site: Site, x: Tensor, weights: Tensor, biases: Tensor | None = None) -> Tensor:
        last = site.name if biases is None else None
        if self._is_depthwise(site.bottom):
            y = self._emit_depthwise(tf, x, weights, last)
        elif self.group == 1:
            y = self._emit_dense(tf, x, weights, last)
        else:  # TensorFlow's grouped kernel has no CPU gradient and fails once Grappler fuses it
            parts = zip(tf.split(x, self.group, axis=3), tf.split(weights, self.group, axis=3))
            y = tf.concat([self._emit_dense(tf, *part) for part in parts], axis=3, name=last)
        return y if biases is None else tf.nn.bias_add(y, biases, name=site.name)

    def _emit_dense(self, tf: Any, x: Tensor, weights: Tensor, name: str | None = None) -> Tensor:
        return tf.nn.conv2d(
            x,
            weights,
            strides=list(self.strides),
            padding=self._padding(),
            name=name,
            **self._dilation_argument(),
        )

    def _emit_depthwise(self, tf: Any, x: Tensor, weights: Tensor, name: str | None) -> Tensor:
        down, right = self.strides
        has_gaps = self.dilations != (1, 1)
        step = down if down == right and not has_gaps else 1  # one stride for both axes, and 1 with dilation
        is_stepped = self.strides != (step, step)
        padding = self._padding()
        if isinstance(padding, list):  # sides spelled out bring Grappler down for this kernel
            x, padding = tf.pad(x, padding), "VALID"
        y = tf.nn.depthwise_conv2d(
            x,
            weights,
            strides=[1, step, step, 1],
            padding=padding,
            name=None if is_stepped or has_gaps else name,
            **self._dilation_argument(),
        )
        if is_stepped:
            return tf.strided_slice(y, [0, 0, 0, 0], tf.shape(y), [1, down, right, 1], name=name)
        return tf.identity(y, name=name) if has_gaps and name else y  # its last operation would not bear the name

    def _padding(self) -> str | list[list[int]]:
        if any(self.pads) and windows.is_same(self.kernel, self.strides, self.dilations, self.pads):
            return "SAME"
        return windows.tensorflow_padding(self.pads, self.pads)

    def _dilation_argument(self) -> dict[str, list[int]]:
        return {} if self.dilations == (1, 1) else {"dilations": list(self.dilations)}
