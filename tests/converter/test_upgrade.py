"""Older spellings become today's, as Caffe's own upgrade has it."""

from __future__ import annotations

import pytest

from converter.prototxt import parse_prototxt
from converter.upgrade import upgrade
from weights import Refused


def test_input_dim_becomes_a_layer():
    today = upgrade(
        parse_prototxt(
            'input: "a" input: "b" input_dim: 1 input_dim: 2 input_dim: 3 input_dim: 4 '
            "input_dim: 5 input_dim: 6 input_dim: 7 input_dim: 8 "
            'layer { name: "y" type: "ReLU" bottom: "a" top: "y" }'
        )
    )
    assert [layer.type for layer in today.layer] == ["Input", "ReLU"]
    assert list(today.layer[0].top) == ["a", "b"]
    assert [list(shape.dim) for shape in today.layer[0].input_param.shape] == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert not today.input
    assert not today.input_dim


def test_input_shape_becomes_a_layer():
    today = upgrade(
        parse_prototxt('input: "a" input_shape { dim: 2 dim: 3 dim: 5 } layer { name: "y" type: "ReLU" bottom: "a" }')
    )
    assert [list(shape.dim) for shape in today.layer[0].input_param.shape] == [[2, 3, 5]]


def test_layers_of_2014_become_todays():
    (layer,) = upgrade(
        parse_prototxt(
            'layers { name: "c" type: CONVOLUTION bottom: "a" top: "c" param: "w" param: "b" '
            "blobs_lr: 1 blobs_lr: 2 weight_decay: 1 weight_decay: 0 include { phase: TEST } loss_weight: 0.5 "
            "convolution_param { num_output: 5 kernel_size: 3 group: 2 } }"
        )
    ).layer
    assert (layer.name, layer.type, list(layer.bottom), list(layer.top)) == ("c", "Convolution", ["a"], ["c"])
    assert [(spec.name, spec.lr_mult, spec.decay_mult) for spec in layer.param] == [("w", 1, 1), ("b", 2, 0)]
    assert layer.convolution_param.num_output == 5
    assert list(layer.convolution_param.kernel_size) == [3]
    assert layer.convolution_param.group == 2
    assert list(layer.loss_weight) == [0.5]
    assert len(layer.include) == 1


@pytest.mark.parametrize(
    ("old", "today"),
    [
        ("RELU", "ReLU"),
        ("INNER_PRODUCT", "InnerProduct"),
        ("SOFTMAX_LOSS", "SoftmaxWithLoss"),
        ("TANH", "TanH"),
        ("BNLL", "BNLL"),
        ("ABSVAL", "AbsVal"),
        ("ARGMAX", "ArgMax"),
        ("MVN", "MVN"),
        ("HDF5_DATA", "HDF5Data"),
        ("SIGMOID_CROSS_ENTROPY_LOSS", "SigmoidCrossEntropyLoss"),
    ],
)
def test_types_of_2014(old, today):
    assert upgrade(parse_prototxt(f'layers {{ name: "a" type: {old} }}')).layer[0].type == today


def test_todays_definition_stays_as_it_is():
    message = parse_prototxt('name: "n" layer { name: "y" type: "ReLU" bottom: "a" relu_param { negative_slope: 2 } }')
    assert upgrade(message) == message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            'layer { name: "a" type: "ReLU" } layers { name: "b" type: RELU }',
            "has both 'layer' and 'layers' entries; Caffe accepts one vintage in a file",
        ),
        ('input_dim: 1 layer { name: "a" type: "ReLU" }', "gives input_dim or input_shape without input"),
        (
            'input: "a" input_dim: 1 input_dim: 3 layer { name: "a" type: "ReLU" }',
            "gives 2 input_dim values for 1 inputs; expected 4 for each",
        ),
        (
            'input: "a" input: "b" input_shape { dim: 1 } layer { name: "a" type: "ReLU" }',
            "gives 1 input_shape entries for 2 inputs; expected one for each",
        ),
        (
            'input: "a" input_shape { dim: 1 } input_dim: 1 layer { name: "a" type: "ReLU" }',
            "gives both input_shape and input_dim; Caffe accepts one spelling",
        ),
        ('layers { name: "b" }', "layer 'b': has no type; expected one such as CONVOLUTION"),
    ],
)
def test_refuses_what_caffe_refuses(text, reason):
    with pytest.raises(Refused) as refusal:
        upgrade(parse_prototxt(text))
    assert reason in str(refusal.value)
