"""Strangers' frozen graphs, audited from the command line: no manifest, names of their own or none at all, their
published faults. The recording alone is at hand, neither Caffe's definition nor its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converter import convert
from graphs.tensorflow1 import tensorflow1
from tests.tools.faulty_graphs import Truth
from tests.tools.test_recipes import DEFINITION, MEAN, Weights, convolution, in_tensorflow_layout
from tests.tools.test_recipes import photographs as photographs  # fixtures
from tests.tools.test_recipes import truth as truth
from tools.record.engines import Reference
from tools.record.live import computed, facts_of
from tools.recording import Picture, Preprocessing
from tools.recording_file import write_recording
from tools.validate.__main__ import main


@pytest.fixture(scope="module")
def weights(truth) -> Weights:
    return in_tensorflow_layout(truth)


@pytest.fixture(scope="module")
def recording(truth: Truth, weights: Weights, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("recording")
    (folder / "deploy.prototxt").write_text(DEFINITION)
    arrays = {
        f"{layer}/{name}": one for layer, both in weights.items() for name, one in zip(("weights", "biases"), both)
    }
    np.savez(folder / "weights.npz", **arrays)
    port = convert(folder / "deploy.prototxt", folder / "weights.npz")
    engine = Reference(port)
    facts = facts_of(port, engine, Preprocessing(mean=np.array(MEAN, np.float32), stated_by="the command line"))
    fed = {"data": np.asarray(truth.values["", "data"])}
    pictures = tuple(Picture(f"{number}.png", "0" * 64) for number in range(len(fed["data"])))
    write_recording(folder / "reference.h5", facts, [computed(facts, engine, 0, fed, pictures)])
    return folder / "reference.h5"


def guerzhoy(tf: Any, weights: Weights) -> None:
    """myalexnet_forward_newtf: conv1 SAME, no name on anything; relu_layer for the fully connected layers."""

    def conv(x: Any, name: str, step: int = 1, group: int = 1) -> Any:
        return tf.nn.relu(convolution(tf, x, weights[name], step, "SAME", group))

    def norm_and_pool(x: Any) -> Any:
        x = tf.nn.local_response_normalization(x, depth_radius=2, alpha=2e-05, beta=0.75, bias=1.0)
        return tf.nn.max_pool2d(x, 3, 2, "VALID")

    x = tf.placeholder(tf.float32, [None, 227, 227, 3])
    x = norm_and_pool(conv(norm_and_pool(conv(x, "conv1", 4)), "conv2", group=2))
    x = conv(conv(conv(x, "conv3"), "conv4", group=2), "conv5", group=2)
    x = tf.reshape(tf.nn.max_pool2d(x, 3, 2, "VALID"), [-1, 6 * 6 * 16])
    x = tf.nn.relu_layer(x, *map(tf.constant, weights["fc6"]))
    x = tf.nn.relu_layer(x, *map(tf.constant, weights["fc7"]))
    tf.nn.softmax(tf.nn.xw_plus_b(x, *map(tf.constant, weights["fc8"])))


def kratzert(tf: Any, weights: Weights, alpha: float, pool_first: bool = False) -> None:
    """finetune_alexnet_with_tensorflow: layers in scopes of their names, a keep_prob to feed, no softmax."""

    def conv(x: Any, name: str, step: int = 1, padding: str = "SAME", group: int = 1) -> Any:
        with tf.name_scope(name):
            return tf.nn.relu(convolution(tf, x, weights[name], step, padding, group))

    def norm_and_pool(x: Any, number: int) -> Any:
        if pool_first:
            x = tf.nn.max_pool2d(x, 3, 2, "VALID", name=f"pool{number}")
        x = tf.nn.local_response_normalization(x, 2, 1.0, alpha, 0.75, name=f"norm{number}")
        return x if pool_first else tf.nn.max_pool2d(x, 3, 2, "VALID", name=f"pool{number}")

    keep_prob = tf.placeholder(tf.float32, [], name="keep_prob")
    x = tf.placeholder(tf.float32, [None, 227, 227, 3], name="x")
    x = norm_and_pool(conv(x, "conv1", 4, "VALID"), 1)
    x = norm_and_pool(conv(x, "conv2", group=2), 2)
    x = conv(conv(conv(x, "conv3"), "conv4", group=2), "conv5", group=2)
    x = tf.reshape(tf.nn.max_pool2d(x, 3, 2, "VALID", name="pool5"), [-1, 6 * 6 * 16])
    for name in ("fc6", "fc7"):
        with tf.name_scope(name):
            x = tf.nn.relu(tf.nn.xw_plus_b(x, *map(tf.constant, weights[name])))
        x = tf.nn.dropout(x, rate=1 - keep_prob)
    with tf.name_scope("fc8"):
        tf.nn.xw_plus_b(x, *map(tf.constant, weights["fc8"]), name="fc8")


@pytest.fixture
def audit(recording, weights, tmp_path, capsys):
    """Returns a function that builds a graph, freezes it and validates it: exit code, what is printed, the report."""

    def run(build: Any, *options: str) -> tuple[int, str, dict[str, Any]]:
        tf = tensorflow1("the tests")
        with tf.Graph().as_default() as graph:
            build(tf, weights)
        (tmp_path / "stranger.pb").write_bytes(graph.as_graph_def().SerializeToString())
        report = tmp_path / "report.json"
        argv = [str(tmp_path / "stranger.pb"), "--against", str(recording), "--json", str(report), *options]
        code = main(argv)
        return code, capsys.readouterr().out, json.loads(report.read_text())

    return run


def named(report: dict[str, Any]) -> dict[str, str]:
    return {one["layer"]: one["mistake"] for one in report["diagnosis"]}


def test_guerzhoys_graph(audit):
    code, said, report = audit(guerzhoy)
    assert code == 1
    assert report["verdict"]["first"] == "conv1 (Convolution)"
    assert report["verdict"]["guilty"] == ["conv1 (Convolution)"]
    assert named(report) == {"conv1 (Convolution)": "SAME for explicit padding"}
    assert "Caffe has VALID" in said
    assert all(one["tensor"] for one in report["layers"])  # every layer is found in a graph that names none


@pytest.mark.parametrize(("alpha", "mistake"), [(1e-04, "alpha for alpha/n"), (1e-05, "alpha")])
def test_kratzerts_alpha(audit, alpha, mistake):
    code, said, report = audit(lambda tf, weights: kratzert(tf, weights, alpha), "--feed", "keep_prob=1")
    assert code == 1
    assert named(report) == {"norm1 (LRN)": mistake, "norm2 (LRN)": mistake}
    assert "output 'prob' is missing in the port" in said


def test_kratzerts_pooling_before_normalizing(audit):
    code, _, report = audit(lambda tf, weights: kratzert(tf, weights, 2e-05, pool_first=True), "--feed", "keep_prob=1")
    assert code == 1
    found = named(report)
    assert found["pool1 (Pooling)"] == found["pool2 (Pooling)"] == "norm and pool swapped"
    assert found["conv2 (Convolution)"] == found["conv3 (Convolution)"] == "follows"


def test_kratzerts_keep_prob_left_at_a_half(audit):
    _, _, report = audit(lambda tf, weights: kratzert(tf, weights, 2e-05), "--feed", "keep_prob=0.5")
    assert "dropout left on" in named(report).values()


def test_kratzerts_last_version_is_right_but_ends_before_the_softmax(audit):
    code, _, report = audit(lambda tf, weights: kratzert(tf, weights, 2e-05), "--feed", "keep_prob=1")
    assert code == 2  # an output that is missing is never a pass
    assert report["verdict"]["reasons"] == [
        "layer prob (Softmax) has no tensor in the port; say --map prob=TENSOR",
        "output 'prob' is missing in the port",
    ]
    assert all(one["passes"] for one in report["layers"] if one["layer"] != "prob")


def test_weights_of_another_training_are_told_from_a_fault(audit, weights):
    rng = np.random.default_rng(5)

    def build(tf: Any, weights: Weights) -> None:
        kernel, biases = weights["conv3"]
        others = {**weights, "conv3": (np.float32(kernel + 0.1 * rng.normal(size=kernel.shape)), biases)}
        kratzert(tf, others, 2e-05)

    _, said, report = audit(build, "--feed", "keep_prob=1")
    assert named(report) == {"conv3 (Convolution)": "other weights"}
    assert "give DEFINITION and WEIGHTS" in said
