"""Pooling's second top, the places of the maxima, against Caffe's loop."""

from __future__ import annotations

import math

import numpy as np
import pytest

from graphs import infer
from graphs.layers.data import Input
from graphs.layers.pooling import Pooling
from graphs.network import Network, Node
from weights import Refused


def literal(x, out, kernel, stride, pad):
    """Returns the maxima and their places: of equal values, the first that is seen row by row."""
    height, width = x.shape[2:]
    values, places = np.full((*x.shape[:2], *out), -math.inf), np.full((*x.shape[:2], *out), -1.0)
    for n, c, ph, pw in np.ndindex(*values.shape):
        for h in range(max(0, ph * stride[0] - pad[0]), min(height, ph * stride[0] - pad[0] + kernel[0])):
            for w in range(max(0, pw * stride[1] - pad[1]), min(width, pw * stride[1] - pad[1] + kernel[1])):
                if x[n, c, h, w] > values[n, c, ph, pw]:
                    values[n, c, ph, pw], places[n, c, ph, pw] = x[n, c, h, w], h * width + w
    return [values, places]


SIZES = {
    "fits": ((2, 2), (1, 1), (0, 0)),
    "hangs over on both sides": ((3, 3), (2, 2), (0, 0)),
    "hangs over far": ((5, 6), (7, 5), (0, 0)),
    "padded": ((3, 3), (2, 2), (1, 1)),
    "padded on one axis": ((3, 2), (2, 3), (2, 0)),
    "rectangular, unequal strides": ((5, 2), (3, 2), (1, 1)),
    "stride larger than the kernel, padded": ((2, 3), (5, 4), (1, 2)),
}


@pytest.mark.parametrize("ties", [False, True])
def test_places(ties, rng, agree_everywhere):
    cases = {}
    for name, (kernel, stride, pad) in SIZES.items():
        for channels in (1, 3):
            shape = (2, channels, 10, 13)
            x = rng.integers(-9, -6, shape).astype(float) if ties else rng.standard_normal(shape) - 3
            layer = Pooling(
                kernel_h=kernel[0],
                kernel_w=kernel[1],
                stride_h=stride[0],
                stride_w=stride[1],
                pad_h=pad[0],
                pad_w=pad[1],
            )
            expected = literal(x, layer.pooled(shape)[2:], kernel, stride, pad)
            cases[f"{name}, {channels} channels"] = (layer, [x], expected)
    x = rng.standard_normal((2, 3, 5, 7))
    cases["global"] = (Pooling(global_pooling=True), [x], literal(x, (1, 1), (5, 7), (1, 1), (0, 0)))
    agree_everywhere(cases, tolerance=1e-7)


def test_an_average_has_no_places():
    nodes = Node("x", Input(((2, 3, 5, 7),)), (), ("x",)), Node("y", Pooling("AVE", 2), ("x",), ("y", "mask"))
    with pytest.raises(Refused, match="has a second top, the places of maxima, which pool AVE has not"):
        infer(Network("n", nodes))
