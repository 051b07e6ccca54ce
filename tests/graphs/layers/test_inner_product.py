"""InnerProduct on every rank and axis: one dot product at a time, in Caffe's C, H, W order."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from graphs.layers.inner_product import InnerProduct

SIZES = (2, 3, 5, 7, 4)
OUTPUTS = 11


def literal(x, weights, biases, axis, transpose):
    flat = x.reshape(-1, int(np.prod(x.shape[axis:])))  # NumPy flattens as Caffe does: the last axis fastest
    y = np.zeros((len(flat), OUTPUTS))
    for row in range(len(flat)):
        for o in range(OUTPUTS):
            y[row, o] = biases[o] + sum(
                flat[row, k] * (weights[k, o] if transpose else weights[o, k]) for k in range(flat.shape[1])
            )
    return y.reshape(*x.shape[:axis], OUTPUTS)


CASES = [(rank, axis) for rank in (1, 2, 3, 4, 5) for axis in range(rank)]


@pytest.mark.parametrize(("rank", "axis"), CASES)
def test_reference_and_graph_against_dot_products(rank, axis, rng, run_layer, agree):
    x = rng.standard_normal(SIZES[:rank])
    count = int(np.prod(x.shape[axis:]))
    for transpose, bias_term in itertools.product((False, True), (False, True)):
        weights = rng.standard_normal((count, OUTPUTS) if transpose else (OUTPUTS, count))
        biases = rng.standard_normal(OUTPUTS) if bias_term else np.zeros(OUTPUTS)
        arrays = (weights, biases)[: 1 + bias_term]
        expected = literal(x, weights, biases, axis, transpose)
        for spelling in (axis, axis - rank):
            layer = InnerProduct(num_output=OUTPUTS, axis=spelling, transpose=transpose, bias_term=bias_term)
            what = f"axis {spelling}, transpose {transpose}, bias_term {bias_term}"
            assert layer.top_shapes(x.shape) == expected.shape
            agree(layer.reference(x, *arrays), expected, 1e-13, f"reference, {what}")
            agree(run_layer(layer, [x], arrays), expected, 2e-6, f"graph, {what}")


@pytest.mark.parametrize(("rank", "axis"), [(2, 1), (4, 1), (4, 2), (5, 1), (5, 4)])
def test_another_batch_than_the_definitions(rank, axis, rng, run_layer, agree):
    x = rng.standard_normal((6, *SIZES[1:rank]))
    weights = rng.standard_normal((OUTPUTS, int(np.prod(x.shape[axis:]))))
    biases = rng.standard_normal(OUTPUTS)
    layer = InnerProduct(num_output=OUTPUTS, axis=axis)
    expected = literal(x, weights, biases, axis, False)
    agree(run_layer(layer, [x], (weights, biases), defined=[SIZES[:rank]]), expected, 2e-6)


def test_refuses_what_caffe_refuses():
    with pytest.raises(ValueError, match="num_output is 0; Caffe wants 1 or more"):
        InnerProduct().top_shapes((2, 3))
    with pytest.raises(ValueError, match="axis 2 is not one of a bottom of shape 2x3"):
        InnerProduct(num_output=5, axis=2).top_shapes((2, 3))


def test_counts_multiply_adds():
    assert InnerProduct(num_output=4096).multiply_adds(((2, 256, 6, 6),), ((2, 4096),)) == 2 * 4096 * 9216
