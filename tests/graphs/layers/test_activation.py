"""PReLU, ReLU6, ELU, Sigmoid, TanH, Swish, BNLL, a value at a time by Caffe's formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest

from graphs.layer import Filler
from graphs.layers.activation import BNLL, ELU, PReLU, ReLU6, Sigmoid, Swish, TanH

SIZES = (2, 3, 5, 7, 11)


def each(function, x):
    return np.array([function(float(value)) for value in x.ravel()]).reshape(x.shape)


CURVES = {
    "ReLU6": (ReLU6(), lambda v: min(max(v, 0), 6)),
    "ReLU6 to 1.5": (ReLU6(threshold=1.5), lambda v: min(max(v, 0), 1.5)),
    "ELU": (ELU(), lambda v: max(v, 0) + math.exp(min(v, 0)) - 1),
    "ELU of 0.3": (ELU(alpha=0.3), lambda v: max(v, 0) + 0.3 * (math.exp(min(v, 0)) - 1)),
    "ELU of -2": (ELU(alpha=-2.0), lambda v: max(v, 0) - 2 * (math.exp(min(v, 0)) - 1)),
    "Sigmoid": (Sigmoid(), lambda v: 0.5 * math.tanh(0.5 * v) + 0.5),
    "TanH": (TanH(), math.tanh),
    "Swish": (Swish(), lambda v: v * (0.5 * math.tanh(0.5 * v) + 0.5)),
    "Swish of 1.7": (Swish(beta=1.7), lambda v: v * (0.5 * math.tanh(0.85 * v) + 0.5)),
    "Swish of -0.4": (Swish(beta=-0.4), lambda v: v * (0.5 * math.tanh(-0.2 * v) + 0.5)),
    "BNLL": (BNLL(), lambda v: v + math.log(1 + math.exp(-v)) if v > 0 else math.log(1 + math.exp(v))),
}


def test_curves_on_every_rank(rng, agree_everywhere):
    cases = {}
    for name, (layer, formula) in CURVES.items():
        for rank in range(1, 6):
            x = 4 * rng.standard_normal(SIZES[:rank])
            cases[f"{name}, rank {rank}"] = (layer, [x], each(formula, x))
    agree_everywhere(cases)


def test_curves_far_out(agree_everywhere):
    x = np.array([[-1e4, -88, -20, -1e-3, 0, 1e-3, 20, 60, 88, 700]])
    agree_everywhere({name: (layer, [x], each(formula, x)) for name, (layer, formula) in CURVES.items()})


def test_prelu(rng, agree_everywhere):
    cases = {}
    for rank in (2, 3, 4):
        x = rng.standard_normal(SIZES[:rank])
        slopes, one = rng.standard_normal(3) * 2, np.array(-0.7)
        by_channel, shared = np.empty_like(x), np.empty_like(x)
        for index in np.ndindex(*x.shape):
            above, below = max(x[index], 0), min(x[index], 0)
            by_channel[index], shared[index] = above + slopes[index[1]] * below, above + one * below
        cases[f"by channel, rank {rank}"] = (PReLU(), [x], by_channel, slopes)
        cases[f"shared, rank {rank}"] = (PReLU(channel_shared=True), [x], shared, one)
    agree_everywhere(cases)


def test_prelu_starts_at_a_quarter():
    (spec,) = PReLU().parameters((2, 3, 5))
    assert (spec.name, spec.layout.caffe, spec.filler) == ("slopes", (3,), Filler(value=0.25))
    (spec,) = PReLU(channel_shared=True, filler=Filler(type="gaussian", std=0.1)).parameters((2, 3, 5))
    assert (spec.layout.caffe, spec.filler) == ((), Filler(type="gaussian", std=0.1))


@pytest.mark.parametrize(("shape", "spelled"), [((2,), "2"), ((2, 3, 5, 7, 11), "2x3x5x7x11")])
def test_prelu_refuses_ranks_that_caffe_refuses(shape, spelled):
    with pytest.raises(ValueError, match=f"its bottom has the shape {spelled}; Caffe wants two to four axes"):
        PReLU().top_shapes(shape)
