"""lr_policy, against values worked out by hand from Caffe's comment in caffe.proto."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tools.train.rates import Policy


@pytest.mark.parametrize(
    ("policy", "iteration", "expected"),
    [
        (Policy("fixed", 0.02), 1000, 0.02),
        (Policy("step", 0.02, gamma=0.5, stepsize=7), 0, 0.02),
        (Policy("step", 0.02, gamma=0.5, stepsize=7), 6, 0.02),
        (Policy("step", 0.02, gamma=0.5, stepsize=7), 7, 0.01),
        (Policy("step", 0.02, gamma=0.5, stepsize=7), 21, 0.0025),
        (Policy("exp", 0.02, gamma=0.9), 0, 0.02),
        (Policy("exp", 0.02, gamma=0.9), 3, 0.02 * 0.729),
        (Policy("inv", 0.02, gamma=0.1, power=0.75), 0, 0.02),
        (Policy("inv", 0.02, gamma=0.1, power=0.75), 150, 0.02 / 8),  # 16 ** 0.75
        (Policy("multistep", 0.02, gamma=0.1, stepvalue=(5, 9)), 4, 0.02),
        (Policy("multistep", 0.02, gamma=0.1, stepvalue=(5, 9)), 5, 0.002),
        (Policy("multistep", 0.02, gamma=0.1, stepvalue=(5, 9)), 8, 0.002),
        (Policy("multistep", 0.02, gamma=0.1, stepvalue=(5, 9)), 9, 0.0002),
        (Policy("poly", 0.02, power=2, max_iter=40), 0, 0.02),
        (Policy("poly", 0.02, power=2, max_iter=40), 30, 0.02 / 16),
        (Policy("poly", 0.02, power=0.5, max_iter=40), 30, 0.01),
        (Policy("sigmoid", 0.02, gamma=-0.1, stepsize=50), 50, 0.01),
        (Policy("sigmoid", 0.02, gamma=0.1, stepsize=50), 60, 0.02 / (1 + math.exp(-1))),
        (Policy("sigmoid", 0.02, gamma=1, stepsize=5000), 0, 0.0),
    ],
)
def test_policies(policy, iteration, expected):
    assert policy.rate(iteration) == pytest.approx(expected, rel=1e-7)
    assert policy.rate(iteration) == float(np.float32(policy.rate(iteration)))


def test_caffe_takes_one_step_value_an_iteration_and_in_their_order():
    """GetLearningRate: ``if (current_step_ < size && iter_ >= stepvalue(current_step_)) current_step_++``."""
    values, gamma = (3, 3, 2, 9), 0.5
    policy, current = Policy("multistep", 1.0, gamma=gamma, stepvalue=values), 0
    for iteration in range(14):
        if current < len(values) and iteration >= values[current]:
            current += 1
        assert policy.rate(iteration) == gamma**current, iteration
