"""Batch normalization is tested, and exported, by the statistics that the network has as it was trained."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import graphs
from converter import Port, convert
from graphs import infer, run_reference
from graphs.alexnet.training_layers import BatchNormalization
from graphs.layer import Layer
from graphs.layers.bn import BN
from graphs.layers.convolution import Convolution
from graphs.layers.data import Input
from graphs.layers.normalization import BatchNorm
from graphs.names import name_values
from graphs.network import Network, Node, ParamSpec
from graphs.tensorflow1 import tensorflow1
from tools.finetune import statistics
from tools.finetune.__main__ import main
from tools.finetune.graph import Graph, Learning, build_graph, load
from tools.finetune.head import head_of
from tools.train_demo import read_digits
from weights import Parameter, Refused

pytest.importorskip("fsspec")
pytest.importorskip("sklearn")

NORMALIZED = """
layer { name: "conv%(at)d" type: "Convolution" bottom: "%(bottom)s" top: "conv%(at)d"
  convolution_param { num_output: %(outputs)d kernel_size: 3 stride: 2 weight_filler { type: "msra" } } }
layer { name: "bn%(at)d" type: "BatchNorm" bottom: "conv%(at)d" top: "bn%(at)d" }
layer { name: "scale%(at)d" type: "Scale" bottom: "bn%(at)d" top: "bn%(at)d" scale_param { bias_term: true } }
layer { name: "relu%(at)d" type: "ReLU" bottom: "bn%(at)d" top: "bn%(at)d" }
"""
NET = (
    """layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 1 dim: 32 dim: 32 } }
  transform_param { mean_value: 33 scale: 0.0125 } }
layer { name: "drop" type: "Dropout" bottom: "data" top: "drop" dropout_param { dropout_ratio: 0.1 } }"""
    + NORMALIZED % {"at": 1, "bottom": "drop", "outputs": 7}
    + NORMALIZED % {"at": 2, "bottom": "bn1", "outputs": 11}
    + """layer { name: "fc" type: "InnerProduct" bottom: "bn2" top: "fc" inner_product_param { num_output: 10 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""
)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The demo's digits, 307 to learn from and 199 others, as x.npy and y.npy."""
    places = {}
    for name, digits, count in zip(("training", "held out"), read_digits(), (307, 199)):
        places[name] = tmp_path_factory.mktemp("pairs")
        np.save(places[name] / "x.npy", np.moveaxis(digits.pictures[:count], 1, -1))
        np.save(places[name] / "y.npy", digits.labels[:count])
    return places


@pytest.fixture(scope="module")
def words(pairs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A command line that trains a small network from a pretrained one's statistics, which stand in BatchNorm's sums
    with all their weight; without its outputs. One thread, so that the same sums are made in the same order."""
    folder = tmp_path_factory.mktemp("net")
    (folder / "net.prototxt").write_text(NET)
    port = convert(folder / "net.prototxt")
    sums = {"mean": 999.0, "variance": 30 * 999.0, "scale_factor": 999.0}
    rng = np.random.default_rng(3)
    drawn = {}
    for layer, variables in zip(port.shapes, port.names.variables):
        for spec, name in zip(layer.parameters, variables):
            values = np.full(spec.layout.caffe, sums[spec.name]) if spec.name in sums else rng.normal(
                0.0 if spec.name == "biases" else float(layer.node.name.startswith("scale")), 0.1, spec.layout.caffe
            )  # fmt: skip
            drawn[name] = Parameter(name, spec.layout, values.astype(np.float32))
    replace(port, parameters=drawn).save(folder / "net.caffemodel")
    return [str(folder / "net.prototxt"), str(folder / "net.caffemodel"), "--data", str(pairs["training"]),
            "--validation", str(pairs["held out"]), "--train-layers", "all", "--batch", "23", "--learning-rate", "0.02",
            "--threads", "1"]  # fmt: skip


def finish(words: list[str], folder: Path, *options: str) -> int:
    forms = [word for name in ("out.pb", "out.ckpt", "out.caffemodel", "out.prototxt") for word in ("-o", name)]
    places = [word if word.startswith("-") else str(folder / word) for word in ["--run", "run", *forms]]
    return main([*words, "--epochs", "3", *places, "--output-data-dir", str(folder), *options])


@pytest.fixture(scope="module")
def tuned(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tuned")
    assert finish(words, folder) == 0
    return folder


def test_the_held_out_pictures_are_known_as_well_as_those_that_trained(tuned: Path):
    """By the moving averages alone it was 10.1, 13.1 and 45.2 % after the three epochs."""
    metrics = json.loads((tuned / "metrics.json").read_text())
    assert metrics["before"]["accuracy"] < 0.2
    assert metrics["after"]["accuracy"] > 0.8
    assert all(epoch["validation"]["accuracy"] > 0.7 for epoch in metrics["epochs"])


def test_every_form_gives_the_numbers_of_the_validation(tuned: Path, pairs: dict[str, Path]):
    """OpenCV reads Caffe's form of the statistics by itself."""
    cv2 = pytest.importorskip("cv2")
    labels = np.load(pairs["held out"] / "y.npy")
    pictures = ((np.load(pairs["held out"] / "x.npy") - np.float32(33)) * np.float32(0.0125)).transpose(0, 3, 1, 2)
    net = cv2.dnn.readNetFromCaffe(str(tuned / "out.prototxt"), str(tuned / "out.caffemodel"))
    net.setInput(pictures)
    found = {"OpenCV": net.forward("prob")}
    with closing(graphs.load(tuned / "out.pb")) as graph:
        found["frozen graph"] = graph.run({"data": pictures}, layout="caffe")["prob"]
    port = convert(tuned / "out.ckpt")
    found["checkpoint"] = run_reference(port.shapes, port.arrays(), {"data": pictures})["prob", "prob"]
    told = json.loads((tuned / "metrics.json").read_text())["after"]
    for name, probabilities in found.items():
        assert (probabilities.argmax(axis=1) == labels).mean() == pytest.approx(told["accuracy"]), name
        loss = -np.log(probabilities[np.arange(len(labels)), labels]).mean()
        assert loss == pytest.approx(told["loss"], rel=1e-4), name


def test_what_is_resumed_has_the_very_same_statistics(words: list[str], tuned: Path, tmp_path: Path):
    assert finish(words, tmp_path, "--epochs", "1") == 0
    assert finish(words, tmp_path, "--resume") == 0
    assert (tmp_path / "out.caffemodel").read_bytes() == (tuned / "out.caffemodel").read_bytes()
    assert json.loads((tmp_path / "metrics.json").read_text()) == json.loads((tuned / "metrics.json").read_text())


def test_layers_that_do_not_learn_keep_their_statistics(words: list[str], tmp_path: Path):
    before = convert(*words[:2]).parameters
    options = ["--train-layers", "bn2", "scale2", "fc", "--epochs", "1"]
    assert finish(words, tmp_path, *options) == 0
    after = convert(tmp_path / "out.pb").parameters
    for part in ("mean", "variance", "scale_factor"):
        np.testing.assert_array_equal(after[f"bn1/{part}"].caffe, before[f"bn1/{part}"].caffe)
        assert not np.array_equal(after[f"bn2/{part}"].caffe, before[f"bn2/{part}"].caffe)


def test_the_advice_is_for_a_training_that_made_nothing_better(words: list[str], tmp_path: Path, capsys):
    assert finish(words, tmp_path, "--epochs", "1", "--learning-rate", "0.005") == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["after"]["accuracy"] > metrics["before"]["accuracy"]
    assert "no epoch was better" not in capsys.readouterr().err


def a_port(normalization: Layer, shared: bool = False) -> Port:
    """Returns conv, normalization, conv, normalization over pictures of 1 x 5 x 7; the last makes the scores."""
    specs = tuple(ParamSpec(name=f"shared{index}", lr_mult=0) for index in range(3)) if shared else ()
    nodes = [
        Node("data", Input(shape=((2, 1, 5, 7),)), (), ("data",)),
        Node("conv1", Convolution(num_output=3, kernel_size=(3,)), ("data",), ("conv1",)),
        Node("bn1", normalization, ("conv1",), ("bn1",), specs),
        Node("conv2", Convolution(num_output=3, kernel_h=3, kernel_w=5), ("bn1",), ("conv2",)),
        Node("bn2", normalization, ("conv2",), ("bn2",), specs),
    ]
    network = Network("small", tuple(nodes))
    shapes = infer(network)
    names = name_values(shapes)
    rng = np.random.default_rng(11)
    parameters = {
        name: Parameter(name, spec.layout, rng.normal(1, 0.3, spec.layout.caffe).astype(np.float32))
        for layer, variables in zip(shapes, names.variables)
        for spec, name in zip(layer.parameters, variables)
    }
    return Port(network, shapes, names, parameters, classes=("ant", "bee", "cow"))


def built(port: Port, layers: list[str], devices: int = 0) -> Graph:
    return build_graph(port, head_of(port), layers, Learning(), devices=["/device:CPU:0"] * devices)


@pytest.mark.parametrize("devices", [0, 2])
@pytest.mark.parametrize("normalization", [BatchNorm(), BatchNormalization()], ids=["Caffe", "TensorFlow"])
def test_they_are_those_of_all_pictures_whatever_the_batches(agree, rng, normalization: Layer, devices: int):
    """NumPy's, over all pictures at once; behind bn1 each batch is normalized by its own, so that bn2 sees others."""
    port = a_port(normalization)
    pictures = rng.normal(2, 3, (17, 5, 7, 1)).astype(np.float32)
    graph = built(port, ["bn1", "conv2", "bn2"], devices)
    cuts = np.split(pictures, [7, 14])  # the last has three
    with closing(tensorflow1("the tests").Session(graph=graph.graph)) as session:
        load(session, graph, port.parameters.values())
        statistics.measure(session, graph, [(part, np.zeros(len(part), np.int64)) for part in cuts])
        after = graph.arrays(session)
    below = replace(port.shapes, layers=port.shapes.layers[:2])
    bottom = run_reference(below, port.arrays(), {"data": np.moveaxis(pictures, -1, 1)})["conv1", "conv1"]
    moving = "moving_" if isinstance(normalization, BatchNormalization) else ""
    agree(after[f"bn1/{moving}mean"], bottom.mean(axis=(0, 2, 3)), 1e-5, "mean")
    agree(after[f"bn1/{moving}variance"], bottom.var(axis=(0, 2, 3)), 1e-5, "variance")
    assert after.get("bn1/scale_factor", 1) == 1
    np.testing.assert_array_equal(after["conv2/weights"], port.parameters["conv2/weights"].tensorflow())


def test_so_many_pictures_are_enough(monkeypatch):
    monkeypatch.setattr(statistics, "PICTURES", 5)
    port = a_port(BatchNorm())
    graph = built(port, ["bn1"])
    taken = []

    def batches():
        for place in range(9):
            taken.append(place)
            yield np.full((2, 5, 7, 1), place, np.float32), np.zeros(2, np.int64)

    with closing(tensorflow1("the tests").Session(graph=graph.graph)) as session:
        load(session, graph, port.parameters.values())
        statistics.measure(session, graph, batches())
    assert taken == [0, 1, 2]


def test_statistics_that_two_layers_share():
    with pytest.raises(
        Refused, match=r"^layer 'bn2' \(BatchNorm\): shares its statistics with bn1; leave one out of --train-layers$"
    ):
        built(a_port(BatchNorm(), shared=True), ["bn1", "bn2"])


def test_a_fork_s_bn_learns_where_it_is_frozen_and_stays_by_its_statistics(rng):
    with pytest.raises(Refused, match=r"layer 'bn1' \(BN\): how a fork's BN follows its statistics in training is not"):
        built(a_port(BN()), ["bn1", "bn2"])
    graph = built(a_port(BN(frozen=True)), ["bn1", "bn2"])
    assert set(graph.gradients) == {f"bn{at}/{part}" for at in (1, 2) for part in ("slope", "bias")}
    port = a_port(BN())
    graph = built(port, ["conv2"])
    pictures = rng.normal(2, 3, (2, 5, 7, 1)).astype(np.float32)
    with closing(tensorflow1("the tests").Session(graph=graph.graph)) as session:
        load(session, graph, port.parameters.values())
        towers = (graph.training, graph.testing)
        feeds = {graph.images: pictures, graph.labels: [0, 1], graph.seed: [1, 1]}
        trained, tested = session.run([one.network.tops["bn2", "bn2"] for one in towers], feeds)
    np.testing.assert_allclose(trained, tested, rtol=1e-5)
