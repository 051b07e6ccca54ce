"""What a training tells: Caffe's lines, a bar on a terminal, and the loss of each iteration as a table."""

from __future__ import annotations

import csv
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from tools.train.solver import Solver
from weights import Refused
from weights.refused import one_line

COLUMNS = ("iteration", "loss", "lr")


def say(text: str) -> None:
    """Prints a line, at once."""
    print(one_line(text) if text.strip() == text else text, flush=True)


def notes(lines: Iterable[str]) -> None:
    """Says lines on stderr that are no errors."""
    for line in lines:
        print(f"note: {one_line(line)}", file=sys.stderr, flush=True)


def scores(kind: str, weights: dict[str, float], values: Sequence[np.ndarray]) -> list[str]:
    """Returns Caffe's lines for a net's outputs; ``kind`` is Train or Test, ``weights`` blob -> loss weight in the
    order of ``values``."""
    lines: list[str] = []
    for (blob, weight), value in zip(weights.items(), values):
        for number in np.asarray(value).ravel():
            counted = f" (* {weight:g} = {weight * number:g} loss)" if weight else ""
            lines.append(f"    {kind} net output #{len(lines)}: {blob} = {number:g}{counted}")
    return lines


@dataclass
class Display:
    """Caffe's lines of the training itself: each ``display`` iterations the loss, averaged over the last
    ``average_loss``, the outputs and the learning rate."""

    display: int
    average_loss: int
    weights: dict[str, float]
    losses: deque[float] = field(init=False)
    since: float = field(default_factory=time.monotonic)
    last: int = -1

    def __post_init__(self) -> None:
        self.losses = deque(maxlen=self.average_loss)

    def is_due(self, iteration: int) -> bool:
        """Returns whether Caffe shows this iteration."""
        return bool(self.display) and iteration % self.display == 0

    def add(self, loss: float) -> None:
        """Takes note of an iteration's loss."""
        self.losses.append(loss)

    def lines(self, iteration: int, rate: float, outputs: Sequence[np.ndarray]) -> Iterator[str]:
        """Yields the lines that an iteration whose loss was added is due."""
        if not self.is_due(iteration):
            return
        now = time.monotonic()
        seconds, count = now - self.since, iteration - self.last if self.last >= 0 else 0
        speed = f"({count / seconds if seconds else 0:g} iter/s, {seconds:g}s/{self.display} iters)"
        self.since, self.last = now, iteration
        yield f"Iteration {iteration} {speed}, loss = {self.smoothed():g}"
        yield from scores("Train", self.weights, outputs)
        yield f"Iteration {iteration}, lr = {rate:g}"

    def smoothed(self) -> float:
        """Returns the mean of the last losses."""
        return sum(self.losses) / len(self.losses)


class LossLog:
    """The loss and the learning rate of each iteration, a row as soon as it is known. The loss is that before the
    iteration's update, averaged over its passes."""

    def __init__(self, file: IO[str], rows: Sequence[Sequence[str]]) -> None:
        self.file = file
        self.writer = csv.writer(file, lineterminator="\n")
        self.writer.writerows([COLUMNS, *rows])

    def add(self, iteration: int, loss: float, rate: float) -> None:
        """Adds a row: the numbers in the fewest digits that tell a float32 from all others."""
        self.writer.writerow((iteration, str(np.float32(loss)), str(np.float32(rate))))
        self.file.flush()


@contextmanager
def loss_log(path: Path | None, start: int) -> Iterator[LossLog | None]:
    """Yields the log at ``path``, None without one. A training that goes on at iteration ``start`` keeps the rows
    before it. Raises Refused where it can't be written."""
    if path is None:
        yield None
        return
    try:
        rows = _rows_before(path, start)
        with open(path, "w", encoding="utf-8", newline="") as file:
            yield LossLog(file, rows)
    except OSError as error:
        raise Refused(f"{path}: {error.strerror or error}") from error


def _rows_before(path: Path, start: int) -> list[list[str]]:
    if not start or not path.is_file():
        return []
    with open(path, encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    if not rows or tuple(rows[0]) != COLUMNS:
        raise Refused(f"{path}: is there already and no log of a training; name another with --log")
    return [row for row in rows[1:] if row and row[0].isdecimal() and int(row[0]) < start]


@contextmanager
def bar(solver: Solver, start: int, pictures: int) -> Iterator[Any]:
    """Yields a function to be called after each iteration; where stderr is a terminal it moves a bar that shows
    pictures a second, ``pictures`` for each iteration."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    began = time.monotonic()
    done = 0
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as progress:
        task = progress.add_task("", total=solver.max_iter, completed=start, speed="")

        def moved() -> None:
            nonlocal done
            done += 1
            speed = done * pictures / max(time.monotonic() - began, 1e-9)
            progress.update(task, advance=1, speed=f"{speed:,.0f} pictures/s")

        yield moved
