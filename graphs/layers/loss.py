"""Losses: what training minimizes; the same value in TEST and TRAIN.

Values and gradients are Caffe's. Where its backward pass is not the derivative of its forward pass (a logarithm that
is cut off, a distance that is divided by), the emission takes the forward value and Caffe's gradient.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphs.channels_last import graph_axis, to_caffe_order
from graphs.layer import Layer, Site, Tensor, canonical_axis, layer, spell
from graphs.layers.softmax import Softmax
from weights import Shape

SMALLEST = float(np.finfo(np.float32).tiny)
"""Probabilities below it count as this in SoftmaxWithLoss (C's FLT_MIN)."""
SMALLEST_LOGGED = 1e-20
"""Probabilities below it count as this in InfogainLoss and MultinomialLogisticLoss."""


@dataclass(frozen=True)
class _Normalized(Layer):
    """A loss that is a sum over places, divided by a number of them that ``loss_param`` chooses.

    VALID divides by the places whose label is not ``ignore_label``, FULL by all, BATCH_SIZE by the size of the axes
    before that of the classes, NONE by 1; none of them by less than 1. ``normalize`` is the older spelling: VALID or
    BATCH_SIZE.
    """

    ignore_label: int | None = None
    normalize: bool | None = None
    normalization: str | None = None

    def _mode(self, default: str) -> str:
        if self.normalize is not None and self.normalization is None:
            return "VALID" if self.normalize else "BATCH_SIZE"
        return self.normalization or default

    def notes(self, *bottoms: Shape) -> Iterator[str]:
        if self.normalization is not None and self.normalize is not None:
            yield "sets normalize, which Caffe ignores beside normalization"

    def _divided(self, losses: np.ndarray, labels: np.ndarray, outer: int, mode: str) -> np.ndarray:
        """Returns the loss of an array of losses, one for each label, by the definition."""
        counts = np.full(labels.shape, True) if self.ignore_label is None else labels != self.ignore_label
        sizes = {"FULL": losses.size, "VALID": int(counts.sum()), "BATCH_SIZE": outer, "NONE": 1}
        return np.asarray(losses[counts].sum() / max(1, sizes[mode]), losses.dtype)

    def _emit_divided(self, tf: Any, name: str | None, losses: Tensor, labels: Tensor, inner: int, mode: str) -> Tensor:
        """Returns the loss of a vector of losses. ``inner`` is how many places one picture has."""
        if self.ignore_label is not None:
            counts = tf.cast(tf.not_equal(labels, self.ignore_label), tf.float32)
            losses = tf.multiply(losses, counts)
            if mode == "VALID":
                return tf.divide(tf.reduce_sum(losses), tf.maximum(tf.reduce_sum(counts), 1.0), name=name)
        if mode == "NONE":
            return tf.reduce_sum(losses, name=name)
        if mode == "BATCH_SIZE" and inner != 1:
            return tf.multiply(tf.reduce_mean(losses), float(inner), name=name)
        return tf.reduce_mean(losses, name=name)


@layer("SoftmaxWithLoss", "softmax_param", "loss_param")
@dataclass(frozen=True)
class SoftmaxWithLoss(_Normalized):
    """Caffe's SoftmaxWithLossLayer: -log of the probability that the softmax along ``axis`` gives to the label."""

    bottoms = (2, 2)
    tops = (1, 2)
    without_effect = frozenset({"engine"})
    note = "any axis, ignore_label, all normalizations, probabilities as second top"
    judges = True
    automatic_top = True

    axis: int = 1

    def top_shapes(self, x: Shape, label: Shape) -> list[Shape]:
        self._mode("VALID")
        check_labels(x, label, self.axis)
        return [(), x]

    def reference(self, x: np.ndarray, label: np.ndarray) -> list[np.ndarray]:
        probabilities, losses, labels = _log_losses(x, label, self.axis, np.eye(x.shape[self.axis]), SMALLEST)
        outer = math.prod(x.shape[: canonical_axis(self.axis, x.shape)])
        return [self._divided(losses, labels, outer, self._mode("VALID")), probabilities]

    def emit(self, tf: Any, site: Site, x: Tensor, label: Tensor) -> list[Tensor]:
        axis = canonical_axis(self.axis, site.bottom)
        labels = label_vector(tf, label, site.bottoms[1])
        wanted = tf.one_hot(labels, site.bottom[axis])
        losses = _emit_log_losses(tf, score_rows(tf, x, site.bottom, axis), wanted, SMALLEST)
        inner = math.prod(site.bottom[axis + 1 :])
        loss = self._emit_divided(tf, site.name, losses, labels, inner, self._mode("VALID"))
        return [loss, *_emit_probabilities(tf, site, x, self.axis)]


@layer("InfogainLoss", "infogain_loss_param", "loss_param")
@dataclass(frozen=True)
class InfogainLoss(_Normalized):
    """Caffe's InfogainLossLayer: minus the logarithms of all probabilities along ``axis``, weighed by the row of a
    matrix (classes by classes, the third bottom) that the label names."""

    bottoms = (2, 3)
    tops = (1, 2)
    note = "any axis, ignore_label, all normalizations; the matrix as third bottom"
    judges = True
    automatic_top = True

    source: str = ""
    axis: int = 1

    def top_shapes(self, x: Shape, label: Shape, *matrix: Shape) -> list[Shape]:
        if not matrix:
            named = f"in the file '{self.source}'" if self.source else "nowhere"
            raise ValueError(
                f"its infogain matrix is {named}; give it as a third bottom, which is all that is supported"
            )
        if self.normalize is not None:
            raise ValueError("sets normalize, which Caffe refuses here; use normalization")
        check_labels(x, label, self.axis)
        classes = x[canonical_axis(self.axis, x)]
        if math.prod(matrix[0]) != classes * classes:
            raise ValueError(f"its third bottom has the shape {spell(matrix[0])}; expected {classes}x{classes} values")
        return [(), x]

    def notes(self, *bottoms: Shape) -> Iterator[str]:
        yield from super().notes(*bottoms)
        if self.source:
            yield f"sets source '{self.source}', which Caffe ignores beside a third bottom"

    def reference(self, x: np.ndarray, label: np.ndarray, matrix: np.ndarray) -> list[np.ndarray]:
        classes = x.shape[self.axis]
        matrix = matrix.reshape(classes, classes)
        probabilities, losses, labels = _log_losses(x, label, self.axis, matrix, SMALLEST_LOGGED)
        outer = math.prod(x.shape[: canonical_axis(self.axis, x.shape)])
        return [self._divided(losses, labels, outer, self._mode("VALID")), probabilities]

    def emit(self, tf: Any, site: Site, x: Tensor, label: Tensor, matrix: Tensor) -> list[Tensor]:
        axis = canonical_axis(self.axis, site.bottom)
        classes = site.bottom[axis]
        labels = label_vector(tf, label, site.bottoms[1])
        matrix = tf.reshape(to_caffe_order(tf, matrix, site.bottoms[2]), [classes, classes])
        wanted = tf.matmul(tf.one_hot(labels, classes), matrix)
        losses = _emit_log_losses(tf, score_rows(tf, x, site.bottom, axis), wanted, SMALLEST_LOGGED)
        inner = math.prod(site.bottom[axis + 1 :])
        loss = self._emit_divided(tf, site.name, losses, labels, inner, self._mode("VALID"))
        return [loss, *_emit_probabilities(tf, site, x, self.axis)]


@layer("SigmoidCrossEntropyLoss", "loss_param")
@dataclass(frozen=True)
class SigmoidCrossEntropyLoss(_Normalized):
    """Caffe's SigmoidCrossEntropyLossLayer: -t log p - (1 - t) log(1 - p) for p the sigmoid of each value and t its
    target. Divided by the batch where ``loss_param`` says nothing; a target is ignored by its whole part."""

    bottoms = (2, 2)
    note = "ignore_label, all normalizations"
    judges = True
    automatic_top = True

    def top_shapes(self, x: Shape, target: Shape) -> Shape:
        self._mode("BATCH_SIZE")
        check_batch(x, target)
        if math.prod(x) != math.prod(target):
            raise ValueError(f"its bottoms have the shapes {spell(x)} and {spell(target)}; Caffe wants as many values")
        return ()

    def reference(self, x: np.ndarray, target: np.ndarray) -> np.ndarray:
        target = target.reshape(x.shape)
        losses = target * np.logaddexp(0, -x) + (1 - target) * np.logaddexp(0, x)
        return self._divided(losses, np.trunc(target), x.shape[0], self._mode("BATCH_SIZE"))

    def emit(self, tf: Any, site: Site, x: Tensor, target: Tensor) -> Tensor:
        x, target = _alike(tf, x, target, site.bottoms)
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=target, logits=x)
        # The whole part is what Caffe's cast to int leaves.
        labels = None if self.ignore_label is None else tf.cast(target, tf.int32)
        inner = math.prod(site.bottom[1:])
        return self._emit_divided(tf, site.name, losses, labels, inner, self._mode("BATCH_SIZE"))


@layer("EuclideanLoss")
@dataclass(frozen=True)
class EuclideanLoss(Layer):
    """Caffe's EuclideanLossLayer: half the sum of squared differences, divided by the batch."""

    bottoms = (2, 2)
    judges = True
    automatic_top = True

    def top_shapes(self, x: Shape, target: Shape) -> Shape:
        check_batch(x, target)
        if math.prod(x) != math.prod(target):
            raise ValueError(f"its bottoms have the shapes {spell(x)} and {spell(target)}; Caffe wants as many values")
        return ()

    def reference(self, x: np.ndarray, target: np.ndarray) -> np.ndarray:
        return np.asarray(((x - target.reshape(x.shape)) ** 2).sum() / x.shape[0] / 2)

    def emit(self, tf: Any, site: Site, x: Tensor, target: Tensor) -> Tensor:
        squares = tf.square(tf.subtract(*_alike(tf, x, target, site.bottoms)))
        return tf.multiply(tf.reduce_mean(squares), math.prod(site.bottom[1:]) / 2, name=site.name)


@layer("HingeLoss", "hinge_loss_param")
@dataclass(frozen=True)
class HingeLoss(Layer):
    """Caffe's HingeLossLayer: max(0, 1 - x) for the label's score and max(0, 1 + x) for all others, in C, H, W order;
    their sum (L1) or that of their squares (L2), divided by the batch."""

    bottoms = (2, 2)
    note = "L1 and L2"
    judges = True
    automatic_top = True

    norm: str = "L1"

    def top_shapes(self, x: Shape, label: Shape) -> Shape:
        check_one_label_each(x, label)
        return ()

    def reference(self, x: np.ndarray, label: np.ndarray) -> np.ndarray:
        signed = x.reshape(len(x), -1).copy()
        signed[range(len(x)), label.reshape(-1).astype(int)] *= -1
        margins = np.maximum(0, 1 + signed)
        return np.asarray((margins if self.norm == "L1" else margins**2).sum() / len(x))

    def emit(self, tf: Any, site: Site, x: Tensor, label: Tensor) -> Tensor:
        count = math.prod(site.bottom[1:])
        signs = tf.one_hot(label_vector(tf, label, site.bottoms[1]), count, on_value=-1.0, off_value=1.0)
        margins = tf.nn.relu(tf.add(tf.multiply(rows(tf, x, site.bottom), signs), 1.0))
        if self.norm == "L2":
            margins = tf.square(margins)
        return tf.multiply(tf.reduce_mean(margins), float(count), name=site.name)


@layer("ContrastiveLoss", "contrastive_loss_param")
@dataclass(frozen=True)
class ContrastiveLoss(Layer):
    """Caffe's ContrastiveLossLayer (Hadsell et al. 2006): half the mean, over the batch, of d^2 for pairs whose third
    bottom is not 0 and of max(margin - d, 0)^2 for the others, d their distance; with ``legacy_version``,
    max(margin - d^2, 0) for the others."""

    bottoms = (3, 3)
    note = "both versions"
    judges = True
    automatic_top = True

    margin: float = 1.0
    legacy_version: bool = False

    def top_shapes(self, a: Shape, b: Shape, similar: Shape) -> Shape:
        check_batch(a, b)
        for shape in (a, b):
            if not 1 <= len(shape) <= 4 or any(size != 1 for size in shape[2:]):
                raise ValueError(f"has a bottom of shape {spell(shape)}; Caffe wants N, C or N, C, 1, 1")
        if math.prod(a) != math.prod(b):
            raise ValueError(f"its bottoms have the shapes {spell(a)} and {spell(b)}; Caffe wants as many channels")
        check_one_label_each(a, similar)
        return ()

    def reference(self, a: np.ndarray, b: np.ndarray, similar: np.ndarray) -> np.ndarray:
        squares = ((a.reshape(len(a), -1) - b.reshape(len(b), -1)) ** 2).sum(axis=1)
        apart = self.margin - squares if self.legacy_version else self.margin - np.sqrt(squares)
        others = np.maximum(apart, 0) ** (1 if self.legacy_version else 2)
        is_similar = np.trunc(similar.reshape(-1)) != 0
        return np.asarray(np.where(is_similar, squares, others).sum() / len(a) / 2)

    def emit(self, tf: Any, site: Site, a: Tensor, b: Tensor, similar: Tensor) -> Tensor:
        difference = tf.subtract(rows(tf, a, site.bottom), rows(tf, b, site.bottoms[1]))
        squares = tf.reduce_sum(tf.square(difference), axis=1)
        if self.legacy_version:
            others = tf.nn.relu(tf.subtract(self.margin, squares))
        else:
            # Caffe's gradient divides by the distance plus 1e-4, which also holds where two points coincide.
            distance = tf.stop_gradient(tf.sqrt(squares))
            change = tf.divide(_nothing(tf, squares), tf.multiply(tf.add(distance, 1e-4), 2.0))
            others = tf.square(tf.nn.relu(tf.subtract(self.margin, tf.add(distance, change))))
        is_similar = tf.not_equal(label_vector(tf, similar, site.bottoms[2]), 0)
        return tf.multiply(tf.reduce_mean(tf.where(is_similar, squares, others)), 0.5, name=site.name)


@layer("MultinomialLogisticLoss")
@dataclass(frozen=True)
class MultinomialLogisticLoss(Layer):
    """Caffe's MultinomialLogisticLossLayer: -log of the label's probability, in C, H, W order, divided by the batch."""

    bottoms = (2, 2)
    judges = True
    automatic_top = True

    def top_shapes(self, x: Shape, label: Shape) -> Shape:
        check_one_label_each(x, label)
        return ()

    def reference(self, x: np.ndarray, label: np.ndarray) -> np.ndarray:
        picked = x.reshape(len(x), -1)[range(len(x)), label.reshape(-1).astype(int)]
        return np.asarray(-np.log(np.maximum(picked, SMALLEST_LOGGED)).sum() / len(x))

    def emit(self, tf: Any, site: Site, x: Tensor, label: Tensor) -> Tensor:
        wanted = tf.one_hot(label_vector(tf, label, site.bottoms[1]), math.prod(site.bottom[1:]))
        picked = tf.reduce_sum(tf.multiply(rows(tf, x, site.bottom), wanted), axis=1)
        return tf.negative(tf.reduce_mean(tf.log(_at_least(tf, picked, SMALLEST_LOGGED))), name=site.name)


def check_batch(x: Shape, label: Shape) -> None:
    """Raises ValueError where two bottoms do not begin with the same size, as Caffe wants of every loss."""
    if not x or not label or x[0] != label[0]:
        raise ValueError(f"its bottoms have the shapes {spell(x)} and {spell(label)}; Caffe wants the same first axis")


def check_one_label_each(x: Shape, label: Shape) -> None:
    """Raises ValueError where the label blob does not have one value for each picture."""
    check_batch(x, label)
    if math.prod(label) != x[0]:
        raise ValueError(f"its labels have the shape {spell(label)}; expected one for each of {x[0]} pictures")


def check_labels(x: Shape, label: Shape, axis: int, same_batch: bool = True) -> None:
    """Raises ValueError where the label blob does not have one value for each place of ``x`` beside its class axis."""
    axis = canonical_axis(axis, x)
    if same_batch:
        check_batch(x, label)
    places = math.prod(x[:axis]) * math.prod(x[axis + 1 :])
    if math.prod(label) != places:
        raise ValueError(
            f"its labels have the shape {spell(label)}; expected {places} values, one for each place of {spell(x)} "
            f"beside its class axis, {axis}"
        )


def rows(tf: Any, x: Tensor, shape: Shape) -> Tensor:
    """Returns a blob as (N, all the rest), the rest in Caffe's order."""
    return x if len(shape) == 2 else tf.reshape(to_caffe_order(tf, x, shape), [-1, math.prod(shape[1:])])


def score_rows(tf: Any, x: Tensor, shape: Shape, axis: int) -> Tensor:
    """Returns a blob as (places, classes): the axes beside ``axis`` made one, in Caffe's order."""
    rank = len(shape)
    order = [graph_axis(one, rank) for one in (*range(axis), *range(axis + 1, rank), axis)]
    if order != list(range(rank)):
        x = tf.transpose(x, order)
    if rank == 2:
        return x
    is_open = shape[axis] < 0  # classes along a free batch
    return tf.reshape(x, [math.prod(shape[1:]), -1] if is_open else [-1, shape[axis]])


def class_count(tf: Any, scores: Tensor, shape: Shape, axis: int) -> Tensor | int:
    """Returns how many classes ``scores``, the rows of a blob of that shape, have."""
    return shape[axis] if shape[axis] >= 0 else tf.gather(tf.shape(scores), 1)


def label_vector(tf: Any, label: Tensor, shape: Shape) -> Tensor:
    """Returns labels, which arrive as float32 blobs, as a vector of whole numbers in Caffe's order."""
    flat = label if len(shape) == 1 else tf.reshape(to_caffe_order(tf, label, shape), [-1])
    return tf.cast(flat, tf.int32)


def _alike(tf: Any, x: Tensor, target: Tensor, shapes: tuple[Shape, ...]) -> tuple[Tensor, Tensor]:
    """Returns two blobs of as many values in one order and shape."""
    if shapes[0] == shapes[1]:
        return x, target
    return rows(tf, x, shapes[0]), rows(tf, target, shapes[1])


def _log_losses(
    x: np.ndarray, label: np.ndarray, axis: int, weights: np.ndarray, smallest: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the probabilities along ``axis``, each place's loss, and its label; a label names a row of weights."""
    probabilities = Softmax(axis).reference(x)
    scores = np.moveaxis(probabilities, axis, -1)
    labels = np.trunc(label).astype(int).reshape(scores.shape[:-1])
    within = np.clip(labels, 0, len(weights) - 1)  # one out of range is ignored later, or Caffe's own undefined case
    losses = -(weights[within].astype(x.dtype) * np.log(np.maximum(scores, smallest))).sum(axis=-1)
    return probabilities, losses, labels


def _emit_log_losses(tf: Any, scores: Tensor, weights: Tensor, smallest: float) -> Tensor:
    """Returns, for each row of scores, minus the logarithms of its probabilities times that row's weights."""
    logarithms = tf.maximum(tf.nn.log_softmax(scores), math.log(smallest))
    losses = tf.negative(tf.reduce_sum(tf.multiply(logarithms, weights), axis=1))
    # Caffe's gradient does not know of the smallest probability.
    slopes = tf.subtract(tf.multiply(tf.nn.softmax(scores), tf.reduce_sum(weights, axis=1, keepdims=True)), weights)
    return _with_gradient(
        tf, losses, tf.reduce_sum(tf.multiply(tf.stop_gradient(slopes), _nothing(tf, scores)), axis=1)
    )


def _at_least(tf: Any, x: Tensor, smallest: float) -> Tensor:
    """Returns max(x, smallest) with the gradient of x, which Caffe's backward passes do not cut off."""
    return _with_gradient(tf, tf.maximum(x, smallest), _nothing(tf, x))


def _with_gradient(tf: Any, value: Tensor, nothing: Tensor) -> Tensor:
    """Returns ``value`` with the gradient of ``nothing``, whose own value is 0."""
    return tf.add(tf.stop_gradient(value), nothing)


def _nothing(tf: Any, x: Tensor) -> Tensor:
    """Returns 0 with the gradient of ``x``: x less itself, so that no number is rounded by one that is larger; where x
    is infinite, 0 alone."""
    x = tf.where(tf.math.is_finite(x), x, tf.zeros_like(x))
    return tf.subtract(x, tf.stop_gradient(x))


def _emit_probabilities(tf: Any, site: Site, x: Tensor, axis: int) -> list[Tensor]:
    """Returns the second top where the definition names one."""
    if len(site.names) == 1:
        return []
    return [Softmax(axis).emit(tf, replace(site, names=site.names[1:], tops=site.tops[1:]), x)]
