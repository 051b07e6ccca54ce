"""Weights from every format into every format: the numbers stay the same bits."""

from __future__ import annotations

import itertools
import pickle
import struct
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

import converter
from converter.manifest import manifest
from graphs import run_reference
from weights import Refused

FORMATS = ("caffemodel", "caffemodel.h5", "npz", "npy", "safetensors", "ckpt", "pb")
CASES = ("mini_alexnet", "mini_resnet", "conv_depthwise", "batchnorm", "shared_parameters", "inner_product_from_4d")
GOLDEN = Path(__file__).parent.parent / "golden"


def numbers(port) -> dict[str, bytes]:
    return {name: parameter.caffe.tobytes() for name, parameter in port.parameters.items()}


@pytest.fixture(scope="module", params=CASES)
def written(request, tmp_path_factory):
    """A golden net written in every format: (definition, ending -> file, the numbers that Caffe's file holds)."""
    case = GOLDEN / request.param
    port = converter.convert(case / "net.prototxt", case / "weights.caffemodel")
    folder = tmp_path_factory.mktemp(request.param)
    for ending in FORMATS:
        port.save(folder / f"net.{ending}")
    return case / "net.prototxt", {ending: folder / f"net.{ending}" for ending in FORMATS}, numbers(port)


@pytest.mark.parametrize("ending", FORMATS)
def test_each_format_gives_back_the_same_bits(written, ending):
    definition, files, expected = written
    assert numbers(converter.convert(definition, files[ending])) == expected


@pytest.mark.parametrize(("first", "second"), list(itertools.permutations(FORMATS, 2)))
def test_every_pair_of_formats(written, first, second, tmp_path):
    definition, files, expected = written
    converter.convert(definition, files[first]).save(tmp_path / f"net.{second}")
    assert (tmp_path / f"net.{second}").exists() or second == "ckpt"
    assert numbers(converter.convert(definition, tmp_path / f"net.{second}")) == expected


def test_lenet_from_each_of_its_files_is_one_graph(shared, tmp_path):
    lenet = shared / "models/lenet"
    graphs = []
    for name in ("lenet.caffemodel", "lenet.caffemodel.h5", "lenet.npy"):
        converter.convert(lenet / "deploy.prototxt", lenet / name).save(tmp_path / "lenet.pb")
        graphs.append((tmp_path / "lenet.pb").read_bytes())
    assert graphs[0] == graphs[1] == graphs[2]


def test_squeezenet_from_deep_compression_is_the_graph_of_caffe_s_own_decoding(shared, tmp_path):
    model = shared / "models/squeezenet"
    for name in ("compressed_SqueezeNet.net", "squeezenet.caffemodel"):
        converter.convert(model / "deploy.prototxt", model / name).save(tmp_path / f"{name}.pb")
    assert (tmp_path / "compressed_SqueezeNet.net.pb").read_bytes() == (
        tmp_path / "squeezenet.caffemodel.pb"
    ).read_bytes()


def test_a_caffemodel_alone_brings_its_definition(shared):
    port = converter.convert(shared / "models/lenet/lenet.caffemodel", input_shapes={"data": (1, 1, 28, 28)})
    assert port.network.outputs == ("prob",)
    digits = np.load(shared / "models/lenet/digits.npz")
    pictures = digits["images"][:20].astype(np.float32) / 256
    prob = run_reference(port.shapes, port.arrays(), {"data": pictures})["prob", "prob"]
    assert np.abs(prob - digits["prob"][:20]).max() < 1e-5


def test_cv2_reads_what_is_written_back(written, tmp_path):
    definition, files, _ = written
    if definition.parent.name in ("shared_parameters",):
        pytest.skip("OpenCV does not share parameters")
    port = converter.convert(definition, files["npz"])
    port.save(tmp_path / "net.prototxt")
    port.save(tmp_path / "net.caffemodel")
    net = cv2.dnn.readNetFromCaffe(str(tmp_path / "net.prototxt"), str(tmp_path / "net.caffemodel"))
    recorded = np.load(definition.parent / "reference.npz")
    for name in recorded.files:
        if name.startswith("input/"):
            net.setInput(recorded[name], name.removeprefix("input/"))
    (output,) = [name for name in recorded.files if name.startswith("output/")]
    expected = recorded[output]
    assert np.abs(net.forward() - expected).max() <= 2e-5 * np.abs(expected).max()


# ------------------------------------------------------------------ forms that others wrote

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 7 dim: 5 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
        convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param { num_output: 11 } }
"""


@pytest.fixture
def net(tmp_path):
    (tmp_path / "net.prototxt").write_text(NET)
    return tmp_path / "net.prototxt"


def arrays(rng) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    return {"conv": (draw(3, 3, 3, 4), draw(4)), "fc": (draw(60, 11), draw(11))}


def in_caffe_layout(layers) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The arrays as Caffe holds them, by literal loops."""
    conv, fc = np.zeros((4, 3, 3, 3), np.float32), np.zeros((11, 60), np.float32)
    for o, i, y, x in np.ndindex(conv.shape):
        conv[o, i, y, x] = layers["conv"][0][y, x, i, o]
    for o, c, y, x in np.ndindex(11, 4, 5, 3):
        fc[o, (c * 5 + y) * 3 + x] = layers["fc"][0][(y * 3 + x) * 4 + c, o]
    return {"conv": (conv, layers["conv"][1]), "fc": (fc, layers["fc"][1])}


def check(port, expected) -> None:
    for name, (weights, biases) in expected.items():
        assert np.array_equal(port.parameters[f"{name}/weights"].caffe, weights)
        assert np.array_equal(port.parameters[f"{name}/biases"].caffe, biases)


@pytest.mark.parametrize("form", ["lists", "dicts", "bytes keys", "tuples"])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_npy_as_ports_pickle_it(net, tmp_path, form, protocol):
    layers = arrays(np.random.default_rng(3))
    held = {
        "lists": {name: list(pair) for name, pair in layers.items()},
        "dicts": {name: {"weights": pair[0], "biases": pair[1]} for name, pair in layers.items()},
        "bytes keys": {name.encode(): {b"weights": pair[0], b"biases": pair[1]} for name, pair in layers.items()},
        "tuples": layers,
    }[form]
    head = b"\x93NUMPY\x01\x00"
    text = b"{'descr': '|O', 'fortran_order': False, 'shape': (), }"
    text += b" " * (-(len(head) + 2 + len(text) + 1) % 64) + b"\n"
    body = pickle.dumps(np.array(held, dtype=object), protocol)
    (tmp_path / "w.npy").write_bytes(head + struct.pack("<H", len(text)) + text + body)
    check(converter.convert(net, tmp_path / "w.npy"), in_caffe_layout(layers))


def test_npz_in_caffe_s_layout_is_recognised_by_its_shapes(net, tmp_path):
    expected = in_caffe_layout(arrays(np.random.default_rng(4)))
    named = {f"{name}/{key}": a for name, pair in expected.items() for key, a in zip(("weights", "biases"), pair)}
    np.savez_compressed(tmp_path / "w.npz", **named)
    check(converter.convert(net, tmp_path / "w.npz"), expected)


def test_a_square_matrix_alone_does_not_tell_its_layout(tmp_path):
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 7 } } }'
        'layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y"'
        " inner_product_param { num_output: 7 bias_term: false } }"
    )
    square = np.arange(49, dtype=np.float32).reshape(7, 7)
    np.savez(tmp_path / "w.npz", **{"fc/weights": square})
    with pytest.raises(Refused, match=r"fc/weights \(7x7\): the shape fits both layouts; say --weights-layout"):
        converter.convert(tmp_path / "net.prototxt", tmp_path / "w.npz")
    for layout, expected in (("caffe", square), ("tensorflow", square.T)):
        port = converter.convert(tmp_path / "net.prototxt", tmp_path / "w.npz", weights_layout=layout)
        assert np.array_equal(port.parameters["fc/weights"].caffe, expected)


def test_a_fine_tuned_checkpoint_with_slots_goes_back_to_caffe(net, tmp_path):
    import tensorflow.compat.v1 as tf

    layers = arrays(np.random.default_rng(5))
    with tf.Graph().as_default(), tf.Session() as session:
        made = [
            tf.get_variable(f"{name}/{key}", initializer=array)
            for name, pair in layers.items()
            for key, array in zip(("weights", "biases"), pair)
        ]
        loss = tf.add_n([tf.reduce_sum(one) for one in made])
        tf.train.MomentumOptimizer(0.0, 0.9).minimize(loss, tf.train.get_or_create_global_step())
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, str(tmp_path / "tuned"))
    check(converter.convert(net, tmp_path / "tuned"), in_caffe_layout(layers))
    check(converter.convert(net, tmp_path / "tuned.index"), in_caffe_layout(layers))


def test_double_precision_is_said(net, tmp_path):
    expected = in_caffe_layout(arrays(np.random.default_rng(6)))
    with h5py.File(tmp_path / "w.h5", "w") as file:
        for name, pair in expected.items():
            for index, array in enumerate(pair):
                file[f"data/{name}/{index}"] = array.astype(np.float64)
    port = converter.convert(net, tmp_path / "w.h5")
    check(port, expected)
    assert "layer 'fc' (InnerProduct): its weights are stored as float64; the graph holds float32" in port.notes[2]


def test_a_skipped_layer_comes_from_its_filler(tmp_path):
    (tmp_path / "net.prototxt").write_text(
        NET.replace("num_output: 11", 'num_output: 11 weight_filler { type: "xavier" } bias_filler { value: 2 }')
    )
    expected = in_caffe_layout(arrays(np.random.default_rng(8)))
    np.savez(tmp_path / "w.npz", **{"conv/weights": expected["conv"][0], "conv/biases": expected["conv"][1]})
    with pytest.raises(Refused, match=r"layer 'fc' \(InnerProduct\): has no weights there; expected 11x60 and 11"):
        converter.convert(tmp_path / "net.prototxt", tmp_path / "w.npz")
    port = converter.convert(tmp_path / "net.prototxt", tmp_path / "w.npz", skip_layers=["fc"])
    check(port, {"conv": expected["conv"]})
    assert np.array_equal(port.parameters["fc/biases"].caffe, np.full(11, 2, np.float32))
    drawn = port.parameters["fc/weights"].caffe
    assert np.abs(drawn).max() <= np.sqrt(3 / 60)  # Caffe's xavier: uniform within sqrt(3 / fan_in)
    assert np.isclose(drawn.std(), np.sqrt(1 / 60), rtol=0.1)
    assert "values come from its fillers (weights xavier, biases constant)" in port.notes[0]


def test_a_skipped_layer_without_a_filler_is_drawn(tmp_path):
    (tmp_path / "net.prototxt").write_text(NET)
    np.savez(tmp_path / "w.npz", **{"conv/weights": np.ones((4, 3, 3, 3)), "conv/biases": np.ones(4)})
    port = converter.convert(tmp_path / "net.prototxt", tmp_path / "w.npz", skip_layers=["fc"])
    assert np.isclose(port.parameters["fc/weights"].caffe.std(), np.sqrt(1 / 60), rtol=0.1)
    assert not port.parameters["fc/biases"].caffe.any()
    said = "not loaded; values come from its fillers (weights xavier, as none is stated, biases constant)"
    assert f"{tmp_path}/w.npz: layer 'fc' (InnerProduct): {said}" in port.notes


def test_a_filler_that_states_zeros_is_no_missing_filler(tmp_path):
    stated = 'num_output: 11 weight_filler { type: "constant" }'
    (tmp_path / "net.prototxt").write_text(NET.replace("num_output: 11", stated))
    np.savez(tmp_path / "w.npz", **{"conv/weights": np.ones((4, 3, 3, 3)), "conv/biases": np.ones(4)})
    port = converter.convert(tmp_path / "net.prototxt", tmp_path / "w.npz", skip_layers=["fc"])
    assert not port.parameters["fc/weights"].caffe.any()
    port.save(tmp_path / "again.prototxt")
    assert stated.split("11 ")[1] in " ".join((tmp_path / "again.prototxt").read_text().split())


def test_mean_pictures_go_both_ways(shared, tmp_path):
    mean, deploy = shared / "models/mean", shared / "models/alexnet/deploy.prototxt"
    converter.convert(deploy, mean / "mean.binaryproto").save(tmp_path / "again.binaryproto")
    assert (tmp_path / "again.binaryproto").read_bytes() == (mean / "mean.binaryproto").read_bytes()
    converter.convert(deploy, mean / "ilsvrc_2012_mean.npy").save(tmp_path / "ilsvrc.binaryproto")
    picture = np.load(mean / "ilsvrc_2012_mean.npy")
    port = converter.convert(tmp_path / "ilsvrc.binaryproto", deploy)
    assert port.mean is not None
    assert np.array_equal(port.mean, picture.astype(np.float32))
    stated = manifest(port, {})["preprocessing"]["mean_value"]
    assert np.allclose(stated, [104.00699, 116.66877, 122.67892], atol=1e-4)  # pycaffe's documentation of this file
