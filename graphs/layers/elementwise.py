"""Layers that treat each value by itself, or pass it on: ReLU, Dropout, Split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.layer import MANY, Layer, Site, Tensor, layer
from weights import Refused, Shape


@layer("ReLU", "relu_param")
@dataclass(frozen=True)
class ReLU(Layer):
    """max(x, 0) + negative_slope * min(x, 0)."""

    without_effect = frozenset({"engine"})
    note = "negative_slope"

    negative_slope: float = 0.0

    def hides(self, bottoms: int) -> bool:
        return self.negative_slope != 0

    def reference(self, x: np.ndarray) -> np.ndarray:
        return np.maximum(x, 0) + self.negative_slope * np.minimum(x, 0)

    def emit(self, tf: Any, site: Site, x: Tensor) -> Tensor:
        if self.negative_slope == 0:
            return tf.nn.relu(x, name=site.name)
        if 0 < self.negative_slope <= 1:
            return tf.nn.leaky_relu(x, alpha=self.negative_slope, name=site.name)
        negative = tf.multiply(tf.minimum(x, 0.0), self.negative_slope)  # leaky_relu is a maximum: wrong out there
        return tf.add(tf.nn.relu(x), negative, name=site.name)


@layer("Dropout", "dropout_param")
@dataclass(frozen=True)
class Dropout(Layer):
    """In TRAIN, drops values with probability ``dropout_ratio`` and scales the rest by 1 / (1 - dropout_ratio); in
    TEST, passes its bottom on."""

    knows_phase = True
    note = "identity in TEST"
    draws = True

    dropout_ratio: float = 0.5

    def top_shapes(self, x: Shape, *, phase: str = "TEST") -> Shape:
        if phase == "TRAIN" and not 0 <= self.dropout_ratio < 1:
            raise ValueError(f"dropout_ratio is {self.dropout_ratio:g}; training wants one from 0 to below 1")
        return x

    def notes(self, *bottoms: Shape) -> Iterator[str]:
        if not 0 < self.dropout_ratio < 1:
            yield f"dropout_ratio is {self.dropout_ratio:g}, which drops nothing in TEST; expected one between 0 and 1"

    def reference(self, x: np.ndarray, *, phase: str = "TEST") -> np.ndarray:
        if phase == "TRAIN" and self.dropout_ratio:
            raise Refused("Dropout draws what it drops in TRAIN, which no reference can foretell; run phase TEST")
        return x

    def emit(self, tf: Any, site: Site, x: Tensor) -> Tensor:
        if site.phase == "TEST" or not self.dropout_ratio:
            return tf.identity(x, name=site.name)
        if site.seed is None:
            return tf.identity(tf.nn.dropout(x, rate=self.dropout_ratio), name=site.name)
        is_kept = tf.greater_equal(tf.random.stateless_uniform(tf.shape(x), site.seed), self.dropout_ratio)
        return tf.where(is_kept, tf.multiply(x, 1 / (1 - self.dropout_ratio)), tf.zeros_like(x), name=site.name)


@layer("Split")
@dataclass(frozen=True)
class Split(Layer):
    """Its bottom under several names."""

    is_view = True
    tops = (1, MANY)

    def works_in_place(self, *bottoms: Shape) -> bool:
        return False  # Caffe refuses it itself

    def reference(self, x: np.ndarray) -> np.ndarray:
        return x

    def emit(self, tf: Any, site: Site, x: Tensor) -> list[Tensor]:
        return [tf.identity(x, name=name) for name in site.names]
