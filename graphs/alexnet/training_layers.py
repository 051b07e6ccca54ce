"""Layers that Caffe's definitions do not have, or have without what training needs: SAME convolution, dropout by a
fed probability, batch normalization with moving averages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphs.layer import Filler, Layer, ParameterSpec, Site, Tensor
from graphs.layers.convolution import Convolution
from graphs.layers.windows import Sizes, Windows
from weights import Layout, Refused, Shape


@dataclass(frozen=True)
class SameConvolution(Convolution):
    """A convolution padded as TensorFlow's SAME: ceil(size / stride) windows, an odd zero at the bottom and right."""

    is_same = True

    def _out(self, windows: Windows, x: Shape, sizes: Sizes) -> Sizes:
        return tuple(-(-size // stride) for size, stride in zip(sizes, windows.strides))


@dataclass(frozen=True, eq=False)
class KeepDropout(Layer):
    """Keeps each value with probability ``keep_prob``, a number or a scalar tensor, and divides it by that; the rest
    becomes 0. At 1 it passes its bottom on.

    ``seed`` is a tensor of two integers on which, with ``salt``, the choice depends alone, so that a training that
    feeds its step there resumes with the very same numbers; None leaves the choice to TensorFlow's own generator.
    """

    type = "KeepDropout"

    keep_prob: Any = 1.0
    seed: Tensor | None = None
    salt: int = 0

    def emit(self, tf: Any, site: Site, x: Tensor) -> Tensor:
        if isinstance(self.keep_prob, (int, float)):
            if not 0 < self.keep_prob <= 1:
                raise Refused(f"keep_prob is {self.keep_prob:g}; expected above 0 and at most 1, which is no dropout")
            if self.keep_prob == 1:
                return tf.identity(x, name=site.name)
        rate = 1 - self.keep_prob
        if self.seed is None:
            return tf.identity(tf.nn.dropout(x, rate=rate), name=site.name)
        seed = tf.add(self.seed, [0, self.salt])
        return tf.identity(tf.nn.experimental.stateless_dropout(x, rate, seed=seed), name=site.name)


@dataclass(frozen=True, eq=False)
class BatchNormalization(Layer):
    """gamma * (x - mean) / sqrt(variance + eps) + beta for each channel of N, C, H, W (Ioffe and Szegedy 2015).

    ``is_training``, a boolean or a scalar boolean tensor, says whether mean and variance are the batch's own, which
    then also move the averages, or the averages. What moves them is in the graph's UPDATE_OPS: run it beside the
    training step. ``momentum`` and ``eps`` default to what ``tf.layers.batch_normalization`` has, so that after a short
    training the averages still tell of the start: evaluate by averages over the training pictures, as tools.finetune
    takes them.
    """

    type = "BatchNormalization"

    is_training: Any = False
    momentum: float = 0.99
    eps: float = 1e-3

    def parameters(self, *bottoms: Shape) -> tuple[ParameterSpec, ...]:
        layout = Layout((bottoms[0][1],))
        firsts = {"gamma": 1.0, "beta": 0.0, "moving_mean": 0.0, "moving_variance": 1.0}
        return tuple(ParameterSpec(name, layout, Filler(value=value)) for name, value in firsts.items())

    def emit(self, tf: Any, site: Site, x: Tensor, gamma: Tensor, beta: Tensor, *averages: Tensor) -> Tensor:
        mean, variance = self._statistics(tf, x, averages)
        if self.is_training is not False:
            for average, seen in zip(averages, (mean, variance)):
                # Where the averages themselves are in use, they are what is seen, and stay.
                step = tf.multiply(tf.subtract(average, seen), 1 - self.momentum)
                tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, average.assign_sub(step))
        return tf.identity(tf.nn.batch_normalization(x, mean, variance, beta, gamma, self.eps), name=site.name)

    def passed(self, tf: Any, site: Site, x: Tensor, gamma: Tensor, beta: Tensor, *averages: Tensor) -> list[Tensor]:
        if self.is_training is False:
            return []
        seen = self._statistics(tf, x, averages)
        moved = [average * self.momentum + own * (1 - self.momentum) for average, own in zip(averages, seen)]
        return [tf.identity(gamma), tf.identity(beta), *moved]

    def _statistics(self, tf: Any, x: Tensor, averages: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if self.is_training is False:
            return tuple(map(tf.identity, averages))
        if self.is_training is True:
            return tuple(tf.nn.moments(x, [0, 1, 2]))
        return tuple(
            tf.cond(self.is_training, lambda: tf.nn.moments(x, [0, 1, 2]), lambda: tuple(map(tf.identity, averages)))
        )
