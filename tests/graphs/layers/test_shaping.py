"""Concat and Flatten on every axis of every rank, a value at a time."""

from __future__ import annotations

import numpy as np
import pytest

from graphs.layers.shaping import Concat, Flatten

SIZES = (2, 3, 5, 7, 11)


@pytest.mark.parametrize(("rank", "axis"), [(rank, axis) for rank in (1, 2, 3, 4, 5) for axis in range(rank)])
def test_concat(rank, axis, rng, run_layer, agree):
    bottoms = []
    for length in (2, 1, 4):
        shape = list(SIZES[:rank])
        shape[axis] = length
        bottoms.append(rng.standard_normal(shape))
    expected = np.empty([7 if a == axis else size for a, size in enumerate(SIZES[:rank])])
    for index in np.ndindex(*expected.shape):
        position, which = index[axis], 0
        while position >= bottoms[which].shape[axis]:
            position, which = position - bottoms[which].shape[axis], which + 1
        expected[index] = bottoms[which][(*index[:axis], position, *index[axis + 1 :])]
    for layer in (Concat(axis=axis), Concat(axis=axis - rank), Concat(concat_dim=axis)):
        assert layer.top_shapes(*(bottom.shape for bottom in bottoms)) == expected.shape
        agree(layer.reference(*bottoms), expected, 0, "reference")
        agree(run_layer(layer, bottoms), expected.astype(np.float32), 0, "graph")


def test_concat_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="its bottoms have the shapes 2x3x5, 2x3x7; they may differ along axis 1 only"):
        Concat().top_shapes((2, 3, 5), (2, 3, 7))
    with pytest.raises(ValueError, match="sets both axis and concat_dim"):
        Concat(axis=2, concat_dim=1).top_shapes((2, 3, 5))
    with pytest.raises(ValueError, match="axis 3 is not one of a bottom of shape 2x3x5"):
        Concat(axis=3).top_shapes((2, 3, 5))


AXES = [(rank, first, last) for rank in (1, 2, 3, 4, 5) for first in range(rank) for last in range(first, rank)]


@pytest.mark.parametrize(("rank", "first", "last"), AXES)
def test_flatten(rank, first, last, rng, run_layer, agree):
    x = rng.standard_normal(SIZES[:rank])
    shape = (*x.shape[:first], int(np.prod(x.shape[first : last + 1])), *x.shape[last + 1 :])
    expected = np.empty(shape)
    for index in np.ndindex(*x.shape):
        position = 0
        for axis in range(first, last + 1):
            position = position * x.shape[axis] + index[axis]
        expected[(*index[:first], position, *index[last + 1 :])] = x[index]
    for layer in (Flatten(axis=first, end_axis=last), Flatten(axis=first - rank, end_axis=last - rank)):
        assert layer.top_shapes(x.shape) == shape
        agree(layer.reference(x), expected, 0, "reference")
        agree(run_layer(layer, [x]), expected.astype(np.float32), 0, "graph")


def test_another_batch_than_the_definitions(rng, run_layer, agree):
    x = rng.standard_normal((5, 3, 7, 4)).astype(np.float32)
    agree(run_layer(Flatten(), [x], defined=[(2, 3, 7, 4)]), x.reshape(5, 84), 0)
    agree(run_layer(Flatten(axis=2), [x], defined=[(2, 3, 7, 4)]), x.reshape(5, 3, 28), 0)
    agree(run_layer(Flatten(axis=0, end_axis=1), [x], defined=[(2, 3, 7, 4)]), x.reshape(15, 7, 4), 0)
    agree(run_layer(Flatten(axis=0), [x], defined=[(2, 3, 7, 4)]), x.reshape(-1), 0)
    agree(run_layer(Concat(), [x, x], defined=[(2, 3, 7, 4)] * 2), np.concatenate([x, x], axis=1), 0)


def test_flatten_refuses_axes_in_the_wrong_order():
    with pytest.raises(ValueError, match="end_axis 0 comes before axis 2 of its bottom, 2x3x5x7"):
        Flatten(axis=2, end_axis=0).top_shapes((2, 3, 5, 7))
