"""Parts of a blob, and copies of it: Slice, Crop, Tile."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from graphs.channels_last import channels_last, graph_axis
from graphs.layer import MANY, Layer, Site, Tensor, canonical_axis, layer, spell
from weights import Shape


@layer("Slice", "slice_param")
@dataclass(frozen=True)
class Slice(Layer):
    """Its bottom cut along ``axis``: before each ``slice_point``, or without any into equal parts. ``slice_dim`` is an
    older spelling of ``axis``."""

    tops = (1, MANY)
    counts_tops = True
    note = "any axis, slice_point"

    slice_dim: int | None = None
    slice_point: tuple[int, ...] = ()
    axis: int = 1

    def _axis(self, shape: Shape) -> int:
        return canonical_axis(self.axis if self.slice_dim is None else self.slice_dim, shape)

    def top_shapes(self, x: Shape, *, tops: int) -> list[Shape]:
        if self.slice_dim is not None and self.axis != 1:
            raise ValueError("sets both axis and slice_dim; Caffe accepts one spelling")
        axis = self._axis(x)
        return [(*x[:axis], size, *x[axis + 1 :]) for size in self._sizes(x[axis], tops)]

    def _sizes(self, size: int, tops: int) -> list[int]:
        if not self.slice_point:
            if size % tops:
                raise ValueError(f"its {tops} tops can't share the {size} along its axis evenly; set slice_point")
            return [size // tops] * tops
        if len(self.slice_point) != tops - 1:
            raise ValueError(f"has {tops} tops and {len(self.slice_point)} slice_point; expected one less than tops")
        bounds = (0, *self.slice_point, size)
        if any(end <= start for start, end in pairwise(bounds)):
            points = ", ".join(map(str, self.slice_point))
            raise ValueError(f"slice_point {points} does not rise from above 0 to below {size}, the size of its axis")
        return [end - start for start, end in pairwise(bounds)]

    def reference(self, x: np.ndarray, *, tops: int) -> list[np.ndarray]:
        return np.split(x, self.slice_point or tops, axis=self._axis(x.shape))

    def emit(self, tf: Any, site: Site, x: Tensor) -> list[Tensor]:
        axis = self._axis(site.bottom)
        sizes = [top[axis] for top in site.tops]
        if len(sizes) == 1:
            return [tf.identity(x, name=site.name)]
        parts = tf.split(x, sizes if self.slice_point else len(sizes), axis=graph_axis(axis, len(site.bottom)))
        return [tf.identity(part, name=name) for part, name in zip(parts, site.names)]


@layer("Crop", "crop_param")
@dataclass(frozen=True)
class Crop(Layer):
    """Its first bottom cut to the second's size from ``axis`` on. ``offset`` is where to start, once for all those
    axes or once for each."""

    bottoms = (2, 2)
    note = "axis, offset"

    axis: int = 2
    offset: tuple[int, ...] = ()

    def _offsets(self, x: Shape) -> Shape:
        """Returns where to start on each axis."""
        first = canonical_axis(self.axis, x)
        if len(self.offset) > 1 and len(self.offset) != len(x) - first:
            raise ValueError(
                f"has {len(self.offset)} offset values for the {len(x) - first} axes of {spell(x)} from axis "
                f"{self.axis} on; Caffe wants one for all or one for each"
            )
        offsets = self.offset or (0,)
        return (0,) * first + (offsets if len(offsets) > 1 else offsets * (len(x) - first))

    def top_shapes(self, x: Shape, like: Shape) -> Shape:
        first, offsets = canonical_axis(self.axis, x), self._offsets(x)
        if len(like) < len(x):
            raise ValueError(f"its second bottom, {spell(like)}, has fewer axes than its first, {spell(x)}")
        for axis in range(first, len(x)):
            if offsets[axis] + like[axis] > x[axis]:
                raise ValueError(
                    f"on axis {axis}, the second bottom's size {like[axis]} from offset {offsets[axis]} on is more "
                    f"than its first bottom has, {spell(x)}"
                )
        return x[:first] + like[first : len(x)]

    def reference(self, x: np.ndarray, like: np.ndarray) -> np.ndarray:
        shape = self.top_shapes(x.shape, like.shape)
        return x[tuple(slice(start, start + size) for start, size in zip(self._offsets(x.shape), shape))]

    def emit(self, tf: Any, site: Site, x: Tensor, like: Tensor) -> Tensor:
        first = canonical_axis(self.axis, site.bottom)
        whole = (-1,) * first  # what tf.slice calls the rest
        sizes = list(channels_last(whole + site.top[first:]))
        if first == 0 and site.top[0] < 0:  # where -1 stands for the second bottom's batch
            sizes = tf.concat([tf.slice(tf.shape(like), [0], [1]), sizes[1:]], axis=0)
        return tf.slice(x, list(channels_last(self._offsets(site.bottom))), sizes, name=site.name)


@layer("Tile", "tile_param")
@dataclass(frozen=True)
class Tile(Layer):
    """Its bottom ``tiles`` times in a row along ``axis``."""

    note = "any axis, tiles"

    axis: int = 1
    tiles: int | None = None

    def _multiples(self, x: Shape) -> Shape:
        if self.tiles is None or self.tiles < 1:
            found = "not set" if self.tiles is None else self.tiles
            raise ValueError(f"tiles is {found}; Caffe wants 1 or more")
        axis = canonical_axis(self.axis, x)
        return tuple(self.tiles if other == axis else 1 for other in range(len(x)))

    def top_shapes(self, x: Shape) -> Shape:
        return tuple(size * count for size, count in zip(x, self._multiples(x)))

    def reference(self, x: np.ndarray) -> np.ndarray:
        return np.concatenate([x] * (self.tiles or 1), axis=self.axis)

    def emit(self, tf: Any, site: Site, x: Tensor) -> Tensor:
        return tf.tile(x, list(channels_last(self._multiples(site.bottom))), name=site.name)
