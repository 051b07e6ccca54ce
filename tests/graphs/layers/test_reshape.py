"""Reshape from every rank to every rank, in Caffe's order."""

from __future__ import annotations

import pytest

from graphs import infer
from graphs.layers.data import Input
from graphs.layers.shaping import Reshape
from graphs.network import Network, Node

# (bottom, layer, top): what Caffe's documentation and its reshape_layer.cpp say.
FREE = [
    ((2, 3, 5, 7), Reshape(shape=(0, -1)), (2, 105)),
    ((2, 3, 5, 7), Reshape(shape=(0, 0, -1)), (2, 3, 35)),
    ((2, 3, 5, 7), Reshape(shape=(0, -1, 3)), (2, 35, 3)),
    ((2, 3, 5, 7), Reshape(shape=(-1, 7)), (30, 7)),
    ((2, 3, 5, 7), Reshape(shape=(-1,)), (210,)),
    ((2, 3, 5, 7), Reshape(shape=(0, 5, 7, 3)), (2, 5, 7, 3)),
    ((2, 3, 5, 7), Reshape(shape=(0, 5, 3, 0)), (2, 5, 3, 7)),
    ((2, 3, 5, 7), Reshape(shape=(0, 1, 3, 5, 7)), (2, 1, 3, 5, 7)),
    ((2, 3, 5, 7), Reshape(shape=(0, 5, 1, 7, 3)), (2, 5, 1, 7, 3)),
    ((2, 3, 5, 7), Reshape(shape=(0, 0, 0, 0)), (2, 3, 5, 7)),
    ((2, 12, 5), Reshape(axis=1, num_axes=1, shape=(3, 4)), (2, 3, 4, 5)),
    ((2, 12, 5), Reshape(axis=-3, num_axes=1, shape=(-1, 4)), (2, 3, 4, 5)),
    ((2, 12, 5), Reshape(axis=1, num_axes=2, shape=(4, 15)), (2, 4, 15)),
    ((2, 12, 5), Reshape(axis=1, shape=(4, -1)), (2, 4, 15)),
    ((2, 12, 5), Reshape(axis=1, shape=(0, -1)), (2, 12, 5)),
    ((2, 12, 5), Reshape(axis=1, num_axes=0, shape=(1,)), (2, 1, 12, 5)),
    ((2, 12, 5), Reshape(axis=3, num_axes=0, shape=(1, 1)), (2, 12, 5, 1, 1)),
    ((2, 12, 5), Reshape(axis=-1, num_axes=0, shape=(1,)), (2, 12, 5, 1)),
    ((2, 12, 5), Reshape(axis=-2, num_axes=1, shape=(5, 1)), (2, 12, 5, 1)),
    ((6, 5), Reshape(shape=(0, 5, 1, 1)), (6, 5, 1, 1)),
    ((6, 5), Reshape(axis=2, shape=(1, 1, 1)), (6, 5, 1, 1, 1)),
    ((6,), Reshape(shape=(0, 1)), (6, 1)),
    ((2, 3, 5, 7, 4), Reshape(shape=(0, -1, 4)), (2, 105, 4)),
    ((2, 3, 5, 7, 4), Reshape(shape=(0, 7, -1, 5)), (2, 7, 12, 5)),
    ((2, 3, 5, 7, 4), Reshape(axis=2, num_axes=2, shape=(7, 5)), (2, 3, 7, 5, 4)),
]
FIXED = [
    ((2, 3, 5, 7), Reshape(shape=(2, -1)), (2, 105)),  # the batch would go into the second axis
    ((2, 3, 5, 7), Reshape(shape=(1, 0, -1, 7)), (1, 3, 10, 7)),
    ((2, 3, 5, 7), Reshape(shape=(7, 5, 3, 2)), (7, 5, 3, 2)),
    ((6, 5), Reshape(shape=(-1, 2)), (15, 2)),  # 35 values, of one item more, have no rows of 2
    ((6, 5), Reshape(shape=(2, 3, 5)), (2, 3, 5)),
    ((6, 5), Reshape(axis=0, num_axes=0, shape=(1,)), (1, 6, 5)),
    ((1,), Reshape(), ()),
    ((1, 1), Reshape(num_axes=2), ()),
]


@pytest.mark.parametrize(("cases", "free"), [(FREE, True), (FIXED, False)])
def test_reshape(cases, free, rng, agree_everywhere):
    nets = {}
    for bottom, layer, top in cases:
        x = rng.standard_normal(bottom)
        nets[f"{bottom}, {layer}"] = (layer, [x], x.ravel().reshape(top))
        assert layer.top_shapes(bottom) == top
    agree_everywhere(nets, free=free)


def test_a_batch_that_moves_into_another_first_axis_stays_free():
    nodes = (Node("x", Input(((2, 3, 5, 7),)), (), ("x",)), Node("y", Reshape(shape=(-1, 7)), ("x",), ("y",)))
    assert infer(Network("n", nodes)).layers[-1].open_tops == ((-1, 7),)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (
            Reshape(shape=(0, 4)),
            r"shape \(0, 4\) does not hold the 30 values of its bottom, 2x3x5; it would make it 2x4",
        ),
        (Reshape(shape=(0, -1, 4)), r"shape \(0, -1, 4\) does not hold the 30 values of its bottom"),
        (Reshape(shape=(-1, -1)), r"shape \(-1, -1\) has a size below -1, or -1 more than once"),
        (Reshape(shape=(-2, 15)), r"shape \(-2, 15\) has a size below -1"),
        (Reshape(shape=(2, 3, 5, 0)), r"shape \(2, 3, 5, 0\) has a 0 where its bottom, 2x3x5, has no axis to copy"),
        (Reshape(axis=2, shape=(1, 0)), "has a 0 where its bottom, 2x3x5, has no axis to copy"),
        (Reshape(axis=4), "axis 4 and num_axes -1 are not within its bottom, 2x3x5"),
        (Reshape(axis=-5), "axis -5 and num_axes -1 are not within its bottom"),
        (Reshape(axis=2, num_axes=2, shape=(5,)), "axis 2 and num_axes 2 are not within its bottom"),
        (Reshape(axis=2, num_axes=-2, shape=(5,)), "axis 2 and num_axes -2 are not within its bottom"),
        (Reshape(), r"shape \(\) does not hold the 30 values of its bottom, 2x3x5; it would make it scalar"),
    ],
)
def test_refuses(layer, reason):
    with pytest.raises(ValueError, match=reason):
        layer.top_shapes((2, 3, 5))
