"""LRN against its definition, written out channel by channel."""

from __future__ import annotations

import numpy as np
import pytest

from graphs.layers.lrn import LRN


def across(x, n, alpha, beta, k):
    y = np.empty_like(x)
    for c in range(x.shape[1]):
        total = sum(x[:, i] ** 2 for i in range(x.shape[1]) if abs(i - c) <= (n - 1) // 2)
        y[:, c] = x[:, c] / (k + alpha / n * total) ** beta
    return y


def within(x, n, alpha, beta):
    y = np.empty_like(x)
    reach = (n - 1) // 2
    for row in range(x.shape[2]):
        for column in range(x.shape[3]):
            total = 0
            for i in range(row - reach, row + reach + 1):
                for j in range(column - reach, column + reach + 1):
                    if 0 <= i < x.shape[2] and 0 <= j < x.shape[3]:
                        total = total + x[:, :, i, j] ** 2
            y[:, :, row, column] = x[:, :, row, column] / (1 + alpha * total / n**2) ** beta
    return y


@pytest.mark.parametrize(
    ("n", "alpha", "beta", "k"),
    [
        (5, 1e-4, 0.75, 1),
        (5, 2.0, 0.75, 2),
        (3, 0.7, 0.5, 0.3),
        (1, 1.3, 1.25, 1),
        (7, 0.9, 0.75, 1),
        (15, 0.9, 0.6, 3),
    ],
    ids=["AlexNet's", "strong", "n 3", "n 1", "n as many as channels", "n more than twice the channels"],
)
def test_across_channels(n, alpha, beta, k, rng, run_layer, agree):
    x = rng.standard_normal((2, 7, 3, 5)) * 3
    layer = LRN(local_size=n, alpha=alpha, beta=beta, k=k)
    expected = across(x, n, alpha, beta, k)
    agree(layer.reference(x), expected, 1e-14, "reference")
    agree(run_layer(layer, [x]), expected, 2e-6, "graph")


@pytest.mark.parametrize(("n", "alpha", "beta"), [(3, 1.0, 0.75), (5, 2.0, 0.5), (1, 0.7, 1.5), (13, 3.0, 0.75)])
def test_within_a_channel(n, alpha, beta, rng, run_layer, agree):
    x = rng.standard_normal((2, 3, 5, 7)) * 3
    layer = LRN(local_size=n, alpha=alpha, beta=beta, norm_region="WITHIN_CHANNEL")
    expected = within(x, n, alpha, beta)
    agree(layer.reference(x), expected, 1e-14, "reference")
    agree(run_layer(layer, [x]), expected, 2e-6, "graph")


def test_another_batch_than_the_definitions(rng, run_layer, agree):
    x = rng.standard_normal((5, 7, 3, 5)) * 3
    for region, expected in (("ACROSS_CHANNELS", across(x, 5, 1, 0.75, 1)), ("WITHIN_CHANNEL", within(x, 5, 1, 0.75))):
        agree(run_layer(LRN(norm_region=region), [x], defined=[(2, 7, 3, 5)]), expected, 2e-6, region)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (LRN(local_size=4), "local_size 4 is even; Caffe accepts odd sizes"),
    ],
)
def test_refuses_what_caffe_refuses(layer, reason):
    with pytest.raises(ValueError, match=reason):
        layer.top_shapes((2, 7, 3, 5))
