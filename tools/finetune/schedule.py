"""How the learning rate goes over a training."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from weights import Refused


@dataclass(frozen=True)
class Schedule:
    """A learning rate for each step, counted from 0; ``per_epoch`` steps make an epoch, ``epochs`` the training.

    ``kind`` is constant; step (times ``gamma`` every ``every`` epochs); exponential (times ``gamma`` per epoch, a
    little at each step); or cosine (from ``base`` down to 0 along half a cosine: Loshchilov and Hutter 2016). In the
    first ``warmup`` epochs the rate rises evenly up to where the schedule is by then.
    """

    kind: str
    base: float
    epochs: int
    per_epoch: int
    gamma: float = 0.1
    every: float = 1.0
    warmup: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise Refused(f"--schedule {self.kind}: expected one of {', '.join(KINDS)}")
        if self.warmup >= self.epochs > 0 and self.warmup > 0:
            raise Refused(f"--warmup {self.warmup:g}: lasts as long as the training, {self.epochs} epochs")

    def rate(self, step: int) -> float:
        """Returns the learning rate of a step."""
        rising = self.warmup * self.per_epoch
        if step < rising:
            return KINDS[self.kind](self, self.warmup) * (step + 1) / math.ceil(rising)
        return KINDS[self.kind](self, step / self.per_epoch)

    def _constant(self, epoch: float) -> float:
        return self.base

    def _step(self, epoch: float) -> float:
        return self.base * self.gamma ** math.floor(epoch / self.every)

    def _exponential(self, epoch: float) -> float:
        return self.base * self.gamma**epoch

    def _cosine(self, epoch: float) -> float:
        along = (epoch - self.warmup) / (self.epochs - self.warmup)
        return self.base * (1 + math.cos(math.pi * min(along, 1.0))) / 2


KINDS: dict[str, Callable[[Schedule, float], float]] = {
    "constant": Schedule._constant,
    "step": Schedule._step,
    "exponential": Schedule._exponential,
    "cosine": Schedule._cosine,
}
"""Name -> the rate after so many epochs."""
