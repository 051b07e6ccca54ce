"""Ctrl-C as a wish: what is under way is finished first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interruption() -> Iterator[Callable[[], bool]]:
    """Yields a function that returns whether the user, or the machine that is shut down, wants an end (SIGINT,
    SIGTERM). The second Ctrl-C ends at once. Outside the main thread, which alone gets signals, nobody ever does."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    wanted: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        wanted.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(wanted)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
