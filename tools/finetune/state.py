"""Where a training stands: what a checkpoint keeps beside the numbers, so that it goes on as if never stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from weights import Refused


@dataclass(frozen=True)
class Score:
    """How a network does on ``count`` pictures: the mean loss, and the share that it names right; ``among_top``, the
    share whose class is among its best five, is None where there are not more than five classes."""

    loss: float
    accuracy: float
    count: int
    among_top: float | None = None

    @property
    def rank(self) -> tuple[float, float]:
        """The larger, the better: accuracy, and among equals the lower loss."""
        return self.accuracy, -self.loss


@dataclass(frozen=True)
class Epoch:
    """A finished epoch: the mean loss and accuracy of its training batches, as they were while it learned, and the
    score on the validation set, None without one."""

    number: int
    step: int
    rate: float
    loss: float
    accuracy: float
    validation: Score | None = None


@dataclass(frozen=True)
class State:
    """Where a training stands: ``epoch`` whole epochs and ``position`` batches of the next are done, ``step`` of
    them in all. ``loss``, ``right`` and ``seen`` are sums over the pictures of the epoch that is under way; ``before``
    is the score at the very start; ``best`` the number of the epoch with the best score."""

    epoch: int = 0
    position: int = 0
    step: int = 0
    loss: float = 0.0
    right: int = 0
    seen: int = 0
    before: Score | None = None
    best: int | None = None
    history: tuple[Epoch, ...] = ()

    def after_batch(self, loss: float, right: int, count: int) -> State:
        """Returns the state one batch of ``count`` pictures later; ``loss`` is its mean."""
        return replace(
            self,
            position=self.position + 1,
            step=self.step + 1,
            loss=self.loss + loss * count,
            right=self.right + right,
            seen=self.seen + count,
        )

    def after_epoch(self, rate: float, validation: Score | None) -> State:
        """Returns the state at the start of the next epoch; the better accuracy, then the lower loss, is the best."""
        seen = max(self.seen, 1)
        done = Epoch(self.epoch + 1, self.step, rate, self.loss / seen, self.right / seen, validation)
        known = self.best_epoch
        best = done.number if known is None or _rank(done) > _rank(known) else known.number
        return State(done.number, 0, self.step, before=self.before, best=best, history=(*self.history, done))

    @property
    def best_epoch(self) -> Epoch | None:
        """The best epoch so far."""
        return next((one for one in self.history if one.number == self.best), None)


def _rank(epoch: Epoch) -> tuple[float, float]:
    score = epoch.validation
    return score.rank if score else (epoch.accuracy, -epoch.loss)


def manifest_with(text: str, state: State, request: Mapping[str, Any]) -> str:
    """Returns a manifest's JSON with a training's state in it, and with what was asked of it."""
    training = {"request": dict(request), "state": asdict(state)}
    return json.dumps({**json.loads(text), "training": training}, indent=1, ensure_ascii=False) + "\n"


def read_state(prefix: Path, request: Mapping[str, Any]) -> State:
    """Returns the state that lies beside a checkpoint. Raises Refused where it is not there or not whole, and with
    everything in which that training was asked for something else."""
    path = prefix.with_name(prefix.name + ".json")
    try:
        training = json.loads(path.read_text(encoding="utf-8"))["training"]
        known, stored = training["request"], training["state"]
        history = tuple(Epoch(**{**one, "validation": _score(one["validation"])}) for one in stored["history"])
        state = State(**{**stored, "before": _score(stored["before"]), "history": history})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refused(f"{path}: does not say where the training stood; start anew in another --run folder") from error
    problems = [
        f"{prefix}: was trained with {name} {known.get(name)!r}, now it is {value!r}; say the same, or start anew in "
        "another --run folder"
        for name, value in request.items()
        if known.get(name) != value
    ]
    if problems:
        raise Refused(*problems)
    return state


def _score(stored: Mapping[str, Any] | None) -> Score | None:
    return Score(**stored) if stored else None
