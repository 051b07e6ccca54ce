"""Whether arrays of pictures hold the values of 0 to 255 that mean and scale are for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphs.layer import spell
from weights import Refused

BLOCK = 1 << 24
"""Bytes of an array that are read at a time: one that lies on the disk may be larger than memory."""
USUAL = (-32, 288)
"""Values of 0 to 255 stay between these where something that overshoots has resized them."""

WAYS = (
    "say --raw-scale 255 where 1 stands for 255, --raw-scale 1 where they are meant as they are",
    "save them as 0 to 255, or say --raw-scale 1 where they are meant as they are",
)
"""What a command line can say of floats up to 1: of those that begin at 0, and of others."""


def is_for_bytes(mean: np.ndarray | Sequence[float], scale: float | np.ndarray | Sequence[float]) -> bool:
    """Returns whether what is done to pictures, (value - mean) * scale, is for values of 0 to 255: a mean beyond 1
    says so, and a scale that makes values smaller. Neither is for values as they are."""
    return bool(np.abs(mean).max(initial=0) > 1 or 0 < np.abs(scale).max(initial=0) < 1)


def check_range(
    name: str,
    pictures: np.ndarray,
    mean: np.ndarray | Sequence[float],
    scale: float | np.ndarray | Sequence[float],
    ways: tuple[str, str] = WAYS,
) -> tuple[str, ...]:
    """Returns notes on floats that are hardly values of 0 to 255 where mean and scale are for those.

    Raises Refused, with one of ``ways`` to settle it, where none is above 1. The array is read in its own order up to
    the first value above 1, so as a whole only where it is refused; whole numbers are not looked at.
    """
    if pictures.dtype.kind != "f" or not is_for_bytes(mean, scale):
        return ()
    low, high = _seen(pictures)
    what = f"{_spelled(mean, 'mean')} and {_spelled(scale, 'scale')} are for values of 0 to 255"
    if high <= 1:
        raise Refused(f"{name}: holds floats of {low:.4g} to {high:.4g}, but {what}; {ways[low < 0]}")
    if low < USUAL[0] or high > USUAL[1]:
        return (f"{name}: holds floats of {low:.4g} to {high:.4g}; {what}",)
    return ()


def _seen(pictures: np.ndarray) -> tuple[float, float]:
    """Returns the least and the greatest number, of the blocks up to the first that holds one above 1."""
    low, high = np.inf, -np.inf
    rows = max(1, BLOCK // max(pictures[:1].nbytes, 1))
    for start in range(0, len(pictures), rows):
        block = pictures[start : start + rows]
        low = min(low, float(np.fmin.reduce(block, axis=None)))
        high = max(high, float(np.fmax.reduce(block, axis=None)))
        if high > 1:
            break
    return low, high


def _spelled(values: np.ndarray | Sequence[float] | float, what: str) -> str:
    array = np.asarray(values)
    if array.ndim > 1:
        return f"the {what} picture ({spell(array.shape)})"
    numbers = np.unique(array) if array.ndim and len(np.unique(array)) == 1 else np.atleast_1d(array)
    return f"{what} {', '.join(f'{value:.4g}' for value in numbers)}"
