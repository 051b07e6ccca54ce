"""What a user sees of a training: a bar with its speed, a line for each epoch, a table at the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tools.finetune.course import Watch
from tools.finetune.schedule import Schedule
from tools.finetune.state import Epoch, Score, State
from weights.refused import one_line


def note(text: str) -> None:
    """Prints what the user should know."""
    print(f"note: {one_line(text)}", file=sys.stderr)


@contextmanager
def watched(schedule: Schedule, is_wanted_to_end: Callable[[], bool]) -> Iterator[Watch]:
    """Yields a watch that shows each epoch as a bar, where stderr is a terminal, and then as a line."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"),
               TimeRemainingColumn())  # fmt: skip
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=schedule.per_epoch, speed="")
        clock = _Clock()

        def batch(state: State, pictures: int) -> None:
            clock.count(pictures)
            progress.update(
                bar,
                description=f"epoch {state.epoch + 1} of {schedule.epochs}",
                completed=state.position,
                speed=f"{clock.speed:.1f} pictures/s, loss {state.loss / state.seen:.4f}",
            )

        def epoch(state: State) -> None:
            print(_line(state, schedule.epochs, clock.speed), flush=True)
            clock.restart()

        yield Watch(batch, epoch, is_wanted_to_end)


class _Clock:
    """Counts pictures by the time that they take."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        self._start, self._last, self._pictures = time.perf_counter(), 0.0, 0

    def count(self, pictures: int) -> None:
        self._pictures += pictures
        self._last = time.perf_counter()

    @property
    def speed(self) -> float:
        """Pictures a second, up to the last batch."""
        return self._pictures / max(self._last - self._start, 1e-9)


def _line(state: State, epochs: int, speed: float) -> str:
    done = state.history[-1]
    parts = [f"epoch {done.number} of {epochs}", f"loss {done.loss:.4f}", f"accuracy {done.accuracy:.1%}"]
    if done.validation is not None:
        parts.append(f"validation: {_spelled(done.validation)}")
    best = ["best so far"] if state.best == done.number else []
    return "   ".join([*parts, f"{speed:.1f} pictures/s", *best])


def _spelled(score: Score) -> str:
    among = f", among best five {score.among_top:.1%}" if score.among_top is not None else ""
    return f"loss {score.loss:.4f}, accuracy {score.accuracy:.1%}{among}"


def print_summary(before: Score, after: Score, best: Epoch, what: str) -> None:
    """Prints the scores before training and of the best epoch; ``what`` says on which pictures."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in (f"on {after.count} {what}", "loss", "accuracy", "among best five"):
        table.add_column(column, justify="left" if column.startswith("on ") else "right")
    for name, score in (("before", before), (f"after epoch {best.number}, the best", after)):
        among = "" if score.among_top is None else f"{score.among_top:.1%}"
        table.add_row(name, f"{score.loss:.4f}", f"{score.accuracy:.1%}", among)
    Console(width=None if sys.stdout.isatty() else 120, highlight=False).print(table)
