"""Labelled pictures as a value: which there are, what each shows, and how they are divided."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from weights import Refused

HELD_OUT = 0
"""Tells the random numbers of the division from others that are drawn with the same seed."""


class Source(Protocol):
    """Where pictures come from, each with a number."""

    @property
    def is_remote(self) -> bool:
        """Whether a picture is waited for rather than read."""

    def picture(self, number: int) -> bytes | np.ndarray:
        """Returns a picture file's bytes, or an array (H, W, C). Raises Refused with the reason where it can't."""

    def name(self, number: int) -> str:
        """Returns how a user finds the picture: ``train.txt: line 7: cats/3.jpg``."""

    def problems(self, numbers: Sequence[int]) -> Iterator[str]:
        """Yields for each of ``numbers`` why it can't be a picture, "" where nothing is seen without decoding it."""


@dataclass(frozen=True, eq=False)
class Examples:
    """Labelled pictures, in the order of the list, folder or array at ``place``.

    ``labels`` is int64 (count,), an index into ``classes``, the names; ``members`` are the pictures' numbers in
    ``source``; ``notes`` say what was passed over.
    """

    place: str
    source: Source
    members: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.members)

    @property
    def per_class(self) -> np.ndarray:
        """How many there are of each class, int64 (classes,)."""
        return np.bincount(self.labels, minlength=len(self.classes))

    def picture(self, index: int) -> bytes | np.ndarray:
        """Returns picture ``index``: a file's bytes, or an array (H, W, C). Raises Refused with the reason where it
        can't be read."""
        return self.source.picture(int(self.members[index]))

    def name(self, index: int) -> str:
        """Returns how a user finds picture ``index``: ``train.txt: line 7: cats/3.jpg``."""
        return self.source.name(int(self.members[index]))

    def taken(self, indices: np.ndarray) -> Examples:
        """Returns those at ``indices``, in that order."""
        return replace(self, members=self.members[indices], labels=self.labels[indices])

    def trainable(self, batch: int) -> Examples:
        """Returns the same. Raises Refused where nothing can be learned from them in batches of ``batch``."""
        shown = np.flatnonzero(self.per_class)
        if len(shown) < 2:
            what = f"class '{self.classes[shown[0]]}'" if len(shown) else "no class"
            raise Refused(f"{self.place}: all {self.count} pictures show {what}; training needs two classes or more")
        if batch > self.count:
            raise Refused(f"{self.place}: a batch of {batch} is larger than the set, {self.count} pictures; "
                          f"say --batch {self.count} or less")  # fmt: skip
        return self


def split(examples: Examples, fraction: float, seed: int) -> tuple[Examples, Examples]:
    """Returns (for training, held out): of each class ``fraction`` is held out, rounded, but never all of it.

    Both stay in the set's order; the same ``seed`` gives the same division. Raises Refused where ``fraction`` is not
    between 0 and 1, or nothing would be held out.
    """
    if not 0 < fraction < 1:
        raise Refused(f"{examples.place}: a share of {fraction:g} can't be held out; it lies between 0 and 1")
    held = np.zeros(examples.count, bool)
    for label, count in enumerate(examples.per_class):
        own = np.flatnonzero(examples.labels == label)
        chosen = min(round(fraction * int(count)), int(count) - 1)
        if chosen > 0:
            held[np.random.default_rng([HELD_OUT, seed, label]).permutation(own)[:chosen]] = True
    if not held.any():
        most = int(examples.per_class.max(initial=0))
        raise Refused(
            f"{examples.place}: a share of {fraction:g} holds nothing out of classes of at most {most} pictures"
        )
    return examples.taken(np.flatnonzero(~held)), examples.taken(np.flatnonzero(held))
