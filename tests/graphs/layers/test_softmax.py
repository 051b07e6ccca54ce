"""Softmax along every axis of every rank."""

from __future__ import annotations

import math

import numpy as np
import pytest

from graphs.layers.softmax import Softmax

SIZES = (2, 3, 5, 7, 4, 2)


def literal(x, axis):
    y = np.empty_like(x)
    for index in np.ndindex(*x.shape):
        along = x[tuple(slice(None) if a == axis else i for a, i in enumerate(index))]
        y[index] = math.exp(x[index]) / sum(math.exp(value) for value in along)
    return y


@pytest.mark.parametrize(("rank", "axis"), [(rank, axis) for rank in (1, 2, 3, 4, 5, 6) for axis in range(rank)])
def test_reference_and_graph_against_the_definition(rank, axis, rng, run_layer, agree):
    x = rng.standard_normal(SIZES[:rank]) * 4
    for spelling in (axis, axis - rank):
        layer = Softmax(axis=spelling)
        agree(layer.reference(x), literal(x, axis), 1e-13, "reference")
        agree(run_layer(layer, [x]), literal(x, axis), 2e-6, "graph")


def test_large_values_do_not_overflow(run_layer, agree):
    x = np.array([[1000.0, 1001.0, -1000.0]])
    expected = np.array([[1 / (1 + math.e), math.e / (1 + math.e), 0]])
    agree(Softmax().reference(x), expected, 1e-13)
    agree(run_layer(Softmax(), [x]), expected, 1e-6)


def test_refuses_an_axis_that_is_none():
    with pytest.raises(ValueError, match="axis 2 is not one of a bottom of shape 3x5"):
        Softmax(axis=2).top_shapes((3, 5))
