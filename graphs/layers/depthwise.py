"""ConvolutionDepthwise and DepthwiseConvolution: what MobileNet ports call a convolution of each channel by itself."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from graphs.layer import ParameterSpec, Site, Tensor, layer
from graphs.layers import windows
from graphs.layers.convolution import Convolution
from weights import Shape


@dataclass(frozen=True)
class _Depthwise(Convolution):
    """A Convolution with as many groups and outputs as its bottom has channels; weights are (C, 1, kernel_h, kernel_w).

    ``group`` and ``num_output`` may be left out, as some forks do not read them; where they are given they must say so.
    """

    bottoms = (1, 1)
    tops = (1, 1)

    def _plain(self, x: Shape) -> Convolution:
        """Returns the layer as the Convolution that it stands for."""
        windows.spatial(x)
        for name, value, absent in (("group", self.group, 1), ("num_output", self.num_output, 0)):
            if value not in (absent, x[1]):
                raise ValueError(f"{name} is {value} for {x[1]} channels; a layer of this type has as many")
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return Convolution(**{**values, "group": x[1], "num_output": x[1]})

    def top_shape(self, x: Shape) -> Shape:
        return self._plain(x).top_shape(x)

    def parameters(self, *bottoms: Shape) -> tuple[ParameterSpec, ...]:
        return self._plain(bottoms[0]).parameters(*bottoms)

    def multiply_adds(self, bottoms: tuple[Shape, ...], tops: tuple[Shape, ...]) -> int:
        return self._plain(bottoms[0]).multiply_adds(bottoms, tops)

    def reference(self, *arrays: np.ndarray, tops: int | None = None) -> np.ndarray | list[np.ndarray]:
        return self._plain(arrays[0].shape).reference(*arrays, tops=tops)

    def emit(self, tf: Any, site: Site, *tensors: Tensor) -> Tensor | list[Tensor]:
        return self._plain(site.bottom).emit(tf, site, *tensors)


@layer("ConvolutionDepthwise", "convolution_param")
@dataclass(frozen=True)
class ConvolutionDepthwise(_Depthwise):
    """Depthwise convolution under the name that caffe-windows' ConvolutionDepthwiseLayer has."""

    without_effect = frozenset({"engine", "force_nd_im2col"})
    note = "MobileNet forks"


@layer("DepthwiseConvolution", "convolution_param")
@dataclass(frozen=True)
class DepthwiseConvolution(_Depthwise):
    """Depthwise convolution under the name that the DepthwiseConvolutionLayer of MobileNet ports has."""

    without_effect = frozenset({"engine", "force_nd_im2col"})
    note = "MobileNet forks"
