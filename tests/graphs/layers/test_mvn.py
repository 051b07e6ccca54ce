"""MVN against its formula, one channel or one item at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest

from graphs.layers.mvn import MVN


def normalized(x, normalize_variance=True, across_channels=False, eps=1e-9):
    x = x.reshape(*x.shape, *(1,) * (4 - x.ndim))
    y = np.empty_like(x)
    groups = range(len(x)) if across_channels else np.ndindex(*x.shape[:2])
    for group in groups:
        values = [float(value) for value in x[group].ravel()]
        mean = sum(values) / len(values)
        deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
        y[group] = (x[group] - mean) / (deviation + eps if normalize_variance else 1)
    return y


OPTIONS = [
    {},
    {"across_channels": True},
    {"normalize_variance": False},
    {"normalize_variance": False, "across_channels": True},
    {"eps": 0.3},
    {"eps": 0.3, "across_channels": True},
]


def test_mvn(rng, agree_everywhere):
    cases = {}
    for options in OPTIONS:
        for shape in ((2, 3, 5, 7), (2, 3, 5), (2, 1, 5, 7), (2, 3, 1, 7)):
            x = rng.standard_normal(shape) * 2 + 3
            cases[f"{options}, {shape}"] = (MVN(**options), [x], normalized(x, **options))
    for shape in ((5, 7), (5, 7, 1)):
        x = rng.standard_normal(shape)
        cases[f"across channels of {shape}"] = (
            MVN(across_channels=True),
            [x],
            normalized(x, across_channels=True),
        )
    agree_everywhere(cases, tolerance=5e-6)


@pytest.mark.parametrize("options", OPTIONS)
def test_the_gradient_is_caffes(options, rng, gradient, agree):
    x, dy = rng.standard_normal((2, 2, 3, 5, 7))
    axes = {"axis": (1, 2, 3) if options.get("across_channels") else (2, 3), "keepdims": True}
    expected = dy - dy.mean(**axes)
    if options.get("normalize_variance", True):
        deviation = x.std(**axes) + options.get("eps", 1e-9)
        y = (x - x.mean(**axes)) / deviation
        expected = (expected - y * (dy * y).mean(**axes)) / deviation
    agree(gradient(MVN(**options), [x], weight=dy, phase="TRAIN"), expected, 1e-5)


def test_training_stays_a_number_where_there_is_no_variance(gradient):
    assert np.isfinite(gradient(MVN(eps=0.01), [np.ones((2, 3, 5, 7))], phase="TRAIN")).all()


def test_training_and_testing_compute_the_same(rng, run_layer, agree):
    x = rng.standard_normal((2, 3, 5, 7)) * 2 + 3
    agree(run_layer(MVN(), [x], phase="TRAIN"), MVN().reference(x), 5e-6)


@pytest.mark.parametrize("shape", [(2,), (2, 3), (2, 3, 1, 1)])
def test_one_value_is_its_own_mean(shape, rng, run_layer):
    x = rng.standard_normal(shape)
    expected = np.zeros((*shape, *(1,) * (4 - len(shape))))
    np.testing.assert_array_equal(MVN().reference(x), expected)
    np.testing.assert_array_equal(run_layer(MVN(), [x]), expected)


@pytest.mark.parametrize(
    ("layer", "shape", "reason"),
    [
        (MVN(), (2, 3, 5, 7, 11), "its bottom has the shape 2x3x5x7x11; Caffe wants at most four axes"),
    ],
)
def test_refuses(layer, shape, reason):
    with pytest.raises(ValueError, match=reason):
        layer.top_shapes(shape)
