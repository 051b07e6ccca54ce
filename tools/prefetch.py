"""Values that are made one ahead of their use: two of them in memory, never more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def prefetched(make: Callable[[int], T], start: int, stop: int) -> Iterator[T]:
    """Yields ``make(start)``, ``make(start + 1)``, ... up to ``stop``; the next is made while one is used."""
    with ThreadPoolExecutor(max_workers=1) as worker:
        coming = worker.submit(make, start) if start < stop else None
        for number in range(start, stop):
            assert coming is not None
            made = coming.result()
            coming = worker.submit(make, number + 1) if number + 1 < stop else None
            yield made
            del made
