"""Sliding windows: the sizes that convolution, deconvolution and pooling share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from graphs.layer import spell
from weights import Shape

Pair = tuple[int, int]
Sizes = tuple[int, ...]
"""One number for each spatial axis."""
BOTH = (slice(None), slice(None))
"""All of the two axes before the spatial ones."""


@dataclass(frozen=True)
class Windows:
    """Windows along any number of axes: their size, the step from one to the next, the zeros on both sides, the
    distance of neighbours within a window (1, with nothing between them, where there is one value; 0 is one place,
    seen as often as the kernel is large)."""

    kernel: Sizes
    strides: Sizes
    pads: Sizes
    dilations: Sizes

    def __post_init__(self) -> None:
        dilations = tuple(1 if kernel == 1 else dilation for kernel, dilation in zip(self.kernel, self.dilations))
        object.__setattr__(self, "dilations", dilations)

    @property
    def extent(self) -> Sizes:
        """What a window spans with its gaps."""
        return tuple(dilation * (kernel - 1) + 1 for dilation, kernel in zip(self.dilations, self.kernel))

    @property
    def has_gaps(self) -> bool:
        """Whether neighbours within a window lie apart."""
        return any(dilation != 1 for dilation in self.dilations)

    def count(self, sizes: Sizes) -> Sizes:
        """Returns how many windows there are over axes of those sizes.

        Caffe's division rounds towards zero: a window that is too large by less than a stride is there, and sees zeros
        past the end.
        """
        return tuple(
            (room // stride if room >= 0 else -(-room // stride)) + 1
            for room, stride in zip(self._room(sizes), self.strides)
        )

    def over(self, x: Shape, sizes: Sizes) -> Sizes:
        """Returns how many windows there are over the spatial axes of a bottom ``x``. Raises ValueError for none."""
        out = self.count(sizes)
        if min(out, default=1) < 1:
            raise ValueError(
                f"kernel {spell(self.kernel)} with pad {spell(self.pads)} and dilation {spell(self.dilations)} "
                f"is larger than its bottom, {spell(x)}"
            )
        return out

    def overhang(self, sizes: Sizes) -> Sizes:
        """Returns how far a window that is too large reaches past the zeros at the end."""
        return tuple(max(0, -room) for room in self._room(sizes))

    def _room(self, sizes: Sizes) -> Sizes:
        return tuple(size + 2 * pad - extent for size, pad, extent in zip(sizes, self.pads, self.extent))

    def past_end(self, sizes: Sizes) -> Sizes:
        """Returns the zeros that windows over axes of those sizes see past each end."""
        return tuple(pad + over for pad, over in zip(self.pads, self.overhang(sizes)))

    def see(self, sizes: Sizes) -> bool:
        """Returns whether, along each axis, some window sees more than zeros."""
        axes = zip(sizes, self.count(sizes), self.kernel, self.strides, self.pads, self.dilations)
        return all(
            any(0 <= window * stride - pad + place * gap < size for window in range(count) for place in range(kernel))
            for size, count, kernel, stride, pad, gap in axes
        )

    def is_same(self, sizes: Sizes) -> bool:
        """Returns whether TensorFlow's SAME pads as Caffe does here, whatever the picture's size.

        Only at stride 1 and with as much on both sides: elsewhere SAME agrees on some sizes and shifts the picture by
        a pixel on others.
        """
        return not any(self.overhang(sizes)) and all(
            stride == 1 and 2 * pad == extent - 1 for stride, pad, extent in zip(self.strides, self.pads, self.extent)
        )

    def without_first(self) -> Windows:
        """Returns the windows along all axes but the first."""
        return Windows(self.kernel[1:], self.strides[1:], self.pads[1:], self.dilations[1:])

    def as_two(self) -> Windows:
        """Returns the windows with axes of one value put before them, so that there are two or more."""
        ones = (1,) * (2 - len(self.kernel))
        pads = (0,) * len(ones) + self.pads
        return Windows(ones + self.kernel, ones + self.strides, pads, ones + self.dilations)


def pair(value: int | None, h: int | None, w: int | None, name: str, default: int) -> Pair:
    """Returns Caffe's ``name``, or ``name_h`` and ``name_w``, as (height, width).

    Raises ValueError where both spellings are given, or only one of ``_h`` and ``_w``.
    """
    if h is not None or w is not None:
        h_name, w_name = halves(name)
        if value is not None:
            raise ValueError(f"sets both {name} and {h_name} or {w_name}; Caffe accepts one spelling")
        if h is None or w is None:
            raise ValueError(f"sets only one of {h_name} and {w_name}; Caffe wants both")
        return h, w
    return (default, default) if value is None else (value, value)


def halves(name: str) -> tuple[str, str]:
    """Returns what Caffe calls ``name`` for each of two axes."""
    short = name.removesuffix("_size")
    return f"{short}_h", f"{short}_w"


def spatial(shape: Shape) -> Pair:
    """Returns (height, width) of an N, C, H, W shape. Raises ValueError for another rank."""
    if len(shape) != 4:
        raise ValueError(f"its bottom has the shape {spell(shape)}; expected four axes (N, C, H, W)")
    return shape[2], shape[3]


def pad_spatial(x: np.ndarray, before: Sizes, after: Sizes, value: float = 0.0) -> np.ndarray:
    """Returns N, C, ... values with a border of ``value`` along all axes but these two."""
    return np.pad(x, ((0, 0), (0, 0), *zip(before, after)), constant_values=value)


def offsets(kernel: Sizes) -> Iterator[Sizes]:
    """Yields every place of a window."""
    yield from np.ndindex(*kernel)


def at_offset(x: np.ndarray, offset: Sizes, stride: Sizes, dilation: Sizes, out: Sizes) -> np.ndarray:
    """Returns the value that each of the ``out`` windows over N, C, ... sees at one place of the window."""
    starts = (place * gap for place, gap in zip(offset, dilation))
    seen = tuple(slice(start, start + (count - 1) * step + 1, step) for start, count, step in zip(starts, out, stride))
    return x[BOTH + seen]


def tensorflow_padding(before: Sizes, after: Sizes) -> str | list[list[int]]:
    """Returns TensorFlow's ``padding`` for N, ..., C: VALID, or each side spelled out."""
    if not any(before + after):
        return "VALID"
    return [[0, 0], *([start, end] for start, end in zip(before, after)), [0, 0]]
