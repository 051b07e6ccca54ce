"""Curves that bend each value by itself: PReLU, ReLU6, ELU, Sigmoid, TanH, Swish, BNLL. ReLU is in elementwise.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.layer import Filler, Layer, ParameterSpec, Site, Tensor, layer, spell
from graphs.layers.normalization import broadcast_layout
from weights import Layout, Shape


@layer("PReLU", "prelu_param")
@dataclass(frozen=True)
class PReLU(Layer):
    """max(x, 0) + slope * min(x, 0), with a trained slope for each channel (axis 1), or one for all."""

    note = "one slope for each channel, or channel_shared"

    filler: Filler | None = None
    channel_shared: bool = False

    def top_shapes(self, x: Shape) -> Shape:
        if not 2 <= len(x) <= 4:
            raise ValueError(f"its bottom has the shape {spell(x)}; Caffe wants two to four axes")
        return x

    def parameters(self, x: Shape) -> tuple[ParameterSpec, ...]:
        layout = Layout(()) if self.channel_shared else broadcast_layout(x, (x[1],), 1)
        return (ParameterSpec("slopes", layout, self.filler or Filler(value=0.25)),)

    def reference(self, x: np.ndarray, slopes: np.ndarray) -> np.ndarray:
        by_channel = slopes.reshape(-1, *(1,) * (x.ndim - 2))
        return np.where(x > 0, x, by_channel * x)

    def emit(self, tf: Any, site: Site, x: Tensor, slopes: Tensor) -> Tensor:
        return tf.add(tf.nn.relu(x), tf.multiply(tf.minimum(x, 0.0), slopes), name=site.name)


@layer("ReLU6", "relu6_param")
@dataclass(frozen=True)
class ReLU6(Layer):
    """min(max(x, 0), threshold)."""

    note = "threshold; of MobileNet's fork"

    threshold: float = 6.0

    def reference(self, x: np.ndarray) -> np.ndarray:
        return np.minimum(np.maximum(x, 0), self.threshold)

    def emit(self, tf: Any, site: Site, x: Tensor) -> Tensor:
        if self.threshold == 6:
            return tf.nn.relu6(x, name=site.name)
        return tf.minimum(tf.nn.relu(x), self.threshold, name=site.name)


@layer("ELU", "elu_param")
@dataclass(frozen=True)
class ELU(Layer):
    """x above 0, alpha * (exp(x) - 1) below."""

    note = "alpha"

    alpha: float = 1.0

    def reference(self, x: np.ndarray) -> np.ndarray:
        return np.where(x > 0, x, self.alpha * np.expm1(np.minimum(x, 0)))

    def emit(self, tf: Any, site: Site, x: Tensor) -> Tensor:
        if self.alpha == 1:
            return tf.nn.elu(x, name=site.name)
        negative = tf.multiply(tf.math.expm1(tf.minimum(x, 0.0)), self.alpha)
        return tf.add(tf.nn.relu(x), negative, name=site.name)


@layer("Sigmoid", "sigmoid_param")
@dataclass(frozen=True)
class Sigmoid(Layer):
    """1 / (1 + exp(-x))."""

    without_effect = frozenset({"engine"})

    def reference(self, x: np.ndarray) -> np.ndarray:
        return np.tanh(x / 2) / 2 + 0.5  # does not overflow

    def emit(self, tf: Any, site: Site, x: Tensor) -> Tensor:
        return tf.sigmoid(x, name=site.name)


@layer("TanH", "tanh_param")
@dataclass(frozen=True)
class TanH(Layer):
    """Hyperbolic tangent."""

    without_effect = frozenset({"engine"})

    def hides(self, bottoms: int) -> bool:
        return True  # x * tanh(softplus(x)), the Mish of forks

    def reference(self, x: np.ndarray) -> np.ndarray:
        return np.tanh(x)

    def emit(self, tf: Any, site: Site, x: Tensor) -> Tensor:
        return tf.tanh(x, name=site.name)


@layer("Swish", "swish_param")
@dataclass(frozen=True)
class Swish(Layer):
    """x * sigmoid(beta * x)."""

    note = "beta"

    beta: float = 1.0

    def hides(self, bottoms: int) -> bool:
        return True

    def reference(self, x: np.ndarray) -> np.ndarray:
        return x * (np.tanh(self.beta * x / 2) / 2 + 0.5)

    def emit(self, tf: Any, site: Site, x: Tensor) -> Tensor:
        inner = x if self.beta == 1 else tf.multiply(x, self.beta)
        return tf.multiply(x, tf.sigmoid(inner), name=site.name)


@layer("BNLL")
@dataclass(frozen=True)
class BNLL(Layer):
    """log(1 + exp(x)), the binomial normal log likelihood."""

    def reference(self, x: np.ndarray) -> np.ndarray:
        return np.logaddexp(x, 0)

    def emit(self, tf: Any, site: Site, x: Tensor) -> Tensor:
        return tf.nn.softplus(x, name=site.name)
