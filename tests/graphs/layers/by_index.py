"""Convolution and deconvolution after Caffe's im2col_nd and col2im_nd, index by index, along any number of axes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ALL = (slice(None), slice(None))


@dataclass(frozen=True)
class Sizes:
    """One number for each spatial axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pad: tuple[int, ...]
    dilation: tuple[int, ...]

    def places(self, axis, at, count):
        """Returns where ``count`` windows see, along an axis, at place ``at`` of the kernel; what is before 0 or past
        the end is padding."""
        return np.arange(count) * self.stride[axis] - self.pad[axis] + at * self.dilation[axis]

    def extent(self, axis):
        return self.dilation[axis] * (self.kernel[axis] - 1) + 1


def columns(x, sizes):
    """Returns batch, channels, kernel, top of a bottom (batch, channels, spatial axes)."""
    axes = range(x.ndim - 2)
    rooms = (x.shape[2 + axis] + 2 * sizes.pad[axis] - sizes.extent(axis) for axis in axes)
    out = [int(room / sizes.stride[axis]) + 1 for axis, room in enumerate(rooms)]  # as C divides: towards 0
    made = np.zeros((*x.shape[:2], *sizes.kernel, *out))
    for offset in np.ndindex(*sizes.kernel):
        seen = [sizes.places(axis, offset[axis], out[axis]) for axis in axes]
        within = [(place >= 0) & (place < size) for place, size in zip(seen, x.shape[2:])]
        value = x[ALL + np.ix_(*(np.where(inside, place, 0) for inside, place in zip(within, seen)))]
        made[ALL + offset] = value * np.all(np.stack(np.meshgrid(*within, indexing="ij")), axis=0)
    return made


def convolved(x, weights, group, sizes):
    """Returns the top, without biases."""
    seen, axes = columns(x, sizes), list(range(1, x.ndim))
    parts = zip(np.split(weights, group), np.split(seen, group, axis=1))
    return np.concatenate([np.moveaxis(np.tensordot(w, part, (axes, axes)), 0, 1) for w, part in parts], axis=1)


def deconvolved(x, weights, group, sizes):
    """Returns the top, without biases."""
    axes = range(x.ndim - 2)
    out = [sizes.stride[a] * (x.shape[2 + a] - 1) + sizes.extent(a) - 2 * sizes.pad[a] for a in axes]
    outputs = weights.shape[1]
    y = np.zeros((len(x), outputs * group, *out))
    for g, (w, part) in enumerate(zip(np.split(weights, group), np.split(x, group, axis=1))):
        for offset in np.ndindex(*sizes.kernel):
            seen = [sizes.places(axis, offset[axis], x.shape[2 + axis]) for axis in axes]
            kept = [np.nonzero((place >= 0) & (place < size))[0] for place, size in zip(seen, out)]
            value = np.moveaxis(np.tensordot(w[ALL + offset], part, ([0], [1])), 0, 1)[ALL + np.ix_(*kept)]
            target = y[:, g * outputs : (g + 1) * outputs]
            np.add.at(target, ALL + np.ix_(*(place[one] for place, one in zip(seen, kept))), value)
    return y
