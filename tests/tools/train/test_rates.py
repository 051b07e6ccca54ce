"""lr_policy, against values worked out by hand from Caffe's comment in caffe.proto."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tools.train.rates import Plateau, Policy


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
        (Policy("step", 0.02, gamma=0.5, stepsize=7, min_lr=0.004), 13, 0.01),
        (Policy("step", 0.02, gamma=0.5, stepsize=7, min_lr=0.004), 21, 0.004),
        (Policy("poly", 0.02, power=2, max_iter=40, min_lr=0.004), 30, 0.016 / 16 + 0.004),
        (Policy("fixed", 0.02, rampup_interval=10, rampup_lr=0.004), 0, 0.004),
        (Policy("fixed", 0.02, rampup_interval=10, rampup_lr=0.004), 5, 0.004 + 0.016 / 4),
        (Policy("fixed", 0.02, rampup_interval=10, rampup_lr=0.004), 10, 0.02),
        (Policy("step", 0.02, gamma=0.5, stepsize=7, warmup_iter=8, warmup_start_lr=0.004), 2, 0.008),
        (Policy("step", 0.02, gamma=0.5, stepsize=7, warmup_iter=8, warmup_start_lr=0.004), 8, 0.01),
        (Policy("multifixed", 0, stagelr=(0.3, 0.2, 0.1), stageiter=(3, 5, 8)), 3, 0.3),
        (Policy("multifixed", 0, stagelr=(0.3, 0.2, 0.1), stageiter=(3, 5, 8)), 4, 0.2),
        (Policy("multifixed", 0, stagelr=(0.3, 0.2, 0.1), stageiter=(3, 5, 8)), 800, 0.1),
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


def test_a_plateau_steps_where_the_loss_has_not_fallen_for_as_long_as_it_says():
    """SSD's GetLearningRate, written out."""
    losses = [5, 4, 4.5, 4.4, 3, 3.1, 3.2, 3.3, 3, 2.9, 2.9, 2.9, 2.9, 2.9, 1, 1, 1, 1, 1]
    windows, gamma = (3, 4), 0.5
    policy, at = Policy("plateau", 1.0, gamma=gamma, plateau_winsize=windows), Plateau()
    least, event, step, seen = np.finfo(np.float32).max, 0, 0, []
    for iteration, loss in enumerate(losses):
        if loss < least:
            least, event = loss, iteration
        if step < len(windows) and iteration >= event + windows[step]:
            step, event = step + 1, iteration
        at = at.after(policy, iteration, loss)
        assert policy.rate(iteration, at.steps) == gamma**step, iteration
        seen.append(step)
    assert [seen.index(number) for number in (1, 2)] == [7, 13]
