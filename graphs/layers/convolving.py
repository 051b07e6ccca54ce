"""Convolutions of pictures (batch, spatial axes, channels), put together from what TensorFlow has operations for."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from graphs.layer import Tensor
from graphs.layers.windows import Pair, Sizes, Windows, tensorflow_padding
from weights import Shape

MOST_PADDED = 6
"""Axes of what TensorFlow's own operation pads."""


@dataclass(frozen=True)
class Convolving:
    """A convolution along two axes or more, of pictures of ``sizes``.

    ``ends`` are the last two sizes of its weights, behind the kernel's: inputs of a group and outputs, or, where each
    channel ``is_alone``, channels and outputs of each. ``learns`` says that gradients are asked for; ``is_same`` that
    it is padded as TensorFlow's SAME, whatever ``windows`` say.
    """

    windows: Windows
    sizes: Sizes
    ends: Pair
    group: int = 1
    is_alone: bool = False
    learns: bool = False
    is_same: bool = False

    def emit(self, tf: Any, x: Tensor, weights: Tensor, name: str | None = None) -> Tensor:
        """Returns the convolution, its last operation by that name where there is one."""
        axes = len(self.sizes)
        if self._single() and not self.is_same:
            return self._emit_cut(tf, x, weights, name)
        if axes > 3 or (axes == 3 and self.is_alone):
            return self._emit_along_first(tf, x, weights, name)
        if self.is_alone:
            return self._emit_depthwise(tf, x, weights, name)
        # TensorFlow's kernels for CPU leave gaps along two axes, without a gradient, and crash once a bias is fused
        # into one that sees nothing but zeros.
        # oneDNN's gradient of one place's weights writes past its memory where the strides differ.
        is_unsafe = self.learns and set(self.windows.kernel) == {1} and len(set(self.windows.strides)) > 1
        if is_unsafe or (self.windows.has_gaps and (axes == 3 or self.learns or not self.windows.see(self.sizes))):
            y = self._emit_in_blocks(tf, x, weights)
            return tf.identity(y, name=name) if name else y
        return self._emit_groups(tf, x, weights, self.windows.strides, self._padding(), name, **self._gaps())

    def _emit_groups(
        self, tf: Any, x: Tensor, weights: Tensor, strides: Sizes, padding: Any, name: str | None, **gaps: Any
    ) -> Tensor:
        axes = len(self.sizes)

        def convolve(x: Tensor, weights: Tensor, name: str | None = None) -> Tensor:
            if axes == 2:
                return tf.nn.conv2d(x, weights, strides=list(strides), padding=padding, name=name, **gaps)
            if isinstance(padding, list):
                x = tf.pad(x, padding)
            return tf.nn.conv3d(
                x, weights, strides=[1, *strides, 1], padding=padding if padding == "SAME" else "VALID", name=name
            )

        if self.group == 1:
            return convolve(x, weights, name)
        # TensorFlow's grouped kernel has no CPU gradient and fails once Grappler fuses it.
        parts = zip(tf.split(x, self.group, axis=axes + 1), tf.split(weights, self.group, axis=axes + 1))
        return tf.concat([convolve(*part) for part in parts], axis=axes + 1, name=name)

    def _emit_depthwise(self, tf: Any, x: Tensor, weights: Tensor, name: str | None) -> Tensor:
        down, right = self.windows.strides
        has_gaps = self.windows.has_gaps
        step = down if down == right and not has_gaps else 1  # one stride for both axes, and 1 with dilation
        is_stepped = self.windows.strides != (step, step)
        padding = self._padding()
        if isinstance(padding, list):  # sides spelled out bring Grappler down for this kernel
            x, padding = tf.pad(x, padding), "VALID"
        y = tf.nn.depthwise_conv2d(
            x,
            weights,
            strides=[1, step, step, 1],
            padding=padding,
            name=None if is_stepped or has_gaps else name,
            **self._gaps(),
        )
        if is_stepped:
            return tf.strided_slice(y, [0, 0, 0, 0], tf.shape(y), [1, down, right, 1], name=name)
        return tf.identity(y, name=name) if has_gaps and name else y  # its last operation would not bear the name

    def _single(self) -> list[int]:
        """Returns the axes along which TensorFlow may compute something else: where there is one input channel and one
        window, oneDNN takes the stride, which then says nothing, for another axis' on processors with AVX-512."""
        if self.is_alone or self.ends[0] > 1:
            return []
        counts = self.windows.count(self.sizes)
        return [axis for axis, count in enumerate(counts) if count == 1 < self.windows.strides[axis]]

    def _emit_cut(self, tf: Any, x: Tensor, weights: Tensor, name: str | None) -> Tensor:
        """Returns the convolution where some axes have one window: without a stride, over what that window spans."""
        x, sizes, windows = self._padded(tf, x), list(self._padded_sizes()), self.windows
        strides = list(windows.strides)
        for axis in self._single():
            sizes[axis], strides[axis] = windows.extent[axis], 1
        if tuple(sizes) != self._padded_sizes():
            x = tf.slice(x, [0] * (len(sizes) + 2), [-1, *sizes, -1])
        bare = Windows(windows.kernel, tuple(strides), (0,) * len(sizes), windows.dilations)
        return replace(self, windows=bare, sizes=tuple(sizes)).emit(tf, x, weights, name)

    def _padded(self, tf: Any, x: Tensor) -> Tensor:
        padding = tensorflow_padding(self.windows.pads, self.windows.past_end(self.sizes))
        return pad_axes(tf, x, self._pictures, padding) if isinstance(padding, list) else x

    @property
    def _pictures(self) -> Shape:
        return (-1, *self.sizes, self.ends[0] * (1 if self.is_alone else self.group))

    def _padded_sizes(self) -> Sizes:
        return tuple(map(sum, zip(self.sizes, self.windows.pads, self.windows.past_end(self.sizes))))

    def _emit_in_blocks(self, tf: Any, x: Tensor, weights: Tensor) -> Tensor:
        """Returns windows with gaps: values that lie a dilation apart are brought together as pictures of their own."""
        x, sizes = self._padded(tf, x), self._padded_sizes()
        # What is seen at all lies as far apart as stride and dilation have in common, or as the stride of one place.
        common = tuple(
            stride if kernel == 1 else math.gcd(stride, gap)
            for kernel, stride, gap in zip(self.windows.kernel, self.windows.strides, self.windows.dilations)
        )
        x, sizes = every(tf, x, sizes, common), tuple(-(-size // step) for size, step in zip(sizes, common))
        strides = tuple(stride // step for stride, step in zip(self.windows.strides, common))
        blocks = tuple(max(1, dilation // step) for dilation, step in zip(self.windows.dilations, common))
        if set(blocks) == {1}:
            return self._emit_groups(tf, x, weights, strides, "VALID", None)
        fills = [[0, -size % block] for size, block in zip(sizes, blocks)]
        within = tuple(stride if block == 1 else 1 for stride, block in zip(strides, blocks))
        x = tf.space_to_batch_nd(x, list(blocks), fills)
        y = self._emit_groups(tf, x, weights, within, "VALID", None)
        y = tf.batch_to_space_nd(y, list(blocks), fills)
        return every(tf, y, sizes, tuple(stride // done for stride, done in zip(strides, within)))

    def _emit_along_first(self, tf: Any, x: Tensor, weights: Tensor, name: str | None) -> Tensor:
        windows, axes = self.windows, len(self.sizes)
        ends = [windows.pads[0], windows.past_end(self.sizes)[0]]
        if any(ends):
            x = pad_axes(tf, x, self._pictures, [[0, 0], ends, *([[0, 0]] * axes)])
        rest = replace(self, windows=windows.without_first(), sizes=self.sizes[1:])
        inputs, outputs = self._pictures[-1], self.ends[1]
        return along_first(
            tf,
            x,
            weights,
            starts=[place * windows.dilations[0] for place in range(windows.kernel[0])],
            step=windows.strides[0],
            inner=(*rest.sizes, inputs),
            kernel=(*rest.windows.kernel, *self.ends),
            out=(*windows.count(self.sizes), inputs * outputs if self.is_alone else outputs),
            convolve=lambda part, kernel: rest.emit(tf, part, kernel),
            name=name,
        )

    def _padding(self) -> str | list[list[int]]:
        if self.is_same or (any(self.windows.pads) and self.windows.is_same(self.sizes)):
            return "SAME"
        return tensorflow_padding(self.windows.pads, self.windows.past_end(self.sizes))

    def _gaps(self) -> dict[str, list[int]]:
        return {"dilations": list(self.windows.dilations)} if self.windows.has_gaps else {}


def along_first(
    tf: Any, x: Tensor, weights: Tensor, starts: Sequence[int], step: int, inner: Shape, kernel: Shape, out: Shape,
    convolve: Callable[[Tensor, Tensor], Tensor], name: str | None = None,
) -> Tensor:  # fmt: skip
    """Returns windows along one axis more than ``convolve`` has: a sum over a window's places along the first.

    Place i of the first window lies at ``starts[i]``, that of the next ``step`` further. ``inner`` and ``kernel`` are
    the shapes of ``x`` and ``weights`` behind the first axis; ``out`` is that of the result from that axis on.
    """
    parts = []
    for start, part in zip(starts, tf.split(weights, len(starts), axis=0)):
        end = start + (out[0] - 1) * step + 1
        seen = tf.strided_slice(x, [0, start], [0, end], [1, step], begin_mask=1, end_mask=1)
        parts.append(convolve(tf.reshape(seen, [-1, *inner]), tf.reshape(part, list(kernel))))
    return tf.reshape(tf.add_n(parts), [-1, *out], name=name)


def pad_axes(tf: Any, x: Tensor, shape: Shape, ends: Sequence[Sequence[int]]) -> Tensor:
    """Returns ``x``, which has ``shape``, with zeros at both ends of its axes, however many these are."""
    if len(shape) <= MOST_PADDED:
        return tf.pad(x, ends)
    sizes = list(shape)
    for axis, end in enumerate(ends):
        if any(end):
            x = tf.pad(tf.reshape(x, [-1, sizes[axis], math.prod(sizes[axis + 1 :])]), [[0, 0], end, [0, 0]])
            sizes[axis] += sum(end)
    return tf.reshape(x, sizes)


def every(tf: Any, x: Tensor, ends: Sizes, steps: Sizes) -> Tensor:
    """Returns every ``steps``-th value along each axis, from the first to before ``ends``."""
    if set(steps) == {1}:
        return x
    return tf.strided_slice(x, [0] * (len(ends) + 1), [0, *ends], [1, *steps], begin_mask=1, end_mask=1)


def spread(tf: Any, x: Tensor, shape: Shape, axes: Sequence[int], steps: Sizes) -> Tensor:
    """Returns ``x``, which has ``shape``, with ``steps`` - 1 zeros between neighbours along ``axes``."""
    sizes = list(shape)
    for axis, step in zip(axes, steps):
        if step == 1:
            continue
        before, after = sizes[: axis + 1], sizes[axis + 1 :]
        x = tf.pad(tf.reshape(x, [-1, 1, math.prod(after)]), [[0, 0], [0, step - 1], [0, 0]])
        x = tf.reshape(x, [*before[:-1], before[-1] * step, *after])
        sizes[axis] = (sizes[axis] - 1) * step + 1
        whole = [-1] * len(shape)  # what tf.slice calls the rest
        x = tf.slice(x, [0] * len(shape), [*whole[:axis], sizes[axis], *whole[axis + 1 :]])
    return x
