"""Normalize, place by place, and OpenCV's layer of that name."""

from __future__ import annotations

import itertools
import math

import cv2
import numpy as np
import pytest

from graphs.layers.normalize import Normalize

SIZES = (2, 3, 5, 7)


def normalized(x, across_spatial, scale, eps):
    x = x.astype(float)
    y = np.zeros(x.shape)
    for n in range(len(x)):
        if across_spatial:
            y[n] = x[n] / math.sqrt(sum(v * v for v in x[n].reshape(-1)) + eps)
        else:
            for place in np.ndindex(*x.shape[2:]):
                column = x[(n, slice(None), *place)]
                y[(n, slice(None), *place)] = column / math.sqrt(sum(v * v for v in column) + eps)
        for c in range(x.shape[1]):
            y[n, c] *= float(scale if scale.ndim == 0 else scale[c])
    return y


def test_normalize_by_the_letter(rng, agree_everywhere):
    cases = {}
    for rank, across, shared, eps in itertools.product((2, 3, 4), (False, True), (False, True), (1e-10, 0.7)):
        x = rng.standard_normal(SIZES[:rank]).astype(np.float32)
        scale = np.asarray(rng.uniform(0.5, 20, () if shared else (3,)), np.float32)
        layer = Normalize(across_spatial=across, channel_shared=shared, eps=eps)
        cases[f"rank {rank}, {across}, {shared}, {eps}"] = (layer, [x], normalized(x, across, scale, eps), scale)
    agree_everywhere(cases)


@pytest.mark.parametrize("across", [False, True])
def test_normalize_as_in_opencv(rng, agree_everywhere, across):
    # OpenCV wants the scale in a .caffemodel; without one it scales by 1.
    x = rng.standard_normal((2, 3, 5, 7)).astype(np.float32)
    text = f"""
        layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: 2 dim: 3 dim: 5 dim: 7 }} }} }}
        layer {{ name: "y" type: "Normalize" bottom: "x" top: "y"
                 norm_param {{ across_spatial: {str(across).lower()} channel_shared: false }} }}"""
    net = cv2.dnn.readNetFromCaffe(bytearray(text.encode()))
    net.setInput(x)
    layer = Normalize(across_spatial=across, channel_shared=False)
    cases = {"ones": (layer, [x], net.forward(), np.ones(3, np.float32))}
    agree_everywhere(cases, tolerance=1e-5, exact=1e-5)


def test_the_scale_begins_at_one_unless_a_filler_says_otherwise():
    assert Normalize().parameters(SIZES)[0].filler.value == 1
    assert Normalize().parameters(SIZES)[0].layout.caffe == ()
    assert Normalize(channel_shared=False).parameters(SIZES)[0].layout.caffe == (3,)


@pytest.mark.parametrize(
    ("layer", "shape", "reason"),
    [(Normalize(), (2,), "two to four axes"), (Normalize(eps=-1.0), (2, 3), "eps is -1; expected 0 or more")],
)
def test_refuses(layer, shape, reason):
    with pytest.raises(ValueError, match=reason):
        layer.top_shapes(shape)
