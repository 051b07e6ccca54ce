"""Bias: what Scale adds, without its factor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.layer import Filler, Layer, ParameterSpec, Site, Tensor, canonical_axis, layer
from graphs.layers.normalization import broadcast_layout, filled_rows, num_axes_notes, spanned, spread_over
from weights import Shape


@layer("Bias", "bias_param")
@dataclass(frozen=True)
class Bias(Layer):
    """Caffe's BiasLayer: x plus a bias that spans ``num_axes`` axes from ``axis`` on; the second bottom, which then
    says how many axes, or else a parameter."""

    bottoms = (1, 2)
    note = "any axes, one bottom or two"

    axis: int = 1
    num_axes: int = 1
    filler: Filler = Filler()

    def top_shapes(self, x: Shape, *bias: Shape) -> Shape:
        spanned(x, self.axis, self.num_axes, *bias, verb="shift")
        return x

    def notes(self, *bottoms: Shape) -> Iterator[str]:
        return num_axes_notes(self.num_axes, *bottoms)

    def parameters(self, x: Shape, *bias: Shape) -> tuple[ParameterSpec, ...]:
        if bias:
            return ()
        layout = broadcast_layout(x, spanned(x, self.axis, self.num_axes, verb="shift"), self.axis)
        return (ParameterSpec("biases", layout, self.filler),)

    def reference(self, x: np.ndarray, bias: np.ndarray) -> np.ndarray:
        axis = canonical_axis(self.axis, x.shape) if bias.ndim else 0
        return x + bias.reshape(bias.shape + (1,) * (x.ndim - axis - bias.ndim))

    def emit(self, tf: Any, site: Site, x: Tensor, bias: Tensor) -> Tensor:
        if len(site.bottoms) == 2:
            bias = spread_over(tf, bias, site.bottoms, self.axis)
        return tf.add(x, filled_rows(tf, bias, site, self.axis, self.num_axes), name=site.name)
