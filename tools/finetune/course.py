"""The training itself: batch after batch, epoch after epoch, from wherever it stands to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from graphs.tensorflow1 import tensorflow1
from tools.finetune.events import Events
from tools.finetune.graph import NOT_FINITE, Graph
from tools.finetune.pictures import Batch
from tools.finetune.schedule import Schedule
from tools.finetune.state import Score, State
from tools.finetune.statistics import measure
from tools.training.finite import first_not_finite
from tools.training.snapshots import Checkpoints, numbered
from weights import Refused

BEST = "best.ckpt"
"""The checkpoint of the best epoch."""


class Feed(Protocol):
    """Where batches come from."""

    @property
    def per_epoch(self) -> int:
        """Batches of an epoch."""

    def training(self, epoch: int, position: int = 0) -> Iterator[Batch]:
        """Yields an epoch's batches from number ``position`` on, the same at every call."""

    def testing(self) -> Iterator[Batch]:
        """Yields all pictures once, as they are tested."""


class Interrupted(Refused):
    """The user ended the training, which is saved."""


@dataclass(frozen=True, eq=False)
class Watch:
    """What is told of a training as it goes. ``pictures`` are counted over all batches of an epoch."""

    batch: Callable[[State, int], None] = lambda state, pictures: None
    epoch: Callable[[State], None] = lambda state: None
    is_wanted_to_end: Callable[[], bool] = lambda: False


@dataclass(frozen=True, eq=False)
class Course:
    """A training in a session.

    ``held_out`` are the pictures that each epoch ends with, None for none. Checkpoints go to ``folder``, the last
    ``keep`` of them and the best one; ``beside`` writes what belongs to a state next to a checkpoint, given its prefix.
    """

    session: Any
    graph: Graph
    feed: Feed
    held_out: Feed | None
    schedule: Schedule
    seed: int
    checkpoints: Checkpoints
    folder: Path
    keep: int
    beside: Callable[[Path, State], None]
    events: Events
    histograms: tuple[Any, Any]

    def run(self, state: State, watch: Watch) -> State:
        """Trains from ``state`` to the end of the schedule; returns the state then.

        Raises Interrupted once ``watch`` wants an end, and Refused where the loss is no finite number or a checkpoint
        can't be written; the last checkpoint is then whole.
        """
        while state.epoch < self.schedule.epochs:
            state = self._epoch(state, watch)
            watch.epoch(state)
            if watch.is_wanted_to_end() and state.epoch < self.schedule.epochs:
                raise self._interrupted(state)
        return state

    def _epoch(self, state: State, watch: Watch) -> State:
        rate = self.schedule.rate(state.step)
        for images, labels in self.feed.training(state.epoch, state.position):
            is_last = state.position + 1 == self.feed.per_epoch
            rate = self.schedule.rate(state.step)
            state = self._batch(state, rate, images, labels, is_last)
            watch.batch(state, len(labels))
            if watch.is_wanted_to_end() and not is_last:
                self._save(state)
                raise self._interrupted(state)
        measure(self.session, self.graph, self.feed.training(state.epoch))
        weights = self.session.run(self.histograms[1])
        self.events.histograms(state.step, weights)
        validation = score(self.session, self.graph, self.held_out.testing()) if self.held_out else None
        if validation is not None and not np.isfinite(validation.loss):
            raise Refused(f"epoch {state.epoch + 1}: the loss on the validation set is no finite number")
        state = state.after_epoch(rate, validation)
        self.events.epoch(state.history[-1])
        if state.best == state.epoch:
            self._write(BEST, state)
        self._save(state)
        return state

    def _batch(self, state: State, rate: float, images: np.ndarray, labels: np.ndarray, is_last: bool) -> State:
        """Returns the state after one step on a batch."""
        graph = self.graph
        feeds = {
            graph.images: images,
            graph.labels: labels,
            graph.rate: rate,
            graph.seed: [self.seed & 0x7FFFFFFF, state.step],
        }
        wanted = [graph.update, graph.training.network.loss, graph.training.right, graph.norm]
        if is_last:
            wanted.append(self.histograms[0])
        with self._explained(state, feeds):
            _, loss, right, norm, *gradients = self.session.run(wanted, feeds)
        state = state.after_batch(float(loss), int(right.sum()), len(labels))
        self.events.batch(state.step, float(loss), rate, float(norm))
        for summary in gradients:
            self.events.histograms(state.step, summary)
        return state

    @contextmanager
    def _explained(self, state: State, feeds: dict[Any, Any]) -> Iterator[None]:
        """Turns TensorFlow's error for a number that is not finite into Refused, which says where that began."""
        tf = tensorflow1("fine-tuning")
        try:
            yield
        except tf.errors.InvalidArgumentError as error:
            if NOT_FINITE not in error.message:
                raise
            with self.graph.graph.as_default():
                found = first_not_finite(tf, self.session, self.graph.training.network, feeds)
            where = f", {found}" if found else ", though each value is finite: the gradients are too long together"
            kept = list(numbered(self.folder / STEM).values())
            last = f"; the last checkpoint is {kept[-1]}" if kept else ""
            raise Refused(
                f"epoch {state.epoch + 1}, step {state.step + 1}: what training follows is no finite number{where}; "
                f"try a smaller --learning-rate{last}"
            ) from error

    def _save(self, state: State) -> None:
        """Writes a checkpoint, then removes those that are more than are kept."""
        self._write(f"{STEM}{state.step}.ckpt", state)
        self.events.flush()
        for prefix in list(numbered(self.folder / STEM).values())[: -self.keep]:
            for file in self.folder.glob(f"{prefix.name}.*"):
                file.unlink()

    def _write(self, name: str, state: State) -> None:
        with self.graph.graph.as_default():
            self.checkpoints.save(self.folder / name, lambda stage: self.beside(stage / name, state))

    def _interrupted(self, state: State) -> Interrupted:
        where = (
            f"in epoch {state.epoch + 1} after step {state.step}" if state.position else f"after epoch {state.epoch}"
        )
        return Interrupted(f"interrupted {where}: saved in {self.folder}; the same command with --resume goes on")


STEM = "step-"
"""What checkpoints' names begin with; the number of batches so far follows."""


def score(session: Any, graph: Graph, batches: Iterable[Batch]) -> Score:
    """Returns how the network, as it is tested, does on all pictures."""
    tower = graph.testing
    wanted = [tower.losses, tower.right, *([] if tower.among_top is None else [tower.among_top])]
    total = np.zeros(len(wanted))
    count = 0
    for images, labels in batches:
        values = session.run(wanted, {graph.images: images, graph.labels: labels})
        total += [np.asarray(value, np.float64).sum() for value in values]
        count += len(labels)
    if not count:
        raise Refused("no picture is left to be tested")
    mean = [float(value) for value in total / count]
    return Score(mean[0], mean[1], count, mean[2] if len(mean) > 2 else None)
