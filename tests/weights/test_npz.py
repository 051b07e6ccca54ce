"""An .npz holds each variable in TensorFlow's layout; its bytes depend on nothing but the numbers."""

from __future__ import annotations

import numpy as np

from weights import Layout, Parameter
from weights.npz import write_npz


def test_numpy_reads_what_was_written(tmp_path, rng):
    conv = rng.standard_normal((7, 5, 3, 2)).astype(np.float32)
    scalar = np.array(3.5, np.float32)
    write_npz(
        tmp_path / "a.npz",
        [
            Parameter("conv1/weights", Layout(conv.shape, order=(2, 3, 1, 0)), conv),
            Parameter("scale/weights", Layout(()), scalar),
        ],
    )
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays.files == ["conv1/weights", "scale/weights"]
        assert arrays["conv1/weights"].dtype == np.float32
        np.testing.assert_array_equal(arrays["conv1/weights"], np.moveaxis(conv, [0, 1], [3, 2]))
        np.testing.assert_array_equal(arrays["scale/weights"], scalar)
