"""Programs for XLA as values: StableHLO, with the names of the tensors that go in and come out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from weights import Refused, Shape


@dataclass(frozen=True, order=True)
class Argument:
    """An array that a program is called with, under the name of its tensor in the port's graph, in the graph's layout;
    ``dtype`` is NumPy's name of its type."""

    tensor: str
    shape: Shape
    dtype: str


Signature = tuple[tuple[Argument, ...], tuple[str, ...]]
"""What a program is made for: what is fed, and the tensors that are wanted; both in order."""


@dataclass(frozen=True, eq=False)
class Program:
    """A part of a port's graph, compiled for no device yet.

    It is called with ``feeds``, then ``weights``, which are the same at every call, and returns ``results``; ``code``
    is a portable artifact of StableHLO, which XLA reads in later versions too.
    """

    feeds: tuple[Argument, ...]
    weights: tuple[Argument, ...]
    results: tuple[str, ...]
    code: bytes = field(repr=False)

    @property
    def signature(self) -> Signature:
        """What it is made for."""
        return self.feeds, self.results


class Missing(Refused):
    """A program that was not saved."""


class Programs(Protocol):
    """Where a session has its programs from: a graph that is lowered part by part, or a file."""

    def program(self, feeds: tuple[Argument, ...], results: tuple[str, ...]) -> Program:
        """Returns the program with that signature. Raises Refused where there can't be one, Missing where it was not
        saved."""

    def dtype(self, tensor: str) -> str:
        """Returns the name of a tensor's type."""

    def weight(self, tensor: str) -> np.ndarray:
        """Returns the values of an argument among ``Program.weights``."""

    def close(self) -> None:
        """Frees what they hold."""


def batches_of(feeds: Iterable[tuple[Argument, ...]]) -> str:
    """Returns the sizes of the first axes of what is fed, as a list for people."""
    found = {argument.shape[0] for arguments in feeds for argument in arguments if argument.shape}
    return ", ".join(map(str, sorted(found))) or "none"
