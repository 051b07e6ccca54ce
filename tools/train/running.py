"""A training from start to end: Caffe's Solver::Solve over a graph."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import numpy as np

from converter.caffemodel import write_caffemodel
from converter.describe import message_of
from graphs.layer import Tensor
from tools.prefetch import prefetched
from tools.train.nets import First, Net, output_weights, trained_port
from tools.train.reporting import Display, LossLog, say, scores
from tools.train.solver import Solver
from tools.train.step import Done, Step, build_step
from tools.training.finite import first_not_finite
from tools.training.snapshots import Checkpoints
from tools.training.towers import add_towers
from tools.training.trainable import Trainable, add_network, assign, clear, rates
from weights import Refused, Shape
from weights.hdf5 import write_hdf5

ITERATION, RANDOM_SEED = "global_step", "random_seed"
"""Variables of a snapshot: how many iterations were done, and what decides all that is drawn."""


class Source(Protocol):
    """What feeds a network."""

    def reader(self, inputs: dict[str, Shape], start: int) -> Callable[[int], list[np.ndarray]]:
        """Returns the function from a pass's number, ``start`` and then one after the other, to what it is fed."""


@dataclass(frozen=True, eq=False)
class Tested:
    """A net to test with: its place in a graph, what runs a pass of it, and where its pictures come from."""

    net: Net
    source: Source
    iterations: int
    forward: Callable[..., tuple[np.float32, tuple[np.ndarray, ...]]]


@dataclass(frozen=True, eq=False)
class Built:
    """The graph of a training."""

    tf: Any
    session: Any
    trained: Trainable
    seed: Tensor
    step: Step
    forward: Callable[..., tuple[np.float32, tuple[np.ndarray, ...]]]
    tests: tuple[Tested, ...]
    variables: dict[str, Any]
    state: dict[str, Any]
    checkpoints: Checkpoints


def build_training(
    tf: Any,
    session: Any,
    solver: Solver,
    net: Net,
    tests: Sequence[tuple[Net, Source]],
    devices: Sequence[str] = (),
) -> Built:
    """Adds all networks of a training to ``tf``'s default graph, the test nets with the training's variables. They have
    no values until a training begins or is resumed. Each batch is shared out among ``devices``, where there are any."""
    seed = tf.placeholder(tf.int64, [2], name="seed")
    if devices:
        trained = add_towers(tf, net.network, net.names, devices, seed, net.definition.source)
    else:
        trained = add_network(tf, net.network, net.shapes, net.names, seed=seed)
    step = build_step(tf, session, solver, trained, rates(net.shapes, net.names), net.outputs, seed)
    variables = dict(trained.variables)
    tested = []
    for place, ((other, source), one) in enumerate(zip(tests, solver.tests)):
        shared = {"variables": variables, "seed": seed, "scope": f"test_{place}"}
        try:
            added = add_network(tf, other.network, other.shapes, other.names, **shared)
        except Refused as refused:
            raise refused.within(other.definition.source) from refused
        variables |= added.variables
        tested.append(Tested(other, source, one.iterations, _forward(tf, session, other, added, seed)))
    state = {
        name: tf.get_variable(name, [], tf.int64, tf.zeros_initializer(), use_resource=True)
        for name in (ITERATION, RANDOM_SEED)
    }
    checkpoints = Checkpoints.of(tf, session, {**variables, **step.slots, **state})
    clear(session, {**step.slots, **step.sums, **state})
    forward = _forward(tf, session, net, trained, seed)
    return Built(tf, session, trained, seed, step, forward, tuple(tested), variables, state, checkpoints)


def _forward(tf: Any, session: Any, net: Net, added: Trainable, seed: Tensor) -> Callable[..., Any]:
    loss = tf.constant(0.0) if added.loss is None else added.loss
    shown = tuple(added.blobs[blob] for blob in net.outputs)
    run = session.make_callable((loss, shown, added.keep(tf)), [*added.inputs.values(), seed])
    return lambda *fed: run(*fed)[:2]


@dataclass(eq=False)
class Training:
    """A training under way. ``iteration`` counts the updates; ``last_snapshot`` is the newest good one."""

    solver: Solver
    net: Net
    source: Source
    built: Built
    seed: int
    iteration: int = 0
    last_snapshot: Path | None = None
    saved_at: int = field(default=-1, init=False)

    def begin(self, first: First) -> None:
        """Gives all parameters their first values."""
        for name, parameter in first.parameters.items():
            assign(self.built.session, self.built.variables, {name: parameter.tensorflow()})

    def resume(self, path: Path) -> None:
        """Goes on where the snapshot at ``path`` was taken. Raises Refused where it is of another graph."""
        self.last_snapshot = self.built.checkpoints.restore(path)
        found = self.built.session.run(self.built.state)
        self.iteration = int(found[ITERATION])
        self.saved_at = self.iteration

    def run(self, log: LossLog | None, moved: Callable[[], None]) -> bool:
        """Trains until ``max_iter``; returns False where the user asked it to stop before, after a snapshot. Raises
        Refused where the loss or a gradient is no finite number."""
        solver, count = self.solver, self.solver.iter_size
        display = Display(solver.display, solver.average_loss, output_weights(self.net))
        first, end = self.iteration * count, solver.max_iter * count
        is_shown_at_end = display.is_due(solver.max_iter)
        fed = self._fed(self.net, self.source, first, end + is_shown_at_end)
        with _interrupted() as is_interrupted:
            while self.iteration < solver.max_iter:
                self._test_where_due()
                rate = solver.policy.rate(self.iteration)
                corrected = rate * solver.rule.correction(self.iteration)
                done = self.built.step(fed, count, corrected, display.is_due(self.iteration))
                loss = sum(done.losses) / len(done.losses)
                if not done.is_finite:
                    raise self._refusal(done)
                for line in display.lines(self.iteration, loss, rate, done.outputs):
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
        if solver.snapshot_after_train:
            self.snapshot()
        if is_shown_at_end:
            display.losses.append(float(self.built.forward(*next(fed))[0]))
            say(f"Iteration {self.iteration}, loss = {display.smoothed():g}")
        fed.close()
        if solver.test_interval and self.iteration % solver.test_interval == 0:
            self._test_all()
        return True

    def _fed(self, net: Net, source: Source, start: int, stop: int) -> Any:
        """Yields what each pass is fed: its arrays and the seed of what it draws."""
        reader = source.reader(net.inputs, start)
        for number, arrays in zip(range(start, stop), prefetched(reader, start, stop)):
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
        broken = self.built.checkpoints.not_finite()
        if broken:
            left = f"its update left values in '{broken}' that are no finite numbers"
            raise Refused(f"{self.solver.path}: iteration {self.iteration - 1}: {left}; {self._kept()}")
        state = {ITERATION: np.int64(self.iteration), RANDOM_SEED: np.int64(self.seed)}
        assign(self.built.session, self.built.state, state)
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

    def _refusal(self, done: Done) -> Refused:
        """Returns what to say where a pass gave a loss or a gradient that is no finite number."""
        built, loss = self.built, done.losses[-1]
        feeds = dict(zip([*built.trained.inputs.values(), built.seed], done.fed))
        found = first_not_finite(built.tf, built.session, built.trained, feeds)
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
