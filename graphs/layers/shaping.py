"""Layers that only move values: Concat, Flatten."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.channels_last import graph_axis, in_graph_order, to_caffe_order
from graphs.layer import MANY, Layer, Site, Tensor, canonical_axis, layer, spell
from weights import Shape


@layer("Concat", "concat_param", bottoms=(1, MANY), note="any axis")
@dataclass(frozen=True)
class Concat(Layer):
    """Bottoms one after the other along ``axis``; ``concat_dim`` is its older spelling."""

    axis: int = 1
    concat_dim: int | None = None

    def _axis(self, shape: Shape) -> int:
        return canonical_axis(self.axis if self.concat_dim is None else self.concat_dim, shape)

    def top_shapes(self, *bottoms: Shape) -> Shape:
        if self.concat_dim is not None and self.axis != 1:
            raise ValueError("sets both axis and concat_dim; Caffe accepts one spelling")
        axis = self._axis(bottoms[0])
        if len({(*shape[:axis], *shape[axis + 1 :]) for shape in bottoms}) > 1:
            shapes = ", ".join(map(spell, bottoms))
            raise ValueError(f"its bottoms have the shapes {shapes}; they may differ along axis {axis} only")
        return (*bottoms[0][:axis], sum(shape[axis] for shape in bottoms), *bottoms[0][axis + 1 :])

    def reference(self, *bottoms: np.ndarray) -> np.ndarray:
        return np.concatenate(bottoms, axis=self._axis(bottoms[0].shape))

    def emit(self, tf: Any, site: Site, *bottoms: Tensor) -> Tensor:
        axis = graph_axis(self._axis(site.bottom), len(site.bottom))
        return tf.concat(list(bottoms), axis=axis, name=site.name)


@layer("Flatten", "flatten_param", note="any axes")
@dataclass(frozen=True)
class Flatten(Layer):
    """Axes ``axis`` to ``end_axis`` made one, in Caffe's order."""

    axis: int = 1
    end_axis: int = -1

    def top_shapes(self, x: Shape) -> Shape:
        first, last = canonical_axis(self.axis, x), canonical_axis(self.end_axis, x)
        if last < first:
            raise ValueError(f"end_axis {self.end_axis} comes before axis {self.axis} of its bottom, {spell(x)}")
        return (*x[:first], math.prod(x[first : last + 1]), *x[last + 1 :])

    def reference(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(self.top_shapes(x.shape))

    def emit(self, tf: Any, site: Site, x: Tensor) -> Tensor:
        return in_graph_order(tf, to_caffe_order(tf, x, site.bottom), site.top, site.name)
