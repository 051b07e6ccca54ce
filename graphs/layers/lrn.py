"""LRN: local response normalization, across channels and within a channel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.layer import Layer, Site, Tensor, layer
from graphs.layers import windows
from weights import Shape


@layer("LRN", "lrn_param")
@dataclass(frozen=True)
class LRN(Layer):
    """Caffe's LRNLayer over N, C, H, W.

    ACROSS_CHANNELS: x / (k + alpha / n * sum of x^2 over n neighbouring channels) ^ beta (Krizhevsky et al. 2012,
    section 3.3, but for alpha, which Caffe divides by n). WITHIN_CHANNEL: x * (1 + alpha * mean of x^2 over an n by n
    window, zeros outside) ^ -beta, without k.
    """

    without_effect = frozenset({"engine"})
    note = "both regions, k"

    local_size: int = 5
    alpha: float = 1.0
    beta: float = 0.75
    norm_region: str = "ACROSS_CHANNELS"
    k: float = 1.0

    def top_shapes(self, x: Shape) -> Shape:
        windows.spatial(x)
        if self.local_size % 2 == 0:
            raise ValueError(f"local_size {self.local_size} is even; Caffe accepts odd sizes")
        return x

    def notes(self, *bottoms: Shape) -> Iterator[str]:
        if self.norm_region == "WITHIN_CHANNEL" and self.k != 1:
            yield f"k is {self.k:g}, which Caffe ignores WITHIN_CHANNEL"

    def works_in_place(self, *bottoms: Shape) -> bool:
        return self.norm_region == "WITHIN_CHANNEL"

    def reference(self, x: np.ndarray) -> np.ndarray:
        n, reach = self.local_size, self.local_size // 2
        if self.norm_region == "WITHIN_CHANNEL":
            squares = windows.pad_spatial(x * x, (reach, reach), (reach, reach))
            sums = sum(
                windows.at_offset(squares, offset, (1, 1), (1, 1), x.shape[2:]) for offset in windows.offsets((n, n))
            )
            return x * (1 + self.alpha * sums / (n * n)) ** -self.beta
        y = np.empty_like(x)
        for channel in range(x.shape[1]):
            neighbours = x[:, max(0, channel - reach) : channel + reach + 1]
            y[:, channel] = (self.k + self.alpha / n * (neighbours**2).sum(axis=1)) ** -self.beta
        return x * y

    def emit(self, tf: Any, site: Site, x: Tensor) -> Tensor:
        n, reach = self.local_size, self.local_size // 2
        if self.norm_region == "ACROSS_CHANNELS":
            if self.alpha <= 0 or self.k < 0:
                return self._emit_plainly(tf, site, x)
            return tf.nn.lrn(x, reach, bias=self.k, alpha=self.alpha / n, beta=self.beta, name=site.name)
        squares = tf.pad(tf.square(x), [[0, 0], [reach, reach], [reach, reach], [0, 0]])
        energy = tf.nn.avg_pool2d(squares, [n, n], [1, 1], "VALID")
        scale = tf.pow(tf.add(tf.multiply(energy, self.alpha), 1.0), -self.beta)
        return tf.multiply(x, scale, name=site.name)

    def _emit_plainly(self, tf: Any, site: Site, x: Tensor) -> Tensor:
        """Returns the top across channels where a power's base may be below 0, which TensorFlow's own operation takes
        the logarithm of."""
        if self.alpha == 0:
            return tf.multiply(x, tf.pow(self.k, -self.beta), name=site.name)
        reach = self.local_size // 2
        squares = tf.pad(tf.square(x), [[0, 0], [0, 0], [0, 0], [reach, reach]])
        channels = site.bottom[1]
        whole = [-1, -1, -1, channels]
        sums = tf.add_n([tf.slice(squares, [0, 0, 0, start], whole) for start in range(self.local_size)])
        base = tf.add(tf.multiply(sums, self.alpha / self.local_size), self.k)
        return tf.multiply(x, tf.pow(base, -self.beta), name=site.name)
