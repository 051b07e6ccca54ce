"""Accuracy: the share of labels that are among the best scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.layer import Layer, Site, Tensor, canonical_axis, layer
from graphs.layers.loss import check_labels, class_count, label_vector, score_rows
from weights import Shape


@layer("Accuracy", "accuracy_param")
@dataclass(frozen=True)
class Accuracy(Layer):
    """Caffe's AccuracyLayer: a label is right where fewer than ``top_k`` other classes along ``axis`` score as much as
    its own or more. The second top has the share of right ones class by class, 0 for a class without labels."""

    bottoms = (2, 2)
    tops = (1, 2)
    note = "top_k, any axis, ignore_label; per class as second top"
    judges = True

    top_k: int = 1
    axis: int = 1
    ignore_label: int | None = None

    def top_shapes(self, x: Shape, label: Shape) -> list[Shape]:
        check_labels(x, label, self.axis, same_batch=False)
        classes = x[canonical_axis(self.axis, x)]
        if not 1 <= self.top_k <= classes:
            raise ValueError(f"top_k is {self.top_k}; expected 1 to {classes}, its classes")
        return [(), (classes,)]

    def reference(self, x: np.ndarray, label: np.ndarray) -> list[np.ndarray]:
        classes = x.shape[self.axis]
        scores = np.moveaxis(x, self.axis, -1).reshape(-1, classes)
        right, total = np.zeros(classes, x.dtype), np.zeros(classes, x.dtype)
        for row, number in zip(scores, np.trunc(label).astype(int).reshape(-1)):
            if number != self.ignore_label:
                others = np.count_nonzero(row >= row[number]) - 1
                right[number] += others < self.top_k
                total[number] += 1
        overall = right.sum() / max(1, total.sum())
        return [np.asarray(overall, x.dtype), right / np.maximum(1, total)]

    def emit(self, tf: Any, site: Site, x: Tensor, label: Tensor) -> list[Tensor]:
        axis = canonical_axis(self.axis, site.bottom)
        scores = score_rows(tf, x, site.bottom, axis)
        labels = label_vector(tf, label, site.bottoms[1])
        is_label = tf.one_hot(labels, class_count(tf, scores, site.bottom, axis))
        # Chosen, not multiplied: another class may score infinity, and 0 times that is no number.
        own = tf.where(tf.greater(is_label, 0.0), scores, tf.zeros_like(scores))
        own = tf.reduce_sum(own, axis=1, keepdims=True)
        rivals = tf.reduce_sum(tf.cast(tf.greater_equal(scores, own), tf.float32), axis=1)  # the label itself is one
        is_right = tf.cast(tf.less_equal(rivals, float(self.top_k)), tf.float32)
        if self.ignore_label is None:
            tops = [tf.reduce_mean(is_right, name=site.name)]
        else:
            counts = tf.cast(tf.not_equal(labels, self.ignore_label), tf.float32)
            is_right = tf.multiply(is_right, counts)
            is_label = tf.multiply(is_label, tf.expand_dims(counts, 1))
            tops = [tf.math.divide_no_nan(tf.reduce_sum(is_right), tf.reduce_sum(counts), name=site.name)]
        if len(site.names) == 2:
            right = tf.reduce_sum(tf.multiply(is_label, tf.expand_dims(is_right, 1)), axis=0)
            tops.append(tf.math.divide_no_nan(right, tf.reduce_sum(is_label, axis=0), name=site.names[1]))
        return tops
