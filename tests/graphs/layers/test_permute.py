"""Permute and ShuffleChannel, index by index, and OpenCV's layers of these names."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

from graphs.layers.permute import Permute, ShuffleChannel

SIZES = (2, 3, 5, 7, 11)


def permuted(x, order):
    order = [*order, *(axis for axis in range(x.ndim) if axis not in order)]
    y = np.zeros([x.shape[axis] for axis in order], x.dtype)
    for place in np.ndindex(*y.shape):
        source = [0] * x.ndim
        for axis, index in zip(order, place):
            source[axis] = index
        y[place] = x[tuple(source)]
    return y


def shuffled(x, group):
    y, size = np.zeros_like(x), x.shape[1] // group
    for part, place in itertools.product(range(group), range(size)):
        y[:, place * group + part] = x[:, part * size + place]
    return y


def opencv(layer: str, x: np.ndarray) -> np.ndarray:
    shape = " ".join(f"dim: {size}" for size in x.shape)
    text = f'layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ {shape} }} }} }} '
    net = cv2.dnn.readNetFromCaffe(bytearray((text + f'layer {{ name: "y" bottom: "x" top: "y" {layer} }}').encode()))
    net.setInput(x)
    return net.forward()


def test_permute_every_order_of_every_rank(rng, agree_everywhere):
    free, fixed = {}, {}
    for rank in range(1, 6):
        x = rng.standard_normal(SIZES[:rank]).astype(np.float32)
        orders = list(itertools.permutations(range(rank))) if rank < 5 else [(0, 2, 3, 4, 1), (4, 2, 0, 1, 3)]
        for order in orders:
            cases = free if order[0] == 0 else fixed
            cases[str(order)] = (Permute(order), [x], permuted(x, order))
    agree_everywhere(free, tolerance=0, exact=0)
    agree_everywhere(fixed, free=False, tolerance=0, exact=0)


def test_permute_named_axes_come_first(rng, agree_everywhere):
    x = rng.standard_normal(SIZES[:4]).astype(np.float32)
    cases = {str(order): (Permute(order), [x], permuted(x, order)) for order in ((), (0,), (0, 3), (0, 2, 1))}
    agree_everywhere(cases, tolerance=0, exact=0)
    cases = {str(order): (Permute(order), [x], permuted(x, order)) for order in ((3,), (2, 0))}
    agree_everywhere(cases, free=False, tolerance=0, exact=0)


def test_permute_as_in_opencv(rng, agree_everywhere):
    x = rng.standard_normal(SIZES[:4]).astype(np.float32)
    cases = {}
    for order in ((0, 2, 3, 1), (0, 3, 1, 2), (0, 3, 2, 1)):
        text = 'type: "Permute" permute_param { ' + " ".join(f"order: {axis}" for axis in order) + " }"
        cases[str(order)] = (Permute(order), [x], opencv(text, x))
    agree_everywhere(cases, tolerance=0, exact=0)


@pytest.mark.parametrize("group", [1, 2, 3, 6])
def test_shuffle_channel(rng, agree_everywhere, group):
    x = rng.standard_normal((2, 6, 5, 7)).astype(np.float32)
    by_opencv = opencv(f'type: "ShuffleChannel" shuffle_channel_param {{ group: {group} }}', x)
    cases = {
        "loops": (ShuffleChannel(group), [x], shuffled(x, group)),
        "OpenCV": (ShuffleChannel(group), [x], by_opencv),
    }
    agree_everywhere(cases, tolerance=0, exact=0)


@pytest.mark.parametrize(
    ("layer", "shape", "reason"),
    [
        (Permute((0, 1, 1)), (2, 3, 5), "names an axis twice"),
        (Permute((0, 3)), (2, 3, 5), "names an axis that 2x3x5 does not have"),
        (ShuffleChannel(4), (2, 6, 5, 7), "group 4 does not divide its 6 channels"),
        (ShuffleChannel(0), (2, 6, 5, 7), "group 0"),
        (ShuffleChannel(2), (2, 6), "expected four axes"),
    ],
)
def test_refuses(layer, shape, reason):
    with pytest.raises(ValueError, match=reason):
        layer.top_shapes(shape)
