"""Softmax."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.channels_last import graph_axis
from graphs.layer import Layer, Site, Tensor, canonical_axis, layer
from weights import Shape


@layer("Softmax", "softmax_param")
@dataclass(frozen=True)
class Softmax(Layer):
    """exp(x) over its sum along ``axis``."""

    without_effect = frozenset({"engine"})
    note = "any axis"

    axis: int = 1

    def top_shapes(self, x: Shape) -> Shape:
        canonical_axis(self.axis, x)
        return x

    def reference(self, x: np.ndarray) -> np.ndarray:
        y = np.exp(x - x.max(axis=self.axis, keepdims=True))
        return y / y.sum(axis=self.axis, keepdims=True)

    def emit(self, tf: Any, site: Site, x: Tensor) -> Tensor:
        axis = graph_axis(canonical_axis(self.axis, site.bottom), len(site.bottom))
        if axis == len(site.bottom) - 1:
            return tf.nn.softmax(x, name=site.name)
        return tf.identity(tf.nn.softmax(x, axis=axis), name=site.name)
