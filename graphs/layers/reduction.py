"""What is left of many values: Reduction, ArgMax."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.channels_last import channels_last, graph_axis, in_graph_order, to_caffe_order
from graphs.layer import Layer, Site, Tensor, canonical_axis, layer, spell
from weights import Shape


@layer("Reduction", "reduction_param")
@dataclass(frozen=True)
class Reduction(Layer):
    """Caffe's ReductionLayer: ``coeff`` times the sum of values (SUM), of magnitudes (ASUM) or of squares (SUMSQ), or
    times the mean (MEAN), over all axes from ``axis`` on, which go."""

    note = "SUM, ASUM, SUMSQ, MEAN from any axis on; coeff"

    operation: str = "SUM"
    axis: int = 0
    coeff: float = 1.0

    def top_shapes(self, x: Shape) -> Shape:
        return x[: canonical_axis(self.axis, x)]

    def reference(self, x: np.ndarray) -> np.ndarray:
        rows = x.reshape(*self.top_shapes(x.shape), -1)
        if self.operation == "ASUM":
            rows = np.abs(rows)
        elif self.operation == "SUMSQ":
            rows = rows**2
        reduced = rows.mean(axis=-1) if self.operation == "MEAN" else rows.sum(axis=-1)
        return np.asarray(self.coeff * reduced, x.dtype)

    def emit(self, tf: Any, site: Site, x: Tensor) -> Tensor:
        rank, first = len(site.bottom), canonical_axis(self.axis, site.bottom)
        kept = [axis for axis in channels_last(tuple(range(rank))) if axis < first]
        wanted = list(channels_last(tuple(range(first))))
        is_moved, is_scaled = kept != wanted, self.coeff != 1

        if self.operation in ("ASUM", "SUMSQ"):
            x = tf.abs(x) if self.operation == "ASUM" else tf.square(x)
        reduce = tf.reduce_mean if self.operation == "MEAN" else tf.reduce_sum
        axes = [graph_axis(axis, rank) for axis in range(first, rank)]
        y = reduce(x, axis=axes, name=None if is_moved or is_scaled else site.name)
        if is_scaled:
            y = tf.multiply(y, self.coeff, name=None if is_moved else site.name)
        return tf.transpose(y, [kept.index(axis) for axis in wanted], name=site.name) if is_moved else y


@layer("ArgMax", "argmax_param")
@dataclass(frozen=True)
class ArgMax(Layer):
    """Caffe's ArgMaxLayer: the places of the ``top_k`` largest values, the largest first; of equal ones the last first.

    With ``axis``: their places along it, or with ``out_max_val`` the values themselves. Without: their places among
    all values of an item, in C, H, W order, (N, 1, top_k); with ``out_max_val`` also the values, (N, 2, top_k).
    """

    note = "top_k, out_max_val, axis"

    out_max_val: bool = False
    top_k: int = 1
    axis: int | None = None

    def top_shapes(self, x: Shape) -> Shape:
        if not x:
            raise ValueError("its bottom is a scalar; expected one axis or more")
        size = math.prod(x[1:]) if self.axis is None else x[canonical_axis(self.axis, x)]
        if not 1 <= self.top_k <= size:
            raise ValueError(
                f"top_k is {self.top_k}; expected 1 to {size}, as many values as its bottom, {spell(x)}, has"
            )
        if self.axis is None:
            return (x[0], 2 if self.out_max_val else 1, self.top_k, *(1,) * (len(x) - 3))
        axis = canonical_axis(self.axis, x)
        return (*x[:axis], self.top_k, *x[axis + 1 :])

    def reference(self, x: np.ndarray) -> np.ndarray:
        axis = 1 if self.axis is None else self.axis
        searched = x.reshape(len(x), -1) if self.axis is None else x
        # A stable sort of the mirrored values keeps the last of equal ones in front.
        mirrored = np.argsort(-np.flip(searched, axis), axis=axis, kind="stable")
        places = (searched.shape[axis] - 1 - mirrored).take(range(self.top_k), axis=axis)
        values = np.take_along_axis(searched, places, axis=axis)
        if self.axis is None and self.out_max_val:
            return np.stack([places, values], axis=1).astype(x.dtype).reshape(self.top_shapes(x.shape))
        return (values if self.out_max_val else places).astype(x.dtype).reshape(self.top_shapes(x.shape))

    def emit(self, tf: Any, site: Site, x: Tensor) -> Tensor:
        rank = len(site.bottom)
        if self.axis is None:
            x = tf.reshape(to_caffe_order(tf, x, site.bottom), [-1, math.prod(site.bottom[1:])])
            values, places = self._largest(tf, x, axis=1)
            y = tf.stack([places, values], axis=1) if self.out_max_val else places
            return in_graph_order(tf, y, site.top, site.name)
        axis = graph_axis(canonical_axis(self.axis, site.bottom), rank)
        order = [other for other in range(rank) if other != axis] + [axis]
        is_last = axis == rank - 1
        values, places = self._largest(tf, x if is_last else tf.transpose(x, order), axis=rank - 1)
        y = values if self.out_max_val else places
        if is_last:
            return tf.identity(y, name=site.name)
        return tf.transpose(y, [order.index(other) for other in range(rank)], name=site.name)

    def _largest(self, tf: Any, x: Tensor, axis: int) -> tuple[Tensor, Tensor]:
        """Returns the largest values along the last axis, which is ``axis``, and their places as float32."""
        # TensorFlow puts the first of equal values in front, Caffe the last: so look from the other end.
        values, mirrored = tf.math.top_k(tf.reverse(x, axis=[axis]), k=self.top_k)
        last = tf.subtract(tf.gather(tf.shape(x), axis), 1)
        return values, tf.cast(tf.subtract(last, mirrored), tf.float32)
