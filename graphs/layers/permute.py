"""Layers of forks that put values in another order: Permute (SSD), ShuffleChannel (ShuffleNet)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.channels_last import channels_last, graph_axis
from graphs.layer import Layer, Site, Tensor, layer, spell
from graphs.layers import windows
from weights import Shape


@layer("Permute", "permute_param")
@dataclass(frozen=True)
class Permute(Layer):
    """SSD's PermuteLayer: axis i of the top is axis ``order[i]`` of the bottom; those that ``order`` does not name
    follow in their own order."""

    note = "any axes (SSD)"

    order: tuple[int, ...] = ()

    def _order(self, shape: Shape) -> tuple[int, ...]:
        if len(set(self.order)) < len(self.order):
            raise ValueError(f"order {', '.join(map(str, self.order))} names an axis twice")
        if any(axis >= len(shape) for axis in self.order):
            raise ValueError(f"order {', '.join(map(str, self.order))} names an axis that {spell(shape)} does not have")
        return (*self.order, *(axis for axis in range(len(shape)) if axis not in self.order))

    def top_shapes(self, x: Shape) -> Shape:
        return tuple(x[axis] for axis in self._order(x))

    def works_in_place(self, *bottoms: Shape) -> bool:
        return False

    def reference(self, x: np.ndarray) -> np.ndarray:
        return x.transpose(self._order(x.shape))

    def emit(self, tf: Any, site: Site, x: Tensor) -> Tensor:
        rank = len(site.bottom)
        order = self._order(site.bottom)
        # Axes of Caffe's top in the graph's order, each as the graph's axis of the bottom that it comes from.
        moved = [graph_axis(order[axis], rank) for axis in channels_last(tuple(range(rank)))]
        return tf.transpose(x, moved, name=site.name)


@layer("ShuffleChannel", "shuffle_channel_param")
@dataclass(frozen=True)
class ShuffleChannel(Layer):
    """Channels of ``group`` groups dealt out: the first of each group, then the second of each, and so on (Zhang et al.
    2017, section 3.1)."""

    note = "ShuffleNet"

    group: int = 1

    def top_shapes(self, x: Shape) -> Shape:
        windows.spatial(x)
        if self.group < 1 or x[1] % self.group:
            raise ValueError(f"group {self.group} does not divide its {x[1]} channels")
        return x

    def reference(self, x: np.ndarray) -> np.ndarray:
        size = x.shape[1] // self.group
        return x[:, [part * size + place for place in range(size) for part in range(self.group)]]

    def emit(self, tf: Any, site: Site, x: Tensor) -> Tensor:
        _, channels, height, width = site.bottom
        grouped = tf.reshape(x, [-1, height, width, self.group, channels // self.group])
        dealt = tf.transpose(grouped, [0, 1, 2, 4, 3])
        return tf.reshape(dealt, [-1, height, width, channels], name=site.name)
