"""BatchNorm and Scale, the two halves of batch normalization in Caffe."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.channels_last import channels_last
from graphs.layer import Filler, Layer, ParameterSpec, Site, Tensor, canonical_axis, layer, spell
from weights import Layout, Shape


@layer("BatchNorm", "batch_norm_param")
@dataclass(frozen=True)
class BatchNorm(Layer):
    """Caffe's BatchNormLayer: (x - mean) / sqrt(variance + eps) for each channel (axis 1).

    The stored mean and variance are sums; the third blob is the factor to divide them by, and 0 there makes both 0.
    ``use_global_stats`` unset means the stored ones in TEST, the batch's own in TRAIN. A pass with the batch's own adds
    them to the stored sums, which before shrink to ``moving_average_fraction`` of what they were.
    """

    knows_phase = True
    note = "stored or the batch's own statistics"

    use_global_stats: bool | None = None
    moving_average_fraction: float = 0.999
    eps: float = 1e-5

    def top_shapes(self, x: Shape, *, phase: str = "TEST") -> Shape:
        if self.eps < 0:
            raise ValueError(f"eps is {self.eps:g}; expected 0 or more")
        return x

    def parameters(self, x: Shape) -> tuple[ParameterSpec, ...]:
        channels = Layout((x[1] if len(x) > 1 else 1,))
        return (
            ParameterSpec("mean", channels),
            ParameterSpec("variance", channels),
            ParameterSpec("scale_factor", Layout((1,)), otherwise=1.0),  # others store the true mean and variance
        )

    def reference(
        self, x: np.ndarray, mean: np.ndarray, variance: np.ndarray, factor: np.ndarray, *, phase: str = "TEST"
    ) -> np.ndarray:
        if self._uses_own(phase):
            others = (0, *range(2, x.ndim))
            mean, variance = x.mean(axis=others), x.var(axis=others)
        else:
            scale = 0 if factor[0] == 0 else 1 / factor[0]
            mean, variance = mean * scale, variance * scale
        channel = (-1,) + (1,) * (x.ndim - 2)
        return (x - mean.reshape(channel)) / np.sqrt(variance.reshape(channel) + self.eps)

    def emit(self, tf: Any, site: Site, x: Tensor, mean: Tensor, variance: Tensor, factor: Tensor) -> Tensor:
        if self._uses_own(site.phase):
            mean, variance = self._moments(tf, site, x, keepdims=True)
        else:
            mean, variance = tf.math.divide_no_nan(mean, factor), tf.math.divide_no_nan(variance, factor)
            if len(site.bottom) == 3:
                mean, variance = tf.reshape(mean, [-1, 1]), tf.reshape(variance, [-1, 1])
        deviation = tf.math.rsqrt(tf.add(variance, self.eps))
        return tf.multiply(tf.subtract(x, mean), deviation, name=site.name)

    def passed(self, tf: Any, site: Site, x: Tensor, mean: Tensor, variance: Tensor, factor: Tensor) -> list[Tensor]:
        if not self._uses_own(site.phase):
            return []
        own_mean, own_variance = self._moments(tf, site, x, keepdims=False)
        # Caffe stores the unbiased variance; one value for each channel it takes as it is.
        count = tf.cast(tf.size(x) // tf.size(own_mean), tf.float32)
        unbiased = tf.multiply(own_variance, tf.divide(count, tf.maximum(count - 1.0, 1.0)))
        kept_of = [tf.multiply(stored, self.moving_average_fraction) for stored in (mean, variance, factor)]
        added = (tf.reshape(own_mean, [-1]), tf.reshape(unbiased, [-1]), 1.0)
        return [tf.add(one, other) for one, other in zip(kept_of, added)]

    def _uses_own(self, phase: str) -> bool:
        return self.use_global_stats is False or (self.use_global_stats is None and phase == "TRAIN")

    def _moments(self, tf: Any, site: Site, x: Tensor, keepdims: bool) -> list[Tensor]:
        """Returns the batch's own mean and variance of each channel."""
        rank = len(site.bottom)
        channel = rank - 1 if rank >= 4 else 1
        return tf.nn.moments(x, [axis for axis in range(rank) if axis != channel], keepdims=keepdims)


@layer("Scale", "scale_param")
@dataclass(frozen=True)
class Scale(Layer):
    """Caffe's ScaleLayer: x times a factor that spans ``num_axes`` axes from ``axis`` on, plus a bias of that shape.

    The factor is the second bottom or else a parameter, which the graph holds in a shape that broadcasts over its
    channels-last bottom.
    """

    bottoms = (1, 2)
    note = "any axes, one bottom or two, bias_term"

    axis: int = 1
    num_axes: int = 1
    filler: Filler | None = None
    bias_term: bool = False
    bias_filler: Filler = Filler()

    def top_shapes(self, x: Shape, *factor: Shape) -> Shape:
        spanned(x, self.axis, self.num_axes, *factor, verb="scale")
        return x

    def hides(self, bottoms: int) -> bool:
        return bottoms == 2  # x * sigmoid(x)

    def notes(self, *bottoms: Shape) -> Iterator[str]:
        return num_axes_notes(self.num_axes, *bottoms)

    def parameters(self, x: Shape, *factor: Shape) -> tuple[ParameterSpec, ...]:
        layout = broadcast_layout(x, spanned(x, self.axis, self.num_axes, *factor, verb="scale"), self.axis)
        weights = ParameterSpec("weights", layout, self.filler or Filler(value=1.0))
        biases = ParameterSpec("biases", layout, self.bias_filler)
        return ((weights,) if not factor else ()) + ((biases,) if self.bias_term else ())

    def reference(self, x: np.ndarray, factor: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
        axis = canonical_axis(self.axis, x.shape) if factor.ndim else 0
        spread = (1,) * axis + factor.shape + (1,) * (x.ndim - axis - factor.ndim)
        y = x * factor.reshape(spread)
        return y if bias is None else y + bias.reshape(spread)

    def emit(self, tf: Any, site: Site, x: Tensor, factor: Tensor, bias: Tensor | None = None) -> Tensor:
        if len(site.bottoms) == 2:
            factor = spread_over(tf, factor, site.bottoms, self.axis)
        if bias is None:
            return tf.multiply(x, factor, name=site.name)
        return tf.add(tf.multiply(x, factor), filled_rows(tf, bias, site, self.axis, self.num_axes), name=site.name)


def spanned(x: Shape, axis: int, num_axes: int, *second: Shape, verb: str) -> Shape:
    """Returns the shape of what Scale and Bias apply to ``x``: that of its ``num_axes`` axes (-1: all) from ``axis``
    on, or that of the second bottom. Raises ValueError where it is none of ``x``'s axes; ``verb`` says what for."""
    if num_axes < -1 and not second:
        raise ValueError(f"num_axes is {num_axes}; Caffe wants 0 or more, or -1 for all that follow axis {axis}")
    if second and not second[0]:
        return ()
    first = canonical_axis(axis, x)
    stated = len(x) - first if num_axes == -1 else num_axes
    count = len(second[0]) if second else stated
    if first + count > len(x):
        raise ValueError(f"{count} axes from axis {axis} on are more than its bottom has, {spell(x)}")
    span = x[first : first + count]
    if second and second[0] != span:
        raise ValueError(
            f"its second bottom has the shape {spell(second[0])}; "
            f"expected {spell(span)} to {verb} {spell(x)} from axis {axis} on"
        )
    return span


def num_axes_notes(num_axes: int, *bottoms: Shape) -> Iterator[str]:
    """Yields what there is to say of Scale's and Bias' ``num_axes``: Caffe reads it where there is one bottom only."""
    if len(bottoms) == 2 and num_axes != 1:
        yield f"num_axes is {num_axes}, which Caffe ignores beside a second bottom, here {spell(bottoms[1])}"


def broadcast_layout(x: Shape, span: Shape, axis: int) -> Layout:
    """Returns the layout of a parameter over the axes ``span`` of ``x`` that lets the graph broadcast it over x."""
    if not span:
        return Layout(())
    axis = canonical_axis(axis, x)
    full = (1,) * axis + span + (1,) * (len(x) - axis - len(span))
    order = channels_last(tuple(range(len(x))))
    moved = tuple(full[a] for a in order)
    while len(moved) > 1 and moved[0] == 1:
        moved = moved[1:]
    return Layout(span, view=full, order=order, tensorflow=moved)


def filled_rows(tf: Any, bias: Tensor, site: Site, axis: int, num_axes: int) -> Tensor:
    """Returns what is added to a layer's first bottom; a column, one value for each row of two axes, as rows of it.

    TensorFlow's optimizer adds up the constants of a fully connected layer and those added to its top, and takes a
    column for as many biases as it has rows.
    """
    shape = site.bottom
    span = site.bottoms[1] if len(site.bottoms) == 2 else spanned(shape, axis, num_axes, verb="shift")
    is_column = len(shape) == 2 and len(span) == 1 and canonical_axis(axis, shape) == 0 and min(shape) > 0
    return tf.broadcast_to(bias, list(shape)) if is_column else bias


def spread_over(tf: Any, factor: Tensor, shapes: tuple[Shape, ...], axis: int) -> Tensor:
    """Returns the second bottom in a shape that broadcasts over the first, whose ``axis`` it starts at."""
    x, span = shapes
    if not span or x == span:
        return factor
    axis = canonical_axis(axis, x)
    full = (1,) * axis + span + (1,) * (len(x) - axis - len(span))
    order = channels_last(tuple(range(len(x))))
    span_order = channels_last(tuple(range(axis, axis + len(span))))
    wanted = [a for a in order if axis <= a < axis + len(span)]
    if list(span_order) != wanted:
        factor = tf.transpose(factor, [span_order.index(a) for a in wanted])
    return tf.reshape(factor, [full[a] for a in order])
