"""Depthwise convolution under its forks' names, window by window."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from graphs.layers.depthwise import ConvolutionDepthwise, DepthwiseConvolution

TYPES = (ConvolutionDepthwise, DepthwiseConvolution)


def by_the_letter(x, weights, biases, stride, pad, dilation):
    kernel = weights.shape[2:]
    out = [
        (size + 2 * p - (d * (k - 1) + 1)) // s + 1
        for size, p, d, k, s in zip(x.shape[2:], pad, dilation, kernel, stride)
    ]
    y = np.zeros((*x.shape[:2], *out))
    for n, c, h, w in np.ndindex(*y.shape):
        total = float(biases[c]) if biases is not None else 0.0
        for i, j in np.ndindex(*kernel):
            row, column = h * stride[0] - pad[0] + i * dilation[0], w * stride[1] - pad[1] + j * dilation[1]
            if 0 <= row < x.shape[2] and 0 <= column < x.shape[3]:
                total += float(x[n, c, row, column]) * float(weights[c, 0, i, j])
        y[n, c, h, w] = total
    return y


def test_depthwise(rng, agree_everywhere):
    cases = {}
    spellings = [{}, {"num_output": 5}, {"group": 5}, {"num_output": 5, "group": 5}]
    windows = [((3, 2), (1, 1), (1, 1), (1, 1)), ((3, 3), (2, 2), (1, 1), (1, 1)), ((3, 2), (2, 3), (0, 1), (2, 1))]
    for definition, spelling, (kernel, stride, pad, dilation) in itertools.product(TYPES, spellings, windows):
        has_bias = spelling != {}
        x = rng.standard_normal((2, 5, 11, 13)).astype(np.float32)
        weights = rng.standard_normal((5, 1, *kernel)).astype(np.float32)
        biases = rng.standard_normal(5).astype(np.float32) if has_bias else None
        layer = definition(
            **spelling, bias_term=has_bias, kernel_size=kernel, stride=stride, pad=pad, dilation=dilation
        )
        expected = by_the_letter(x, weights, biases, stride, pad, dilation)
        arrays = [weights, biases] if has_bias else [weights]
        cases[f"{layer.type} {spelling}, {kernel} {stride}"] = (layer, [x], expected, *arrays)
    agree_everywhere(cases)


def test_one_channel(rng, agree_everywhere):
    x, weights = rng.standard_normal((2, 1, 5, 7)).astype(np.float32), rng.standard_normal((1, 1, 3, 3))
    weights = weights.astype(np.float32)
    layer = ConvolutionDepthwise(bias_term=False, kernel_size=(3,))
    agree_everywhere({"1": (layer, [x], by_the_letter(x, weights, None, (1, 1), (0, 0), (1, 1)), weights)})


def test_parameters_and_multiply_adds():
    layer = DepthwiseConvolution(num_output=5, group=5, kernel_size=(3,))
    assert [spec.layout.caffe for spec in layer.parameters((2, 5, 11, 13))] == [(5, 1, 3, 3), (5,)]
    assert layer.multiply_adds(((2, 5, 11, 13),), ((2, 5, 9, 11),)) == 2 * 5 * 9 * 11 * 9


@pytest.mark.parametrize("definition", TYPES)
@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"num_output": 10}, "num_output is 10 for 5 channels"),
        ({"group": 2}, "group is 2 for 5 channels"),
        ({}, "kernel_size is given 0 times"),
    ],
)
def test_refuses(definition, options, reason):
    with pytest.raises(ValueError, match=reason):
        definition(**options).top_shapes((2, 5, 11, 13))
