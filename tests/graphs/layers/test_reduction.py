"""Reduction and ArgMax against Caffe's loops, on every axis of every rank."""

from __future__ import annotations

import numpy as np
import pytest

from graphs.layers.reduction import ArgMax, Reduction

SIZES = (2, 3, 5, 7, 4)


def reduced(x, operation, axis, coeff):
    y = np.empty(x.shape[:axis])
    for index in np.ndindex(*y.shape):
        values = [float(value) for value in x[index].ravel()]
        if operation == "ASUM":
            values = [abs(value) for value in values]
        elif operation == "SUMSQ":
            values = [value * value for value in values]
        y[index] = coeff * sum(values) / (len(values) if operation == "MEAN" else 1)
    return y


@pytest.mark.parametrize("operation", ["SUM", "ASUM", "SUMSQ", "MEAN"])
def test_reduction(operation, rng, agree_everywhere):
    cases = {}
    for rank in range(1, 6):
        x = rng.standard_normal(SIZES[:rank])
        for axis in range(rank):
            for spelled, coeff in ((axis, 1.0), (axis - rank, 1.0), (axis, -0.7)):
                layer = Reduction(operation=operation, axis=spelled, coeff=coeff)
                expected = reduced(x, operation, axis, coeff)
                if axis > 0:
                    cases[f"rank {rank}, axis {spelled}, coeff {coeff}"] = (layer, [x], expected)
    agree_everywhere(cases, tolerance=1e-5)


def test_reduction_of_all_to_a_scalar_takes_any_batch(rng, agree_everywhere):
    cases = {}
    for operation in ("SUM", "ASUM", "SUMSQ", "MEAN"):
        for rank in range(1, 6):
            x = rng.standard_normal(SIZES[:rank]) + 0.5
            cases[f"{operation}, rank {rank}"] = (Reduction(operation=operation), [x], reduced(x, operation, 0, 1))
    agree_everywhere(cases, tolerance=1e-5)


def test_reduction_refuses_an_axis_that_is_not_there():
    with pytest.raises(ValueError, match="axis 3 is not one of a bottom of shape 2x3x5"):
        Reduction(axis=3).top_shapes((2, 3, 5))


def literal(x, top_k, out_max_val, axis):
    """Returns what Caffe's Forward_cpu makes: pairs of value and place, sorted from the greatest on."""
    if axis is not None:
        moved = np.moveaxis(x, axis, -1)
        y = np.empty((*moved.shape[:-1], top_k))
        for index in np.ndindex(*moved.shape[:-1]):
            pairs = sorted(((value, place) for place, value in enumerate(moved[index])), reverse=True)
            y[index] = [pair[0 if out_max_val else 1] for pair in pairs[:top_k]]
        return np.moveaxis(y, -1, axis)
    y = np.empty((len(x), 1 + out_max_val, top_k))
    for n, item in enumerate(x):
        pairs = sorted(((value, place) for place, value in enumerate(np.ravel(item))), reverse=True)[:top_k]
        y[n, 0] = [place for _, place in pairs]
        if out_max_val:
            y[n, 1] = [value for value, _ in pairs]
    return y.reshape(*y.shape, *(1,) * (x.ndim - 3))


@pytest.mark.parametrize("ties", [False, True])
def test_arg_max(ties, rng, agree_everywhere):
    cases = {}
    for rank in range(1, 6):
        shape = SIZES[:rank]
        x = rng.integers(0, 3, shape).astype(float) if ties else rng.permutation(np.prod(shape)).reshape(shape) / 7
        for out_max_val in (False, True):
            for axis in (None, *range(-rank, rank)):
                most = int(np.prod(shape[1:])) if axis is None else shape[axis]
                for top_k in {1, 2, min(3, most)}:
                    if top_k <= most:
                        layer = ArgMax(top_k=top_k, out_max_val=out_max_val, axis=axis)
                        expected = literal(x, top_k, out_max_val, axis)
                        cases[f"rank {rank}, {layer}"] = (layer, [x], expected)
    agree_everywhere(cases, tolerance=1e-7)


@pytest.mark.parametrize(
    ("layer", "top"),
    [
        (ArgMax(top_k=4), (2, 1, 4, 1)),
        (ArgMax(top_k=4, out_max_val=True), (2, 2, 4, 1)),
        (ArgMax(top_k=2, axis=1), (2, 2, 5, 7)),
        (ArgMax(top_k=2, axis=-1, out_max_val=True), (2, 3, 5, 2)),
    ],
)
def test_arg_maxs_shapes(layer, top):
    assert layer.top_shapes((2, 3, 5, 7)) == top


def test_arg_max_of_two_axes_has_three():
    assert ArgMax().top_shapes((2, 3)) == (2, 1, 1)
    assert ArgMax(axis=1).top_shapes((2, 3)) == (2, 1)


@pytest.mark.parametrize(
    ("layer", "shape", "reason"),
    [
        (ArgMax(top_k=0), (2, 3, 5), "top_k is 0; expected 1 to 15, as many values as its bottom, 2x3x5, has"),
        (ArgMax(top_k=16), (2, 3, 5), "top_k is 16; expected 1 to 15"),
        (ArgMax(top_k=4, axis=1), (2, 3, 5), "top_k is 4; expected 1 to 3"),
        (ArgMax(axis=3), (2, 3, 5), "axis 3 is not one of a bottom of shape 2x3x5"),
        (ArgMax(), (), "its bottom is a scalar"),
    ],
)
def test_arg_max_refuses(layer, shape, reason):
    with pytest.raises(ValueError, match=reason):
        layer.top_shapes(shape)
