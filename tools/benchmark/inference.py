"""How fast a frozen graph runs beside other engines, on the same network and the same inputs."""

from __future__ import annotations

import csv
import importlib.util
import math
import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tools.benchmark.engines import ENGINES, Engine
from tools.benchmark.subject import Subject, prepare
from tools.benchmark.tables import machine, print_table
from tools.benchmark.worker import Worker
from weights import Refused
from weights.staging import staged

AGREEMENT = 1e-4
"""Largest difference between two engines' outputs, as a share of the largest magnitude, that is rounding."""

COLUMNS = (
    "engine",
    "version",
    ">batch",
    ">median ms",
    ">p95 ms",
    ">pictures/s",
    ">time / TensorFlow's",
    ">largest difference",
)


@dataclass(frozen=True)
class Plan:
    """What is measured: for each batch, ``turns`` rounds in which every engine makes ``runs`` runs."""

    batches: tuple[int, ...] = (1, 16)
    turns: int = 10
    runs: int = 5
    threads: int = 2


@dataclass(frozen=True)
class Measured:
    """What one engine took for one batch.

    ``turns`` has the seconds of each run, by turn; ``ratio`` is the median over the turns of this engine's time over
    the first engine's in the same turn; ``difference`` the largest one between their outputs, as a share of the
    output's largest magnitude.
    """

    engine: str
    version: str
    batch: int
    turns: tuple[tuple[float, ...], ...]
    ratio: float
    difference: float

    @property
    def median(self) -> float:
        """The median run's seconds."""
        return float(np.median(self.turns))

    @property
    def p95(self) -> float:
        """The seconds that 95 % of the runs stay within."""
        return float(np.percentile(self.turns, 95))

    @property
    def pictures_per_second(self) -> float:
        """The batch over the median run's seconds."""
        return self.batch / self.median


def run(sources: Sequence[str], plan: Plan, csv_path: str | None = None) -> bool:
    """Measures, prints the table and writes it to ``csv_path``; returns whether all engines computed the same.

    ``sources`` are a definition and its weights, a frozen graph (``.pb``), or all three. Raises Refused where they are
    no such files, TensorFlow can't run them, or ``csv_path`` can't be written.
    """
    if csv_path and not Path(csv_path).parent.is_dir():
        raise Refused(f"{csv_path}: the folder {Path(csv_path).parent} does not exist; make it first")
    headline = _headline(plan)  # before this program makes the machine busy itself
    with tempfile.TemporaryDirectory() as folder:
        measured, skipped = measure(prepare(sources, Path(folder)), plan)
    print_table(headline, COLUMNS, map(_cells, measured))
    for line in skipped:
        print(line)
    if csv_path:
        _write_csv(Path(csv_path), measured, plan)
    return all(one.difference <= AGREEMENT for one in measured)


def measure(subject: Subject, plan: Plan) -> tuple[list[Measured], list[str]]:
    """Returns what every engine that is there took for every batch, and a line for each that was skipped.

    Each batch starts the engines anew: TensorFlow keeps weights in the form that suits the first batch it sees.
    Raises Refused where the first engine can't run.
    """
    measured: list[Measured] = []
    skipped: dict[str, None] = {}
    for batch in plan.batches:
        inputs = subject.seeded_inputs(batch)
        outputs: dict[Worker, list[np.ndarray]] = {}
        with ExitStack() as stack:
            for engine in ENGINES:
                try:
                    worker = stack.enter_context(_start(engine, subject, plan.threads))
                    outputs[worker] = worker.feed(inputs)
                except Refused as refused:
                    if engine is ENGINES[0]:
                        raise refused.within(engine.name) from refused
                    skipped[f"{engine.name}: skipped, {refused}"] = None
            measured += _take_turns(outputs, batch, plan)
    return measured, list(skipped)


def _start(engine: type[Engine], subject: Subject, threads: int) -> Worker:
    if importlib.util.find_spec(engine.module) is None:
        raise Refused(f"{engine.module} is not installed")
    if engine.reads in subject.absent:
        raise Refused(subject.absent[engine.reads])
    return Worker(engine, subject, threads)


def _take_turns(outputs: dict[Worker, list[np.ndarray]], batch: int, plan: Plan) -> list[Measured]:
    """Returns what the engines that made ``outputs`` take. The first round warms them up and is not counted."""
    seconds: dict[Worker, list[tuple[float, ...]]] = {worker: [] for worker in outputs}
    for turn in range(plan.turns + 1):
        for worker, turns in seconds.items():
            taken = tuple(worker.time(plan.runs))
            if turn:
                turns.append(taken)
    first = next(iter(outputs))
    base = np.median(seconds[first], axis=1)
    return [
        Measured(
            worker.engine.name,
            worker.version,
            batch,
            tuple(turns),
            float(np.median(np.median(turns, axis=1) / base)),
            largest_difference(outputs[worker], outputs[first]),
        )
        for worker, turns in seconds.items()
    ]


def largest_difference(values: Sequence[np.ndarray], judges: Sequence[np.ndarray]) -> float:
    """Returns the largest difference of any output, as a share of its judge's largest magnitude; infinity where an
    output is missing, has another shape or is no number, and where there is none to compare."""
    if not judges or [a.shape for a in values] != [a.shape for a in judges]:
        return math.inf
    shares = [float(np.abs(a - b).max() / (np.abs(b).max() or 1)) for a, b in zip(values, judges)]
    return max(math.inf if math.isnan(share) else share for share in shares)


def _headline(plan: Plan) -> list[str]:
    onednn = os.environ.get("TF_ENABLE_ONEDNN_OPTS")
    return [
        f"{machine()}; {plan.threads} threads for each engine; oneDNN in TensorFlow: "
        + (f"TF_ENABLE_ONEDNN_OPTS={onednn}" if onednn else "as TensorFlow decides"),
        f"{plan.turns} turns of {plan.runs} runs, each engine in its own process; ratios are medians over the turns",
    ]


def _cells(one: Measured) -> tuple[str, ...]:
    return (
        one.engine,
        one.version,
        str(one.batch),
        f"{one.median * 1e3:.1f}",
        f"{one.p95 * 1e3:.1f}",
        f"{one.pictures_per_second:.1f}",
        f"{one.ratio:.2f}",
        f"{one.difference:.1e}" + ("" if one.difference <= AGREEMENT else " DIFFERS"),
    )


def _write_csv(path: Path, measured: Sequence[Measured], plan: Plan) -> None:
    """Writes one line for each run of each engine."""
    with staged(path.parent) as folder, open(folder / path.name, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("engine", "version", "threads", "batch", "turn", "run", "seconds", "largest_difference"))
        for one in measured:
            for turn, runs in enumerate(one.turns):
                for index, seconds in enumerate(runs):
                    values = (one.engine, one.version, plan.threads, one.batch, turn, index)
                    writer.writerow((*values, f"{seconds:.6f}", f"{one.difference:.3e}"))
