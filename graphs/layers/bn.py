"""BN: batch normalization with its scale and shift in one layer (PSPNet and other forks)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.layer import Filler, Layer, ParameterSpec, Site, Tensor, layer, spell
from graphs.layers.normalization import broadcast_layout
from weights import Layout, Shape


@layer("BN", "bn_param")
@dataclass(frozen=True)
class BN(Layer):
    """The forks' BNLayer: (x - mean) / sqrt(variance + eps) * slope + bias for each channel.

    Mean and variance are stored as they are (BatchNorm's are sums). TRAIN takes the batch's own unless the layer is
    ``frozen``; ``momentum`` tells training how to follow them.
    """

    without_effect = frozenset({"engine", "momentum"})
    knows_phase = True
    note = "slope, bias, mean, variance (PSPNet)"

    slope_filler: Filler = Filler()
    bias_filler: Filler = Filler()
    eps: float = 1e-5
    frozen: bool = False

    def top_shapes(self, x: Shape, *, phase: str = "TEST") -> Shape:
        if not 2 <= len(x) <= 4:
            raise ValueError(f"its bottom has the shape {spell(x)}; expected two to four axes")
        if self.eps < 0:
            raise ValueError(f"eps is {self.eps:g}; expected 0 or more")
        return x

    def parameters(self, x: Shape) -> tuple[ParameterSpec, ...]:
        over = broadcast_layout(x, (x[1],), 1)
        layout = Layout((1, x[1]), (1, *over.view), (0, *(axis + 1 for axis in over.order)), over.tensorflow)
        return (
            ParameterSpec("slope", layout, self.slope_filler),
            ParameterSpec("bias", layout, self.bias_filler),
            ParameterSpec("mean", layout),
            ParameterSpec("variance", layout, Filler(value=1.0 if self.frozen else 0.0)),
        )

    def reference(self, x: np.ndarray, *parameters: np.ndarray, phase: str = "TEST") -> np.ndarray:
        slope, bias, mean, variance = (array.reshape(-1, *(1 for _ in x.shape[2:])) for array in parameters)
        if phase == "TRAIN" and not self.frozen:
            others = (0, *range(2, x.ndim))
            mean, variance = x.mean(axis=others, keepdims=True)[0], x.var(axis=others, keepdims=True)[0]
        return (x - mean) / np.sqrt(variance + self.eps) * slope + bias

    def emit(self, tf: Any, site: Site, x: Tensor, *parameters: Tensor) -> Tensor:
        slope, bias, mean, variance = parameters
        if site.phase == "TRAIN" and not self.frozen:
            rank = len(site.bottom)
            channel = rank - 1 if rank == 4 else 1
            mean, variance = tf.nn.moments(x, [axis for axis in range(rank) if axis != channel], keepdims=True)
        factor = tf.multiply(tf.math.rsqrt(tf.add(variance, self.eps)), slope)
        return tf.add(tf.multiply(tf.subtract(x, mean), factor), bias, name=site.name)
