"""What Caffe ignores, or computes though no one can want it: the port does the same, and says so."""

from __future__ import annotations

import math

import numpy as np
import pytest

from graphs.layers.arithmetic import Clip, Exp, Power
from graphs.layers.bias import Bias
from graphs.layers.elementwise import Dropout
from graphs.layers.loss import InfogainLoss, SigmoidCrossEntropyLoss, SoftmaxWithLoss
from graphs.layers.lrn import LRN
from graphs.layers.mvn import MVN
from graphs.layers.normalization import Scale
from graphs.layers.pooling import Pooling

X = (2, 3, 5, 7)


@pytest.mark.parametrize(
    ("layer", "same_as", "note"),
    [
        (LRN(norm_region="WITHIN_CHANNEL", k=2), LRN(norm_region="WITHIN_CHANNEL"), "k is 2, which Caffe ignores"),
        (
            MVN(normalize_variance=False, eps=0.5),
            MVN(normalize_variance=False),
            "eps is 0.5, which Caffe ignores without normalize_variance",
        ),
        (Dropout(dropout_ratio=0), Dropout(), "dropout_ratio is 0, which drops nothing in TEST"),
        (Dropout(dropout_ratio=1.5), Dropout(), "dropout_ratio is 1.5, which drops nothing in TEST"),
        (Clip(), Clip(min=0.0, max=0.0), "sets neither min nor max, which Caffe takes as 0: all of its top is 0"),
    ],
)
def test_what_caffe_ignores(layer, same_as, note, rng, run_layer):
    x = rng.standard_normal(X)
    assert [note in said for said in layer.notes(X)] == [True]
    assert list(same_as.notes(X)) == []
    np.testing.assert_array_equal(layer.reference(x), same_as.reference(x))
    np.testing.assert_array_equal(run_layer(layer, [x]), run_layer(same_as, [x]))


@pytest.mark.parametrize("definition", [Scale, Bias])
@pytest.mark.parametrize("num_axes", [-2, -1, 0, 2, 9])
def test_num_axes_beside_a_second_bottom(definition, num_axes, rng, agree_everywhere):
    x, second = rng.standard_normal(X), rng.standard_normal(3)
    spread = second[:, None, None]
    expected = x * spread if definition is Scale else x + spread
    agree_everywhere({"": (definition(num_axes=num_axes), [x, second], expected)}, free=False)
    assert list(definition(num_axes=num_axes).notes(X, (3,))) == [
        f"num_axes is {num_axes}, which Caffe ignores beside a second bottom, here 3"
    ]
    assert list(definition(num_axes=2).notes(X)) == []


@pytest.mark.parametrize(
    ("layer", "value", "note"),
    [
        (Power(power=-1, scale=0), math.inf, "shift ^ power, 0 ^ -1: inf, as in Caffe"),
        (Power(power=0.5, scale=0, shift=-1), math.nan, "shift ^ power, -1 ^ 0.5: nan, as in Caffe"),
        (Power(power=1e-30, scale=1e-30, shift=2), 1.0, None),
        (Exp(base=10, shift=50), math.inf, "base 10 to the power of shift, 50, is inf in float32, as in Caffe"),
    ],
)
def test_what_is_no_number_is_so_in_caffe_too(layer, value, note, agree_everywhere):
    x = np.full(X, 0.25)
    assert [note is not None and note in said for said in layer.notes(X)] == ([True] if note else [])
    agree_everywhere({"": (layer, [x], np.full(X, value))}, extremes=True)


def test_losses_say_which_spelling_counts():
    both = {"normalize": False, "normalization": "FULL"}
    for layer in (SoftmaxWithLoss(**both), SigmoidCrossEntropyLoss(**both)):
        assert list(layer.notes((5, 7), (5,))) == ["sets normalize, which Caffe ignores beside normalization"]
    x, label = np.random.default_rng(3).normal(0, 1, (5, 7, 2)), np.zeros((5, 2))
    full, mixed = SoftmaxWithLoss(normalization="FULL"), SoftmaxWithLoss(**both)
    assert mixed.reference(x, label)[0] == full.reference(x, label)[0]
    assert list(InfogainLoss(source="h.binaryproto").notes((5, 7), (5,), (7, 7))) == [
        "sets source 'h.binaryproto', which Caffe ignores beside a third bottom"
    ]


def test_pooling_says_where_its_last_window_lies():
    layer = Pooling(kernel_size=1, stride=2)
    assert list(layer.notes((1, 1, 8, 8))) == [
        "stride 2x2 puts its last window outside of its bottom; there Caffe gives -3.4e38 (-FLT_MAX)"
    ]
    assert list(Pooling(kernel_size=1, stride=2).notes((1, 1, 7, 7))) == []
