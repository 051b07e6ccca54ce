"""Accuracy held against its definition, written as loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from graphs.layers.accuracy import Accuracy

SHAPES = [
    ((53, 7), (53,), 1),
    ((53, 7), (53, 1, 1, 1), -1),
    ((2, 7, 3, 5), (2, 1, 3, 5), 1),
    ((2, 7, 3, 5), (2, 7, 3), 3),
    ((2, 3, 7, 11), (2, 33), 2),
]


def by_the_letter(x, label, axis, top_k, ignore):
    classes = x.shape[axis]
    right, total = [0] * classes, [0] * classes
    others = [range(size) for a, size in enumerate(x.shape) if a != axis]
    for number, place in zip(label.reshape(-1).astype(int), itertools.product(*others)):
        if number == ignore:
            continue
        row = [x[(*place[:axis], c, *place[axis:])] for c in range(classes)]
        better = sum(1 for c in range(classes) if c != number and row[c] >= row[number])
        right[number] += better < top_k
        total[number] += 1
    overall = sum(right) / sum(total) if sum(total) else 0
    return [np.array(overall), np.array([r / t if t else 0 for r, t in zip(right, total)])]


def drawn(rng, shape, label_shape, axis):
    """Returns scores with many equal ones, which count against the label, and labels of which half are the best."""
    x = rng.integers(0, 6, shape).astype(np.float32)
    best = x.argmax(axis=axis).reshape(label_shape)
    return x, np.where(rng.random(label_shape) < 0.5, best, rng.integers(0, shape[axis], label_shape)).astype(
        np.float32
    )


def test_accuracy(rng, agree_everywhere):
    cases, fixed = {}, {}
    for top_k, ignore in itertools.product((1, 2, 5), (None, 3)):
        for shape, label_shape, axis in SHAPES:
            x, label = drawn(rng, shape, label_shape, axis)
            tops = by_the_letter(x, label, axis % len(shape), top_k, ignore)
            assert 0 < tops[0] <= 1
            what = f"{shape} with {label_shape}, top {top_k}, {ignore} ignored"
            cases[what] = (Accuracy(top_k, axis, ignore), [x, label], tops)
            cases[f"{what}, one top"] = (Accuracy(top_k, axis, ignore), [x, label], tops[0])
        x, label = drawn(rng, (7, 3, 5), (3, 5), 0)
        tops = by_the_letter(x, label, 0, top_k, ignore)
        fixed[f"classes first, top {top_k}, {ignore} ignored"] = (Accuracy(top_k, 0, ignore), [x, label], tops)
    agree_everywhere(cases)
    agree_everywhere(fixed, free=False)


def test_without_labels_it_is_zero(rng, agree_everywhere):
    x, label = rng.standard_normal((5, 7)).astype(np.float32), np.full(5, 255, np.float32)
    agree_everywhere({"none": (Accuracy(ignore_label=255), [x, label], [np.array(0.0), np.zeros(7)])})


@pytest.mark.parametrize(
    ("layer", "shapes", "reason"),
    [
        (Accuracy(8), [(5, 7), (5,)], "top_k is 8; expected 1 to 7"),
        (Accuracy(0), [(5, 7), (5,)], "top_k is 0"),
        (Accuracy(axis=2), [(5, 7), (5,)], "axis 2 is not one"),
        (Accuracy(), [(5, 7), (3,)], "expected 5 values"),
    ],
)
def test_refuses_what_caffe_refuses(layer, shapes, reason):
    with pytest.raises(ValueError, match=reason):
        layer.top_shapes(*shapes)


def test_a_score_that_is_infinite(agree_everywhere):
    x = np.float32([[np.inf, 2, 3], [1, 2, np.inf], [1, -np.inf, 3]])
    expected = np.array(1 / 3)
    agree_everywhere({"": (Accuracy(top_k=2), [x, np.float32([1, 2, 1])], expected)})
