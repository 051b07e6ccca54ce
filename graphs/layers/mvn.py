"""MVN: mean and variance normalization of each item."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.channels_last import in_graph_order
from graphs.layer import Layer, Site, Tensor, layer, spell
from weights import Shape


@layer("MVN", "mvn_param")
@dataclass(frozen=True)
class MVN(Layer):
    """Caffe's MVNLayer: (x - mean) / (standard deviation + eps) over H and W of each channel, or over C, H and W.

    Its top always has four axes; those that its bottom lacks have size 1.
    """

    note = "normalize_variance, across_channels, eps"

    normalize_variance: bool = True
    across_channels: bool = False
    eps: float = 1e-9

    def top_shapes(self, x: Shape) -> Shape:
        if len(x) > 4:
            raise ValueError(f"its bottom has the shape {spell(x)}; Caffe wants at most four axes")
        return x + (1,) * (4 - len(x))

    def notes(self, *bottoms: Shape) -> Iterator[str]:
        if not self.normalize_variance and self.eps != MVN.eps:
            yield f"eps is {self.eps:g}, which Caffe ignores without normalize_variance"

    def reference(self, x: np.ndarray) -> np.ndarray:
        y = x.reshape(self.top_shapes(x.shape))
        axes = (1, 2, 3) if self.across_channels else (2, 3)
        y = y - y.mean(axis=axes, keepdims=True)
        return y / (y.std(axis=axes, keepdims=True) + self.eps) if self.normalize_variance else y

    def emit(self, tf: Any, site: Site, x: Tensor) -> Tensor:
        if len(site.bottom) < 4:
            x = in_graph_order(tf, x, site.top)
        axes = [1, 2, 3] if self.across_channels else [1, 2]
        mean = tf.reduce_mean(x, axis=axes, keepdims=True)
        if not self.normalize_variance:
            return tf.subtract(x, mean, name=site.name)
        centred = tf.subtract(x, mean)
        variance = tf.reduce_mean(tf.square(centred), axis=axes, keepdims=True)
        deviation = tf.add(tf.sqrt(variance), self.eps)
        if site.phase == "TRAIN":
            return self._emit_with_gradient(tf, site, centred, tf.stop_gradient(deviation), axes)
        return tf.truediv(centred, deviation, name=site.name)

    def _emit_with_gradient(self, tf: Any, site: Site, centred: Tensor, deviation: Tensor, axes: list[int]) -> Tensor:
        """Returns the top with Caffe's gradient, (dy - mean dy - y * mean(dy * y)) / deviation, which is the derivative
        but for ``eps``, and a number where there is no variance."""
        y = tf.truediv(centred, deviation)
        made = tf.stop_gradient(y)
        along = tf.reduce_mean(tf.multiply(made, y), axis=axes, keepdims=True)
        return tf.subtract(y, tf.multiply(made, tf.subtract(along, tf.stop_gradient(along))), name=site.name)
