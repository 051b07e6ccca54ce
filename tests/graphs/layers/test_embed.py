"""Embed against a look-up of one value at a time."""

from __future__ import annotations

import numpy as np
import pytest

from graphs.layer import Filler
from graphs.layers.embed import Embed


def test_embed(rng, agree_everywhere):
    cases = {}
    weights, biases = rng.standard_normal((13, 11)), rng.standard_normal(11)
    for shape in ((5,), (2, 3), (2, 3, 5), (2, 1, 5), (2, 3, 5, 7), (2, 1, 5, 7)):
        x = rng.integers(0, 13, shape).astype(float)
        rows = np.empty((*shape, 11))
        for index in np.ndindex(*shape):
            rows[index] = weights[int(x[index])]
        layer = Embed(num_output=11, input_dim=13)
        cases[f"{shape}"] = (layer, [x], rows + biases, weights, biases)
        layer = Embed(num_output=11, input_dim=13, bias_term=False)
        cases[f"{shape}, no bias"] = (layer, [x], rows, weights)
    agree_everywhere(cases)


def test_a_fraction_is_cut_off(run_layer):
    weights = np.arange(6.0).reshape(3, 2)
    x = np.array([1.9, 0.2, 2.0])
    layer = Embed(num_output=2, input_dim=3, bias_term=False)
    for y in (layer.reference(x, weights), run_layer(layer, [x], (weights,))):
        np.testing.assert_array_equal(y, [[2, 3], [0, 1], [4, 5]])


def test_parameters():
    fillers = Filler(type="gaussian"), Filler(value=2)
    layer = Embed(num_output=11, input_dim=13, weight_filler=fillers[0], bias_filler=fillers[1])
    assert [(spec.name, spec.layout.caffe, spec.filler) for spec in layer.parameters((5,))] == [
        ("weights", (13, 11), fillers[0]),
        ("biases", (11,), fillers[1]),
    ]


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (Embed(input_dim=3), "num_output is 0; Caffe wants 1 or more"),
        (Embed(num_output=3), "input_dim is 0; Caffe wants 1 or more"),
    ],
)
def test_refuses(layer, reason):
    with pytest.raises(ValueError, match=reason):
        layer.top_shapes((5,))
