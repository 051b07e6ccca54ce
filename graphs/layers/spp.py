"""SPP: spatial pyramid pooling."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.channels_last import to_caffe_order
from graphs.layer import Layer, Site, Tensor, layer
from graphs.layers import windows
from graphs.layers.pooling import Pooling
from weights import Shape


@layer("SPP", "spp_param")
@dataclass(frozen=True)
class SPP(Layer):
    """Caffe's SPPLayer over N, C, H, W (He et al. 2014): the picture pooled into 1, 2 x 2, 4 x 4, ... windows, all of
    them flattened one after the other. A pyramid of height 1 is the pooling alone, not flattened."""

    without_effect = frozenset({"engine"})
    note = "MAX and AVE"

    pyramid_height: int = 0
    pool: str = "MAX"

    def _poolings(self, x: Shape) -> list[Pooling]:
        """Returns the pyramid's levels. Raises ValueError where there are none, or the picture is too small for one."""
        if self.pyramid_height < 1:
            raise ValueError(f"pyramid_height is {self.pyramid_height}; expected 1 or more")
        levels = []
        for level in range(self.pyramid_height):
            bins = 2**level
            kernel_h, kernel_w = (math.ceil(size / bins) for size in windows.spatial(x))
            pad_h, pad_w = (
                (kernel * bins - size + 1) // 2 for kernel, size in zip((kernel_h, kernel_w), windows.spatial(x))
            )
            pooling = Pooling(
                pool=self.pool,
                kernel_h=kernel_h,
                kernel_w=kernel_w,
                stride_h=kernel_h,
                stride_w=kernel_w,
                pad_h=pad_h,
                pad_w=pad_w,
            )
            try:
                pooling.pooled(x)
            except ValueError as error:
                raise ValueError(f"at level {level}, of {bins} x {bins} windows: {error}") from error
            levels.append(pooling)
        return levels

    def top_shapes(self, x: Shape) -> Shape:
        pooled = [pooling.pooled(x) for pooling in self._poolings(x)]
        if len(pooled) == 1:
            return pooled[0]
        return (x[0], sum(math.prod(shape[1:]) for shape in pooled))

    def works_in_place(self, *bottoms: Shape) -> bool:
        return False

    def reference(self, x: np.ndarray) -> np.ndarray:
        pooled = [pooling.values(x) for pooling in self._poolings(x.shape)]
        if len(pooled) == 1:
            return pooled[0]
        return np.concatenate([level.reshape(len(x), -1) for level in pooled], axis=1)

    def emit(self, tf: Any, site: Site, x: Tensor) -> Tensor:
        poolings = self._poolings(site.bottom)
        if len(poolings) == 1:
            return poolings[0].emit_values(tf, x, site.bottom, site.name)
        rows = []
        for pooling in poolings:
            pooled = pooling.pooled(site.bottom)
            y = to_caffe_order(tf, pooling.emit_values(tf, x, site.bottom), pooled)
            rows.append(tf.reshape(y, [-1, math.prod(pooled[1:])]))
        return tf.concat(rows, axis=1, name=site.name)
