"""Pooling against Caffe's loops, written out as in its pooling_layer.cpp."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from graphs.layers.pooling import Pooling


def literal(x, pool, kernel, stride, pad, rounds_up=True):
    """Returns what Caffe's Forward_cpu makes, its variables' names kept."""
    out = []
    for size, k, s, p in zip(x.shape[2:], kernel, stride, pad):
        pooled = (math.ceil if rounds_up else math.floor)((size + 2 * p - k) / s) + 1
        if (pad[0] or pad[1]) and (pooled - 1) * s >= size + p:
            pooled -= 1
        out.append(pooled)
    height, width = x.shape[2:]
    y = np.zeros((*x.shape[:2], *out))
    for ph in range(out[0]):
        for pw in range(out[1]):
            hstart, wstart = ph * stride[0] - pad[0], pw * stride[1] - pad[1]
            hend, wend = min(hstart + kernel[0], height + pad[0]), min(wstart + kernel[1], width + pad[1])
            pool_size = (hend - hstart) * (wend - wstart)
            hstart, wstart, hend, wend = max(hstart, 0), max(wstart, 0), min(hend, height), min(wend, width)
            total = 0.0 if pool == "AVE" else -float(np.finfo(np.float32).max)
            for h in range(hstart, hend):
                for w in range(wstart, wend):
                    total = total + x[:, :, h, w] if pool == "AVE" else np.maximum(total, x[:, :, h, w])
            if pool == "AVE":
                total = total / pool_size if pool_size else math.nan
            y[:, :, ph, pw] = total
    return y


SIZES = {
    "fits": ((2, 2), (1, 1), (0, 0)),
    "hangs over on both sides": ((3, 3), (2, 2), (0, 0)),
    "hangs over far": ((5, 6), (7, 5), (0, 0)),
    "padded": ((3, 3), (2, 2), (1, 1)),
    "padded, the last window dropped": ((2, 2), (2, 2), (1, 1)),
    "padded on one axis": ((3, 2), (2, 3), (2, 0)),
    "rectangular, unequal strides": ((5, 2), (3, 2), (1, 1)),
    "stride larger than the kernel": ((2, 3), (3, 5), (0, 0)),
    "stride larger than the kernel, padded": ((2, 3), (5, 4), (1, 2)),
    "whole picture by size": ((10, 13), (1, 1), (0, 0)),
    "one by one": ((1, 1), (1, 1), (0, 0)),
    "one by one, strided": ((1, 1), (3, 4), (0, 0)),
}


def make(name, pool, round_mode="CEIL"):
    kernel, stride, pad = SIZES[name]
    return Pooling(
        pool=pool,
        kernel_h=kernel[0],
        kernel_w=kernel[1],
        stride_h=stride[0],
        stride_w=stride[1],
        pad_h=pad[0],
        pad_w=pad[1],
        round_mode=round_mode,
    )


@pytest.mark.parametrize("round_mode", ["CEIL", "FLOOR"])
@pytest.mark.parametrize("pool", ["MAX", "AVE"])
@pytest.mark.parametrize("name", SIZES)
def test_reference_and_graph_against_caffes_loops(name, pool, round_mode, rng, run_layer, agree):
    x = rng.standard_normal((2, 3, 10, 13)) - 3  # below zero: a zero that slips into a maximum shows
    layer = make(name, pool, round_mode)
    expected = literal(x, pool, *SIZES[name], rounds_up=round_mode == "CEIL")
    assert layer.top_shapes(x.shape) == expected.shape
    agree(layer.reference(x), expected, 1e-14, "reference")
    agree(run_layer(layer, [x]), expected, 1e-6, "graph")


def test_ceil_mode_false_is_the_other_spelling_of_floor():
    x = (2, 3, 10, 13)
    ceil_mode = Pooling(kernel_size=3, stride=2, ceil_mode=False)
    assert ceil_mode.top_shapes(x) == Pooling(kernel_size=3, stride=2, round_mode="FLOOR").top_shapes(x) == (2, 3, 4, 6)
    assert Pooling(kernel_size=3, stride=2).top_shapes(x) == (2, 3, 5, 6)


@pytest.mark.parametrize("pool", ["MAX", "AVE"])
def test_global(pool, rng, run_layer, agree):
    x = rng.standard_normal((2, 3, 5, 7)) - 3
    layer = Pooling(pool=pool, global_pooling=True)
    expected = np.array([[[[(max if pool == "MAX" else lambda v: sum(v) / 35)(c.ravel())]] for c in one] for one in x])
    agree(layer.reference(x), expected, 1e-14, "reference")
    agree(run_layer(layer, [x]), expected, 1e-6, "graph")


@pytest.mark.parametrize("pool", ["MAX", "AVE"])
def test_another_batch_than_the_definitions(pool, rng, run_layer, agree):
    x = rng.standard_normal((5, 3, 10, 13)) - 3
    layer = make("hangs over far", pool)
    expected = literal(x, pool, *SIZES["hangs over far"])
    agree(run_layer(layer, [x], defined=[(2, 3, 10, 13)]), expected, 1e-6)


@pytest.mark.parametrize("pool", ["MAX", "AVE"])
def test_windows_larger_than_the_picture_and_outside_of_it(pool, rng, agree_everywhere):
    cases = {}
    for height, kernel, stride, pad in itertools.product((1, 2, 5, 8), (1, 2, 3, 4), (1, 2, 3, 5), (0, 1)):
        x = rng.standard_normal((2, 3, height, 7)) - 3
        sizes = {"kernel_h": kernel, "kernel_w": 3, "stride_h": stride, "stride_w": 4, "pad_h": pad, "pad_w": 0}
        is_run = pad < kernel and math.ceil((height + 2 * pad - kernel) / stride) + 1 > 0
        if is_run:
            expected = literal(x, pool, (kernel, 3), (stride, 4), (pad, 0))
            cases[f"{height} high, kernel {kernel}, stride {stride}, pad {pad}"] = Pooling(pool, **sizes), [x], expected
    assert len(cases) > 80
    agree_everywhere(cases, extremes=True)


def test_the_place_of_a_maximum_outside_of_the_picture_is_minus_one(rng, agree_everywhere):
    x = rng.standard_normal((2, 3, 8, 7)) - 3
    layer = Pooling(kernel_size=1, stride=2)
    pooled, places = np.full((2, 3, 5, 4), -float(np.finfo(np.float32).max)), np.full((2, 3, 5, 4), -1.0)
    pooled[:, :, :4] = x[:, :, ::2, ::2]
    places[:, :, :4] = np.arange(56).reshape(8, 7)[::2, ::2]
    agree_everywhere({"": (layer, [x], [pooled, places])}, extremes=True)


def test_half_of_a_kernel_beside_kernel_size_is_passed_over(rng, agree_everywhere):
    layer = Pooling(kernel_size=2, kernel_w=3, stride=2)
    x = rng.standard_normal((2, 3, 6, 10))
    agree_everywhere({"": (layer, [x], literal(x, "MAX", (2, 2), (2, 2), (0, 0)))})
    assert list(layer.notes(x.shape)) == [
        "sets one of kernel_h and kernel_w beside kernel_size 2, which alone Caffe reads"
    ]


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (Pooling(kernel_size=17), "window 17x17 with pad 0x0 is larger than its bottom, 2x3x10x13, by more"),
        (Pooling(kernel_size=14, stride=2, round_mode="FLOOR"), "window 14x14 with pad 0x0 is larger than its bottom"),
        (Pooling(), "kernel_size is 0x0"),
        (Pooling(kernel_size=2, stride=0), "stride 0x0"),
        (Pooling(kernel_size=2, pad=2), "pad 2x2 is not smaller than its window, 2x2"),
        (Pooling(kernel_size=2, global_pooling=True), "sets kernel_size beside global_pooling"),
        (Pooling(stride=2, global_pooling=True), "sets pad or stride beside global_pooling"),
        (Pooling(kernel_size=2, kernel_h=2, kernel_w=2), "sets both kernel_size and kernel_h or kernel_w"),
        (Pooling(kernel_size=2, stride_h=2), "sets only one of stride_h and stride_w"),
    ],
)
def test_refuses_what_caffe_refuses(layer, reason):
    with pytest.raises(ValueError, match=reason):
        layer.top_shapes((2, 3, 10, 13))
