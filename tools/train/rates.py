"""The learning rate of each iteration: Caffe's lr_policy (sgd_solver.cpp, GetLearningRate), and what forks added to it:
a start of its own (NVIDIA's rampup_*, Intel's warmup_*), a least rate (NVIDIA's), stages (Intel's), and steps that wait
until the loss falls no more (SSD's plateau)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Policy:
    """How the learning rate changes. Fields are the solver's; which of them count depends on ``lr_policy``."""

    lr_policy: str
    base_lr: float
    gamma: float = 0.0
    power: float = 0.0
    stepsize: int = 0
    stepvalue: tuple[int, ...] = ()
    max_iter: int = 0
    plateau_winsize: tuple[int, ...] = ()
    stagelr: tuple[float, ...] = ()
    stageiter: tuple[int, ...] = ()
    min_lr: float = 0.0
    rampup_interval: int = 0
    rampup_lr: float = 0.0
    warmup_iter: int = 0
    warmup_start_lr: float = 0.0

    def rate(self, iteration: int, steps: int = 0) -> float:
        """Returns the learning rate of ``iteration``, counted from 0, rounded to float32 as Caffe holds it. ``steps``
        are those of a ``plateau``."""
        if iteration < self.rampup_interval:
            rate = self.rampup_lr + (self.base_lr - self.rampup_lr) * (iteration / self.rampup_interval) ** 2
        elif iteration < self.warmup_iter:
            left = self.warmup_iter - iteration
            rate = (iteration * self.base_lr + left * self.warmup_start_lr) / self.warmup_iter
        elif self.follows_loss:
            rate = self.base_lr * self.gamma**steps
        else:
            rate = POLICIES[self.lr_policy].rate(self, iteration)
        return float(np.float32(max(rate, self.min_lr) if self.min_lr else rate))

    @property
    def follows_loss(self) -> bool:
        """Whether an iteration's rate is known only once its loss is."""
        return self.lr_policy == "plateau"


@dataclass(frozen=True)
class Plateau:
    """Where a ``plateau`` is: the least loss so far, the iteration that brought it or the last step, and the steps."""

    minimum_loss: float = float(np.finfo(np.float32).max)
    last_event: int = 0
    steps: int = 0

    def after(self, policy: Policy, iteration: int, loss: float) -> Plateau:
        """Returns where it is once ``iteration`` gave ``loss``, smoothed over ``average_loss``."""
        if iteration < max(policy.rampup_interval, policy.warmup_iter):
            return self  # whose rate says something else, so that Caffe does not look
        minimum, last, steps = self.minimum_loss, self.last_event, self.steps
        if loss < minimum:
            minimum, last = loss, iteration
        if steps < len(policy.plateau_winsize) and iteration >= last + policy.plateau_winsize[steps]:
            last, steps = iteration, steps + 1
        return Plateau(minimum, last, steps)


@dataclass(frozen=True)
class _Kind:
    """A policy: the rate of an iteration, and the solver's fields that it reads."""

    rate: Callable[[Policy, int], float]
    reads: tuple[str, ...] = ()


def _steps(policy: Policy, iteration: int) -> int:
    """Returns how many of ``stepvalue`` are behind; Caffe takes one a time, in the order in which they are given."""
    passed, earliest = 0, 0
    for value in policy.stepvalue:
        earliest = max(value, earliest)
        if iteration < earliest:
            break
        passed, earliest = passed + 1, earliest + 1
    return passed


def _poly(policy: Policy, iteration: int) -> float:
    return (policy.base_lr - policy.min_lr) * (1 - iteration / policy.max_iter) ** policy.power + policy.min_lr


def _sigmoid(policy: Policy, iteration: int) -> float:
    at = -policy.gamma * (iteration - policy.stepsize)
    return policy.base_lr / (1 + math.exp(at)) if at < 700 else 0.0


def _stage(policy: Policy, iteration: int) -> float:
    """Returns the rate of the first stage that ends no earlier; the last one's after them all."""
    within = (rate for rate, end in zip(policy.stagelr, policy.stageiter) if iteration <= end)
    return next(within, policy.stagelr[-1])


POLICIES: dict[str, _Kind] = {
    "fixed": _Kind(lambda of, iteration: of.base_lr),
    "step": _Kind(lambda of, iteration: of.base_lr * of.gamma ** (iteration // of.stepsize), ("gamma", "stepsize")),
    "exp": _Kind(lambda of, iteration: of.base_lr * of.gamma**iteration, ("gamma",)),
    "inv": _Kind(lambda of, iteration: of.base_lr * (1 + of.gamma * iteration) ** -of.power, ("gamma", "power")),
    "multistep": _Kind(lambda of, iteration: of.base_lr * of.gamma ** _steps(of, iteration), ("gamma", "stepvalue")),
    "poly": _Kind(_poly, ("power",)),
    "sigmoid": _Kind(_sigmoid, ("gamma", "stepsize")),
    "plateau": _Kind(lambda of, iteration: of.base_lr, ("gamma", "plateau_winsize")),
    "multifixed": _Kind(_stage, ("stagelr", "stageiter")),
}
"""lr_policy -> what it does."""
