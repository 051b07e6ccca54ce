"""Losses held against their definitions, written as loops, and their gradients against differences and Caffe's own."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from graphs import infer
from graphs.emit import build
from graphs.layer import Layer, listed
from graphs.layers.data import Input
from graphs.layers.loss import (
    ContrastiveLoss,
    EuclideanLoss,
    HingeLoss,
    InfogainLoss,
    MultinomialLogisticLoss,
    SigmoidCrossEntropyLoss,
    SoftmaxWithLoss,
)
from graphs.names import name_values
from graphs.network import Network, Node
from graphs.tensorflow1 import tensorflow1
from weights import Refused

FLT_MIN = 1.1754943508222875e-38


def places(shape: tuple[int, ...], axis: int):
    """Yields every place beside the class axis: its number in Caffe's flat label blob, its index into the scores."""
    others = [range(size) for a, size in enumerate(shape) if a != axis]
    for number, place in enumerate(itertools.product(*others)):
        yield number, (*place[:axis], slice(None), *place[axis:])


def softmax(scores):
    scores = [float(score) for score in scores]
    top = max(scores)
    exponentials = [math.exp(score - top) for score in scores]
    return [value / sum(exponentials) for value in exponentials]


def divisor(mode: str, places: int, counted: int, outer: int) -> float:
    return max(1.0, {"FULL": places, "VALID": counted, "BATCH_SIZE": outer, "NONE": 1}[mode])


def softmax_loss(x, label, axis=1, ignore=None, mode="VALID", matrix=None, smallest=FLT_MIN):
    """Returns the loss and the gradient that Caffe's backward pass has, both by the letter."""
    flat = label.reshape(-1)
    classes = x.shape[axis]
    matrix = np.eye(classes) if matrix is None else matrix
    total, counted, slope = 0.0, 0, np.zeros(x.shape)
    for number, place in places(x.shape, axis):
        if ignore is not None and int(flat[number]) == ignore:
            continue
        counted += 1
        row = matrix[int(flat[number])].astype(float)
        probabilities = softmax(x[place])
        total -= sum(weight * math.log(max(p, smallest)) for weight, p in zip(row, probabilities))
        slope[place] = [p * sum(row) - weight for weight, p in zip(row, probabilities)]
    outer = math.prod(x.shape[:axis])
    by = divisor(mode, flat.size, counted, outer)
    return total / by, slope / by


def probabilities(x, axis):
    y = np.zeros(x.shape)
    for _, place in places(x.shape, axis):
        y[place] = softmax(x[place])
    return y


SHAPES = [
    ((5, 7), (5,), 1),
    ((5, 7), (5, 1, 1, 1), 1),
    ((2, 7, 3), (2, 3), 1),
    ((2, 3, 7), (2, 3), 2),
    ((2, 7, 3, 5), (2, 1, 3, 5), 1),
    ((2, 7, 3, 5), (2, 3, 5), 1),
    ((2, 7, 3, 5), (2, 7, 3), -1),
    ((2, 3, 7, 5), (2, 3, 5, 1), 2),
]


@pytest.fixture
def scores_and_labels(rng):
    def make(shape, label_shape, axis):
        x = (3 * rng.standard_normal(shape)).astype(np.float32)
        return x, rng.integers(0, shape[axis], label_shape).astype(np.float32)

    return make


@pytest.fixture
def gradient() -> Callable[..., np.ndarray]:
    """Returns a function for the gradient of a loss, in TRAIN, with respect to one of its bottoms, all in Caffe's
    layout."""
    tf = tensorflow1("the tests")

    def compute(layer: Layer, bottoms: Sequence[np.ndarray], bottom: int = 0) -> np.ndarray:
        blobs = tuple(f"x{index}" for index in range(len(bottoms)))
        inputs = [Node(blob, Input((array.shape,)), (), (blob,)) for blob, array in zip(blobs, bottoms)]
        network = Network("a loss", (*inputs, Node("loss", layer, blobs, ("loss",))), "TRAIN")
        shapes = infer(network)
        with tf.Graph().as_default(), tf.Session() as session:
            emitted = build(network, shapes, name_values(shapes), tf, lambda name, shape: None)
            feeds = {
                one.tops[0]: np.moveaxis(array, 1, -1) if array.ndim >= 4 else array
                for one, array in zip(emitted, bottoms)
            }
            (slope,) = tf.gradients(emitted[-1].tops[0], emitted[bottom].tops[0])
            value = session.run(slope, feeds)
        return np.moveaxis(value, -1, 1) if value.ndim >= 4 else value

    return compute


def differences(layer: Layer, bottoms: Sequence[np.ndarray], bottom: int = 0, step: float = 1e-5) -> np.ndarray:
    """Returns the gradient of a loss's reference by central differences."""
    doubles = [array.astype(np.float64) for array in bottoms]
    slope = np.zeros(doubles[bottom].shape)
    for place in np.ndindex(*slope.shape):
        ends = []
        for sign in (1, -1):
            moved = [array.copy() for array in doubles]
            moved[bottom][place] += sign * step
            ends.append(float(listed(layer.reference(*moved))[0]))
        slope[place] = (ends[0] - ends[1]) / (2 * step)
    return slope


def test_softmax_with_loss_on_any_axis(scores_and_labels, agree_everywhere):
    cases, fixed = {}, {}
    for shape, label_shape, axis in SHAPES:
        x, label = scores_and_labels(shape, label_shape, axis)
        loss, _ = softmax_loss(x, label, axis % len(shape))
        tops = [np.array(loss), probabilities(x, axis % len(shape))]
        cases[f"{shape} with {label_shape}"] = (SoftmaxWithLoss(axis=axis), [x, label], tops)
        cases[f"{shape} with {label_shape}, one top"] = (SoftmaxWithLoss(axis=axis), [x, label], tops[:1])
    x, label = scores_and_labels((5, 2, 5), (5, 2), 0)
    tops = [np.array(softmax_loss(x, label, 0)[0]), probabilities(x, 0)]
    fixed["classes on the first axis"] = (SoftmaxWithLoss(axis=0), [x, label], tops)
    agree_everywhere(cases)
    agree_everywhere(fixed, free=False)


NORMALIZATIONS = [
    ({}, "VALID"),
    ({"normalization": "VALID"}, "VALID"),
    ({"normalization": "FULL"}, "FULL"),
    ({"normalization": "BATCH_SIZE"}, "BATCH_SIZE"),
    ({"normalization": "NONE"}, "NONE"),
]
OLDER = [({"normalize": True}, "VALID"), ({"normalize": False}, "BATCH_SIZE")]
IGNORED = (None, 3, 255)


def test_softmax_with_loss_normalizations(scores_and_labels, agree_everywhere, gradient, agree):
    cases = {}
    for (options, mode), ignore in itertools.product(NORMALIZATIONS + OLDER, IGNORED):
        x, label = scores_and_labels((2, 7, 3, 5), (2, 1, 3, 5), 1)
        label[0, 0, 1, :3] = 3 if ignore is None else ignore
        layer = SoftmaxWithLoss(**options, ignore_label=ignore)
        loss, slope = softmax_loss(x, label, 1, ignore, mode)
        what = f"{options}, {ignore} ignored"
        cases[what] = (layer, [x, label], np.array(loss))
        agree(gradient(layer, [x, label]), slope, 2e-6, what)
    agree_everywhere(cases)


def test_all_labels_ignored_makes_zero(scores_and_labels, agree_everywhere):
    x, _ = scores_and_labels((5, 7), (5,), 1)
    label = np.full(5, 3, np.float32)
    agree_everywhere({"all ignored": (SoftmaxWithLoss(ignore_label=3), [x, label], np.array(0.0))})


def test_improbable_labels_are_cut_off_forwards_and_not_backwards(agree_everywhere, gradient, agree):
    x = np.array([[300, 0, -5], [0, 0, 60]], np.float32)
    label = np.array([1, 0], np.float32)
    loss, slope = softmax_loss(x, label)
    assert loss == pytest.approx((-math.log(FLT_MIN) + 60) / 2)
    agree_everywhere({"softmax": (SoftmaxWithLoss(), [x, label], np.array(loss))})
    agree(gradient(SoftmaxWithLoss(), [x, label]), slope, 2e-6)
    matrix = np.array([[1, 0.5, 0], [0.25, 1, 2], [0, 0, 1]], np.float32)
    loss, slope = softmax_loss(x, label, matrix=matrix, smallest=1e-20)
    agree_everywhere({"infogain": (InfogainLoss(), [x, label, matrix], np.array(loss))}, free=False)
    agree(gradient(InfogainLoss(), [x, label, matrix]), slope, 2e-6)


def test_gradient_of_softmax_with_loss_by_differences(scores_and_labels, gradient, agree):
    x, label = scores_and_labels((2, 5, 3), (2, 3), 1)
    for axis in (1, 2):
        layer = SoftmaxWithLoss(axis=axis, ignore_label=2)
        bottoms = [x if axis == 1 else x.transpose(0, 2, 1), label]
        agree(gradient(layer, bottoms), differences(layer, bottoms), 1e-5)


def test_infogain_loss(rng, scores_and_labels, agree_everywhere, gradient, agree):
    cases = {}
    for (shape, label_shape, axis), ignore in itertools.product(SHAPES, (None, 3)):
        x, label = scores_and_labels(shape, label_shape, axis)
        matrix = rng.standard_normal((1, 1, shape[axis], shape[axis])).astype(np.float32)
        loss, slope = softmax_loss(x, label, axis % len(shape), ignore, "VALID", matrix[0, 0], 1e-20)
        layer = InfogainLoss(axis=axis, ignore_label=ignore)
        tops = [np.array(loss), probabilities(x, axis % len(shape))]
        what = f"{shape} with {label_shape}, {ignore} ignored"
        cases[what] = (layer, [x, label, matrix], tops)
        cases[f"{what}, one top"] = (layer, [x, label, matrix[0, 0]], tops[:1])
        agree(gradient(layer, [x, label, matrix]), slope, 2e-6, what)
    agree_everywhere(cases, free=False, tolerance=1e-5)


def test_infogain_loss_normalizations(rng, scores_and_labels, agree_everywhere):
    cases = {}
    for options, mode in NORMALIZATIONS:
        x, label = scores_and_labels((2, 7, 3), (2, 3), 1)
        matrix = rng.uniform(0, 1, (7, 7)).astype(np.float32)
        loss, _ = softmax_loss(x, label, 1, 3, mode, matrix, 1e-20)
        layer = InfogainLoss(**options, ignore_label=3)
        cases[str(options)] = (layer, [x, label, matrix], np.array(loss))
    agree_everywhere(cases, free=False)


def test_sigmoid_cross_entropy(rng, agree_everywhere, gradient, agree):
    cases = {}
    modes = [*NORMALIZATIONS[1:], *OLDER, ({}, "BATCH_SIZE")]
    for (options, mode), ignore, shape in itertools.product(modes, (None, 1, 0), ((2, 5, 3, 7), (2, 105))):
        x = (3 * rng.standard_normal((2, 5, 3, 7))).astype(np.float32)
        target = rng.choice([0, 1, 0.25, -0.5, 1.5], shape).astype(np.float32)
        total, counted, slope = 0.0, 0, np.zeros(x.size)
        for number, (value, wanted) in enumerate(zip(x.reshape(-1).astype(float), target.reshape(-1).astype(float))):
            if ignore is not None and int(wanted) == ignore:  # C's cast cuts the fraction off, as Python's does
                continue
            p = 1 / (1 + math.exp(-value))
            total -= wanted * math.log(p) + (1 - wanted) * math.log(1 - p)
            slope[number] = p - wanted
            counted += 1
        by = divisor(mode, x.size, counted, 2)
        layer = SigmoidCrossEntropyLoss(**options, ignore_label=ignore)
        what = f"{options}, {ignore} ignored, {shape}"
        cases[what] = (layer, [x, target], np.array(total / by))
        agree(gradient(layer, [x, target]), slope.reshape(x.shape) / by, 2e-6, what)
    agree_everywhere(cases)


def test_sigmoid_cross_entropy_is_stable(agree_everywhere):
    x, target = np.array([[200, -200, 200]], np.float32), np.array([[1, 0, 0]], np.float32)
    agree_everywhere({"large": (SigmoidCrossEntropyLoss(), [x, target], np.array(200.0))})


def test_euclidean_loss(rng, agree_everywhere, gradient, agree):
    cases = {}
    for shape, other in (
        ((5, 7), (5, 7)),
        ((2, 3, 5, 7), (2, 3, 5, 7)),
        ((2, 3, 5, 7), (2, 105)),
        ((5,), (5, 1, 1, 1)),
    ):
        x, y = (rng.standard_normal(size).astype(np.float32) for size in (shape, other))
        total = sum((a - b) ** 2 for a, b in zip(x.reshape(-1).astype(float), y.reshape(-1).astype(float)))
        cases[f"{shape}, {other}"] = (EuclideanLoss(), [x, y], np.array(total / shape[0] / 2))
        for bottom in (0, 1):
            slope = differences(EuclideanLoss(), [x, y], bottom)
            agree(gradient(EuclideanLoss(), [x, y], bottom), slope, 1e-5, f"{shape}, gradient {bottom}")
    agree_everywhere(cases)


def test_hinge_loss(rng, agree_everywhere, gradient, agree):
    cases = {}
    labelled = (((5, 7), (5,)), ((2, 3, 5, 7), (2, 1, 1, 1)))
    for norm, (shape, label_shape) in itertools.product(("L1", "L2"), labelled):
        x = rng.standard_normal(shape).astype(np.float32)
        label = rng.integers(0, math.prod(shape[1:]), label_shape).astype(np.float32)
        total = 0.0
        for row, number in zip(x.reshape(shape[0], -1).astype(float), label.reshape(-1)):
            for index, value in enumerate(row):
                margin = max(0, 1 - value if index == int(number) else 1 + value)
                total += margin if norm == "L1" else margin**2
        layer = HingeLoss(norm)
        cases[f"{norm}, {shape}"] = (layer, [x, label], np.array(total / shape[0]))
        agree(gradient(layer, [x, label]), differences(layer, [x, label], step=1e-7), 1e-5, f"{norm}, {shape}")
    agree_everywhere(cases)


def test_contrastive_loss(rng, agree_everywhere, gradient, agree):
    cases = {}
    for legacy, margin, shape in itertools.product((False, True), (1.0, 2.5), ((11, 3), (11, 3, 1, 1))):
        a, b = (0.7 * rng.standard_normal((2, *shape))).astype(np.float32)
        similar = (np.arange(11) % 3 == 0).astype(np.float32)
        similar[3] = 0.75  # int() makes it 0
        similar[6] = 2
        b[4] = a[4]  # a distance of 0 has a gradient too
        total, slope = 0.0, np.zeros((11, 3))
        for n in range(11):
            apart = a[n].reshape(-1).astype(float) - b[n].reshape(-1)
            distance = math.sqrt(sum(apart**2))
            if int(similar[n]):
                total += distance**2
                slope[n] = apart / 11
            elif legacy:
                total += max(margin - distance**2, 0)
                slope[n] = -apart / 11 if margin > distance**2 else 0
            else:
                total += max(margin - distance, 0) ** 2
                slope[n] = -(margin - distance) / (distance + 1e-4) * apart / 11 if margin > distance else 0
        layer = ContrastiveLoss(margin, legacy)
        what = f"{margin}, {legacy}, {shape}"
        cases[what] = (layer, [a, b, similar], np.array(total / 11 / 2))
        agree(gradient(layer, [a, b, similar]), slope.reshape(shape), 2e-6, what)
        agree(gradient(layer, [a, b, similar], bottom=1), -slope.reshape(shape), 2e-6, what)
    agree_everywhere(cases)


def test_multinomial_logistic_loss(rng, agree_everywhere, gradient, agree):
    cases = {}
    for shape, label_shape in (((5, 7), (5,)), ((2, 3, 5, 7), (2, 1, 1, 1))):
        x = rng.uniform(0.01, 1, shape).astype(np.float32)
        label = rng.integers(0, math.prod(shape[1:]), label_shape).astype(np.float32)
        flat, slope = x.reshape(shape[0], -1), np.zeros((shape[0], math.prod(shape[1:])))
        flat[0, int(label.reshape(-1)[0])] = 0  # cut off at 1e-20
        total = 0.0
        for n, number in enumerate(label.reshape(-1)):
            p = max(float(flat[n, int(number)]), 1e-20)
            total -= math.log(p)
            slope[n, int(number)] = -1 / p / shape[0]
        cases[str(shape)] = (MultinomialLogisticLoss(), [x, label], np.array(total / shape[0]))
        got = gradient(MultinomialLogisticLoss(), [x, label]).reshape(slope.shape)
        agree(got[0], slope[0], 2e-6)
        agree(got[1:], slope[1:], 2e-6)
    agree_everywhere(cases)


@pytest.mark.parametrize(
    ("layer", "shapes", "reason"),
    [
        (SoftmaxWithLoss(), [(5, 7), (3,)], "same first axis"),
        (SoftmaxWithLoss(), [(5, 7, 2), (5,)], "expected 10 values, one for each place of 5x7x2"),
        (SoftmaxWithLoss(axis=4), [(5, 7), (5,)], "axis 4 is not one"),
        (InfogainLoss(), [(5, 7), (5,)], "infogain matrix is nowhere; give it as a third bottom"),
        (InfogainLoss(source="h.binaryproto"), [(5, 7), (5,)], "in the file 'h.binaryproto'; give it as a third"),
        (InfogainLoss(normalize=True), [(5, 7), (5,), (7, 7)], "sets normalize, which Caffe refuses"),
        (InfogainLoss(), [(5, 7), (5,), (7, 5)], "third bottom has the shape 7x5; expected 7x7"),
        (EuclideanLoss(), [(5, 7), (5, 3)], "wants as many values"),
        (EuclideanLoss(), [(5, 7), (7, 5)], "same first axis"),
        (SigmoidCrossEntropyLoss(), [(5, 7), (5, 3)], "wants as many values"),
        (HingeLoss(), [(5, 7), (5, 2)], "one for each of 5 pictures"),
        (MultinomialLogisticLoss(), [(5, 7), (5, 2)], "one for each of 5 pictures"),
        (ContrastiveLoss(), [(5, 7), (5, 3), (5,)], "as many channels"),
        (ContrastiveLoss(), [(5, 7, 3), (5, 7, 3), (5,)], "wants N, C"),
        (ContrastiveLoss(), [(5, 7), (5, 7), (3,)], "same first axis"),
    ],
)
def test_refuses_what_caffe_refuses(layer, shapes, reason):
    with pytest.raises(ValueError, match=reason):
        layer.top_shapes(*shapes)


def test_more_tops_than_a_loss_has_are_refused():
    nodes = [Node("x", Input(((5, 7),)), (), ("x",)), Node("t", Input(((5, 7),)), (), ("t",))]
    with pytest.raises(Refused, match="has 2 top blobs; expected 1"):
        infer(Network("n", (*nodes, Node("y", EuclideanLoss(), ("x", "t"), ("y", "z")))))


FAR = [1e2, 1e7, 1e9, 1e11, 1e30, 1e38, 3e38]


@pytest.mark.parametrize("far", FAR)
@pytest.mark.parametrize(
    ("layer", "smallest"),
    [(SoftmaxWithLoss(), FLT_MIN), (InfogainLoss(), 1e-20)],
    ids=["SoftmaxWithLoss", "InfogainLoss"],
)
def test_scores_far_from_zero_lose_as_much_as_caffe_counts(layer, smallest, far, three_ways, gradient):
    """The largest loss is that of Caffe's smallest probability, whatever the scores are, and is learned from."""
    x = np.float32([[far, -far, 0], [0, -far, far]])
    label = np.float32([1, 1])
    more = [np.eye(3, dtype=np.float32)] if isinstance(layer, InfogainLoss) else []
    for way, tops in three_ways(layer, [x, label, *more]).items():
        assert tops[0] == pytest.approx(-math.log(smallest), rel=1e-6), way
    wanted = np.float64([[1, -1, 0], [0, -1, 1]]) / 2  # probabilities less the label's, by the number of pictures
    np.testing.assert_allclose(gradient(layer, [x, label, *more]), wanted, rtol=1e-6, atol=1e-30)


def test_points_infinitely_far_apart(three_ways):
    a, b = np.float32([[1e30, 2], [1, 2]]), np.float32([[-1e30, 2], [1, 2.5]])
    for way, tops in three_ways(ContrastiveLoss(), [a, b, np.float32([0, 0])]).items():
        assert tops[0] == pytest.approx(0.5**2 / 2 / 2), way  # as far as float32 knows, or further


@pytest.mark.parametrize("value", [1e-25, 0.0, -0.5])
def test_what_is_no_probability_loses_as_much_as_caffe_counts(value, three_ways):
    x = np.float32([[value, 0.25, 0.5]])
    for way, tops in three_ways(MultinomialLogisticLoss(), [x, np.float32([0])]).items():
        assert tops[0] == pytest.approx(-math.log(1e-20), rel=1e-6), way
