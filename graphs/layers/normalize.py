"""Normalize: values divided by their length (SSD)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.layer import Filler, Layer, ParameterSpec, Site, Tensor, layer, spell
from graphs.layers.normalization import broadcast_layout
from weights import Layout, Shape


@layer("Normalize", "norm_param")
@dataclass(frozen=True)
class Normalize(Layer):
    """SSD's NormalizeLayer: x / sqrt(eps + sum of x^2) times a learnt scale (Liu et al. 2015, ParseNet).

    The sum is over the whole picture with ``across_spatial``, else over the channels of each place. The scale is one
    number with ``channel_shared``, else one for each channel.
    """

    note = "across and within places, one scale or one per channel (SSD)"

    across_spatial: bool = True
    scale_filler: Filler | None = None
    channel_shared: bool = True
    eps: float = 1e-10

    def top_shapes(self, x: Shape) -> Shape:
        if not 2 <= len(x) <= 4:
            raise ValueError(f"its bottom has the shape {spell(x)}; expected two to four axes")
        if self.eps < 0:
            raise ValueError(f"eps is {self.eps:g}; expected 0 or more")
        return x

    def parameters(self, x: Shape) -> tuple[ParameterSpec, ...]:
        layout = Layout(()) if self.channel_shared else broadcast_layout(x, (x[1],), 1)
        return (ParameterSpec("weights", layout, self.scale_filler or Filler(value=1.0)),)

    def reference(self, x: np.ndarray, scale: np.ndarray) -> np.ndarray:
        axes = tuple(range(1, x.ndim)) if self.across_spatial else (1,)
        length = np.sqrt((x * x).sum(axis=axes, keepdims=True) + self.eps)
        return x / length * (scale if self.channel_shared else scale.reshape(-1, *(1 for _ in x.shape[2:])))

    def emit(self, tf: Any, site: Site, x: Tensor, scale: Tensor) -> Tensor:
        rank = len(site.bottom)
        axes = list(range(1, rank)) if self.across_spatial else [rank - 1 if rank == 4 else 1]
        squares = tf.reduce_sum(tf.square(x), axis=axes, keepdims=True)
        return tf.multiply(tf.multiply(x, tf.math.rsqrt(tf.add(squares, self.eps))), scale, name=site.name)
