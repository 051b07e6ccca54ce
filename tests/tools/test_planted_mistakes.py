"""Every classic mistake, planted in a TensorFlow graph one at a time: is it found, is it named, does top-1 notice?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from converter import convert
from tests.tools.faulty_graphs import DEFINITION, MEAN, Fault, Graph, Truth, pictures, read, seeded, true
from tools.recording import Preprocessing, whole
from tools.validate.comparison import TOLERANCE, differ
from tools.validate.diagnosis import Diagnosis, diagnose, scene_of, steps_of

pytestmark = pytest.mark.slow

PICTURES = 16


def convolution(
    tf: Any, x: Any, weights: np.ndarray, biases: np.ndarray, stride: int = 1, pad: int = 0, padding: str = "VALID"
) -> Any:
    x = tf.pad(x, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
    kernel = tf.constant(np.ascontiguousarray(weights.transpose(2, 3, 1, 0)))
    return tf.nn.conv2d(x, kernel, [1, stride, stride, 1], padding) + tf.constant(biases)


def conv1_of(change: Any) -> Fault:
    return lambda tf, x, w, b: convolution(tf, change(tf, x), w, b, 4)


def lrn(radius: int = 2, bias: float = 1, alpha: float = 2e-5, beta: float = 0.75) -> Fault:
    return lambda tf, x: tf.nn.lrn(x, radius, bias, alpha, beta)


def within(size: int, alpha: float, beta: float = 0.75) -> Fault:
    def build(tf: Any, x: Any) -> Any:
        inside = tf.nn.avg_pool2d(tf.ones_like(x), size, 1, "SAME")  # SAME divides by what lies inside
        counted = tf.nn.depthwise_conv2d(
            inside * 0 + 1, np.ones((size, size, x.shape[3], 1), "f"), [1, 1, 1, 1], "SAME"
        )
        mean = tf.nn.avg_pool2d(x * x, size, 1, "SAME") * counted / size**2
        return x * (1 + alpha * mean) ** -beta

    return build


def pool(padding: str = "VALID", size: int = 3, stride: int = 2, average: bool = False) -> Fault:
    return lambda tf, x: (tf.nn.avg_pool2d if average else tf.nn.max_pool2d)(x, size, stride, padding)


def grouped(inputs: Any = None, outputs: Any = None) -> Fault:
    """conv2 with its groups' parts in another order; ``inputs`` and ``outputs`` are channels' places."""

    def build(tf: Any, x: Any, weights: np.ndarray, biases: np.ndarray) -> Any:
        x = x if inputs is None else tf.gather(x, inputs, axis=3)
        parts = [
            convolution(tf, one, w, b, pad=2)
            for one, w, b in zip(tf.split(x, 2, axis=3), np.split(weights, 2), np.split(biases, 2))
        ]
        y = tf.concat(parts, axis=3)
        return y if outputs is None else tf.gather(y, outputs, axis=3)

    return build


def ave_inside(tf: Any, x: Any) -> Any:
    """AVE over 2x2, stride 2, pad 1, that does not count its padding."""
    padded, ones = (tf.pad(one, [[0, 0], [1, 0], [1, 0], [0, 0]]) for one in (x, tf.ones_like(x)))
    return tf.nn.avg_pool2d(padded, 2, 2, "VALID") / tf.nn.avg_pool2d(ones, 2, 2, "VALID")


def batch_norm(divide: bool = True, eps: float = 1e-5, own: bool = False) -> Fault:
    def build(tf: Any, x: Any, mean: np.ndarray, variance: np.ndarray, factor: np.ndarray) -> Any:
        stored = (mean / factor, variance / factor) if divide else (mean, variance)
        return tf.nn.batch_normalization(x, *(tf.nn.moments(x, [0, 1, 2]) if own else stored), None, None, eps)

    return build


def dense(change: Any) -> Fault:
    return lambda tf, x, w, b: tf.matmul(tf.reshape(x, [-1, w.shape[1]]), change(w)) + b


@dataclass(frozen=True, eq=False)
class Planted:
    """A mistake: what it should be called, where it is planted, and what is built there."""

    mistake: str
    layer: str
    faults: Mapping[str, Fault]
    reads: Mapping[str, str] = field(default_factory=dict)


def at(mistake: str, layer: str, fault: Fault) -> Planted:
    return Planted(mistake, layer, {layer: fault})


BY_CHANNEL = np.array(MEAN, np.float32)
INTERLEAVED = [0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11]

PLANTED = [
    at("channel order", "conv1", conv1_of(lambda tf, x: tf.reverse(x, [3]))),
    at("channel order", "conv1", conv1_of(lambda tf, x: tf.reverse(x + BY_CHANNEL, [3]) - BY_CHANNEL)),
    at("mean missing", "conv1", conv1_of(lambda tf, x: x + BY_CHANNEL)),
    at("mean doubled", "conv1", conv1_of(lambda tf, x: x - BY_CHANNEL)),
    at("mean reordered", "conv1", conv1_of(lambda tf, x: x + BY_CHANNEL - BY_CHANNEL[::-1])),
    at("another mean", "conv1", conv1_of(lambda tf, x: x + BY_CHANNEL - np.float32([90, 100, 110]))),
    at("scale", "conv1", conv1_of(lambda tf, x: x / 255)),
    at("scale", "conv1", conv1_of(lambda tf, x: (x + BY_CHANNEL) / 255 - BY_CHANNEL)),
    at("scale", "conv1", conv1_of(lambda tf, x: x * 0.017)),
    at("SAME for explicit padding", "conv1", lambda tf, x, w, b: convolution(tf, x, w, b, 4, padding="SAME")),
    at("SAME for explicit padding", "conv4", lambda tf, x, w, b: convolution(tf, x, w, b, 2, padding="SAME")),
    at("VALID for explicit padding", "conv3", convolution),
    at("alpha for alpha/n", "norm1", lrn(alpha=1e-4)),
    at("alpha/n for alpha", "norm1", lrn(alpha=4e-6)),
    at("alpha", "norm1", lrn(alpha=1e-5)),
    at("alpha for alpha/n", "norm3", within(3, 0.7 * 9)),
    at("alpha/n for alpha", "norm3", within(3, 0.7 / 3)),
    at("k", "norm2", lrn(bias=1)),
    at("beta", "norm1", lrn(beta=0.5)),
    at("LRN region", "norm1", within(5, 1e-4)),
    at("LRN region", "norm3", lrn(radius=1, alpha=0.7 / 3)),
    at("depth radius for size", "norm1", lrn(radius=5)),
    at("floor for ceil", "pool1", pool()),
    at("SAME for explicit padding", "pool2", pool("SAME", 2, average=True)),
    at("AVE divisor", "pool2", ave_inside),
    at(
        "pooling method",
        "pool1",
        lambda tf, x: tf.nn.avg_pool2d(tf.pad(x, [[0, 0], [0, 1], [0, 1], [0, 0]]), 3, 2, "VALID"),
    ),
    at("group order", "conv2", grouped(outputs=[*range(8, 16), *range(8)])),
    at("group order", "conv2", grouped(inputs=[*range(6, 12), *range(6)])),
    at("group order", "conv2", grouped(inputs=INTERLEAVED)),
    Planted(
        "norm and pool swapped",
        "norm1",
        {"pool1": lambda tf, x: tf.nn.max_pool2d(x, 3, 2, [[0, 0], [0, 1], [0, 1], [0, 0]])},
        {"pool1": "relu1", "norm1": "pool1", "conv2": "norm1"},
    ),
    at("C,H,W for H,W,C", "fc6", dense(lambda w: w.T)),
    at("weights transposed", "fc7", dense(lambda w: w)),
    at("weights transposed", "fc8", dense(lambda w: w.reshape(w.shape[::-1]))),
    at("weights transposed", "conv3", lambda tf, x, w, b: convolution(tf, x, w.swapaxes(2, 3), b, pad=1)),
    at("biases missing", "conv3", lambda tf, x, w, b: convolution(tf, x, w, 0 * b, pad=1)),
    at("BatchNorm's factor", "bn3", batch_norm(divide=False)),
    at("BatchNorm's eps", "bn3", batch_norm(eps=1e-3)),
    at("BatchNorm's eps", "bn3", batch_norm(eps=3e-4)),
    at("BatchNorm's own statistics", "bn3", batch_norm(own=True)),
    at("Scale's factor or bias", "scale3", lambda tf, x, factor, bias: x * factor),
    at("dropout left on", "drop6", lambda tf, x: tf.nn.dropout(x, rate=0.3, seed=5)),
    at("dropout's ratio inverted", "drop6", lambda tf, x: tf.nn.dropout(x, rate=0.7, seed=5)),
    at("ReLU missing", "relu2", lambda tf, x: tf.identity(x)),
    at("ReLU doubled", "fc8", lambda tf, x, w, b: tf.nn.relu(tf.matmul(x, w.T) + b)),
    at("softmax doubled", "prob", lambda tf, x: tf.nn.softmax(tf.nn.softmax(x))),
]


@pytest.fixture(scope="module")
def truth() -> Truth:
    rng = np.random.default_rng(2012)
    shapes = read(DEFINITION)
    fed = pictures(PICTURES, 95, rng) - np.reshape(MEAN, (3, 1, 1))
    return true(shapes, seeded(shapes, fed, rng), fed, Preprocessing(mean=np.array(MEAN), stated_by="the definition"))


@dataclass(frozen=True)
class Row:
    """What came of a planted mistake; ``top1`` is the share of pictures whose best class stayed the same."""

    planted: Planted
    found: str
    diagnosis: Diagnosis | None
    top1: float


def audited(truth: Truth, planted: Planted) -> Row:
    """Builds the graph, runs it layer by layer, and diagnoses the first layer that differs."""
    graph = Graph(truth, planted.faults, planted.reads)
    found, diagnosis = "", None
    for key, expected in truth.values.items():
        got = graph.isolated(key) if key[0] else expected
        if not differ(got, whole(expected)).passes(TOLERANCE):
            found = key[0]
            diagnosis = diagnose(scene_of(truth.steps, truth.values, key, got, preprocessing=truth.preprocessing))
            break
    try:
        scores = graph.run(list(truth.values)[-1], {("", "data"): truth.values["", "data"]})
        top1 = float((scores.argmax(axis=1) == truth.scores.argmax(axis=1)).mean())
    except graph.tf.errors.InvalidArgumentError:
        top1 = 0.0  # its sizes do not fit the weights of fc6: nobody could overlook that
    graph.session.close()
    return Row(planted, found, diagnosis, top1)


@pytest.fixture(scope="module")
def rows(truth: Truth) -> list[Row]:
    return [audited(truth, planted) for planted in PLANTED]


def test_a_correct_port_yields_no_diagnosis(truth):
    row = audited(truth, Planted("", "", {}))
    assert (row.found, row.diagnosis, row.top1) == ("", None, 1.0)


def test_every_mistake_is_detected_where_it_is(rows):
    assert [row.found for row in rows] == [row.planted.layer for row in rows]
    assert all(row.diagnosis is not None for row in rows)


def test_nine_of_ten_are_named_and_top1_notices_less(rows):
    lines = [f"{'planted':28} {'layer':7} {'named':42} {'before':>9} {'after':>9} {'top-1':>6}"]
    named = 0
    for row in rows:
        assert row.diagnosis is not None
        before, after = row.diagnosis.before, row.diagnosis.after
        figures = (
            "shape" if before.problem else f"{before.relative:.2g}",
            "-" if after is None else f"{after.relative:.1e}",
        )
        right = row.diagnosis.mistake == row.planted.mistake
        named += right
        lines.append(
            f"{row.planted.mistake:28} {row.planted.layer:7} {row.diagnosis.mistake or '(none fits)':42} "
            f"{figures[0]:>9} {figures[1]:>9} {row.top1:>6.0%}{'' if right else '  <- not named'}"
        )
    noticed = sum(row.top1 < 1 for row in rows)
    mostly = sum(row.top1 < 0.9 for row in rows)
    lines.append(
        f"{len(rows)} planted, {len(rows)} detected, {named} named; top-1 over {PICTURES} pictures notices {noticed}, "
        f"{mostly} of them in more than one picture of ten"
    )
    print("\n".join(["", *lines]))
    assert named >= 0.9 * len(rows)
    assert noticed < len(rows)


@pytest.mark.parametrize(
    ("mistake", "layer", "fault"),
    [
        ("channel order", "conv1", conv1_of(lambda tf, x: tf.reverse(x, [3]))),
        ("SAME for explicit padding", "conv1", lambda tf, x, w, b: convolution(tf, x, w, b, 4, padding="SAME")),
        ("alpha for alpha/n", "norm1", lrn(alpha=1e-4)),
        ("alpha", "norm2", lrn(alpha=1e-5)),
        ("LRN region", "norm1", within(5, 1e-4)),
        ("group order", "conv2", grouped(inputs=[*range(6, 12), *range(6)])),
        ("ReLU missing", "relu_conv3", lambda tf, x: tf.identity(x)),
        ("weights transposed", "fc7", dense(lambda w: w)),
        ("dropout left on", "drop_fc7", lambda tf, x: tf.nn.dropout(x, rate=0.5, seed=1)),
        ("softmax doubled", "prob", lambda tf, x: tf.nn.softmax(tf.nn.softmax(x))),
    ],
)
def test_against_what_caffe_itself_computed(golden, mistake, layer, fault):
    case = golden / "mini_alexnet"
    port = convert(case / "net.prototxt", case / "weights.caffemodel")
    with np.load(case / "reference.npz") as recorded:
        values = {tuple(name.split("/")[1:]): recorded[name] for name in recorded if name.startswith("layer/")}
        values = {("", "data"): recorded["input/data"], **values}
    truth = Truth(port.shapes, port.arrays(), values, Preprocessing(), steps_of(port.shapes, port.arrays()))
    row = audited(truth, at(mistake, layer, fault))
    assert row.diagnosis is not None
    assert (row.found, row.diagnosis.mistake) == (layer, mistake)
