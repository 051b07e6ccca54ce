"""What Caffe counts twice or not at all: found, and nothing else is. Each net was run by Caffe's own solver: where it
is found the numbers are others than the derivative gives, elsewhere they agree."""

from __future__ import annotations

import pytest
from google.protobuf import text_format

from converter.caffe_pb2 import NetParameter
from converter.describe import Request, describe
from converter.rules import State
from graphs.names import name_values
from graphs.network import infer
from tools.training.miscounted import miscounted
from tools.training.trainable import frozen_in_part

INPUTS = (
    'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 4 dim: 5 } } }'
    'layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 4 } } }'
)
FC = 'layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 3 } }'
SEQUENCE = (
    'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 3 dim: 2 dim: 4 } } }'
    'layer { name: "cont" type: "Input" top: "cont" input_param { shape { dim: 3 dim: 2 } } }'
    'layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 4 axis: 2 } }'
)


def one(kind, bottoms, tops, more="", name=""):
    """Returns a layer; blobs are one letter or word each, divided by spaces."""
    blobs = [f'bottom: "{blob}"' for blob in bottoms.split()] + [f'top: "{blob}"' for blob in tops.split()]
    return f'layer {{ name: "{name or kind}" type: "{kind}" {" ".join(blobs)} {more} }}'


def loss(more="", scores="fc", kind="SoftmaxWithLoss"):
    return one(kind, f"{scores} label", "loss" if kind == "SoftmaxWithLoss" else "other", more)


def placed(layers):
    shapes = infer(describe(text_format.Parse(layers, NetParameter()), Request(State("TRAIN"))).network)
    return shapes, name_values(shapes)


def told(layers):
    return list(miscounted(placed(layers)[0]))


RECURRENT = "recurrent_param { num_output: 3 }"
STOPPED = "propagate_down: false propagate_down: false"
SQUARES = one("Reduction", "fc", "squares", "reduction_param { operation: SUMSQ } loss_weight: 0.1")
SIGMOID = one("Sigmoid", "fc", "fc")

FOUND = {
    "a loss that is read": (
        INPUTS + FC + loss() + one("Silence", "loss", ""),
        "layer 'SoftmaxWithLoss' (SoftmaxWithLoss): layer 'Silence' (Silence) reads its loss, which Caffe then counts "
        "twice, or does not learn from; take out what reads it, or say loss_weight: 0",
    ),
    "a weighed loss that is read": (
        INPUTS + FC + loss("loss_weight: 2") + one("Power", "loss", "p", "loss_weight: 0.5"),
        "layer 'SoftmaxWithLoss' (SoftmaxWithLoss): layer 'Power' (Power) reads its loss, which Caffe then counts "
        "twice, or does not learn from; take out what reads it, or say loss_weight: 0",
    ),
    "weights of several tops": (
        INPUTS
        + FC
        + one("Slice", "fc", "a b c", "loss_weight: 0.5 loss_weight: 0.3 loss_weight: 0.2")
        + one("Power", "b", "p", "loss_weight: 1"),
        "layer 'Slice' (Slice): of its tops with a loss_weight others are read, and Caffe drops the loss_weight of "
        "'a', 'c' then; take it out, or give it to a layer of its own",
    ),
    "a weight in place": (
        INPUTS + FC + one("Sigmoid", "fc", "fc", "loss_weight: 0.1"),
        "layer 'Sigmoid' (Sigmoid): the loss_weight of 'fc', which is made in place, is overwritten by Caffe's first "
        "backward pass; give it a top of its own, or a layer after it (Power) the loss_weight",
    ),
    "a weight of a view": (
        INPUTS + FC + SIGMOID + one("Flatten", "fc", "v", "loss_weight: 0.1"),
        "layer 'Flatten' (Flatten): the loss_weight of 'v', which is made in place, is overwritten by Caffe's first "
        "backward pass; give it a top of its own, or a layer after it (Power) the loss_weight",
    ),
    **{
        f"{name} leaves its gradient": (
            layers,
            f"layer '{name}' ({name}): leaves numbers of its own in Caffe where the gradient of 'fc' is summed up, of "
            "which it is not to be a part; that is not repeated here: give it a copy of that blob made by another "
            "layer (Power), or take it out",
        )
        for name, layers in {
            "HingeLoss": INPUTS + FC + loss() + loss("loss_weight: 0", kind="HingeLoss"),
            "Scale": INPUTS + FC + loss() + one("Scale", "fc", "s", "loss_weight: 1 propagate_down: false"),
            "LSTM": SEQUENCE + SQUARES + one("LSTM", "fc cont", "r", f"{RECURRENT} {STOPPED} loss_weight: 1"),
            "RNN": SEQUENCE + SQUARES + one("RNN", "fc cont", "r", f"{RECURRENT} {STOPPED} loss_weight: 1"),
        }.items()
    },
}


@pytest.mark.parametrize("name", FOUND)
def test_it_is_found(name):
    layers, expected = FOUND[name]
    assert told(layers) == [expected]


@pytest.mark.parametrize(
    "layers",
    [
        INPUTS + FC + loss("loss_weight: 0") + one("Power", "loss", "p", "loss_weight: 0.5"),
        INPUTS + FC + one("Slice", "fc", "a b c") + one("Power", "b", "p", "loss_weight: 1"),
        INPUTS + FC + loss("loss_weight: 0", kind="HingeLoss"),
        INPUTS + FC + loss() + loss(kind="HingeLoss"),
        INPUTS + FC + one("Accuracy", "fc label", "a") + loss("loss_weight: 0", kind="HingeLoss"),
        INPUTS + FC + loss() + loss("loss_weight: 0", "data", "HingeLoss"),
        INPUTS + FC + loss() + one("Bias", "fc", "b", "loss_weight: 1 propagate_down: false"),
        INPUTS + FC + loss() + one("PReLU", "fc", "p", "loss_weight: 1 propagate_down: false"),
        SEQUENCE + one("LSTM", "fc cont", "r", f"{RECURRENT} {STOPPED} loss_weight: 1"),
        INPUTS + FC + one("Flatten", "fc", "v", "loss_weight: 0.1"),
        INPUTS + FC + SIGMOID + one("Split", "fc", "v", "loss_weight: 0.1"),
        INPUTS + FC + SIGMOID + one("Flatten", "fc", "v", "loss_weight: 0.1") + loss(),
        INPUTS + FC + one("Bias", "fc", "fc", "loss_weight: 0.1"),
        INPUTS + one("Scale", "data", "data", "loss_weight: 0.1"),
    ],
)
def test_what_caffe_counts_once_is_not_taken_for_it(layers):
    assert told(layers) == []


def test_gradients_of_what_a_recurrent_layer_freezes_are_clipped_in_caffe():
    frozen = "param { lr_mult: 0 } param { } param { lr_mult: 2 }"
    assert frozen_in_part(*placed(SEQUENCE + one("LSTM", "fc cont", "r", f"{RECURRENT} {frozen}"))) == {
        "LSTM/W_xc": "layer 'LSTM' (LSTM): freezes LSTM/W_xc; clip_gradients counts a gradient of it in Caffe, and not "
        "here: take clip_gradients out, or let it learn"
    }
    assert frozen_in_part(*placed(SEQUENCE + one("LSTM", "fc cont", "r", RECURRENT))) == {}
