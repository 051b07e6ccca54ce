"""ROIPooling: max-pooling of boxes (Fast R-CNN)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.channels_last import to_caffe_order
from graphs.layer import Layer, Site, Tensor, layer, spell
from graphs.layers import windows
from weights import Shape


@layer("ROIPooling", "roi_pooling_param")
@dataclass(frozen=True)
class ROIPooling(Layer):
    """Fast R-CNN's ROIPoolingLayer: each box of a picture cut into ``pooled_h`` by ``pooled_w`` bins, and their maxima.

    A row of the second bottom is (picture, x1, y1, x2, y2), inclusive, in pixels that are ``spatial_scale`` of the
    first bottom's. Corners are rounded, halves away from zero; bins reach from their start rounded down to their end
    rounded up, all of it in float32, so that it falls as in Caffe; a bin outside of the picture is 0.
    """

    bottoms = (2, 2)
    note = "Fast R-CNN"

    pooled_h: int = 0
    pooled_w: int = 0
    spatial_scale: float = 1.0

    def top_shapes(self, x: Shape, boxes: Shape) -> Shape:
        windows.spatial(x)
        if min(self.pooled_h, self.pooled_w) < 1:
            raise ValueError(f"pooled_h is {self.pooled_h} and pooled_w {self.pooled_w}; Caffe wants 1 or more")
        if not boxes or math.prod(boxes[1:]) != 5:
            raise ValueError(
                f"its boxes have the shape {spell(boxes)}; expected 5 values each: picture, x1, y1, x2, y2"
            )
        return (boxes[0], x[1], self.pooled_h, self.pooled_w)

    def reference(self, x: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        boxes = boxes.reshape(len(boxes), 5).astype(np.float32)
        y = np.zeros((len(boxes), x.shape[1], self.pooled_h, self.pooled_w), x.dtype)
        for number, (picture, *corners) in enumerate(boxes):
            scaled = [corner * np.float32(self.spatial_scale) for corner in corners]
            x1, y1, x2, y2 = (
                math.floor(abs(corner) + 0.5) * (-1 if corner < 0 else 1) for corner in map(float, scaled)
            )
            rows = _bins(y1, y2, self.pooled_h, x.shape[2])
            columns = _bins(x1, x2, self.pooled_w, x.shape[3])
            for i, j in np.ndindex(self.pooled_h, self.pooled_w):
                window = x[int(picture), :, rows[i], columns[j]]
                if window.size:
                    y[number, :, i, j] = window.max(axis=(1, 2))
        return y

    def emit(self, tf: Any, site: Site, x: Tensor, boxes: Tensor) -> Tensor:
        height, width = windows.spatial(site.bottom)
        boxes = tf.reshape(to_caffe_order(tf, boxes, site.bottoms[1]), [-1, 5])
        picture, x1, y1, x2, y2 = tf.split(tf.cast(boxes, tf.float32), 5, axis=1)
        top, bottom = _emit_bins(tf, y1, y2, self.spatial_scale, self.pooled_h, height)
        left, right = _emit_bins(tf, x1, x2, self.spatial_scale, self.pooled_w, width)
        # A window's maximum is that of two shorter ones, a power of two long, from its start and to its end. So with
        # the maxima of all windows whose sides are powers of two at hand, four of them make any bin.
        rows = _powers_of_two(tf, [x], 1, height)
        table = tf.stack(_powers_of_two(tf, rows, 2, width))
        tall, lower = _emit_halves(tf, top, bottom, height)
        wide, righter = _emit_halves(tf, left, right, width)
        kind = tf.add(tf.multiply(tf.expand_dims(wide, 1), len(rows)), tf.expand_dims(tall, 2))
        zeros = tf.zeros_like(kind)
        number = tf.add(zeros, tf.expand_dims(tf.cast(picture, tf.int32), 2))
        corners = [
            tf.gather_nd(
                table,
                tf.stack(
                    [kind, number, tf.add(zeros, tf.expand_dims(i, 2)), tf.add(zeros, tf.expand_dims(j, 1))], axis=3
                ),
            )
            for i in (tf.minimum(top, height - 1), lower)
            for j in (tf.minimum(left, width - 1), righter)
        ]
        pooled = tf.maximum(tf.maximum(corners[0], corners[1]), tf.maximum(corners[2], corners[3]))
        has_rows, has_columns = tf.greater(bottom, top), tf.greater(right, left)
        is_filled = tf.logical_and(tf.expand_dims(has_rows, 2), tf.expand_dims(has_columns, 1))
        return tf.multiply(pooled, tf.cast(tf.expand_dims(is_filled, 3), tf.float32), name=site.name)


def _bins(first: int, last: int, count: int, limit: int) -> list[slice]:
    """Returns the pixels of each of ``count`` bins from ``first`` to ``last`` of an axis of ``limit`` pixels."""
    size = np.float32(max(last - first + 1, 1)) / np.float32(count)
    starts = [math.floor(np.float32(i) * size) + first for i in range(count)]
    ends = [math.ceil(np.float32(i + 1) * size) + first for i in range(count)]
    return [slice(min(max(start, 0), limit), min(max(end, 0), limit)) for start, end in zip(starts, ends)]


def _emit_bins(tf: Any, first: Tensor, last: Tensor, scale: float, count: int, limit: int) -> tuple[Tensor, Tensor]:
    """Returns where each bin of each box starts and ends (boxes, count), whole numbers from 0 to ``limit``."""
    first, last = (_rounded(tf, tf.multiply(corner, scale)) for corner in (first, last))
    # TensorFlow's optimizer makes a division by a constant a multiplication, which rounds otherwise. From float64 it
    # comes to the same float32, so that bins fall as in Caffe.
    size = tf.cast(tf.maximum(tf.add(tf.subtract(last, first), 1.0), 1.0), tf.float64)
    size = tf.cast(tf.divide(size, float(count)), tf.float32)
    starts = tf.floor(tf.multiply(size, [float(i) for i in range(count)]))
    ends = tf.ceil(tf.multiply(size, [float(i + 1) for i in range(count)]))
    inside = (tf.minimum(tf.maximum(tf.add(edge, first), 0.0), float(limit)) for edge in (starts, ends))
    start, end = (tf.cast(edge, tf.int32) for edge in inside)
    return start, end


def _rounded(tf: Any, x: Tensor) -> Tensor:
    """Returns whole numbers, halves away from zero, as C rounds; ``tf.round`` takes them to the even one."""
    size = tf.abs(x)
    whole = tf.floor(size)
    up = tf.cast(tf.greater_equal(tf.subtract(size, whole), 0.5), tf.float32)
    return tf.multiply(tf.sign(x), tf.add(whole, up))


def _powers_of_two(tf: Any, maps: list[Tensor], axis: int, size: int) -> list[Tensor]:
    """Returns maps of the maxima of 1, 2, 4 ... neighbours along ``axis``, up to ``size``, each where the first of them
    lies. What hangs over the end is never read."""
    maps, all_maps = list(maps), list(maps)
    for level in range(1, size.bit_length()):
        step = 1 << (level - 1)
        begin = [step if a == axis else 0 for a in range(4)]
        ends = [[0, step if a == axis else 0] for a in range(4)]
        maps = [tf.maximum(one, tf.pad(tf.slice(one, begin, [-1] * 4), ends)) for one in maps]
        all_maps += maps
    return all_maps


def _emit_halves(tf: Any, start: Tensor, end: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Returns the largest power of two (its logarithm) within each range, and where it starts that reaches the end."""
    powers = [1 << level for level in range(limit.bit_length() + 1)]
    length = tf.expand_dims(tf.subtract(end, start), 2)
    level = tf.reduce_sum(tf.cast(tf.greater_equal(length, powers[1:]), tf.int32), axis=2)
    return level, tf.maximum(tf.subtract(end, tf.gather(powers, level)), 0)
