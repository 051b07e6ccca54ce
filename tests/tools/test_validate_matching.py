"""Strangers' graphs: tensors matched by name, shape and order, and what is not run unasked."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from converter import convert
from graphs.tensorflow1 import tensorflow1
from tools.record import __main__ as record
from tools.recording import RecordedLayer, RecordedTop
from tools.validate import __main__ as validate
from tools.validate.matching import Candidate, fits

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 11 dim: 13 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 5 kernel_size: 3 weight_filler { type: "xavier" } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layer { name: "fc2" type: "InnerProduct" bottom: "pool1" top: "fc2" inner_product_param { num_output: 7 } }
layer { name: "drop2" type: "Dropout" bottom: "fc2" top: "fc2" }
layer { name: "prob" type: "Softmax" bottom: "fc2" top: "prob" }
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A net, its weights, and a recording of it with all values."""
    folder = tmp_path_factory.mktemp("strangers")
    numbers = np.random.default_rng(11)
    (folder / "net.prototxt").write_text(NET)
    arrays = {
        "conv1": [numbers.standard_normal((5, 3, 3, 3)), numbers.standard_normal(5)],
        "fc2": [numbers.standard_normal((7, 5 * 4 * 5)) / 50, numbers.standard_normal(7)],
    }
    arrays = {name: [one.astype(np.float32) for one in both] for name, both in arrays.items()}
    import h5py

    with h5py.File(folder / "net.caffemodel.h5", "w") as file:
        for name, both in arrays.items():
            for place, one in enumerate(both):
                file[f"data/{name}/{place}"] = one
    np.save(folder / "x.npy", numbers.integers(0, 256, (4, 3, 11, 13)).astype(np.uint8))
    sources = [str(folder / "net.prototxt"), str(folder / "net.caffemodel.h5")]
    pictures = ["--images", str(folder / "x.npy"), "--scale", "0.01"]
    assert record.main([*sources, *pictures, "--full", "-o", str(folder / "r.h5")]) == 0
    return folder


Names = dict[str, str]


@pytest.fixture
def stranger(folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """Returns a function that writes the net as somebody else would: by hand, with names of their own."""
    tf = tensorflow1("the tests")
    port = convert(folder / "net.prototxt", folder / "net.caffemodel.h5")
    weights = {name: parameter.tensorflow() for name, parameter in port.parameters.items()}

    def write(names: Names | None = None, alpha: float = 0.0, extra: Callable | None = None, batch: int | None = None,
              keep_prob: bool = False) -> Path:  # fmt: skip
        called = {one: one for one in ("data", "conv1", "relu1", "pool1", "fc2", "prob")} | (names or {})
        with tf.Graph().as_default() as graph:
            x = tf.placeholder(tf.float32, [batch, 11, 13, 3], name=called["data"])
            with tf.name_scope(called["conv1"]):
                y = tf.nn.conv2d(x, tf.constant(weights["conv1/weights"]), strides=[1, 1, 1, 1], padding="VALID")
                y = tf.nn.bias_add(y, tf.constant(weights["conv1/biases"]))
            y = tf.nn.leaky_relu(y, alpha, name=called["relu1"]) if alpha else tf.nn.relu(y, name=called["relu1"])
            y = tf.nn.max_pool2d(y, 3, 2, "VALID", name=called["pool1"])
            with tf.name_scope(called["fc2"]):
                y = tf.reshape(tf.transpose(y, [0, 3, 1, 2]), [-1, 100])
                kernel = np.moveaxis(weights["fc2/weights"].reshape(4, 5, 5, 7), 2, 0).reshape(100, 7)
                if weights["fc2/weights"].shape == (100, 7):  # already in Caffe's order
                    kernel = port.parameters["fc2/weights"].caffe.T
                y = tf.matmul(y, tf.constant(kernel)) + tf.constant(weights["fc2/biases"])
            if keep_prob:
                y = tf.nn.dropout(y, keep_prob=tf.placeholder(tf.float32, [], name="keep_prob"))
            tf.nn.softmax(y, name=called["prob"])
            if extra is not None:
                extra(tf, y)
        path = tmp_path / "stranger.pb"
        path.write_bytes(graph.as_graph_def().SerializeToString())
        return path

    return write


@pytest.fixture
def run(capsys: pytest.CaptureFixture) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: object) -> tuple[int, str, str]:
        code = validate.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def matches(out: str) -> dict[str, tuple[str, str]]:
    """Returns layer -> (tensor, how) as the table shows it."""
    rows = [re.split(r"  +", line.strip()) for line in out.splitlines()]
    return {row[0]: (row[2], row[3]) for row in rows if len(row) > 6 and row[0] != "layer" and ":" in row[2]}


def test_names_that_are_caffe_s(stranger, folder, run):
    code, out, err = run(stranger(), "--against", folder / "r.h5")
    assert (code, err) == (0, "")
    assert "tensors matched by name, shape and order" in out
    assert matches(out) == {
        "conv1": ("conv1/BiasAdd:0", "name"),
        "relu1": ("relu1:0", "name"),
        "pool1": ("pool1:0", "name"),
        "fc2": ("fc2/add:0", "name"),
        "drop2": ("fc2/add:0", "passes on"),
        "prob": ("prob:0", "name"),
    }


NAMES = {"data": "images", "conv1": "layer_a", "relu1": "act", "pool1": "subsample", "fc2": "dense", "prob": "scores"}


def test_names_that_are_others_are_matched_by_shape_and_order(stranger, folder, run):
    code, out, err = run(stranger(NAMES), "--against", folder / "r.h5")
    assert (code, err) == (0, "")
    assert {layer: tensor for layer, (tensor, _) in matches(out).items()} == {
        "conv1": "layer_a/BiasAdd:0",
        "relu1": "act:0",
        "pool1": "subsample:0",
        "fc2": "dense/add:0",
        "drop2": "dense/add:0",
        "prob": "scores:0",
    }
    assert matches(out)["pool1"] == ("subsample:0", "order")


def test_a_fault_is_named_in_a_stranger_s_graph_too(stranger, folder, run):
    code, out, _ = run(stranger(NAMES, alpha=0.1), "--against", folder / "r.h5")
    assert code == 1
    assert "verdict: differs, first at relu1 (ReLU)" in out
    assert "these differ: relu1 (ReLU)" in out


@pytest.mark.parametrize("batch", [1, 3, 4])
def test_a_batch_that_the_graph_fixes(stranger, folder, run, batch):
    code, _, err = run(stranger(batch=batch), "--against", folder / "r.h5")
    assert (code, err) == (0, "")


def test_a_placeholder_beside_the_input(stranger, folder, run):
    path = stranger(keep_prob=True)
    code, _, err = run(path, "--against", folder / "r.h5")
    assert (code, err) == (2, f"{path}: placeholder 'keep_prob' needs a number; say --feed keep_prob=1\n")
    assert run(path, "--against", folder / "r.h5", "--feed", "keep_prob=1", "--quiet")[0] == 0
    assert run(path, "--against", folder / "r.h5", "--feed", "keep_prob=0.1", "--quiet")[0] == 1


def test_what_the_user_says_goes_first(stranger, folder, run):
    path = stranger(NAMES, extra=lambda tf, y: tf.placeholder(tf.float32, [None, 11, 13, 3], name="other"))
    code, _, err = run(path, "--against", folder / "r.h5")
    assert (code, err) == (2, f"{path}: has 2 placeholders for input 'data' (Nx3x11x13), of images:0, other:0; "
                              "say --input TENSOR\n")  # fmt: skip
    code, out, _ = run(path, "--against", folder / "r.h5", "--input", "images", "--map", "relu1=act", "--output",
                       "scores")  # fmt: skip
    assert code == 0
    assert matches(out)["relu1"] == ("act:0", "--map")
    assert matches(out)["prob"] == ("scores:0", "--map")
    code, out, _ = run(path, "--against", folder / "r.h5", "--input", "images", "--map", "relu1=layer_a/BiasAdd")
    assert code == 1
    assert "first at relu1 (ReLU)" in out


def test_a_layer_that_has_no_tensor_is_no_pass(folder, tmp_path, run):
    tf = tensorflow1("the tests")
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, 11, 13, 3], name="data")
        y = tf.nn.conv2d(x, tf.zeros([3, 3, 3, 5]), strides=[1, 1, 1, 1], padding="VALID", name="conv1")
        tf.nn.relu(y, name="relu1")
    (tmp_path / "half.pb").write_bytes(graph.as_graph_def().SerializeToString())
    code, out, _ = run(tmp_path / "half.pb", "--against", folder / "r.h5")
    assert code == 1
    assert "layer pool1 (Pooling) has no tensor in the port; say --map pool1=TENSOR" in out
    assert "output 'prob' is missing in the port" in out


class TestTrust:
    @pytest.mark.parametrize(("extra", "what"), [
        (lambda tf, y: tf.io.read_file("/etc/hostname", name="leak"), "ReadFile ('leak')"),
        (lambda tf, y: tf.io.write_file("x", "y", name="spill"), "WriteFile ('spill')"),
        (lambda tf, y: tf.py_func(lambda z: z, [y], tf.float32, name="python"), "PyFunc ('python')"),
        (lambda tf, y: tf.io.matching_files("/*", name="list"), "MatchingFiles ('list')"),
        (lambda tf, y: tf.raw_ops.Save(filename="f", tensor_names=["y"], data=[y], name="keep"), "Save ('keep')"),
        (lambda tf, y: tf.raw_ops.PrintV2(input="x", name="print"), "PrintV2 ('print')"),
    ], ids=["read", "write", "python", "list", "save", "print"])  # fmt: skip
    def test_a_graph_that_reaches_out_is_refused_unless_it_is_trusted(self, stranger, folder, run, extra, what):
        path = stranger(extra=extra)
        code, out, err = run(path, "--against", folder / "r.h5")
        assert (code, out) == (2, "")
        assert err == (
            f"{path}: holds operations that touch files, other machines or Python: {what}; say --trust to run it all "
            "the same\n"
        )
        assert run(path, "--against", folder / "r.h5", "--trust", "--quiet")[:2] == (0, "verdict: agrees\n")

    def test_in_a_function_of_the_graph(self, stranger, folder, run):
        def extra(tf, y):
            import tensorflow

            @tensorflow.function
            def inner():
                return tensorflow.io.read_file("/etc/hostname")

            inner()

        path = stranger(extra=extra)
        code, _, err = run(path, "--against", folder / "r.h5")
        assert code == 2
        assert "ReadFile ('" in err

    def test_a_saver_s_own_operations_are_passed_over_in_a_checkpoint_unless_something_reads_them(
        self, folder, tmp_path, run
    ):
        tf = tensorflow1("the tests")
        port = convert(folder / "net.prototxt", folder / "net.caffemodel.h5")
        port.save(tmp_path / "net.ckpt")
        (tmp_path / "net.ckpt.json").unlink()
        assert run(tmp_path / "net.ckpt", "--against", folder / "r.h5", "--quiet")[0] == 0
        meta = tf.MetaGraphDef.FromString((tmp_path / "net.ckpt.meta").read_bytes())
        restore = next(node.name for node in meta.graph_def.node if node.op == "RestoreV2")
        node = meta.graph_def.node.add(name="sly", op="Identity", input=[restore])
        node.attr["T"].type = tf.float32.as_datatype_enum
        (tmp_path / "net.ckpt.meta").write_bytes(meta.SerializeToString())
        code, _, err = run(tmp_path / "net.ckpt", "--against", folder / "r.h5")
        assert code == 2
        assert "an operation that reads the saver's ('sly')" in err


@pytest.mark.parametrize(("shape", "caffe", "expected"), [
    ((-1, 11, 13, 3), (-1, 3, 11, 13), True),
    ((-1, 3, 11, 13), (-1, 3, 11, 13), False),
    ((2, 11, 13, 3), (-1, 3, 11, 13), True),
    ((-1, 13, 11, 3), (-1, 3, 11, 13), None),
    ((-1, 7), (-1, 7), False),
    ((-1, 8), (-1, 7), None),
    ((-1, 7), (-1, 7, 1, 1), False),
    ((-1, 1, 1, 7), (-1, 7), True),
    ((-1, 7, 1), (-1, 7), False),
    ((-1, -1), (-1, 7), None),
    (None, (-1, 7), None),
    ((), (), False),
])  # fmt: skip
def test_which_tensor_can_hold_which_blob(shape, caffe, expected):
    assert fits(shape, caffe) is expected


def test_a_recorded_layer_is_spelled_with_its_type():
    layer = RecordedLayer("norm1", "LRN", (), (RecordedTop("norm1", (-1, 3)),))
    assert str(layer) == "norm1 (LRN)"
    assert Candidate("a/b:0", "LRN", None).name == "a/b"
