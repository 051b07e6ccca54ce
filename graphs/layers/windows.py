"""Sliding windows: the sizes that convolution, deconvolution and pooling share."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from graphs.layer import spell
from weights import Shape

Pair = tuple[int, int]


def pair(values: tuple[int, ...] | int | None, h: int | None, w: int | None, name: str, default: int) -> Pair:
    """Returns Caffe's ``name`` (once, or once per axis) or ``name_h`` and ``name_w`` as (height, width).

    Raises ValueError where both spellings are given, only one of ``_h`` and ``_w``, or more than two values.
    """
    given = (values,) if isinstance(values, int) else tuple(values or ())
    if h is not None or w is not None:
        h_name, w_name = (f"{name.removesuffix('_size')}_{axis}" for axis in "hw")
        if given:
            raise ValueError(f"sets both {name} and {h_name} or {w_name}; Caffe accepts one spelling")
        if h is None or w is None:
            raise ValueError(f"sets only one of {h_name} and {w_name}; Caffe wants both")
        return h, w
    if len(given) > 2:
        raise ValueError(f"{name} is given {len(given)} times; two spatial axes take one or two")
    if not given:
        return default, default
    return given[0], given[-1]


def spatial(shape: Shape) -> Pair:
    """Returns (height, width) of an N, C, H, W shape. Raises ValueError for another rank."""
    if len(shape) != 4:
        raise ValueError(f"its bottom has the shape {spell(shape)}; expected four axes (N, C, H, W)")
    return shape[2], shape[3]


def pad_spatial(x: np.ndarray, before: Pair, after: Pair, value: float = 0.0) -> np.ndarray:
    """Returns N, C, H, W values with a border of ``value``."""
    (top, left), (bottom, right) = before, after
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=value)


def offsets(kernel: Pair) -> Iterator[Pair]:
    """Yields every (row, column) of a window."""
    yield from np.ndindex(*kernel)


def at_offset(x: np.ndarray, offset: Pair, stride: Pair, dilation: Pair, out: Pair) -> np.ndarray:
    """Returns the value that each of the ``out`` windows over N, C, H, W sees at one place of the window."""
    i, j = offset[0] * dilation[0], offset[1] * dilation[1]
    rows = slice(i, i + (out[0] - 1) * stride[0] + 1, stride[0])
    columns = slice(j, j + (out[1] - 1) * stride[1] + 1, stride[1])
    return x[:, :, rows, columns]


def tensorflow_padding(before: Pair, after: Pair) -> str | list[list[int]]:
    """Returns TensorFlow's ``padding`` for N, H, W, C: VALID, or each side spelled out."""
    if not any(before + after):
        return "VALID"
    return [[0, 0], [before[0], after[0]], [before[1], after[1]], [0, 0]]


def is_same(kernel: Pair, stride: Pair, dilation: Pair, pad: Pair) -> bool:
    """Returns whether TensorFlow's SAME pads as Caffe does here, whatever the picture's size.

    Only at stride 1 and with as much on both sides: elsewhere SAME agrees on some sizes and shifts the picture by a
    pixel on others.
    """
    return stride == (1, 1) and all(2 * p == d * (k - 1) for k, d, p in zip(kernel, dilation, pad))
