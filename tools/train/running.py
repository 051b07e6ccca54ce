"""A training from start to end: Caffe's Solver::Solve over a graph."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from converter.caffemodel import write_caffemodel
from converter.describe import message_of
from tools.prefetch import prefetched
from tools.train.building import ITERATION, PLATEAU, RANDOM_SEED, Built, Source
from tools.train.continuing import check_sequences, told_by_inputs
from tools.train.nets import First, Net, output_weights, trained_port
from tools.train.rates import Plateau
from tools.train.reporting import Display, LossLog, notes, say, scores
from tools.train.solver import Solver
from tools.train.step import Done
from tools.training.finite import first_not_finite
from tools.training.trainable import assign
from weights import Refused
from weights.hdf5 import write_hdf5

CHECKED = 50
"""Iterations after which parameters are looked at, where none is shown: a look takes a hundredth of a large step."""


@dataclass(eq=False)
class Training:
    """A training under way. ``iteration`` counts the updates; ``last_snapshot`` is the newest good one;
    ``checked_at`` the last iteration before which all parameters were finite; ``noted`` are the losses of which it was
    said that they cut labels off."""

    solver: Solver
    net: Net
    source: Source
    built: Built
    seed: int
    iteration: int = 0
    last_snapshot: Path | None = None
    plateau: Plateau = field(default_factory=Plateau)
    saved_at: int = field(default=-1, init=False)
    checked_at: int = field(default=0, init=False)
    noted: set[int] = field(default_factory=set, init=False)

    def begin(self, first: First) -> None:
        """Gives all parameters their first values."""
        for name, parameter in first.parameters.items():
            assign(self.built.session, self.built.variables, {name: parameter.tensorflow()})
        broken = self.built.checkpoints.not_finite()
        if broken:
            raise Refused(f"{self.solver.path}: the first values of '{broken}' are no finite numbers")

    def resume(self, path: Path) -> None:
        """Goes on where the snapshot at ``path`` was taken. Raises Refused where it is of another graph."""
        self.last_snapshot = self.built.checkpoints.restore(path)
        found = self.built.session.run(self.built.state)
        self.iteration = int(found[ITERATION])
        if self.solver.policy.follows_loss:
            least, last, steps = (found[name] for name in PLATEAU)
            self.plateau = Plateau(float(least), int(last), int(steps))
        self.saved_at = self.checked_at = self.iteration

    def run(self, log: LossLog | None, moved: Callable[[], None]) -> bool:
        """Trains until ``max_iter``; returns False where the user asked it to stop before, after a snapshot. Raises
        Refused where the loss, a gradient or a parameter is no finite number."""
        solver, count = self.solver, self.solver.iter_size
        display = Display(solver.display, solver.average_loss, output_weights(self.net))
        first, end = self.iteration * count, solver.max_iter * count
        is_shown_at_end = display.is_due(solver.max_iter)
        fed = self._fed(self.net, self.source, first, end + is_shown_at_end)
        with _interrupted() as is_interrupted:
            while self.iteration < solver.max_iter:
                if display.is_due(self.iteration) or self.iteration >= self.checked_at + CHECKED:
                    self._check_parameters()
                self._test_where_due()
                rate = solver.policy.rate(self.iteration, self.plateau.steps)
                done = self.built.step(fed, count, self._corrected(rate), display.is_due(self.iteration))
                if not done.is_finite:
                    raise self._refusal(done)
                loss = sum(done.losses) / len(done.losses)
                display.add(loss)
                if self.built.step.apply is not None:
                    self.plateau = self.plateau.after(solver.policy, self.iteration, display.smoothed())
                    rate = solver.policy.rate(self.iteration, self.plateau.steps)
                    self.built.step.apply(self._corrected(rate))
                self._note_cut(done)
                for line in display.lines(self.iteration, rate, done.outputs):
                    say(line)
                if log is not None:
                    log.add(self.iteration, loss, rate)
                self.iteration += 1
                moved()
                if solver.snapshot and self.iteration % solver.snapshot == 0:
                    self.snapshot()
                if is_interrupted() and self.iteration < solver.max_iter:
                    self.snapshot()
                    return False
        self._check_parameters()
        if solver.snapshot_after_train:
            self.snapshot()
        if is_shown_at_end:
            display.add(float(self.built.forward(*next(fed))[0]))
            say(f"Iteration {self.iteration}, loss = {display.smoothed():g}")
        fed.close()
        if solver.test_interval and self.iteration % solver.test_interval == 0:
            self._test_all()
        return True

    def _corrected(self, rate: float) -> float:
        return rate * self.solver.rule.correction(self.iteration)

    def _note_cut(self, done: Done) -> None:
        """Says, once of each loss, that it cuts labels off."""
        for place, (cut, count) in enumerate(zip(self.built.cut, done.cut)):
            if count and place not in self.noted:
                self.noted.add(place)
                notes([f"{self.solver.path}: iteration {self.iteration}: {cut.told(count)}"])

    def _fed(self, net: Net, source: Source, start: int, stop: int) -> Any:
        """Yields what each pass is fed: its arrays and the seed of what it draws."""
        reader, recurrent = source.reader(net.inputs, start), told_by_inputs(net.network)
        for number, arrays in zip(range(start, stop), prefetched(reader, start, stop)):
            if recurrent:
                try:
                    check_sequences(recurrent, dict(zip(net.inputs, arrays)), is_first=number == 0)
                except Refused as refused:
                    raise refused.within(f"{net.definition.source}: pass {number}") from refused
            yield [*arrays, np.array([self.seed, number], np.int64)]

    def _test_where_due(self) -> None:
        solver = self.solver
        is_due = bool(solver.tests) and self.iteration % solver.test_interval == 0
        if is_due and (self.iteration or solver.test_initialization):
            self._test_all()

    def _test_all(self) -> None:
        solver = self.solver
        before = -(-self.iteration // solver.test_interval) - (self.iteration > 0 and not solver.test_initialization)
        for place, one in enumerate(self.built.tests):
            say(f"Iteration {self.iteration}, Testing net (#{place})")
            start = before * one.iterations  # a test goes on where the one before ended, as Caffe's data layers do
            loss, outputs = 0.0, [np.float64(0)] * len(one.net.outputs)
            for fed in self._fed(one.net, one.source, start, start + one.iterations):
                of_pass, shown = one.forward(*fed)
                loss += float(of_pass)
                outputs = [total + np.float64(value) for total, value in zip(outputs, shown)]
            if solver.test_compute_loss:
                say(f"Test loss: {loss / one.iterations:g}")
            for line in scores("Test", output_weights(one.net), [total / one.iterations for total in outputs]):
                say(line)

    def snapshot(self) -> None:
        """Writes PREFIX_iter_N.ckpt with all that goes on from here, and PREFIX_iter_N.caffemodel, both or none; does
        nothing where that was done. Raises Refused where it can't; earlier snapshots stay."""
        if self.saved_at == self.iteration:
            return
        self._check_parameters()
        at = self.plateau
        values = (self.iteration, self.seed, at.minimum_loss, at.last_event, at.steps)
        kept = {name: np.asarray(value) for name, value in zip((ITERATION, RANDOM_SEED, *PLATEAU), values)}
        assign(self.built.session, self.built.state, {name: kept[name] for name in self.built.state})
        prefix = Path(f"{self.solver.snapshot_prefix}_iter_{self.iteration}.ckpt")
        files = self.built.checkpoints.save(prefix, lambda folder: self._write_model(folder, prefix.stem))
        self.last_snapshot, self.saved_at = prefix, self.iteration
        say(f"Snapshotting to {', '.join(str(file) for file in files if '.ckpt.' not in file.name)} and {prefix}")

    def _write_model(self, folder: Path, name: str) -> None:
        port = trained_port(self.net, self.values())
        if self.solver.snapshot_format == "HDF5":
            names = [layer.node.name for layer in port.shapes]
            arrays = ((name, arrays) for name, arrays in zip(names, port.arrays()) if arrays)
            write_hdf5(folder / f"{name}.caffemodel.h5", arrays)
            return
        with open(folder / f"{name}.caffemodel", "wb") as file:
            write_caffemodel(file, message_of(port.network), port.arrays())

    def values(self) -> dict[str, np.ndarray]:
        """Returns variable -> value of all parameters of the training net, in TensorFlow's layout."""
        return self.built.session.run(self.built.trained.variables)

    def _check_parameters(self) -> None:
        broken = self.built.checkpoints.not_finite()
        if broken:
            raise self._broken(broken)
        self.checked_at = self.iteration

    def _broken(self, name: str) -> Refused:
        """Returns what to say of a parameter that an update since the last look left no finite number."""
        last = self.iteration - 1
        when = (
            f"iteration {last}: its update"
            if self.checked_at >= last
            else f"iteration {last}: this update or one of the {last - self.checked_at} before"
        )
        return Refused(f"{self.solver.path}: {when} left values in '{name}' that are no finite numbers; {self._kept()}")

    def _refusal(self, done: Done) -> Refused:
        """Returns what to say where a pass gave a loss or a gradient that is no finite number, or began with such a
        parameter."""
        built, loss = self.built, done.losses[-1]
        feeds = dict(zip([*built.trained.inputs.values(), built.seed], done.fed))
        found = first_not_finite(built.tf, built.session, built.trained, feeds)
        if found is not None and found.parameter:
            return self._broken(found.parameter)
        what = f"the loss is {loss:g}" if not np.isfinite(loss) else f"a gradient is no finite number (loss {loss:g})"
        where = f", {found}" if found else ""
        said = f"{self.solver.path}: iteration {self.iteration}: {what}{where}; stopped before its update"
        return Refused(f"{said}; {self._kept()}")

    def _kept(self) -> str:
        return (
            f"the last good snapshot is {self.last_snapshot}" if self.last_snapshot else "no snapshot was written yet"
        )


@contextmanager
def _interrupted() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether the user has pressed Ctrl-C since; a second time ends the process as ever."""
    pressed = False

    def press(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        pressed = True
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, press)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)
