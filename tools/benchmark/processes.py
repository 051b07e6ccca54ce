"""Whole processes, timed from outside."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

MAXRSS_UNIT = 1 if sys.platform == "darwin" else 1024
"""Bytes that one unit of getrusage's ru_maxrss stands for."""


@dataclass(frozen=True)
class Run:
    """What one process took: wall-clock ``seconds``, its ``peak`` memory in bytes, and its exit ``code``."""

    seconds: float
    peak: int
    code: int


@dataclass(frozen=True)
class Spent:
    """What the runs of one command took."""

    runs: tuple[Run, ...]

    @property
    def seconds(self) -> float:
        """The median run's seconds."""
        return statistics.median(run.seconds for run in self.runs)

    @property
    def peak(self) -> int:
        """The largest peak memory of any run, in bytes."""
        return max(run.peak for run in self.runs)

    @property
    def codes(self) -> set[int]:
        """The exit codes that were seen."""
        return {run.code for run in self.runs}


def run_process(command: Sequence[str]) -> Run:
    """Runs a command to its end, its output thrown away, and returns what it took.

    A process starts with its parent's peak memory on its account, so only a peak above this process's own says
    something: measure from a program that imports little.
    """
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)  # subprocess did not see it end
    return Run(seconds, usage.ru_maxrss * MAXRSS_UNIT, process.returncode)


def in_turns(commands: Mapping[str, Sequence[str]], turns: int) -> dict[str, Spent]:
    """Runs every command once to warm the caches, then in turns; returns what each took, by name."""
    rounds = [{name: run_process(command) for name, command in commands.items()} for _ in range(turns + 1)]
    return {name: Spent(tuple(one[name] for one in rounds[1:])) for name in commands}
