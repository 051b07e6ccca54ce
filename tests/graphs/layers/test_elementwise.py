"""ReLU with every kind of slope, Dropout in both phases."""

from __future__ import annotations

import numpy as np
import pytest

from graphs.layers.elementwise import Dropout, ReLU


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


@pytest.mark.parametrize("ratio", [0.0, 1.0, -0.1, 1.5])
def test_refuses_what_caffe_refuses(ratio):
    with pytest.raises(ValueError, match="Caffe wants one between 0 and 1"):
        Dropout(dropout_ratio=ratio).top_shapes((2, 3))
