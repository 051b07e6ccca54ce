"""What follows a comparison through XLA: the programs in a file, and how long a forward pass takes."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from tools.recording import Key, Run, Truth
from tools.validate.report import EngineTiming, Report, Timings
from tools.validate.subject import Subject
from tools.validate.xla.program import Program
from tools.validate.xla.saved import write_program
from tools.validate.xla.session import XlaSession
from weights import Refused

WARM_UPS, RUNS = 3, 30
"""Forward passes before the clock starts, and those that are timed."""


def settled(arguments: argparse.Namespace) -> argparse.Namespace:
    """Returns the command line with ``--program`` in PORT's place. Raises Refused where its options don't go
    together."""
    if arguments.program is not None:
        if arguments.port is not None or arguments.save_program is not None:
            other = "PORT" if arguments.port is not None else "--save-program"
            raise Refused(f"--program {arguments.program}: takes the place of PORT; leave out {other}")
        return argparse.Namespace(**vars(arguments) | {"port": arguments.program, "engine": "xla"})
    if arguments.port is None:
        raise Refused("say which port: PORT, or --program FILE; --help shows more")
    if arguments.engine != "xla" and (arguments.save_program or arguments.program_batch):
        option = "--save-program" if arguments.save_program else "--program-batch"
        raise Refused(f"{option}: needs --engine xla")
    return arguments


def with_program(report: Report, subject: Subject, truth: Truth, save: Path | None, batches: Sequence[int]) -> Report:
    """Returns the report, with timings where a program's forward pass is asked for, or was saved to be timed.

    Writes the programs that the comparison took, and those at ``batches``, to ``save`` instead, where it is given.
    """
    session = subject.port.session
    if not isinstance(session, XlaSession):
        return report
    if save is not None:
        run = _first(truth) if batches else None
        timed = [] if run is None else [_forward(subject, truth, run, batch) for batch in batches]
        write_program(save, subject, truth.facts, [*(one.program for one in session.loaded.values()), *timed], batches)
        return report
    batches = batches or (subject.port.saved.batches if subject.port.saved is not None else ())
    if not batches:
        return report
    run = _first(truth)
    engines = tuple(_timed(subject, truth, run, batch) for batch in batches)
    settings = {
        "device": session.device.name,
        "tf32": session.device.tf32,
        "inputs": "on the device already",
        "results": "stay on the device",
        "turns": f"{RUNS} passes, after {WARM_UPS} to warm up",
    }
    return replace(report, timings=Timings(engines, settings=settings))


def _first(truth: Truth) -> Run:
    """Returns the first run that has pictures."""
    for number in range(truth.count):
        run = truth.run(number)
        if run.pictures:
            return run
    raise Refused("no picture can be read: there is nothing to time a program with")


def _fed(subject: Subject, run: Run, batch: int) -> dict[Key, np.ndarray]:
    """Returns the run's inputs, repeated or cut to ``batch`` pictures."""
    if subject.batch and subject.batch != batch:
        raise Refused(f"--program-batch {batch}: the port's graph is made for {subject.batch} pictures at once")
    return {("", blob): np.resize(array, (batch, *array.shape[1:])) for blob, array in run.inputs.items()}


def _outputs(subject: Subject, truth: Truth) -> tuple[str, ...]:
    return tuple(sorted({subject.places[key].tensor for key in truth.facts.outputs.values() if key in subject.places}))


def _forward(subject: Subject, truth: Truth, run: Run, batch: int) -> Program:
    """Returns the program from the inputs to the outputs alone."""
    session: XlaSession = subject.port.session
    feeds = session.arguments(subject.fed(_fed(subject, run, batch)))
    return session.programs.program(tuple(sorted(feeds)), _outputs(subject, truth))


def _timed(subject: Subject, truth: Truth, run: Run, batch: int) -> EngineTiming:
    session: XlaSession = subject.port.session
    passes = session.prepared(_outputs(subject, truth), subject.fed(_fed(subject, run, batch)))
    for _ in range(WARM_UPS):
        passes()
    seconds = []
    for _ in range(RUNS):
        began = time.perf_counter()
        passes()
        seconds.append(time.perf_counter() - began)
    device = session.device
    p95 = float(np.percentile(seconds, 95))
    version = f"JAX {device.versions['jax']}"
    return EngineTiming(device.engine, version, device.name, batch, RUNS, statistics.median(seconds), p95)
