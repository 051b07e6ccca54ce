"""Labels: whole numbers that count the classes from 0."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from weights import Refused

LARGEST = 999_999
"""No classifier of this family has more classes; a larger label is an identifier, or a year."""

SHOWN = 10
"""Mistakes of a kind that are named before the rest is only counted."""


def proved(
    labels: np.ndarray, classes: Sequence[str] | None, name: Callable[[int], str]
) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """Returns labels (int64), the classes' names ("0", "1", ... up to the largest label without ``classes``) and notes.

    ``name`` says where label i stands. Raises Refused with those that are out of range.
    """
    labels = labels.astype(np.int64)
    limit = LARGEST + 1 if classes is None else len(classes)
    wrong = np.flatnonzero((labels < 0) | (labels >= limit))
    refuse_all(
        f"{name(index)}: label {labels[index]} is out of range; the {limit} classes count from 0 to {limit - 1}"
        if classes is not None
        else f"{name(index)}: label {labels[index]} is out of range; labels count classes, from 0 to {LARGEST} at most"
        for index in map(int, wrong)
    )
    names = tuple(map(str, range(int(labels.max(initial=-1)) + 1))) if classes is None else tuple(classes)
    empty = np.flatnonzero(np.bincount(labels, minlength=len(names)) == 0)
    if not len(empty):
        return labels, names, ()
    shown = ", ".join(names[index] for index in empty[:SHOWN]) + (", ..." if len(empty) > SHOWN else "")
    return labels, names, (f"{len(empty)} of {len(names)} classes have no picture: {shown}",)


def refuse_all(reasons: Iterable[str]) -> None:
    """Raises Refused with the first of ``reasons`` and the number of the others; returns where there are none."""
    found = list(reasons)
    if found:
        more = len(found) - SHOWN
        raise Refused(*found[:SHOWN], *([f"and {more} more of the same kind"] if more > 0 else []))
