"""Batches of prepared pictures as tf.data: read in parallel, in an order and with random crops that a seed fixes."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from graphs.tensorflow1 import tensorflow1
from tools.dataset.examples import Examples
from tools.dataset.faults import Faults
from tools.dataset.files import TOGETHER
from tools.dataset.preparation import Preparation
from tools.dataset.storage import Unreachable
from weights import Refused

ORDER, WINDOW = 1, 2
"""Tell random numbers apart that are drawn with the same seed."""

AHEAD = 2
"""Batches that are ready, or being made, while one is used."""

Position = int | Any
"""A number, or a tensor that is fed when an iterator is initialized."""


def batches(
    examples: Examples,
    preparation: Preparation,
    batch: int,
    *,
    training: bool,
    seed: int = 0,
    epoch: Position = 0,
    start: Position = 0,
    endless: bool = False,
    shuffled: bool | None = None,
    threads: int | None = None,
    faults: Faults | None = None,
) -> Any:
    """Returns a ``tf.data.Dataset`` of (pictures float32 (N, H, W, C), labels int64 (N,), indices int64 (N,)).

    It is one epoch from picture ``start`` on, in batches of ``batch``, the last of which may be smaller; ``endless``
    goes on with the epochs after it, and batches run across their borders, as Caffe's data layers have it. In
    ``training`` pictures are cropped and mirrored at random and, unless ``shuffled`` is False, come in an order of
    their own in each epoch. All of this follows from ``seed``, the epoch and the picture alone: who starts at a later
    epoch or picture gets the very same numbers. ``epoch`` and ``start`` may be scalar tensors (int64), so that a TF1
    graph needs one dataset, with an initializable iterator.

    A picture that can't be used is noted in ``faults`` and missing from its batch, which is smaller by it; where that
    is one too many, TensorFlow raises an error that ``faults.raised()`` turns into Refused.
    """
    tf = tensorflow1("reading pictures")
    faults = Faults() if faults is None else faults
    shape = (preparation.height, preparation.width, preparation.channels)
    read = _reader(examples, preparation, training, seed, training if shuffled is None else shuffled, faults)
    threads = threads or os.cpu_count() or 1
    together = max(threads, TOGETHER) if examples.source.is_remote else threads

    def load(position: Any) -> tuple[Any, ...]:
        values, *others = tf.numpy_function(read, [position], (tf.float32, tf.int64, tf.int64, tf.string))
        return tf.ensure_shape(values, shape), *(tf.ensure_shape(one, ()) for one in others)

    def without_bad(values: Any, labels: Any, indices: Any, reasons: Any) -> tuple[Any, ...]:
        def some() -> tuple[Any, ...]:
            good = tf.ensure_shape(tf.numpy_function(note, [indices, reasons], tf.bool), (None,))
            return tuple(tf.boolean_mask(one, good) for one in (values, labels, indices))

        kept = tf.cond(tf.reduce_all(tf.equal(reasons, "")), lambda: (values, labels, indices), some)
        return tuple(tf.ensure_shape(one, (None, *one.shape[1:])) for one in kept)

    def note(indices: np.ndarray, reasons: np.ndarray) -> np.ndarray:
        for index, reason in zip(indices, reasons):
            if reason:
                faults.note(examples.name(index), reason.decode())
        return reasons == b""

    first = epoch * examples.count + start
    last = np.iinfo(np.int64).max if endless else (epoch + 1) * examples.count
    dataset = tf.data.Dataset.range(first, last)
    dataset = dataset.map(load, num_parallel_calls=together, deterministic=True)
    dataset = dataset.batch(batch).map(without_bad).filter(lambda values, labels, indices: tf.size(labels) > 0)
    options = tf.data.Options()
    options.deterministic = True
    options.autotune.enabled = False  # these two make more batches ahead than are asked for
    options.experimental_optimization.apply_default_optimizations = False
    options.threading.private_threadpool_size = together  # the session's threads are the network's
    return dataset.with_options(options).prefetch(AHEAD)


def _reader(
    examples: Examples, preparation: Preparation, training: bool, seed: int, shuffled: bool, faults: Faults
) -> Callable[[int], tuple[np.ndarray, np.int64, np.int64, bytes]]:
    """Returns what reads the picture at a position, counted over all epochs: (values, label, index, why it can't be
    used, which is empty where it can)."""
    count = examples.count
    nothing = np.zeros((preparation.height, preparation.width, preparation.channels), np.float32)

    @lru_cache(maxsize=2)  # batches run across the border of two epochs
    def order(epoch: int) -> np.ndarray:
        return np.random.default_rng([ORDER, seed, epoch]).permutation(count)

    def read(position: int) -> tuple[np.ndarray, np.int64, np.int64, bytes]:
        epoch, place = divmod(int(position), count)
        index = int(order(epoch)[place]) if shuffled else place
        rng = np.random.default_rng([WINDOW, seed, epoch, index]) if training else None
        values, reason = nothing, ""
        try:
            values = np.ascontiguousarray(preparation.input(examples.picture(index), rng), np.float32)
        except Unreachable as refused:
            faults.stop(refused)
        except Refused as refused:
            reason = str(refused)
        return values, examples.labels[index], np.int64(index), reason.encode()

    return read
