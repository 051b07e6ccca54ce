"""BatchNorm and Scale on every rank and axis, against one formula per value."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from graphs.layers.normalization import BatchNorm, Scale

SIZES = (2, 3, 5, 7, 11)


@pytest.mark.parametrize("rank", [2, 3, 4, 5])
@pytest.mark.parametrize("factor", [1.0, 999.0, 0.25, 0.0])
def test_batch_norm_with_stored_statistics(rank, factor, rng, run_layer, agree):
    x = rng.standard_normal(SIZES[:rank]) * 2 + 1
    mean, variance = rng.standard_normal(3), rng.uniform(0.5, 2, 3)
    expected = np.empty_like(x)
    for index in np.ndindex(*x.shape):  # the file has sums, and the factor that they grew by; 0 makes both 0
        m, v = (mean[index[1]] / factor, variance[index[1]] / factor) if factor else (0, 0)
        expected[index] = (x[index] - m) / np.sqrt(v + 0.01)
    layer = BatchNorm(eps=0.01)
    arrays = (mean, variance, np.array([factor]))
    agree(layer.reference(x, *arrays), expected, 1e-13, "reference")
    agree(run_layer(layer, [x], arrays), expected, 2e-6, "graph")


@pytest.mark.parametrize("rank", [2, 3, 4, 5])
def test_batch_norm_with_the_batchs_own_statistics(rank, rng, run_layer, agree):
    x = rng.standard_normal(SIZES[:rank]) * 2 + 1
    expected = np.empty_like(x)
    for c in range(3):
        values = x[:, c]
        mean = values.sum() / values.size
        expected[:, c] = (values - mean) / np.sqrt(((values - mean) ** 2).sum() / values.size + 1e-5)
    arrays = (rng.standard_normal(3), rng.uniform(0.5, 2, 3), np.array([2.0]))
    agree(BatchNorm(use_global_stats=False).reference(x, *arrays), expected, 1e-13, "reference")
    agree(run_layer(BatchNorm(use_global_stats=False), [x], arrays), expected, 1e-5, "graph")
    agree(run_layer(BatchNorm(), [x], arrays, phase="TRAIN"), expected, 1e-5, "graph in TRAIN")


def scaled(x, factor, axis, bias=None):
    """Returns x times the factor that spans its axes from ``axis`` on, a value at a time."""
    y = np.empty_like(x)
    for index in np.ndindex(*x.shape):
        within = index[axis : axis + factor.ndim] if factor.ndim else ()
        y[index] = x[index] * factor[within] + (0 if bias is None else bias[within])
    return y


def spans(rank):
    """Yields (axis, num_axes, the axes that they mean), every one that Caffe accepts and both spellings of an axis."""
    for axis, count in itertools.product(range(rank), range(-1, rank + 1)):
        if axis + count <= rank:
            end = rank if count == -1 else axis + count
            yield axis, count, (axis, end)
            yield axis - rank, count, (axis, end)


@pytest.mark.parametrize("rank", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("bias_term", [False, True])
def test_scale_by_a_parameter(rank, bias_term, rng, run_layer, agree):
    for axis, num_axes, (start, end) in spans(rank):
        x = rng.standard_normal(SIZES[:rank])
        factor, bias = rng.standard_normal((2, *x.shape[start:end]))
        layer = Scale(axis=axis, num_axes=num_axes, bias_term=bias_term)
        arrays = (factor, bias)[: 1 + bias_term]
        what = f"axis {axis}, num_axes {num_axes}"
        expected = scaled(x, factor, start, bias if bias_term else None)
        agree(layer.reference(x, *arrays), expected, 1e-14, f"reference, {what}")
        agree(run_layer(layer, [x], arrays), expected, 1e-6, f"graph, {what}")


@pytest.mark.parametrize("rank", [1, 2, 3, 4, 5])
def test_scale_by_a_second_bottom(rank, rng, run_layer, agree):
    for axis, num_axes, (start, end) in spans(rank):
        x = rng.standard_normal(SIZES[:rank])
        factor = rng.standard_normal(x.shape[start:end])
        if num_axes == -1 or factor.ndim == 0:
            continue  # the second bottom says how many axes; one without axes can't be fed by Caffe's Input
        layer = Scale(axis=axis)
        expected = scaled(x, factor, start)
        agree(layer.reference(x, factor), expected, 1e-14, f"reference, axes {start} to {end}")
        agree(run_layer(layer, [x, factor]), expected, 1e-6, f"graph, axes {start} to {end}")


def test_scale_by_a_second_bottom_with_a_bias(rng, run_layer, agree):
    x, factor, bias = rng.standard_normal((2, 3, 5, 7)), rng.standard_normal((3, 5)), rng.standard_normal((3, 5))
    layer = Scale(bias_term=True)
    agree(layer.reference(x, factor, bias), scaled(x, factor, 1, bias), 1e-14)
    agree(run_layer(layer, [x, factor], (bias,)), scaled(x, factor, 1, bias), 1e-6)


def test_another_batch_than_the_definitions(rng, run_layer, agree):
    x = rng.standard_normal((5, 3, 7, 11))
    factor, bias = rng.standard_normal((2, 3))
    scaling = Scale(bias_term=True)
    agree(run_layer(scaling, [x], (factor, bias), defined=[(2, 3, 7, 11)]), scaled(x, factor, 1, bias), 1e-6)
    per_picture = rng.standard_normal((5, 3))  # a factor for each channel of each picture, as attention has it
    run = run_layer(Scale(axis=0), [x, per_picture], defined=[(2, 3, 7, 11), (2, 3)])
    agree(run, scaled(x, per_picture, 0), 1e-6)


def test_scale_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="3 axes from axis 1 on are more than its bottom has, 2x3x5"):
        Scale(num_axes=3).top_shapes((2, 3, 5))
    with pytest.raises(ValueError, match="its second bottom has the shape 5; expected 3"):
        Scale().top_shapes((2, 3, 5), (5,))
    with pytest.raises(ValueError, match="axis 3 is not one of a bottom of shape 2x3x5"):
        Scale(axis=3).top_shapes((2, 3, 5))
