"""What Caffe's ConvolutionParameter says to all layers that read it: where windows lie, and the parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphs.channels_last import as_picture, from_picture, is_picture
from graphs.layer import MANY, Filler, Layer, ParameterSpec, Site, Tensor, canonical_axis, spell
from graphs.layers.windows import Sizes, Windows, halves
from weights import Layout, Shape


@dataclass(frozen=True)
class Windowed(Layer):
    """Windows over the axes after ``axis``, which has the channels; those before it are all batch.

    Sizes are given once for all spatial axes or once for each, or as ``_h`` and ``_w`` where there are two.
    """

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

    def windows(self, x: Shape) -> Windows:
        """Returns the windows over a bottom of that shape. Raises ValueError where Caffe would refuse the sizes."""
        count = len(x) - canonical_axis(self.axis, x) - 1
        kernel = _sizes("kernel_size", self.kernel_size, self.kernel_h, self.kernel_w, count)
        strides = _sizes("stride", self.stride, self.stride_h, self.stride_w, count, default=1)
        for name, values in (("kernel_size", kernel), ("stride", strides)):
            if min(values, default=1) < 1:
                raise ValueError(f"{name} is {spell(values)}; Caffe wants 1 or more")
        h, w = self.pad_h, self.pad_w
        if h is not None or w is not None:  # unlike a kernel's or a stride's, one half of a pad may be left out
            h, w = h or 0, w or 0
        pads = _sizes("pad", self.pad, h, w, count, default=0)
        return Windows(kernel, strides, pads, _sizes("dilation", self.dilation, None, None, count, default=1))

    def works_in_place(self, *bottoms: Shape) -> bool:
        if bottoms and canonical_axis(self.axis, bottoms[0]) == len(bottoms[0]) - 1:
            return False  # no spatial axes: one by one, whatever the kernel
        # One by one, Caffe multiplies the bottom where it lies; other windows are laid out in columns first.
        kernel = {*self.kernel_size, self.kernel_h, self.kernel_w, *self.stride, self.stride_h, self.stride_w}
        return not (kernel <= {None, 1} and {*self.pad, self.pad_h, self.pad_w} <= {None, 0})

    def pictures(self, x: np.ndarray) -> np.ndarray:
        """Returns a bottom as batch, channels, spatial axes."""
        axis = canonical_axis(self.axis, x.shape)
        return x.reshape(int(np.prod(x.shape[:axis], dtype=int)), *x.shape[axis:])


def _sizes(name: str, listed: Sizes, h: int | None, w: int | None, count: int, default: int | None = None) -> Sizes:
    """Returns a size along each of ``count`` axes."""
    if h is not None or w is not None:
        h_name, w_name = halves(name)
        if count != 2:
            raise ValueError(f"sets {h_name} or {w_name}, which are for two spatial axes; it has {count}: set {name}")
        if listed:
            raise ValueError(f"sets both {name} and {h_name} or {w_name}; Caffe accepts one spelling")
        if h is None or w is None:
            raise ValueError(f"sets only one of {h_name} and {w_name}; Caffe wants both")
        return h, w
    given = listed if listed or default is None else (default,)
    if len(given) not in (1, count):
        each = f", or one for each of its {count} spatial axes" if count > 1 else ""
        raise ValueError(f"{name} is given {len(given)} times; Caffe wants it once{each}")
    return given if len(given) == count else given * count


@dataclass(frozen=True)
class Weighted(Windowed):
    """What Convolution and Deconvolution share beside their windows: outputs, groups, parameters, and that each of
    several bottoms, all of one shape, makes a top of its own with the same parameters."""

    bottoms = (1, MANY)
    tops = (1, MANY)
    counts_tops = True

    num_output: int = 0
    bias_term: bool = True
    group: int = 1
    weight_filler: Filler = Filler()
    bias_filler: Filler = Filler()

    def top_shapes(self, *bottoms: Shape, tops: int | None = None) -> Shape | list[Shape]:
        if tops not in (None, len(bottoms)):
            raise ValueError(f"has {tops} top blobs for {len(bottoms)} bottoms; Caffe wants one for each")
        for place, shape in enumerate(bottoms):
            if shape != bottoms[0]:
                raise ValueError(
                    f"bottom {place + 1} has the shape {spell(shape)}, the first {spell(bottoms[0])}; "
                    "Caffe wants them alike"
                )
        made = self.top_shape(bottoms[0])
        return made if len(bottoms) == 1 else [made] * len(bottoms)

    def top_shape(self, x: Shape) -> Shape:
        """Returns the shape of the top of one bottom. Raises ValueError where Caffe would refuse it."""
        axis = canonical_axis(self.axis, x)
        windows = self.windows(x)
        if self.num_output < 1:
            raise ValueError(f"num_output is {self.num_output}; Caffe wants 1 or more")
        if self.group < 1 or x[axis] % self.group or self.num_output % self.group:
            raise ValueError(
                f"group {self.group} does not divide both its {x[axis]} input channels and num_output {self.num_output}"
            )
        return (*x[:axis], self.num_output, *self._out(windows, x, x[axis + 1 :]))

    def _out(self, windows: Windows, x: Shape, sizes: Sizes) -> Sizes:
        """Returns the sizes of a top along its spatial axes."""
        raise NotImplementedError

    def channels(self, x: Shape) -> int:
        """Returns the channels of a bottom of that shape."""
        return x[canonical_axis(self.axis, x)]

    def parameters(self, *bottoms: Shape) -> tuple[ParameterSpec, ...]:
        weights = ParameterSpec("weights", self._layout(bottoms[0]), self.weight_filler)
        biases = ParameterSpec("biases", Layout((self.num_output,)), self.bias_filler)
        return (weights, biases) if self.bias_term else (weights,)

    def _layout(self, x: Shape) -> Layout:
        raise NotImplementedError

    def reference(self, *arrays: np.ndarray, tops: int | None = None) -> np.ndarray | list[np.ndarray]:
        bottoms, (weights, *biases) = self.parted(arrays)
        made = []
        for x in bottoms:
            y = self._reference(self.windows(x.shape), self.pictures(x), weights)
            for bias in biases:
                y = y + bias.reshape(-1, *(1,) * (y.ndim - 2))
            made.append(y.reshape(self.top_shape(x.shape)))
        return made if len(made) > 1 else made[0]

    def _reference(self, windows: Windows, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Returns the top of batch, channels, spatial axes, without biases."""
        raise NotImplementedError

    def emit(self, tf: Any, site: Site, *tensors: Tensor) -> Tensor | list[Tensor]:
        bottoms, (weights, *biases) = self.parted(tensors)
        windows = self.windows(site.bottom)
        flat = [axis for axis, dilation in enumerate(windows.dilations) if dilation == 0]
        if flat:  # a whole row of the kernel sees one place
            weights = tf.reduce_sum(weights, axis=flat, keepdims=True)
            kernel = tuple(1 if axis in flat else size for axis, size in enumerate(windows.kernel))
            windows = replace(windows, kernel=kernel)
        axis, made = canonical_axis(self.axis, site.bottom), []
        windows, sizes = windows.as_two(), (1, 1, *site.bottom[axis + 1 :])[-max(2, len(windows.kernel)) :]
        for x, name in zip(bottoms, site.names):
            whole = name if is_picture(site.bottom, axis) else None  # of a picture, which is the top as it stands
            x = as_picture(tf, x, site.bottom, axis)
            y = self._emit(tf, site, x, weights, windows, sizes, None if biases else whole)
            for bias in biases:
                y = tf.nn.bias_add(y, bias, name=whole)
            made.append(from_picture(tf, y, site.top, axis, name))
        return made if len(made) > 1 else made[0]

    def _emit(
        self, tf: Any, site: Site, x: Tensor, weights: Tensor, windows: Windows, sizes: Sizes, name: str | None
    ) -> Tensor:
        """Returns the top of batch, two or more spatial axes (of ``x``: ``sizes``), channels, without biases."""
        raise NotImplementedError

    def parted(self, values: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Returns the bottoms and the parameters among what a pass is given."""
        count = 2 if self.bias_term else 1
        return values[:-count], values[-count:]
