"""ReLU with every kind of slope, Dropout in both phases."""

from __future__ import annotations

import numpy as np
import pytest

from graphs.layers.elementwise import Dropout, ReLU
from weights import Refused


@pytest.mark.parametrize("slope", [0.0, 0.01, 0.5, 1.0, 1.7, -0.3, -2.0])
def test_relu(slope, rng, run_layer, agree):
    x = rng.standard_normal((2, 3, 5, 7))
    expected = np.array([value if value > 0 else slope * value for value in x.ravel()]).reshape(x.shape)
    agree(ReLU(negative_slope=slope).reference(x), expected, 1e-15, "reference")
    agree(run_layer(ReLU(negative_slope=slope), [x]), expected, 1e-6, "graph")


def test_dropout_passes_all_on_in_test(rng, run_layer, agree):
    x = rng.standard_normal((2, 3, 5, 7)).astype(np.float32)
    agree(Dropout(dropout_ratio=0.3).reference(x), x, 0)
    agree(run_layer(Dropout(dropout_ratio=0.3), [x]), x, 0)


def test_dropout_ratio_is_what_is_dropped_in_train(run_layer):
    x = np.full((101, 103), 2.0)
    y = run_layer(Dropout(dropout_ratio=0.2), [x], phase="TRAIN")
    np.testing.assert_allclose(y[y != 0], 2 / 0.8, rtol=1e-6)
    assert 0.15 < (y == 0).mean() < 0.25  # 10,403 draws: more than ten standard deviations on either side


@pytest.mark.parametrize("ratio", [1.0, -0.1, 1.5])
def test_refuses_to_train_with_a_ratio_that_makes_no_numbers(ratio):
    with pytest.raises(ValueError, match="training wants one from 0 to below 1"):
        Dropout(dropout_ratio=ratio).top_shapes((2, 3), phase="TRAIN")


def test_dropout_of_nothing_passes_on_what_it_gets_in_train(run_layer, rng):
    x = rng.normal(0, 1, (7, 11)).astype(np.float32)
    np.testing.assert_array_equal(run_layer(Dropout(dropout_ratio=0.0), [x], phase="TRAIN"), x)


def test_the_reference_does_not_foretell_what_dropout_draws():
    with pytest.raises(Refused, match="Dropout draws what it drops in TRAIN, which no reference can foretell"):
        Dropout().reference(np.ones((2, 3)), phase="TRAIN")
