"""Axpy, value by value."""

from __future__ import annotations

import numpy as np
import pytest

from graphs.layers.axpy import Axpy


def test_axpy(rng, agree_everywhere):
    cases = {}
    for shape in ((2, 3, 5, 7), (2, 3, 5), (2, 3), (2, 3, 5, 7, 11)):
        for given in ((2, 3), (2, 3, 1, 1)):
            a, x, y = (rng.standard_normal(size).astype(np.float32) for size in (given, shape, shape))
            expected = np.zeros(shape)
            for place in np.ndindex(*shape):
                expected[place] = float(a.reshape(2, 3)[place[:2]]) * float(x[place]) + float(y[place])
            cases[f"{given} times {shape}"] = (Axpy(), [a, x, y], expected)
    agree_everywhere(cases)


@pytest.mark.parametrize(
    ("shapes", "reason"),
    [
        ([(2, 3), (2, 3, 5, 7), (2, 3, 5, 1)], "expected one shape"),
        ([(2, 5), (2, 3, 5, 7), (2, 3, 5, 7)], "expected a factor per channel of 2x3x5x7"),
        ([(2, 3, 5, 7), (2, 3, 5, 7), (2, 3, 5, 7)], "expected a factor per channel"),
    ],
)
def test_refuses(shapes, reason):
    with pytest.raises(ValueError, match=reason):
        Axpy().top_shapes(*shapes)
