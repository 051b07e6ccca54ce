"""Convolution: plain, grouped, depthwise, dilated, rectangular."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.layer import Filler, Layer, ParameterSpec, Site, Tensor, canonical_axis, layer, spell
from graphs.layers import windows
from graphs.layers.windows import Pair
from weights import Layout, Shape


@layer(
    "Convolution",
    "convolution_param",
    without_effect=("engine", "force_nd_im2col"),
    note="groups, depthwise, dilation, rectangular, with and without bias; two spatial axes",
)
@dataclass(frozen=True)
class Convolution(Layer):
    """Caffe's ConvolutionLayer over N, C, H, W.

    Weights are (num_output, C / group, kernel_h, kernel_w) in Caffe and (kernel_h, kernel_w, C / group, num_output)
    in TensorFlow; where every channel is its own group, (kernel_h, kernel_w, C, num_output / C) as
    ``tf.nn.depthwise_conv2d`` has it.
    """

    num_output: int = 0
    bias_term: bool = True
    pad: tuple[int, ...] = ()
    kernel_size: tuple[int, ...] = ()
    group: int = 1
    stride: tuple[int, ...] = ()
    weight_filler: Filler = Filler()
    bias_filler: Filler = Filler()
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
        return windows.pair(self.pad, self.pad_h, self.pad_w, "pad", 0)

    @property
    def dilations(self) -> Pair:
        """Distance of neighbours within a window (down, right)."""
        return windows.pair(self.dilation, None, None, "dilation", 1)

    def top_shapes(self, x: Shape) -> Shape:
        self._check(x)
        out = [
            (size + 2 * pad - (dilation * (kernel - 1) + 1)) // stride + 1
            for size, pad, dilation, kernel, stride in zip(
                windows.spatial(x), self.pads, self.dilations, self.kernel, self.strides
            )
        ]
        if min(out) < 1:
            raise ValueError(
                f"kernel {spell(self.kernel)} with pad {spell(self.pads)} and dilation {spell(self.dilations)} "
                f"is larger than its bottom, {spell(x)}"
            )
        return (x[0], self.num_output, *out)

    def _check(self, x: Shape) -> None:
        windows.spatial(x)
        if canonical_axis(self.axis, x) != 1:
            raise ValueError(f"axis {self.axis} leaves other than two spatial axes; only axis 1 is supported")
        for name, values in (("kernel_size", self.kernel), ("stride", self.strides), ("dilation", self.dilations)):
            if min(values) < 1:
                raise ValueError(f"{name} is {spell(values)}; Caffe wants 1 or more")
        if self.num_output < 1:
            raise ValueError(f"num_output is {self.num_output}; Caffe wants 1 or more")
        if self.group < 1 or x[1] % self.group or self.num_output % self.group:
            raise ValueError(
                f"group {self.group} does not divide both its {x[1]} input channels and num_output {self.num_output}"
            )

    def _is_depthwise(self, x: Shape) -> bool:
        return self.group == x[1] > 1

    def parameters(self, x: Shape) -> tuple[ParameterSpec, ...]:
        caffe = (self.num_output, x[1] // self.group, *self.kernel)
        if self._is_depthwise(x):
            layout = Layout(caffe, view=(x[1], self.num_output // x[1], *self.kernel), order=(2, 3, 0, 1))
        else:
            layout = Layout(caffe, order=(2, 3, 1, 0))
        weights = ParameterSpec("weights", layout, self.weight_filler)
        biases = ParameterSpec("biases", Layout((self.num_output,)), self.bias_filler)
        return (weights, biases) if self.bias_term else (weights,)

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
        step = down if down == right else 1  # the kernel takes one stride for both axes
        padding = self._padding()
        if isinstance(padding, list):  # sides spelled out bring Grappler down for this kernel
            x, padding = tf.pad(x, padding), "VALID"
        y = tf.nn.depthwise_conv2d(
            x,
            weights,
            strides=[1, step, step, 1],
            padding=padding,
            name=name if down == right else None,
            **self._dilation_argument(),
        )
        return y if down == right else tf.strided_slice(y, [0, 0, 0, 0], tf.shape(y), [1, down, right, 1], name=name)

    def _padding(self) -> str | list[list[int]]:
        if any(self.pads) and windows.is_same(self.kernel, self.strides, self.dilations, self.pads):
            return "SAME"
        return windows.tensorflow_padding(self.pads, self.pads)

    def _dilation_argument(self) -> dict[str, list[int]]:
        return {} if self.dilations == (1, 1) else {"dilations": list(self.dilations)}
