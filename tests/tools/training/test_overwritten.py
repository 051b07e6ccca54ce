"""Where Caffe's backward pass would read what was overwritten: found, and nothing else is."""

from __future__ import annotations

import pytest
from google.protobuf import text_format

from converter.caffe_pb2 import NetParameter
from converter.describe import Request, describe
from converter.rules import State
from graphs.network import infer
from tools.training.overwritten import losing_gradient, overwritten, without_gradient

DATA = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 5 dim: 3 dim: 11 dim: 7 } } }'
CONV = (
    'layer { name: "conv" type: "Convolution" bottom: "data" top: "x" '
    "convolution_param { num_output: 4 kernel_size: 3 } }"
)
END = (
    'layer { name: "sum" type: "Reduction" bottom: "%s" top: "sum" reduction_param { operation: SUM } loss_weight: 1 }'
)


def shapes(*types, before=DATA + CONV, end="x"):
    """Returns a network whose layers of ``types``, each a type and what else it says, all work in place on x."""
    layers = "".join(
        f'layer {{ name: "l{at}" type: "{kind}" bottom: "x" top: "x" {more} }}'
        for at, (kind, _, more) in enumerate(one.partition(" ") for one in types)
    )
    message = text_format.Parse(before + layers + END % end, NetParameter())
    return infer(describe(message, Request(State("TRAIN"))).network)


@pytest.mark.parametrize(
    ("types", "node", "writer"),
    [
        (["BNLL"], "l0", "l0"),
        (["Clip clip_param { min: -1 max: 1 }"], "l0", "l0"),
        (["Log"], "l0", "l0"),
        (["Power power_param { power: 2 }"], "l0", "l0"),
        (["ReLU relu_param { negative_slope: -0.5 }"], "l0", "l0"),
        (["ELU elu_param { alpha: -1 }"], "l0", "l0"),
        (["ReLU", "BatchNorm"], "l0", "l1"),
        (["ReLU", "Dropout", "Scale"], "l0", "l2"),
        (["Sigmoid", "Dropout"], "l0", "l1"),
        (["TanH", "Dropout"], "l0", "l1"),
        (["ELU", "Dropout"], "l0", "l1"),
        (["Exp", "Power power_param { shift: 1 }"], "l0", "l1"),
        (["MVN", "ReLU"], "l0", "l1"),
        (["ReLU", "Sigmoid"], "l0", "l1"),
    ],
    ids=lambda one: "_".join(part.split()[0] for part in one) if isinstance(one, list) else "",
)
def test_overwritten_values_are_found(types, node, writer):
    found = [(one.node.name, one.writer.name) for one in overwritten(shapes(*types))]
    assert found == [(node, writer)]


@pytest.mark.parametrize(
    "types",
    [
        ["ReLU", "Dropout"],
        ["ReLU relu_param { negative_slope: 0.1 }", "Dropout"],
        ["BatchNorm", "Scale", "ReLU"],
        ["BatchNorm", "Scale", "ELU"],
        ["Sigmoid", "ReLU"],
        ["TanH"],
        ["Swish"],
        ["PReLU", "BatchNorm"],
        ["Scale", "Bias", "Dropout"],
        [
            "Power power_param { scale: 2 shift: 1 }",
            "Power power_param { scale: 3 }",
        ],
        ["MVN mvn_param { normalize_variance: false }", "ReLU"],
        ["Dropout", "Dropout"],
    ],
    ids=lambda one: "_".join(part.split()[0] for part in one),
)
def test_what_caffe_keeps_or_does_not_read_is_not_taken_for_it(types):
    assert list(overwritten(shapes(*types))) == []


def test_nothing_is_overwritten_below_what_learns():
    assert list(overwritten(shapes("Log", "BNLL", before=DATA.replace('top: "data"', 'top: "x"')))) == []
    frozen = CONV.replace("convolution_param", "param { lr_mult: 0 } param { lr_mult: 0 } convolution_param")
    assert list(overwritten(shapes("Log", before=DATA + frozen))) == []


def test_a_view_shares_its_bottom_s_memory():
    views = (
        'layer { name: "s" type: "Sigmoid" bottom: "x" top: "s" }'
        'layer { name: "v" type: "Flatten" bottom: "s" top: "v" }'
        'layer { name: "d" type: "Dropout" bottom: "v" top: "v" }'
    )
    (found,) = overwritten(shapes(before=DATA + CONV + views, end="v"))
    assert str(found) == (
        "layer 's' (Sigmoid): Caffe's gradient reads 's', which layer 'd' (Dropout) has overwritten in place by then, "
        "and so is not the derivative; that is not repeated here: give the top of 'd' a name of its own"
    )


def test_layers_without_a_gradient_are_found_where_one_is_needed():
    threshold = 'layer { name: "t" type: "Threshold" bottom: "x" top: "t" %s }'
    assert [node.name for node in without_gradient(shapes(before=DATA + CONV + threshold % "", end="t"))] == ["t"]
    assert without_gradient(shapes(before=DATA + CONV + threshold % "propagate_down: false", end="t")) == []
    assert without_gradient(shapes(before=DATA + CONV + threshold % "", end="x")) == []
    assert without_gradient(shapes(before=DATA + (threshold % "").replace('"x"', '"data"'), end="t")) == []


@pytest.mark.parametrize("kind", ["Power power_param { scale: 2 }", "Power", "MVN"])
def test_a_gradient_that_caffe_overwrites_before_it_has_read_it(kind):
    assert list(losing_gradient(shapes(kind))) == [
        f"layer 'l0' ({kind.split()[0]}): works in place, where Caffe writes the gradient of its bottom over that of "
        "its top before it has read it; that is not repeated here: give its top a name of its own"
    ]


@pytest.mark.parametrize(
    "kind",
    ["Power power_param { scale: 0 }", "MVN mvn_param { normalize_variance: false }", "Scale", "BatchNorm", "ELU"],
)
def test_gradients_that_caffe_reads_first(kind):
    assert list(losing_gradient(shapes(kind))) == []
    assert list(losing_gradient(shapes("MVN", before=DATA.replace('top: "data"', 'top: "x"')))) == []


def test_a_flatten_leaves_a_parameter_without_a_gradient():
    parameter = 'layer { name: "p" type: "Parameter" top: "p" parameter_param { shape { dim: 2 dim: 3 } } %s }'
    view = 'layer { name: "f" type: "Flatten" bottom: "p" top: "f" }'
    reason = (
        "layer 'f' (Flatten): reads layer 'p' (Parameter), which so gets no gradient in Caffe; that is not repeated "
        "here: let a Reshape read it, or say lr_mult: 0 in its param"
    )
    assert list(losing_gradient(shapes(before=parameter % "" + view, end="f"))) == [reason]
    assert list(losing_gradient(shapes(before=parameter % "param { lr_mult: 0 }" + view, end="f"))) == []
    split = 'layer { name: "s" type: "Silence" bottom: "p" }'
    assert list(losing_gradient(shapes(before=parameter % "" + view + split, end="f"))) == []


STEPS = (
    'layer { name: "cont" type: "Input" top: "cont" input_param { shape { dim: %d dim: 2 } } }'
    'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: %d dim: 2 dim: 7 } } }'
    'layer { name: "h0" type: "Input" top: "h0" input_param { shape { dim: 1 dim: 2 dim: 3 } } }'
    'layer { name: "c0" type: "Input" top: "c0" input_param { shape { dim: 1 dim: 2 dim: 3 } } }'
)
LSTM = (
    'layer { name: "r" type: "LSTM" bottom: "data" bottom: "cont" bottom: "h0" bottom: "c0" top: "y" top: "h" top: "c" '
    "recurrent_param { num_output: 3 expose_hidden: true } }"
)
RNN = LSTM.replace("LSTM", "RNN").replace('bottom: "c0"', "").replace('top: "c"', "")


@pytest.mark.parametrize(
    ("layer", "steps", "blob", "is_found"),
    [
        (LSTM, 1, "y", False),
        (LSTM, 3, "h", False),
        (LSTM, 3, "c", True),
        (RNN, 1, "y", True),
        (RNN, 3, "y", False),
        (RNN, 3, "h", True),
    ],
)
def test_states_of_a_recurrent_layer_changed_in_place(layer, steps, blob, is_found):
    change = f'layer {{ name: "b" type: "Bias" bottom: "{blob}" top: "{blob}" }}'
    found = list(overwritten(shapes(before=STEPS % (steps, steps) + layer + change, end=blob)))
    assert [(one.node.name, one.blob, one.writer.name) for one in found] == [("r", blob, "b")] * is_found


def test_a_parameter_that_is_a_loss_by_itself():
    parameter = 'layer { name: "p" type: "Parameter" top: "p" parameter_param { shape { dim: 3 } } loss_weight: 1 }'
    network = infer(describe(text_format.Parse(parameter, NetParameter()), Request(State("TRAIN"))).network)
    assert list(losing_gradient(network)) == [
        "layer 'p' (Parameter): has a loss_weight and no reader; Caffe makes a loss of 0 of it; take it out"
    ]


def test_one_by_one_columns_in_place_lose_their_gradient():
    point = CONV.replace("kernel_size: 3", "kernel_h: 11 kernel_w: 7")
    columns = "Im2col convolution_param { kernel_size: 1 stride: 3 }"
    (reason,) = losing_gradient(shapes(columns, before=DATA + point))
    assert reason.startswith("layer 'l0' (Im2col): works in place, where Caffe writes the gradient of its bottom over")
