"""The learning rate of each iteration: Caffe's lr_policy (sgd_solver.cpp, GetLearningRate)."""

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

    def rate(self, iteration: int) -> float:
        """Returns the learning rate of ``iteration``, counted from 0, rounded to float32 as Caffe holds it."""
        return float(np.float32(self.base_lr * POLICIES[self.lr_policy].factor(self, iteration)))


@dataclass(frozen=True)
class _Kind:
    """A policy: what it multiplies base_lr by, and the solver's fields that it reads."""

    factor: Callable[[Policy, int], float]
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


def _sigmoid(policy: Policy, iteration: int) -> float:
    at = -policy.gamma * (iteration - policy.stepsize)
    return 1 / (1 + math.exp(at)) if at < 700 else 0.0


POLICIES: dict[str, _Kind] = {
    "fixed": _Kind(lambda policy, iteration: 1.0),
    "step": _Kind(lambda policy, iteration: policy.gamma ** (iteration // policy.stepsize), ("gamma", "stepsize")),
    "exp": _Kind(lambda policy, iteration: policy.gamma**iteration, ("gamma",)),
    "inv": _Kind(lambda policy, iteration: (1 + policy.gamma * iteration) ** -policy.power, ("gamma", "power")),
    "multistep": _Kind(lambda policy, iteration: policy.gamma ** _steps(policy, iteration), ("gamma", "stepvalue")),
    "poly": _Kind(lambda policy, iteration: (1 - iteration / policy.max_iter) ** policy.power, ("power",)),
    "sigmoid": _Kind(_sigmoid, ("gamma", "stepsize")),
}
"""lr_policy -> what it does."""
