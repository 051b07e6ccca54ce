"""AbsVal, Power, Exp, Log, Clip, Threshold, a value at a time by Caffe's formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest

from graphs.layers.arithmetic import AbsVal, Clip, Exp, Log, Power, Threshold

SIZES = (2, 3, 5, 7, 11)


def each(function, x):
    return np.array([float(function(float(value))) for value in x.ravel()]).reshape(x.shape)


FORMULAS = {
    "AbsVal": (AbsVal(), abs),
    "Power, all defaults": (Power(), lambda v: v),
    "Power, scale": (Power(scale=-1.7), lambda v: -1.7 * v),
    "Power, shift": (Power(shift=0.3), lambda v: v + 0.3),
    "Power, scale and shift": (Power(scale=2.5, shift=-0.7), lambda v: 2.5 * v - 0.7),
    "Power, square": (Power(power=2), lambda v: v * v),
    "Power, cube of all": (Power(power=3, scale=0.6, shift=0.2), lambda v: (0.2 + 0.6 * v) ** 3),
    "Power 0": (Power(power=0, scale=3, shift=0.5), lambda v: 1),
    "Power 0 of scale 0": (Power(power=0, scale=0), lambda v: 1),
    "Power, scale 0": (Power(power=0.5, scale=0, shift=7), lambda v: 7**0.5),
    "Exp": (Exp(), math.exp),
    "Exp, scale and shift": (Exp(scale=0.7, shift=-0.4), lambda v: math.exp(-0.4 + 0.7 * v)),
    "Exp, base": (Exp(base=2), lambda v: 2**v),
    "Exp, base, scale, shift": (Exp(base=0.3, scale=-1.2, shift=0.9), lambda v: 0.3 ** (0.9 - 1.2 * v)),
    "Exp of base 1": (Exp(base=1, shift=3), lambda v: 1),
    "Clip": (Clip(min=-0.6, max=0.9), lambda v: max(-0.6, min(v, 0.9))),
    "Clip, the wrong way round": (Clip(min=0.9, max=-0.6), lambda v: max(0.9, min(v, -0.6))),
    "Threshold": (Threshold(), lambda v: v > 0),
    "Threshold of 0.4": (Threshold(threshold=0.4), lambda v: v > 0.4),
}

ABOVE_0 = {
    "Power, root": (Power(power=0.5), lambda v: v**0.5),
    "Power, all with a fraction": (Power(power=-1.3, scale=2.1, shift=0.4), lambda v: (0.4 + 2.1 * v) ** -1.3),
    "Log": (Log(), math.log),
    "Log, scale and shift": (Log(scale=0.7, shift=0.4), lambda v: math.log(0.4 + 0.7 * v)),
    "Log, base": (Log(base=2), lambda v: math.log(v) / math.log(2)),
    "Log, base, scale, shift": (Log(base=0.3, scale=1.2, shift=9), lambda v: math.log(9 + 1.2 * v) / math.log(0.3)),
}


def test_formulas_on_every_rank(rng, agree_everywhere):
    cases = {}
    for rank in range(1, 6):
        x = rng.standard_normal(SIZES[:rank])
        cases.update({f"{what}, rank {rank}": (layer, [x], each(f, x)) for what, (layer, f) in FORMULAS.items()})
        x = rng.uniform(0.1, 5, SIZES[:rank])
        cases.update({f"{what}, rank {rank}": (layer, [x], each(f, x)) for what, (layer, f) in ABOVE_0.items()})
    agree_everywhere(cases)


def test_a_fraction_of_a_negative_number_is_nan(run_layer):
    x = np.array([[-2.0, 4.0]])
    for y in (run_layer(Power(power=0.5), [x]), run_layer(Log(), [x])):
        assert np.isnan(y[0, 0])
        assert np.isfinite(y[0, 1])


def test_threshold_is_held_against_the_float32_that_caffe_holds(agree_everywhere):
    x = np.float32([[0.1, np.nextafter(np.float32(0.1), np.float32(1)), 0.4, -0.1]])
    agree_everywhere({"0.1": (Threshold(threshold=0.1), [x], np.float64([[0, 1, 1, 0]]))})


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (Exp(base=0), "base is 0; Caffe wants one above 0, or -1 for e"),
        (Exp(base=-2), "base is -2; Caffe wants one above 0, or -1 for e"),
        (Log(base=-0.5), "base is -0.5; Caffe wants one above 0, or -1 for e"),
        (Log(base=1), "base is 1, to which there is no logarithm"),
        (Clip(min=0.0), "sets only one of min and max; Caffe reads a clip_param with both, or none at all"),
        (Clip(max=6.0), "sets only one of min and max; Caffe reads a clip_param with both, or none at all"),
    ],
)
def test_refuses(layer, reason):
    with pytest.raises(ValueError, match=reason):
        layer.top_shapes((2, 3))
