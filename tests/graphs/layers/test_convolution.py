"""Convolution against a literal sum over windows."""

from __future__ import annotations

import numpy as np
import pytest

from graphs.layers.convolution import Convolution
from graphs.layers.windows import Windows


def literal(x, weights, biases, group, stride, pad, dilation):
    """Returns the convolution, one multiplication at a time along every axis but the batch."""
    outputs, inputs, kernel_h, kernel_w = weights.shape
    height = (x.shape[2] + 2 * pad[0] - dilation[0] * (kernel_h - 1) - 1) // stride[0] + 1
    width = (x.shape[3] + 2 * pad[1] - dilation[1] * (kernel_w - 1) - 1) // stride[1] + 1
    y = np.zeros((x.shape[0], outputs, height, width))
    for o in range(outputs):
        first = o // (outputs // group) * inputs
        for row in range(height):
            for column in range(width):
                for c in range(inputs):
                    for i in range(kernel_h):
                        for j in range(kernel_w):
                            r = row * stride[0] - pad[0] + i * dilation[0]
                            s = column * stride[1] - pad[1] + j * dilation[1]
                            if 0 <= r < x.shape[2] and 0 <= s < x.shape[3]:
                                y[:, o, row, column] += x[:, first + c, r, s] * weights[o, c, i, j]
                y[:, o, row, column] += biases[o]
    return y


CASES = {
    "plain": {"channels": 3, "num_output": 5, "kernel": (2, 2)},
    "rectangular": {"channels": 3, "num_output": 5, "kernel": (2, 5), "pad": (1, 0)},
    "unequal strides": {"channels": 3, "num_output": 5, "kernel": (3, 2), "stride": (3, 2), "pad": (2, 1)},
    "pad as SAME would, at stride 1": {"channels": 3, "num_output": 5, "kernel": (3, 5), "pad": (1, 2)},
    "pad as SAME would not, at stride 2": {
        "channels": 3,
        "num_output": 5,
        "kernel": (3, 3),
        "stride": (2, 2),
        "pad": (1, 1),
    },
    "pad wider than the kernel": {"channels": 2, "num_output": 3, "kernel": (2, 3), "pad": (4, 5)},
    "grouped": {"channels": 6, "num_output": 9, "kernel": (3, 2), "group": 3, "pad": (1, 1)},
    "grouped, one output each": {"channels": 6, "num_output": 3, "kernel": (2, 3), "group": 3},
    "dilated": {"channels": 2, "num_output": 3, "kernel": (3, 2), "dilation": (2, 3), "pad": (2, 3)},
    "dilated as SAME": {"channels": 2, "num_output": 3, "kernel": (3, 5), "dilation": (2, 1), "pad": (2, 2)},
    "grouped and dilated": {
        "channels": 4,
        "num_output": 6,
        "kernel": (3, 2),
        "group": 2,
        "dilation": (2, 1),
        "pad": (1, 0),
    },
    "depthwise": {"channels": 5, "num_output": 5, "kernel": (3, 2), "group": 5},
    "depthwise, padded": {"channels": 5, "num_output": 5, "kernel": (3, 3), "group": 5, "pad": (1, 1)},
    "depthwise, padded, strided": {
        "channels": 5,
        "num_output": 5,
        "kernel": (3, 3),
        "group": 5,
        "stride": (2, 2),
        "pad": (1, 1),
    },
    "depthwise, multiplier 2": {"channels": 3, "num_output": 6, "kernel": (2, 3), "group": 3, "pad": (0, 2)},
    "depthwise, unequal strides": {
        "channels": 3,
        "num_output": 3,
        "kernel": (3, 2),
        "group": 3,
        "stride": (2, 3),
        "pad": (1, 0),
    },
    "depthwise, dilated": {
        "channels": 3,
        "num_output": 6,
        "kernel": (3, 2),
        "group": 3,
        "dilation": (2, 3),
        "pad": (1, 2),
    },
    "depthwise, dilated, strided": {
        "channels": 3,
        "num_output": 3,
        "kernel": (3, 2),
        "group": 3,
        "dilation": (2, 2),
        "stride": (2, 2),
        "pad": (1, 2),
    },
    "dilated, strided": {
        "channels": 2,
        "num_output": 3,
        "kernel": (2, 3),
        "dilation": (3, 2),
        "stride": (2, 3),
        "pad": (1, 2),
    },
    "one channel in one group": {"channels": 1, "num_output": 3, "kernel": (3, 2)},
    "one by one": {"channels": 7, "num_output": 3, "kernel": (1, 1)},
    "one by one, strided": {"channels": 7, "num_output": 3, "kernel": (1, 1), "stride": (2, 3)},
    "whole picture": {"channels": 2, "num_output": 3, "kernel": (10, 13)},
}


def make(case, rng, bias_term=True, batch=2):
    kernel, group = case["kernel"], case.get("group", 1)
    stride, pad, dilation = case.get("stride", (1, 1)), case.get("pad", (0, 0)), case.get("dilation", (1, 1))
    layer = Convolution(
        num_output=case["num_output"],
        bias_term=bias_term,
        group=group,
        kernel_h=kernel[0],
        kernel_w=kernel[1],
        stride_h=stride[0],
        stride_w=stride[1],
        pad_h=pad[0],
        pad_w=pad[1],
        dilation=dilation,
    )
    x = rng.standard_normal((batch, case["channels"], 10, 13))
    weights = rng.standard_normal((case["num_output"], case["channels"] // group, *kernel))
    biases = rng.standard_normal(case["num_output"])
    expected = literal(x, weights, biases if bias_term else np.zeros_like(biases), group, stride, pad, dilation)
    return layer, x, (weights, biases)[: 1 + bias_term], expected


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("bias_term", [True, False])
def test_reference_and_graph_against_literal_sums(name, bias_term, rng, run_layer, agree):
    layer, x, arrays, expected = make(CASES[name], rng, bias_term)
    assert layer.top_shapes(x.shape) == expected.shape
    agree(layer.reference(x, *arrays), expected, 1e-13, "reference")
    agree(run_layer(layer, [x], arrays), expected, 2e-6, "graph")


@pytest.mark.parametrize("name", ["grouped", "depthwise, unequal strides", "dilated"])
def test_another_batch_than_the_definitions(name, rng, run_layer, agree):
    layer, x, arrays, expected = make(CASES[name], rng, batch=5)
    agree(run_layer(layer, [x], arrays, defined=[(2, *x.shape[1:])]), expected, 2e-6)


def test_both_spellings_of_sizes_are_one(rng):
    twice = Convolution(num_output=2, kernel_size=(3, 2), stride=(2, 3), pad=(1, 0))
    by_axis = Convolution(num_output=2, kernel_h=3, kernel_w=2, stride_h=2, stride_w=3, pad_h=1, pad_w=0)
    for layer in (twice, by_axis):
        assert layer.windows((2, 3, 5, 7)) == Windows((3, 2), (2, 3), (1, 0), (1, 1))
    assert Convolution(num_output=2, kernel_size=(3,)).windows((2, 3, 5, 7)).kernel == (3, 3)


def test_seven_by_seven_stride_two(rng, run_layer, agree):
    # On an even size SAME would make as many windows, a pixel further down.
    case = {"channels": 3, "num_output": 2, "kernel": (7, 7), "stride": (2, 2), "pad": (3, 3)}
    layer, x, arrays, expected = make(case, rng)
    agree(run_layer(layer, [x], arrays), expected, 2e-6)


@pytest.mark.parametrize(
    ("layer", "shape", "reason"),
    [
        (Convolution(num_output=5, kernel_size=(3,)), (2, 3, 2, 7), "is larger than its bottom, 2x3x2x7"),
        (Convolution(num_output=5), (2, 3, 5, 7), "kernel_size is given 0 times; Caffe wants it once"),
        (Convolution(num_output=5, kernel_size=(0,)), (2, 3, 5, 7), "kernel_size is 0x0; Caffe wants 1 or more"),
        (Convolution(num_output=5, kernel_size=(2,), stride=(0,)), (2, 3, 5, 7), "stride is 0x0"),
        (Convolution(kernel_size=(2,)), (2, 3, 5, 7), "num_output is 0; Caffe wants 1 or more"),
        (
            Convolution(num_output=5, kernel_size=(2,), group=2),
            (2, 4, 5, 7),
            "group 2 does not divide both its 4 input channels and num_output 5",
        ),
        (Convolution(num_output=4, kernel_size=(2,), group=2), (2, 3, 5, 7), "group 2 does not divide both its 3"),
        (Convolution(num_output=5, kernel_size=(2, 3, 4)), (2, 3, 5, 7), "kernel_size is given 3 times"),
        (Convolution(num_output=5, kernel_h=2), (2, 3, 5, 7), "sets only one of kernel_h and kernel_w"),
        (
            Convolution(num_output=5, kernel_size=(2,), kernel_h=2, kernel_w=2),
            (2, 3, 5, 7),
            "sets both kernel_size and kernel_h or kernel_w",
        ),
    ],
)
def test_refuses_what_caffe_refuses(layer, shape, reason):
    with pytest.raises(ValueError, match=reason):
        layer.top_shapes(shape)


def test_counts_multiply_adds():
    layer = Convolution(num_output=256, kernel_size=(5,), pad=(2,), group=2)
    assert layer.multiply_adds(((1, 96, 27, 27),), ((1, 256, 27, 27),)) == 27 * 27 * 256 * 48 * 25
