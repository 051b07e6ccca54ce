"""Deconvolution against Caffe's definition, one value at a time, and against OpenCV's own reader of Caffe."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

from converter.caffe_pb2 import NetParameter
from converter.prototxt import parse_prototxt
from graphs import infer
from graphs.layer import Filler
from graphs.layers.data import Input
from graphs.layers.deconvolution import Deconvolution
from graphs.network import Network, Node


def literal(x, weights, biases, outputs, kernel, stride=(1, 1), pad=(0, 0), dilation=(1, 1), group=1):
    """Returns the top: every value times the kernel, added where its window lies, what falls into the padding lost."""
    batch, inputs, height, width = x.shape
    size = [
        s * (length - 1) + d * (k - 1) + 1 - 2 * p
        for s, length, d, k, p in zip(stride, (height, width), dilation, kernel, pad)
    ]
    y = np.zeros((batch, outputs, *size))
    per_input, per_group = outputs // group, inputs // group
    for c, o, i, j in itertools.product(range(inputs), range(per_input), range(kernel[0]), range(kernel[1])):
        target = c // per_group * per_input + o
        for h, w in itertools.product(range(height), range(width)):
            row, column = h * stride[0] + i * dilation[0] - pad[0], w * stride[1] + j * dilation[1] - pad[1]
            if 0 <= row < size[0] and 0 <= column < size[1]:
                y[:, target, row, column] += x[:, c, h, w] * weights[c, o, i, j]
    return y if biases is None else y + biases[:, None, None]


# inputs, outputs, kernel, stride, pad, dilation, group
SIZES = {
    "plain": (3, 5, (3, 2), (1, 1), (0, 0), (1, 1), 1),
    "one by one": (3, 5, (1, 1), (1, 1), (0, 0), (1, 1), 1),
    "strided": (3, 5, (3, 3), (2, 3), (0, 0), (1, 1), 1),
    "stride larger than the kernel": (3, 5, (2, 1), (3, 4), (0, 0), (1, 1), 1),
    "padded as SAME pads": (3, 5, (4, 3), (2, 1), (1, 1), (1, 1), 1),
    "padded less than SAME pads": (3, 5, (5, 4), (2, 2), (1, 0), (1, 1), 1),
    "padded more than SAME pads": (3, 5, (4, 3), (3, 2), (2, 1), (1, 1), 1),
    "padded by more than the kernel": (3, 5, (2, 3), (3, 2), (3, 4), (1, 1), 1),
    "padded on one axis": (3, 5, (4, 3), (2, 2), (0, 1), (1, 1), 1),
    "dilated": (3, 5, (3, 2), (1, 1), (0, 0), (2, 3), 1),
    "dilated, strided, padded": (3, 5, (2, 3), (2, 3), (1, 2), (3, 2), 1),
    "groups": (4, 6, (3, 2), (2, 3), (1, 0), (1, 1), 2),
    "groups, dilated": (6, 3, (3, 2), (2, 1), (1, 1), (1, 2), 3),
    "a group for each input": (3, 6, (3, 3), (2, 2), (1, 1), (1, 1), 3),
    "depthwise": (5, 5, (3, 2), (2, 2), (0, 0), (1, 1), 5),
    "depthwise, padded as SAME pads": (5, 5, (4, 4), (2, 2), (1, 1), (1, 1), 5),
    "depthwise, padded": (5, 5, (5, 4), (3, 3), (2, 0), (1, 1), 5),
    "depthwise, unequal strides": (5, 5, (3, 4), (2, 3), (0, 0), (1, 1), 5),
    "depthwise, unequal strides, padded": (5, 5, (5, 3), (1, 2), (2, 1), (1, 1), 5),
    "depthwise, dilated": (5, 5, (3, 2), (2, 2), (1, 1), (2, 3), 5),
    "depthwise, all at once": (5, 5, (3, 2), (3, 2), (2, 1), (2, 3), 5),
    "depthwise, of two inputs each": (6, 3, (3, 2), (2, 2), (1, 1), (1, 1), 3),
}


def make(inputs, outputs, kernel, stride, pad, dilation, group, **more):
    return Deconvolution(
        num_output=outputs,
        kernel_h=kernel[0],
        kernel_w=kernel[1],
        stride_h=stride[0],
        stride_w=stride[1],
        pad_h=pad[0],
        pad_w=pad[1],
        dilation=dilation,
        group=group,
        **more,
    )


def test_against_the_definition(rng, agree_everywhere):
    cases = {}
    for name, (inputs, outputs, kernel, stride, pad, dilation, group) in SIZES.items():
        x = rng.standard_normal((2, inputs, 4, 5))
        weights = rng.standard_normal((inputs, outputs // group, *kernel))
        biases = rng.standard_normal(outputs)
        for given in (biases, None):
            layer = make(*SIZES[name], bias_term=given is not None)
            expected = literal(x, weights, given, outputs, kernel, stride, pad, dilation, group)
            arrays = (weights,) if given is None else (weights, given)
            cases[f"{name}, {'no ' if given is None else ''}bias"] = (layer, [x], expected, *arrays)
    agree_everywhere(cases, tolerance=5e-6)


def test_a_batch_that_another_layer_fixes(rng, run_layer, agree):
    x, weights = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((3, 5, 3, 2))
    layer = Deconvolution(num_output=5, kernel_h=3, kernel_w=2, stride=(2,), pad=(1,), bias_term=False)
    nodes = Node("x", Input((x.shape,)), (), ("x",)), Node("y", layer, ("x",), ("y",))
    assert infer(Network("n", nodes)).layers[-1].open_tops == ((-1, 5, 7, 8),)
    expected = literal(x, weights, None, 5, (3, 2), (2, 2), (1, 1))
    assert expected.shape == layer.top_shapes(x.shape)
    agree(run_layer(layer, [x], (weights,)), expected, 5e-6)


DEFINITION = """
layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: 2 dim: {inputs} dim: 7 dim: 11 }} }} }}
layer {{ name: "y" type: "Deconvolution" bottom: "x" top: "y" convolution_param {{
  num_output: {outputs} kernel_size: {kernel} stride: {stride} pad: {pad} group: {group} bias_term: false }} }}
"""


@pytest.mark.parametrize(
    ("inputs", "outputs", "kernel", "stride", "pad", "group"),
    [(3, 5, 4, 2, 1, 1), (3, 5, 3, 1, 0, 1), (5, 5, 4, 2, 1, 5)],
)
def test_against_opencv(inputs, outputs, kernel, stride, pad, group, rng, run_layer, agree):
    definition = DEFINITION.format(inputs=inputs, outputs=outputs, kernel=kernel, stride=stride, pad=pad, group=group)
    x = rng.standard_normal((2, inputs, 7, 11)).astype(np.float32)
    weights = rng.standard_normal((inputs, outputs // group, kernel, kernel)).astype(np.float32)
    model = NetParameter()
    described = parse_prototxt(definition).layer[1]
    blob = described.blobs.add(data=[weights.tobytes()])
    blob.shape.dim.extend(weights.shape)
    model.layer.append(described)
    net = cv2.dnn.readNetFromCaffe(bytearray(definition.encode()), bytearray(model.SerializeToString()))
    net.setInput(x, "x")
    layer = Deconvolution(
        num_output=outputs, kernel_size=(kernel,), stride=(stride,), pad=(pad,), group=group, bias_term=False
    )
    agree(run_layer(layer, [x], (weights,)), net.forward(), 1e-5)


def test_parameters_and_their_layouts():
    fillers = Filler(type="bilinear"), Filler(value=2)
    layer = Deconvolution(num_output=5, kernel_size=(4, 3), weight_filler=fillers[0], bias_filler=fillers[1])
    weights, biases = layer.parameters((2, 3, 7, 11))
    assert (weights.layout.caffe, weights.layout.tensorflow, weights.filler) == ((3, 5, 4, 3), (4, 3, 5, 3), fillers[0])
    assert (biases.layout.caffe, biases.filler) == ((5,), fillers[1])
    depthwise = Deconvolution(num_output=5, kernel_size=(4,), group=5, bias_term=False)
    (weights,) = depthwise.parameters((2, 10, 7, 11))
    assert (weights.layout.caffe, weights.layout.tensorflow) == ((10, 1, 4, 4), (4, 4, 5, 2))


def test_multiply_adds():
    layer = Deconvolution(num_output=6, kernel_size=(4, 3), group=2)
    bottom = (2, 4, 7, 11)
    assert layer.multiply_adds((bottom,), (layer.top_shapes(bottom),)) == 2 * 4 * 7 * 11 * 3 * 4 * 3


@pytest.mark.parametrize("group", [1, 5])
def test_gradients_reach_the_input(group, rng, gradient, agree):
    x = rng.standard_normal((1, 5, 3, 4))
    weights = rng.standard_normal((5, 5 // group, 4, 4))
    layer = Deconvolution(num_output=5, kernel_size=(4,), stride=(2,), pad=(1,), group=group, bias_term=False)
    slope = gradient(layer, [x], [weights])
    expected = np.empty_like(x)
    for index in np.ndindex(*x.shape):
        one = np.zeros_like(x)
        one[index] = 1
        expected[index] = literal(one, weights, None, 5, (4, 4), (2, 2), (1, 1), (1, 1), group).sum()
    agree(slope, expected, 5e-6)


@pytest.mark.parametrize(
    ("layer", "shape", "reason"),
    [
        (Deconvolution(kernel_size=(3,)), (2, 3, 4, 5), "num_output is 0; Caffe wants 1 or more"),
        (Deconvolution(num_output=5), (2, 3, 4, 5), "kernel_size is given 0 times; Caffe wants it once"),
        (Deconvolution(num_output=5, kernel_size=(3,), stride=(0,)), (2, 3, 4, 5), "stride is 0x0"),
        (Deconvolution(num_output=5, kernel_size=(3,), pad=(3,)), (2, 3, 4, 5), "pad 3x3 leaves nothing of its top"),
        (Deconvolution(num_output=4, kernel_size=(3,), group=2), (2, 3, 4, 5), "group 2 does not divide both its 3"),
        (Deconvolution(num_output=5, kernel_size=(3,), pad=(2,)), (2, 3, 2), "pad 2 leaves nothing of its top"),
    ],
)
def test_refuses(layer, shape, reason):
    with pytest.raises(ValueError, match=reason):
        layer.top_shapes(shape)
