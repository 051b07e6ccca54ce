"""``ungrouped`` as ``tf.estimator`` wants a model: a function of features, labels and mode.

    estimator = tf.estimator.Estimator(model_fn, "model", params={"num_classes": 17})
    estimator.train(lambda: input_fn(pictures, labels, batch_size=16, epochs=None, seed=1), steps=100)

TensorFlow 2.16 and later have no ``tf.estimator``; there the same function returns the same fields in a ``Spec``, for
a loop of one's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np

from graphs.alexnet.family import FAMILY
from graphs.layer import Tensor
from graphs.tensorflow1 import tensorflow1
from graphs.value_range import check_range
from weights import Refused

TRAIN, EVAL, PREDICT = "train", "eval", "infer"
"""What ``tf.estimator.ModeKeys`` calls the modes."""
CLASSES, PROBABILITIES = "classes", "probabilities"
"""Keys of the predictions: N of int64, and N, num_classes of float32."""


class Spec(NamedTuple):
    """The fields of ``tf.estimator.EstimatorSpec``; ``export_outputs`` is signature -> predictions."""

    mode: str
    predictions: Mapping[str, Tensor]
    loss: Tensor | None = None
    train_op: Tensor | None = None
    eval_metric_ops: Mapping[str, tuple[Tensor, Tensor]] | None = None
    export_outputs: Mapping[str, Any] | None = None
    training_chief_hooks: tuple[Any, ...] = ()
    training_hooks: tuple[Any, ...] = ()
    scaffold: Any = None
    evaluation_hooks: tuple[Any, ...] = ()
    prediction_hooks: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Training:
    """What ``params`` may hold: gradient descent with momentum and decay as Krizhevsky et al. 2012 have them (section
    5), at a tenth of their learning rate, since Glorot's first weights are larger than theirs."""

    num_classes: int = FAMILY["ungrouped"].num_classes
    learning_rate: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 0.0005
    keep_prob: float = FAMILY["ungrouped"].keep_prob
    seed: int = 0


def model_fn(features: Any, labels: Tensor | None, mode: str, params: Mapping[str, Any] | None = None) -> Any:
    """Returns the ``EstimatorSpec`` of ``ungrouped`` where TensorFlow has it, else a ``Spec``.

    ``features`` are N, 224, 224, 3 as ``input_fn`` yields them, or a dict with them under ``images``; ``labels`` N
    integers, None to predict. ``params`` are ``Training``'s fields. The loss is the mean cross entropy and
    weight_decay / 2 times the sum of each kernel's squares: the optimizer multiplies its gradient, weight_decay * w, by
    the learning rate, once. Dropout is on to train alone, and depends on ``seed`` and the global step. Raises Refused
    for an unknown mode or parameter.
    """
    tf = tensorflow1("the model function")
    chosen = _training(params or {})
    if mode not in (TRAIN, EVAL, PREDICT):
        raise Refused(f"mode '{mode}' is unknown; expected {TRAIN}, {EVAL} or {PREDICT}")
    if labels is None and mode != PREDICT:
        raise Refused(f"mode '{mode}' needs labels; without them, only {PREDICT} is possible")
    images = features["images"] if isinstance(features, Mapping) else features
    step = tf.train.get_or_create_global_step()
    endpoints = FAMILY["ungrouped"].build(
        tf.cast(images, tf.float32),
        chosen.keep_prob if mode == TRAIN else 1.0,
        chosen.num_classes,
        seed=tf.stack([tf.constant(chosen.seed, tf.int64), step]),
    )
    # Axis 1 has the classes; axis 0, the default, is the batch.
    predictions = {CLASSES: tf.argmax(endpoints["logits"], axis=1), PROBABILITIES: endpoints["prob"]}
    if mode == PREDICT:
        return _spec(tf, mode=mode, predictions=predictions, export_outputs={"serving_default": predictions})
    errors = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=endpoints["logits"])
    kernels = [held[0] for held in endpoints.variables.values()]
    # Not tf.add_n, whose order follows which of them is ready first.
    squares = tf.reduce_sum(tf.stack([tf.nn.l2_loss(kernel) for kernel in kernels]))
    loss = tf.reduce_mean(errors) + chosen.weight_decay * squares
    if mode == EVAL:
        metrics = {"accuracy": tf.metrics.accuracy(labels, predictions[CLASSES])}
        return _spec(tf, mode=mode, predictions=predictions, loss=loss, eval_metric_ops=metrics)
    optimizer = tf.train.MomentumOptimizer(chosen.learning_rate, chosen.momentum)
    train = optimizer.minimize(loss, global_step=step)
    return _spec(tf, mode=mode, predictions=predictions, loss=loss, train_op=train)


def input_fn(
    images: np.ndarray,
    labels: np.ndarray | None = None,
    batch_size: int = 32,
    epochs: int | None = 1,
    seed: int | None = None,
) -> Any:
    """Returns a ``tf.data.Dataset`` of (pictures, labels), or of pictures alone, as ``ungrouped`` takes them.

    ``images`` are N, 224, 224, 3; R, G, B, 0 to 255, in memory or memory-mapped: only a batch of them is read at a
    time, but floats are first looked through for one above 1. ``labels`` are N integers. ``epochs`` None is without
    end; ``seed`` shuffles each epoch anew, None keeps the order. Raises Refused where the arrays do not fit.
    """
    tf = tensorflow1("reading pictures")
    variant = FAMILY["ungrouped"]
    if images.shape[1:] != (variant.size, variant.size, 3) or not len(images):
        raise Refused(f"pictures have the shape {images.shape}; expected N, {variant.size}, {variant.size}, 3")
    if labels is not None and labels.shape != (len(images),):
        raise Refused(f"labels have the shape {labels.shape}; expected one for each of {len(images)} pictures")
    if not 1 <= batch_size <= len(images):
        raise Refused(f"batch_size is {batch_size}; expected 1 to {len(images)}, the number of pictures")
    mean, scale = (np.array(values, np.float32) for values in (variant.preprocessing.mean, variant.preprocessing.scale))
    check_range("images", images, mean, scale, ("give images * 255", "give values of 0 to 255"))

    def pictures(indices: np.ndarray) -> np.ndarray:
        return (images[indices] - mean) * scale

    def read(indices: Tensor) -> Any:
        fed = tf.numpy_function(pictures, [indices], tf.float32)
        fed.set_shape([None, *images.shape[1:]])
        return fed if labels is None else (fed, tf.gather(np.asarray(labels, np.int64), indices))

    dataset = tf.data.Dataset.range(len(images))
    if seed is not None:
        dataset = dataset.shuffle(len(images), seed=seed, reshuffle_each_iteration=True)
    return dataset.repeat(epochs).batch(batch_size).map(read).prefetch(1)


def _training(params: Mapping[str, Any]) -> Training:
    known = [field.name for field in fields(Training)]
    unknown = [name for name in params if name not in known]
    if unknown:
        raise Refused(f"params has {', '.join(unknown)}; expected any of {', '.join(known)}")
    return Training(**params)


def _spec(tf: Any, **values: Any) -> Any:
    estimator = getattr(tf, "estimator", None)
    if estimator is None:
        return Spec(**values)
    if "export_outputs" in values:
        exported = values["export_outputs"].items()
        values["export_outputs"] = {name: estimator.export.PredictOutput(outputs) for name, outputs in exported}
    return estimator.EstimatorSpec(**values)
