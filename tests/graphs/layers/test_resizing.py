"""Interp and Upsample, pixel by pixel, and OpenCV's Interp."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

from graphs.layers.resizing import Interp, Upsample


def interpolated(x, out, cut):
    """Returns DeepLab's interpolation, its places in float32 as in the C++ code."""
    begin, end = cut
    x = x[:, :, begin : x.shape[2] - end, begin : x.shape[3] - end].astype(float)
    height, width = x.shape[2:]
    steps = [
        np.float32(size - 1) / np.float32(count - 1) if count > 1 else np.float32(0)
        for size, count in zip((height, width), out)
    ]
    y = np.zeros((*x.shape[:2], *out))
    for i, j in np.ndindex(*out):
        row, column = steps[0] * np.float32(i), steps[1] * np.float32(j)
        h, w = int(row), int(column)
        down, right = float(row - np.float32(h)), float(column - np.float32(w))
        below, beside = min(h + 1, height - 1), min(w + 1, width - 1)
        y[:, :, i, j] = (1 - down) * ((1 - right) * x[:, :, h, w] + right * x[:, :, h, beside]) + down * (
            (1 - right) * x[:, :, below, w] + right * x[:, :, below, beside]
        )
    return y


SHAPE = (2, 3, 11, 7)
SIZES = [
    ({"height": 23, "width": 5}, (23, 5)),
    ({"height": 1, "width": 1}, (1, 1)),
    ({"height": 11, "width": 7}, (11, 7)),
    ({"height": 1, "width": 19}, (1, 19)),
    ({"zoom_factor": 3}, (31, 19)),
    ({"zoom_factor": 1}, (11, 7)),
    ({"shrink_factor": 4}, (3, 2)),
    ({"shrink_factor": 2, "zoom_factor": 3}, (16, 10)),
]


def test_interp(rng, agree_everywhere):
    cases = {}
    for options, out in SIZES:
        x = rng.standard_normal(SHAPE).astype(np.float32)
        cases[str(options)] = (Interp(**options), [x], interpolated(x, out, (0, 0)))
    x = rng.standard_normal(SHAPE).astype(np.float32)
    cropped = Interp(zoom_factor=2, pad_beg=-1, pad_end=-2)
    cases["cropped"] = (cropped, [x], interpolated(x, (15, 7), (1, 2)))
    cropped = Interp(height=13, width=17, pad_beg=-2)
    cases["cropped above"] = (cropped, [x], interpolated(x, (13, 17), (2, 0)))
    x = rng.standard_normal((1, 2, 33, 41)).astype(np.float32)
    large = Interp(height=257, width=323)
    cases["large"] = (large, [x], interpolated(x, (257, 323), (0, 0)))
    agree_everywhere(cases, tolerance=1e-6)


@pytest.mark.parametrize(("options", "out"), [one for one in SIZES if "shrink_factor" not in one[0]])
def test_interp_as_in_opencv(rng, agree_everywhere, options, out):
    x = rng.standard_normal(SHAPE).astype(np.float32)
    fields = " ".join(f"{name}: {value}" for name, value in options.items())
    text = f"""
        layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: 2 dim: 3 dim: 11 dim: 7 }} }} }}
        layer {{ name: "y" type: "Interp" bottom: "x" top: "y" interp_param {{ {fields} }} }}"""
    net = cv2.dnn.readNetFromCaffe(bytearray(text.encode()))
    net.setInput(x)
    agree_everywhere({"interp": (Interp(**options), [x], net.forward())}, exact=1e-5, tolerance=1e-5)


def test_upsample_repeats_pixels(rng, agree_everywhere):
    cases = {}
    for scale in (None, 1, 2, 3, 7, 41):
        x = rng.standard_normal((2, 3, 5, 7)).astype(np.float32)
        by = scale or 2
        y = np.zeros((2, 3, 5 * by, 7 * by), np.float32)
        for h, w in np.ndindex(*y.shape[2:]):
            y[:, :, h, w] = x[:, :, h // by, w // by]
        cases[str(scale)] = (Upsample(scale), [x], y)
    agree_everywhere(cases, tolerance=0, exact=0)


def unpooled(x, mask, out):
    y = np.zeros((*x.shape[:2], out[0] * out[1]))
    for n, c, h, w in np.ndindex(*x.shape):
        y[n, c, int(mask[n, c, h, w])] = x[n, c, h, w]  # the last one stays
    return y.reshape(*x.shape[:2], *out)


def test_upsample_by_a_mask(rng, agree_everywhere):
    cases = {}
    sizes = [
        ({}, (10, 14)),
        ({"scale": 3}, (15, 21)),
        ({"scale_h": 2, "scale_w": 3}, (10, 21)),
        ({"pad_out_h": True}, (9, 14)),
        ({"scale": 2, "pad_out_w": True}, (10, 13)),
        ({"upsample_h": 11, "upsample_w": 13}, (11, 13)),
    ]
    for (options, out), is_crowded in itertools.product(sizes, (False, True)):
        x = rng.standard_normal((2, 3, 5, 7)).astype(np.float32)
        mask = np.zeros((2, 3, 35))
        for n, c in np.ndindex(2, 3):  # where windows overlap, several values go back to one place
            mask[n, c] = rng.integers(0, 17, 35) if is_crowded else rng.permutation(out[0] * out[1])[:35]
        mask = mask.reshape(x.shape).astype(np.float32)
        cases[f"{options}, {is_crowded}"] = (Upsample(**options), [x, mask], unpooled(x, mask, out))
    agree_everywhere(cases, tolerance=0, exact=0)


@pytest.mark.parametrize(
    ("layer", "shapes", "reason"),
    [
        (Interp(), [SHAPE], "expected height and width, or zoom_factor, or shrink_factor"),
        (Interp(height=5), [SHAPE], "expected height and width, or"),
        (Interp(height=5, width=5, zoom_factor=2), [SHAPE], "expected height and width, or"),
        (Interp(zoom_factor=0), [SHAPE], "is below 1"),
        (Interp(zoom_factor=2, pad_beg=1), [SHAPE], "pad_beg is 1 and pad_end 0; 0 or less"),
        (Interp(zoom_factor=2, pad_beg=-4, pad_end=-3), [SHAPE], "leave nothing of 2x3x11x7"),
        (Interp(zoom_factor=2), [(2, 3)], "expected four axes"),
        (Upsample(scale_h=2, scale_w=2), [SHAPE], "sets more than scale, which needs a mask"),
        (Upsample(upsample_h=22, upsample_w=14), [SHAPE], "sets more than scale"),
        (Upsample(scale=0), [SHAPE], "scale is 0x0; expected 1 or more"),
        (Upsample(), [SHAPE, (2, 3, 5, 7)], "its mask has the shape 2x3x5x7; expected that of its first bottom"),
        (Upsample(scale=3, pad_out_h=True), [SHAPE, SHAPE], "pad_out_h and pad_out_w need scale 2"),
        (Upsample(scale_h=3), [SHAPE, SHAPE], "only one of scale_h and scale_w"),
        (Upsample(upsample_h=3), [SHAPE, SHAPE], "only one of upsample_h and upsample_w"),
        (Upsample(scale=2, upsample_h=3, upsample_w=3), [SHAPE, SHAPE], "and a scale or pad_out beside"),
    ],
)
def test_refuses(layer, shapes, reason):
    with pytest.raises(ValueError, match=reason):
        layer.top_shapes(*shapes)
