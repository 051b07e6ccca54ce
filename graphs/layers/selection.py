"""Layers that choose among a batch's items: BatchReindex, Filter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.layer import MANY, Layer, Site, Tensor, layer, spell
from weights import Shape


@layer("BatchReindex")
@dataclass(frozen=True)
class BatchReindex(Layer):
    """Items of its first bottom, those that the second names, in that order; an item may come twice or not at all."""

    bottoms = (2, 2)

    def top_shapes(self, x: Shape, places: Shape) -> Shape:
        if not x or len(places) != 1:
            raise ValueError(
                f"its bottoms have the shapes {spell(x)} and {spell(places)}; expected a batch and one axis of places"
            )
        return (*places, *x[1:])

    def works_in_place(self, *bottoms: Shape) -> bool:
        return False

    def reference(self, x: np.ndarray, places: np.ndarray) -> np.ndarray:
        return np.stack([x[int(place)] for place in places])

    def emit(self, tf: Any, site: Site, x: Tensor, places: Tensor) -> Tensor:
        return tf.gather(x, tf.cast(places, tf.int32), name=site.name)


@layer("Filter")
@dataclass(frozen=True)
class Filter(Layer):
    """From each bottom but the last, the items for which the last, the selector, is not 0."""

    bottoms = (2, MANY)
    tops = (1, MANY)
    counts_tops = True
    selects = True
    note = "layers behind it must take any number of items"

    def top_shapes(self, *bottoms: Shape, tops: int) -> list[Shape]:
        *filtered, selector = bottoms
        if tops != len(filtered):
            raise ValueError(f"has {tops} tops for {len(bottoms)} bottoms; expected a top for each but the selector")
        if not selector or any(size != 1 for size in selector[1:]):
            raise ValueError(
                f"its selector, the last bottom, has the shape {spell(selector)}; expected one value an item"
            )
        for x in filtered:
            if x[:1] != selector[:1]:
                raise ValueError(
                    f"its bottom of shape {spell(x)} has not as many items as its selector, {spell(selector)}"
                )
        return filtered

    def reference(self, *bottoms: np.ndarray, tops: int) -> list[np.ndarray]:
        *filtered, selector = bottoms
        return [x[selector.reshape(-1) != 0] for x in filtered]

    def emit(self, tf: Any, site: Site, *bottoms: Tensor) -> list[Tensor]:
        *filtered, selector = bottoms
        chosen = tf.where(tf.not_equal(tf.reshape(selector, [-1]), 0.0))
        places = tf.reshape(chosen, [-1])
        return [tf.gather(x, places, name=name) for x, name in zip(filtered, site.names)]
