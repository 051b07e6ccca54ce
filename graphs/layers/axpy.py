"""Axpy: channels weighed and added (SENet)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.layer import Layer, Site, Tensor, layer, spell
from weights import Shape


@layer("Axpy")
@dataclass(frozen=True)
class Axpy(Layer):
    """SENet's AxpyLayer: a x + y, where a has one factor for each picture and channel: N, C or N, C, 1, 1."""

    bottoms = (3, 3)
    note = "SENet"

    def top_shapes(self, a: Shape, x: Shape, y: Shape) -> Shape:
        if x != y:
            raise ValueError(
                f"its second and third bottom have the shapes {spell(x)} and {spell(y)}; expected one shape"
            )
        if len(x) < 2 or a[:2] != x[:2] or any(size != 1 for size in a[2:]):
            raise ValueError(f"its first bottom has the shape {spell(a)}; expected a factor per channel of {spell(x)}")
        return x

    def reference(self, a: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return a.reshape(*x.shape[:2], *(1 for _ in x.shape[2:])) * x + y

    def emit(self, tf: Any, site: Site, a: Tensor, x: Tensor, y: Tensor) -> Tensor:
        given, shape = site.bottoms[:2]
        if len(given) != len(shape):
            channels, ones = shape[1], [1] * (len(shape) - 2)
            a = tf.reshape(a, [-1, channels, *ones] if len(shape) < 4 else [-1, *ones, channels])
        return tf.add(tf.multiply(a, x), y, name=site.name)
