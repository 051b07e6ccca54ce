"""Engines on the same network and the same inputs, timed in turns."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np

from tools.benchmark.engines import ENGINES, FORWARD, FORWARD_BACKWARD, Engine, Setting
from tools.benchmark.subject import Subject
from tools.benchmark.worker import Worker
from weights import Refused

AGREEMENT = 1e-4
"""Largest difference between two engines' outputs, as a share of the largest magnitude, that is rounding."""

Inputs = Callable[[int], dict[str, np.ndarray]]
"""Returns blob -> array in Caffe's layout for a batch."""


@dataclass(frozen=True)
class Plan:
    """What is measured: for each batch, ``turns`` rounds in which every engine makes ``runs`` runs of each of
    ``passes``, after a round that warms up."""

    batches: tuple[int, ...] = (1, 16)
    turns: int = 10
    runs: int = 5
    setting: Setting = field(default_factory=Setting)
    passes: tuple[str, ...] = (FORWARD,)


@dataclass(frozen=True)
class Measured:
    """What one engine took for one pass at one batch.

    ``turns`` has the seconds of each run, by turn; ``ratio`` is the median over the turns of this engine's time over
    the first engine's in the same turn; ``difference`` the largest one between their outputs (of a backward pass,
    between the norms of the gradients), as a share of the largest magnitude.
    """

    engine: str
    version: str
    device: str
    what: str
    batch: int
    turns: tuple[tuple[float, ...], ...]
    ratio: float
    difference: float

    @property
    def count(self) -> int:
        """Number of runs."""
        return sum(map(len, self.turns))

    @property
    def median(self) -> float:
        """The median run's seconds."""
        return float(np.median(self.turns))

    @property
    def p95(self) -> float:
        """The seconds that 95 % of the runs stay within."""
        return float(np.percentile(self.turns, 95))

    @property
    def mean(self) -> float:
        """The runs' mean seconds."""
        return float(np.mean(self.turns))

    @property
    def deviation(self) -> float:
        """Their standard deviation."""
        return float(np.std(self.turns))

    @property
    def pictures_per_second(self) -> float:
        """The batch over the median run's seconds."""
        return self.batch / self.median


def measure(
    subject: Subject, plan: Plan, engines: Sequence[type[Engine]] = ENGINES, inputs: Inputs | None = None
) -> tuple[list[Measured], dict[str, str]]:
    """Returns what every engine that is there took for every batch, and engine -> why it was skipped.

    Each batch starts the engines anew: TensorFlow keeps weights in the form that suits the first batch it sees.
    ``inputs`` are seeded numbers unless they are given. Raises Refused where the first engine can't run.
    """
    measured: list[Measured] = []
    skipped: dict[str, str] = {}
    for batch in plan.batches:
        fed = (inputs or subject.seeded_inputs)(batch)
        outputs: dict[Worker, list[np.ndarray]] = {}
        with ExitStack() as stack:
            for engine in engines:
                try:
                    worker = stack.enter_context(start(engine, subject, plan.setting))
                    outputs[worker] = worker.feed(fed)
                except Refused as refused:
                    if engine is engines[0]:
                        raise refused.within(engine.name) from refused
                    skipped[engine.name] = "; ".join(refused.reasons)
            for what in plan.passes:
                able = {worker: values for worker, values in outputs.items() if what in worker.engine.passes}
                if what == FORWARD_BACKWARD:
                    able = {worker: [np.array(worker.ask("gradient_norms"))] for worker in able}
                measured += _take_turns(able, what, batch, plan)
    return measured, skipped


def start(engine: type[Engine], subject: Subject, setting: Setting) -> Worker:
    """Returns an engine at work in a process of its own. Raises Refused with the reason where that can't be."""
    if importlib.util.find_spec(engine.module) is None:
        raise Refused(f"{engine.module} is not installed")
    if engine.reads in subject.absent:
        raise Refused(subject.absent[engine.reads])
    return Worker(engine, subject, setting)


def _take_turns(outputs: Mapping[Worker, list[np.ndarray]], what: str, batch: int, plan: Plan) -> list[Measured]:
    """Returns what the engines that made ``outputs`` take. The first round warms them up and is not counted."""
    seconds: dict[Worker, list[tuple[float, ...]]] = {worker: [] for worker in outputs}
    for turn in range(plan.turns + 1):
        for worker, turns in seconds.items():
            taken = tuple(worker.time(plan.runs, what))
            if turn:
                turns.append(taken)
    first = next(iter(outputs))
    base = np.median(seconds[first], axis=1)
    return [
        Measured(
            worker.engine.name,
            worker.version,
            worker.device,
            what,
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
