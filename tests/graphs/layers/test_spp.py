"""SPP against its definition: each level's windows, cut out one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from graphs.layers.spp import SPP


def literal(x, pyramid_height, pool):
    """Returns the pyramid; its windows tile the picture in a border of half of what they reach past it, rounded up."""
    _, _, height, width = x.shape
    levels = []
    for level in range(pyramid_height):
        bins = 2**level
        kernel = [math.ceil(size / bins) for size in (height, width)]
        pad = [math.ceil((k * bins - size) / 2) for k, size in zip(kernel, (height, width))]
        pooled = np.empty((*x.shape[:2], bins, bins))
        for i in range(bins):
            for j in range(bins):
                top, left = i * kernel[0] - pad[0], j * kernel[1] - pad[1]
                bottom, right = min(top + kernel[0], height + pad[0]), min(left + kernel[1], width + pad[1])
                window = x[:, :, max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
                area = (bottom - top) * (right - left)
                pooled[:, :, i, j] = window.max(axis=(2, 3)) if pool == "MAX" else window.sum(axis=(2, 3)) / area
        levels.append(pooled)
    return levels[0] if len(levels) == 1 else np.concatenate([one.reshape(len(x), -1) for one in levels], axis=1)


def test_spp(rng, agree_everywhere):
    cases = {}
    for size in ((13, 11), (7, 17), (8, 8), (23, 4)):
        x = rng.standard_normal((2, 3, *size)) - 3  # below zero: a zero that slips into a maximum shows
        for pool in ("MAX", "AVE"):
            for height in (1, 2, 3):
                layer = SPP(pyramid_height=height, pool=pool)
                cases[f"{size}, {pool}, {height}"] = (layer, [x], literal(x, height, pool))
    agree_everywhere(cases)


def test_shapes():
    assert SPP(pyramid_height=1).top_shapes((2, 3, 13, 11)) == (2, 3, 1, 1)
    assert SPP(pyramid_height=3).top_shapes((2, 3, 13, 11)) == (2, 3 * (1 + 4 + 16))


@pytest.mark.parametrize(
    ("layer", "shape", "reason"),
    [
        (SPP(), (2, 3, 13, 11), "pyramid_height is 0; expected 1 or more"),
        (SPP(pyramid_height=3), (2, 3, 13, 5), "at level 2, of 4 x 4 windows: pad 2x2 is not smaller than its window"),
        (SPP(pyramid_height=2, pool="STOCHASTIC"), (2, 3, 13, 11), "at level 0.*pool STOCHASTIC is not supported"),
        (SPP(pyramid_height=2), (2, 3, 13), "its bottom has the shape 2x3x13; expected four axes"),
    ],
)
def test_refuses(layer, shape, reason):
    with pytest.raises(ValueError, match=reason):
        layer.top_shapes(shape)
