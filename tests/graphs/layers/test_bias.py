"""Bias on every rank and axis, a value at a time."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from graphs import infer
from graphs.layer import Filler
from graphs.layers.bias import Bias
from graphs.layers.data import Input, Parameter
from graphs.network import Network, Node

SIZES = (2, 3, 5, 7, 11)


def shifted(x, bias, axis):
    y = np.empty_like(x)
    for index in np.ndindex(*x.shape):
        y[index] = x[index] + bias[index[axis : axis + bias.ndim] if bias.ndim else ()]
    return y


def spans(rank):
    """Yields (axis, num_axes, the axes that they mean), with both spellings of an axis."""
    for axis, count in itertools.product(range(rank), range(-1, rank + 1)):
        if axis + count <= rank:
            yield axis, count, (axis, rank if count == -1 else axis + count)
            yield axis - rank, count, (axis, rank if count == -1 else axis + count)


@pytest.mark.parametrize("over_batch", [False, True])
def test_by_a_parameter(over_batch, rng, agree_everywhere):
    cases = {}
    for rank in range(1, 6):
        for axis, num_axes, (start, end) in spans(rank):
            if (start == 0 and end > 0) is over_batch:
                x = rng.standard_normal(SIZES[:rank])
                bias = np.asarray(rng.standard_normal(x.shape[start:end]))
                layer = Bias(axis=axis, num_axes=num_axes)
                cases[f"rank {rank}, axis {axis}, num_axes {num_axes}"] = (layer, [x], shifted(x, bias, start), bias)
    agree_everywhere(cases, free=not over_batch)  # a parameter for each item needs as many items as it has


def test_by_a_second_bottom(rng, agree_everywhere):
    cases = {}
    for free in (False, True):
        for rank in range(1, 6):
            for axis, num_axes, (start, end) in spans(rank):
                x = rng.standard_normal(SIZES[:rank])
                bias = np.asarray(rng.standard_normal(x.shape[start:end]))
                reads_batch = start == 0 or bias.ndim == 0
                if num_axes >= 0 and reads_batch is free:
                    what = f"free {free}, rank {rank}, axis {axis}, {bias.ndim} axes"
                    cases[what] = (Bias(axis=axis), [x, bias], shifted(x, bias, start))
        agree_everywhere(cases, free=free)  # a second bottom over channels alone is an input with a batch of its own
        cases = {}


@pytest.mark.parametrize(
    ("second", "axis"), [(Input(((2, 3),)), 0), (Parameter(shape=(3,)), 1), (Parameter(shape=(3, 5, 7)), 1)]
)
def test_a_second_bottom_that_follows_the_batch_or_lacks_it_leaves_it_free(second, axis):
    nodes = Node("x", Input(((2, 3, 5, 7),)), (), ("x",)), Node("b", second, (), ("b",))
    shapes = infer(Network("n", (*nodes, Node("y", Bias(axis=axis), ("x", "b"), ("y",)))))
    assert shapes.layers[-1].open_tops == ((-1, 3, 5, 7),)


def test_parameter():
    (spec,) = Bias(axis=1, num_axes=2, filler=Filler(value=3)).parameters((2, 3, 5, 7))
    assert (spec.name, spec.layout.caffe, spec.layout.tensorflow) == ("biases", (3, 5), (5, 1, 3))
    assert (spec.filler, Bias().filler) == (Filler(value=3), Filler())
    assert Bias().parameters((2, 3), (3,)) == ()


@pytest.mark.parametrize(
    ("layer", "bottoms", "reason"),
    [
        (Bias(num_axes=3), [(2, 3, 5)], "3 axes from axis 1 on are more than its bottom has, 2x3x5"),
        (Bias(num_axes=-2), [(2, 3, 5)], "num_axes is -2; Caffe wants 0 or more, or -1"),
        (Bias(axis=3), [(2, 3, 5)], "axis 3 is not one of a bottom of shape 2x3x5"),
        (Bias(axis=-4), [(2, 3, 5)], "axis -4 is not one"),
        (Bias(), [(2,)], "axis 1 is not one of a bottom of shape 2"),
        (Bias(), [(2, 3, 5), (5,)], "its second bottom has the shape 5; expected 3 to shift 2x3x5 from axis 1 on"),
        (Bias(), [(2, 3, 5), (3, 5, 7)], "3 axes from axis 1 on are more than its bottom has"),
    ],
)
def test_refuses(layer, bottoms, reason):
    with pytest.raises(ValueError, match=reason):
        layer.top_shapes(*bottoms)
