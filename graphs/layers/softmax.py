"""Softmax."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.channels_last import channels_last, graph_axis
from graphs.layer import Layer, Site, Tensor, canonical_axis, layer
from weights import Shape

MOST_AXES = 5
"""More than these oneDNN's softmax does not take."""


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
        rank = len(site.bottom)
        axis = graph_axis(canonical_axis(self.axis, site.bottom), rank)
        if rank > MOST_AXES:
            return self._emit_by_rows(tf, site, x, axis)
        if axis == rank - 1:
            return tf.nn.softmax(x, name=site.name)
        return tf.identity(tf.nn.softmax(x, axis=axis), name=site.name)

    def _emit_by_rows(self, tf: Any, site: Site, x: Tensor, axis: int) -> Tensor:
        places = range(len(site.bottom))
        order = [*(other for other in places if other != axis), axis]
        moved = [channels_last(site.bottom)[place] for place in order]
        size = [math.prod(moved[:-1]), -1] if moved[-1] < 0 else [-1, moved[-1]]
        y = tf.nn.softmax(tf.reshape(tf.transpose(x, order), size))
        return tf.transpose(tf.reshape(y, moved), [order.index(place) for place in places], name=site.name)
