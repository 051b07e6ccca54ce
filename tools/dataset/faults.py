"""Pictures that can't be used: told once each, passed over up to a limit, never in silence."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from tools.dataset.examples import Examples
from weights import Refused
from weights.refused import one_line


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class Faults:
    """What was found wrong with pictures, before training and during it; at most ``limit`` are passed over."""

    def __init__(self, limit: int = 0, report: Callable[[str], None] = _to_stderr) -> None:
        self._limit = limit
        self._report = report
        self._lock = threading.Lock()
        self._found: dict[str, str] = {}
        self._refused: Refused | None = None

    @property
    def found(self) -> dict[str, str]:
        """Picture -> what is wrong with it, of those that were passed over."""
        with self._lock:
            return dict(self._found)

    def note(self, name: str, reason: str) -> None:
        """Reports that picture ``name`` is passed over, at the first time. Raises Refused where that is one too
        many."""
        with self._lock:
            if name in self._found:
                return
            if len(self._found) >= self._limit:
                way = "--max-bad N passes over up to N such pictures"
                if self._limit:
                    way = f"one more than --max-bad {self._limit} passes over"
                self._refused = self._refused or Refused(f"{name}: {reason}; {way}")
                raise self._refused
            self._found[name] = reason
        self._report(one_line(f"{name}: {reason}; passed over"))

    def stop(self, refused: Refused) -> None:
        """Raises ``refused``, which no limit covers."""
        with self._lock:
            self._refused = self._refused or refused  # batches are made ahead: the first is what ended them
        raise refused

    @contextmanager
    def raised(self) -> Iterator[None]:
        """Around whatever takes batches: raises the Refused that ended them, in place of TensorFlow's error."""
        try:
            yield
        except Exception as error:
            if self._refused is not None and error is not self._refused:
                raise self._refused from error
            raise


def checked(examples: Examples, faults: Faults) -> Examples:
    """Returns those whose pictures are there and, on the disk, begin as pictures do; the others are noted in
    ``faults``. What is broken further on shows when it is read.

    Raises Refused where ``faults`` does, and where none is left.
    """
    good = np.ones(examples.count, bool)
    for index, problem in enumerate(examples.source.problems(examples.members.tolist())):
        if problem:
            faults.note(examples.name(index), problem)
            good[index] = False
    if good.all():
        return examples
    if not good.any():
        raise Refused(f"{examples.place}: no picture is left of {examples.count}")
    return examples.taken(np.flatnonzero(good))
