"""BN, channel by channel: with stored statistics, and with the batch's own in TRAIN."""

from __future__ import annotations

import math

import numpy as np
import pytest

from graphs.layers.bn import BN

SIZES = (2, 3, 5, 7)


def drawn(rng, rank):
    x = rng.standard_normal(SIZES[:rank]).astype(np.float32)
    slope, bias, mean = rng.standard_normal((3, 1, 3)).astype(np.float32)
    return x, [slope, bias, mean, rng.uniform(0.2, 3, (1, 3)).astype(np.float32)]


def by_the_letter(x, slope, bias, mean, variance, eps):
    y = np.zeros(x.shape)
    for place in np.ndindex(*x.shape):
        c = (0, place[1])
        centred = float(x[place]) - float(mean[c])
        y[place] = centred / math.sqrt(float(variance[c]) + eps) * float(slope[c]) + float(bias[c])
    return y


def test_stored_statistics(rng, agree_everywhere):
    cases = {}
    for rank in (2, 3, 4):
        for eps in (1e-5, 0.3):
            x, arrays = drawn(rng, rank)
            cases[f"rank {rank}, eps {eps}"] = (BN(eps=eps), [x], by_the_letter(x, *arrays, eps), *arrays)
    agree_everywhere(cases)


@pytest.mark.parametrize("rank", [2, 3, 4])
def test_the_batchs_own_statistics_in_training(rng, run_layer, agree, rank):
    x, (slope, bias, mean, variance) = drawn(rng, rank)
    own_mean, own_variance = np.zeros((2, 1, 3))
    for c in range(3):
        values = [float(v) for v in x[:, c].reshape(-1)]
        own_mean[0, c] = sum(values) / len(values)
        own_variance[0, c] = sum((v - own_mean[0, c]) ** 2 for v in values) / len(values)
    arrays = (slope, bias, mean, variance)
    own = by_the_letter(x, slope, bias, own_mean, own_variance, 1e-5)
    agree(run_layer(BN(), [x], arrays, phase="TRAIN"), own, 1e-5, "its own")
    stored = by_the_letter(x, *arrays, 1e-5)
    agree(run_layer(BN(frozen=True), [x], arrays, phase="TRAIN"), stored, 1e-5, "frozen")


def test_parameters():
    specs = BN().parameters(SIZES)
    assert [(spec.name, spec.layout.caffe) for spec in specs] == [
        ("slope", (1, 3)),
        ("bias", (1, 3)),
        ("mean", (1, 3)),
        ("variance", (1, 3)),
    ]
    assert [spec.filler.value for spec in specs] == [0, 0, 0, 0]
    assert BN(frozen=True).parameters(SIZES)[3].filler.value == 1


@pytest.mark.parametrize(
    ("layer", "shape", "reason"),
    [(BN(), (2,), "two to four axes"), (BN(eps=-1.0), (2, 3), "eps is -1; expected 0 or more")],
)
def test_refuses(layer, shape, reason):
    with pytest.raises(ValueError, match=reason):
        layer.top_shapes(shape)
