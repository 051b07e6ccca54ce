"""What a layer that is left out begins with."""

from __future__ import annotations

import numpy as np
import pytest

from graphs.fillers import begins_at_zero, drawn, filled
from graphs.layer import Filler, Layer, Zeros
from graphs.layers.bias import Bias
from graphs.layers.bn import BN
from graphs.layers.convolution import Convolution
from graphs.layers.data import Parameter
from graphs.layers.deconvolution import Deconvolution
from graphs.layers.embed import Embed
from graphs.layers.inner_product import InnerProduct
from graphs.layers.normalization import BatchNorm, Scale
from graphs.layers.recurrent import LSTM


@pytest.mark.parametrize(
    ("layer", "bottoms"),
    [
        (Convolution(num_output=5, kernel_size=(3,)), [(2, 7, 11, 13)]),
        (Deconvolution(num_output=5, kernel_size=(3,)), [(2, 7, 11, 13)]),
        (InnerProduct(num_output=5), [(2, 7)]),
        (InnerProduct(num_output=1), [(2, 7)]),
        (Embed(input_dim=11, num_output=5), [(2,)]),
        (LSTM(num_output=5), [(3, 2, 7), (3, 2)]),
        (Parameter(shape=(5, 7)), []),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Layer) else "",
)
def test_weights_without_a_filler_are_drawn_and_biases_are_not(layer: Layer, bottoms: list[tuple[int, ...]]):
    for spec in layer.parameters(*bottoms):
        first = filled(drawn(spec), seed=spec.name)
        assert bool(first.any()) == (len(spec.layout.caffe) > 1), spec.name
        assert begins_at_zero(spec) == (len(spec.layout.caffe) > 1)
        assert not begins_at_zero(drawn(spec))


@pytest.mark.parametrize(
    ("layer", "first"),
    [
        (Bias(num_axes=2), [0]),
        (Scale(num_axes=2, bias_term=True), [1, 0]),
        (BatchNorm(), [0, 0, 0]),
        (BN(), [1, 0, 0, 0]),
    ],
)
def test_what_is_no_weights_begins_with_what_changes_nothing(layer: Layer, first: list[float]):
    specs = layer.parameters((2, 7, 11, 13))
    assert [set(np.unique(filled(drawn(spec), seed="1"))) for spec in specs] == [{value} for value in first]
    assert not any(map(begins_at_zero, specs))


@pytest.mark.parametrize("filler", [Zeros(), Filler(value=0.5), Filler("gaussian", std=0.1)])
def test_a_stated_filler_stays(filler: Filler):
    weights, _ = InnerProduct(num_output=5, weight_filler=filler).parameters((2, 7))
    assert drawn(weights) is weights
    assert begins_at_zero(weights) == (filler == Zeros())
