"""python -m tools.validate --timings: every engine and every layer has its row, and what is counted is right. Nothing
here asserts a speed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from converter import convert
from graphs.tensorflow1 import tensorflow1
from tools.benchmark.engines import ENGINES
from tools.benchmark.layer_times import LayerTime, flops, layer_times, owners
from tools.validate import __main__ as validate
from tools.validate import timing
from tools.validate.report import EngineTiming, LayerTiming

INSTALLED = [engine.name for engine in ENGINES if importlib.util.find_spec(engine.module)]

ALEXNET = {
    "conv1": 105_415_200,
    "conv2": 223_948_800,
    "conv3": 149_520_384,
    "conv4": 112_140_288,
    "conv5": 74_760_192,
    "fc6": 37_748_736,
    "fc7": 16_777_216,
    "fc8": 4_096_000,
}
"""Multiply-adds for one picture, as published for Caffe's AlexNet (724 million in all)."""


@pytest.fixture(autouse=True)
def few_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "TURNS", 2)
    monkeypatch.setattr(timing, "RUNS", 1)


@pytest.fixture
def timed(tmp_path: Path, capsys: pytest.CaptureFixture):
    def run(*arguments: object) -> tuple[dict, str]:
        path = tmp_path / "report.json"
        argv = [*map(str, arguments), "--timings", "--json", str(path)]
        assert validate.main(argv) == 0, capsys.readouterr().err
        return json.loads(path.read_text())["timings"], capsys.readouterr().out

    return run


def definition_flops(definition: Path, batch: int) -> dict[str, float]:
    """Returns what the layers' definitions say, two operations for a multiply-add."""
    shapes = convert(definition).shapes
    first = next(iter(shapes)).tops[0][0]
    return {one.node.name: 2.0 * one.multiply_adds * batch / first for one in shapes if one.multiply_adds}


class TestTheReport:
    @pytest.mark.slow
    def test_has_every_engine_and_every_layer(self, demo, demo_port, timed):
        sources = (demo / "digits.prototxt", demo / "digits.caffemodel")
        found, printed = timed(demo_port, *sources, "--against", demo / "reference.h5", "--timing-batch", 3)
        rows = [(one["engine"], one["batch"]) for one in found["engines"]]
        assert rows == [(engine, 3) for engine in INSTALLED]
        assert set(found["absent"]) == {one.name for one in ENGINES} - set(INSTALLED)
        for one in found["engines"]:
            assert one["runs"] == 2
            assert 0 < one["median"] <= one["p95"]
            assert one["pictures_per_second"] == pytest.approx(one["batch"] / one["median"])
            assert one["difference"] < 1e-5
        assert found["settings"]["threads"] == timing.processors()
        assert (found["settings"]["tf32"], found["settings"]["xla"]) == (False, False)
        assert found["settings"]["device"] == found["engines"][0]["device"]
        assert found["layers_batch"] == 3
        layers = {one["layer"]: one for one in found["layers"]}
        assert list(layers)[:4] == ["conv1", "relu1", "norm1", "pool1"]
        assert len(layers) == 23
        assert sum(one["share"] for one in layers.values()) == pytest.approx(1)
        counted = {name: one["flops"] for name, one in layers.items() if one["flops"]}
        assert counted == definition_flops(sources[0], 3)
        assert all(one["gflops_per_second"] > 0 for name, one in layers.items() if name in counted)
        for heading in ("pictures/s", "GFLOP/s", "the port's layers at batch 3"):
            assert heading in printed

    @pytest.mark.slow
    @pytest.mark.parametrize("form", ["digits.ckpt", "digits/"])
    def test_of_a_port_of_another_kind_without_a_manifest(self, form, demo, tmp_path, timed):
        port = convert(demo / "digits.prototxt", demo / "digits.caffemodel")
        written = port.save(f"{tmp_path}/{form}")
        next(path for path in written if path.suffix == ".json").unlink()
        found, _ = timed(tmp_path / form, "--against", demo / "reference.h5", "--timing-batch", 1, 2)
        assert [(one["engine"], one["batch"]) for one in found["engines"]] == [("TensorFlow", 1), ("TensorFlow", 2)]
        assert {name: found["absent"][name] for name in INSTALLED[1:]} == dict.fromkeys(
            INSTALLED[1:], "needs the definition and the weights too"
        )
        counted = {one["layer"]: one["flops"] for one in found["layers"] if one["flops"]}
        assert counted == definition_flops(demo / "digits.prototxt", 2)

    def test_refuses_a_batch_that_is_none(self, demo, demo_port, capsys):
        argv = [str(demo_port), "--against", str(demo / "reference.h5"), "--timings", "--timing-batch", "0"]
        assert validate.main(argv) == 2
        assert "'0' is not a count of 1 or more" in capsys.readouterr().err

    def test_refuses_a_port_without_its_output(self, demo, demo_port, tmp_path, capsys):
        tf = tensorflow1("a test")
        definition = tf.GraphDef.FromString(demo_port.read_bytes())
        kept = [node for node in definition.node if node.name != "prob"]
        (tmp_path / "headless.pb").write_bytes(tf.GraphDef(node=kept).SerializeToString())
        argv = [str(tmp_path / "headless.pb"), "--against", str(demo / "reference.h5"), "--timings"]
        assert validate.main(argv) == 2
        assert "--timings: output 'prob' is missing in the port; say --output prob=TENSOR" in capsys.readouterr().err


class TestLayers:
    @pytest.fixture
    def stranger(self):
        """A graph with weights in front of a batch norm, a transposed product and a deconvolution."""
        tf = tensorflow1("a test")
        rng = np.random.default_rng(3)

        def weights(*shape: int):
            return tf.constant(rng.standard_normal(shape, dtype=np.float32))

        with tf.Graph().as_default() as graph:
            x = tf.placeholder(tf.float32, [None, 7, 11, 3], name="x")
            a = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, weights(3, 5, 3, 13), 1, "VALID"), weights(13)), name="a")
            b = tf.nn.depthwise_conv2d(a, weights(3, 3, 13, 2), [1, 1, 1, 1], "SAME", name="b")
            size = [tf.shape(x)[0], 11, 15, 5]
            c = tf.nn.conv2d_transpose(b, weights(3, 3, 5, 26), size, [1, 2, 2, 1], "VALID", name="c")
            tf.matmul(tf.reshape(c, [-1, 11 * 15 * 5]), weights(17, 11 * 15 * 5), transpose_b=True, name="d")
        return tf, graph, {name: [f"{name}:0"] for name in "abcd"}

    def test_operations_are_counted_by_what_they_multiply(self, stranger):
        tf, graph, layers = stranger
        feeds = {"x:0": np.ones((2, 7, 11, 3), np.float32)}
        with tf.Session(graph=graph) as session:
            counted = flops(tf, graph, session, owners(graph, layers, set(feeds)), feeds)
        assert counted == {
            "a": 2 * 2 * (5 * 7 * 13) * (3 * 5 * 3),
            "b": 2 * 2 * (5 * 7 * 26) * (3 * 3),
            "c": 2 * 2 * (5 * 7 * 26) * (3 * 3 * 5),
            "d": 2 * 2 * 17 * (11 * 15 * 5),
        }

    def test_what_is_fused_counts_for_the_layer_with_the_weights(self, stranger):
        tf, graph, layers = stranger
        layers = {"conv": ["Conv2D:0"], "bias": ["BiasAdd:0"], **layers}
        feeds = {"x:0": np.ones((2, 7, 11, 3), np.float32)}
        times = layer_times(tf, graph, tf.ConfigProto(), layers, feeds, ["d:0"], 2)
        by_layer = {one.layer: one for one in times}
        assert by_layer["conv"].seconds > 0
        assert by_layer["conv"].flops == 2 * 2 * (5 * 7 * 13) * (3 * 5 * 3)
        assert by_layer["bias"] == LayerTime("bias", 0.0, 0.0)
        assert by_layer["a"] == LayerTime("a", 0.0, 0.0)

    def test_alexnet_has_the_published_number_of_operations(self, shared):
        tf = tensorflow1("a test")
        from graphs.emit import build

        port = convert(shared / "models" / "alexnet" / "deploy.prototxt")
        with tf.Graph().as_default() as graph, tf.Session() as session:
            build(
                port.network, port.shapes, port.names, tf,
                lambda name, spec: tf.zeros(spec.layout.tensorflow, name=name),
            )  # fmt: skip
            layers = {
                one.node.name: [f"{name}:0" for name in names] for one, names in zip(port.shapes, port.names.tops)
            }
            feeds = {"data:0": np.zeros((3, 227, 227, 3), np.float32)}
            counted = flops(tf, graph, session, owners(graph, layers, set(feeds)), feeds)
        assert counted == {layer: 3 * 2 * count for layer, count in ALEXNET.items()}


def test_rates_follow_from_the_times():
    assert EngineTiming("TensorFlow", "2", "cpu", 16, 30, 0.5, 0.6).pictures_per_second == 32
    assert LayerTiming("conv1", "Convolution", 0.5, 1.0, 3e9).gflops_per_second == 6
    assert LayerTiming("relu1", "ReLU", 0.0, 0.0).gflops_per_second == 0
