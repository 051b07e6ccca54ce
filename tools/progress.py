"""A bar on the terminal for work that takes long; nothing where stderr is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def shown(work: Iterable[T], count: int, what: str) -> Iterator[T]:
    """Yields what ``work`` yields, ``count`` values, and shows on stderr how far it is."""
    if not sys.stderr.isatty() or count < 2:
        yield from work
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield from progress.track(work, total=count, description=what)
