"""Layers that only move values: Concat, Flatten, Reshape."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.channels_last import graph_axis, reshaped
from graphs.layer import MANY, Layer, Site, Tensor, canonical_axis, layer, spell
from weights import Shape


@layer("Concat", "concat_param")
@dataclass(frozen=True)
class Concat(Layer):
    """Bottoms one after the other along ``axis``; ``concat_dim`` is its older spelling."""

    bottoms = (1, MANY)
    note = "any axis"

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


@layer("Flatten", "flatten_param")
@dataclass(frozen=True)
class Flatten(Layer):
    """Axes ``axis`` to ``end_axis`` made one, in Caffe's order; where ``end_axis`` is the one before ``axis``, one of
    size 1 is put between them."""

    is_view = True
    note = "any axes"

    axis: int = 1
    end_axis: int = -1

    def top_shapes(self, x: Shape) -> Shape:
        first, last = canonical_axis(self.axis, x), canonical_axis(self.end_axis, x)
        if last < first - 1:
            raise ValueError(f"end_axis {self.end_axis} comes before axis {self.axis} of its bottom, {spell(x)}")
        return (*x[:first], math.prod(x[first : last + 1]), *x[last + 1 :])

    def works_in_place(self, *bottoms: Shape) -> bool:
        return False  # Caffe refuses it itself

    def reference(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(self.top_shapes(x.shape))

    def emit(self, tf: Any, site: Site, x: Tensor) -> Tensor:
        return reshaped(tf, x, site.bottom, site.top, site.name)


@layer("Reshape", "reshape_param")
@dataclass(frozen=True)
class Reshape(Layer):
    """Axes ``axis`` to ``axis + num_axes`` (-1: all that follow) replaced by ``shape``, in Caffe's order.

    In ``shape``, 0 stands for the bottom's size at that place, and -1, at most once, for what is left. A negative
    ``axis`` counts from behind the last, so that -1 appends.
    """

    is_view = True
    note = "0 and -1 in shape, axis, num_axes"

    shape: Shape = ()
    axis: int = 0
    num_axes: int = -1

    def top_shapes(self, x: Shape) -> Shape:
        first = self.axis if self.axis >= 0 else len(x) + 1 + self.axis
        end = len(x) if self.num_axes == -1 else first + self.num_axes
        if not 0 <= first <= end <= len(x):
            raise ValueError(f"axis {self.axis} and num_axes {self.num_axes} are not within its bottom, {spell(x)}")
        if min(self.shape, default=0) < -1 or self.shape.count(-1) > 1:
            raise ValueError(f"shape {self._spelled()} has a size below -1, or -1 more than once")
        if any(size == 0 and first + place >= len(x) for place, size in enumerate(self.shape)):
            raise ValueError(f"shape {self._spelled()} has a 0 where its bottom, {spell(x)}, has no axis to copy")
        middle = [size or x[first + place] for place, size in enumerate(self.shape)]
        top = [*x[:first], *middle, *x[end:]]
        if -1 in middle:
            known = -math.prod(top)
            top[first + middle.index(-1)] = math.prod(x) // known
        if math.prod(top) != math.prod(x):
            raise ValueError(
                f"shape {self._spelled()} does not hold the {math.prod(x)} values of its bottom, {spell(x)}; "
                f"it would make it {spell(tuple(top))}"
            )
        return tuple(top)

    def _spelled(self) -> str:
        return f"({', '.join(map(str, self.shape))})"

    def works_in_place(self, *bottoms: Shape) -> bool:
        return False  # Caffe refuses it itself

    def reference(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(self.top_shapes(x.shape))

    def emit(self, tf: Any, site: Site, x: Tensor) -> Tensor:
        return reshaped(tf, x, site.bottom, site.top, site.name)
