"""The demo that ships, as converted here, and the script that makes it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import graphs
from converter import Port, convert
from graphs import FrozenGraph, run_reference
from graphs.layers.convolution import Convolution
from tools import train_demo
from tools.train_demo import CLASSES, DEMO, Digits, demo_network, read_digits, train, write_demo
from weights import Refused

pytest.importorskip("sklearn")
Image = pytest.importorskip("PIL.Image")

SOURCES = (DEMO / "digits.prototxt", DEMO / "digits.caffemodel")

ALEXNET = [
    *("data", "conv1", "relu1", "norm1", "pool1", "conv2", "relu2", "norm2", "pool2"),
    *("conv3", "relu3", "conv4", "relu4", "conv5", "relu5", "pool5"),
    *("fc6", "relu6", "drop6", "fc7", "relu7", "drop7", "fc8", "prob"),
]


@pytest.fixture(scope="module")
def port() -> Port:
    return convert(*SOURCES)


@pytest.fixture(scope="module")
def graph(port: Port, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FrozenGraph]:
    path = tmp_path_factory.mktemp("demo") / "digits.pb"
    port.save(path)
    graph = graphs.load(path)
    yield graph
    graph.close()


@pytest.fixture(scope="module")
def digits() -> tuple[Digits, Digits]:
    return read_digits()


@pytest.fixture(scope="module")
def held_out(digits: tuple[Digits, Digits]) -> Digits:
    return digits[1]


def test_definition_and_weights_are_under_500_kb():
    assert sum(path.stat().st_size for path in SOURCES) < 500_000


def test_definition_is_what_the_script_describes(port: Port):
    assert port.network == demo_network()


def test_layers_are_alexnet_s_in_their_order(port: Port):
    assert [node.name for node in port.network.nodes] == ALEXNET
    groups = {node.name: node.layer.group for node in port.network.nodes if isinstance(node.layer, Convolution)}
    assert groups == {"conv1": 1, "conv2": 2, "conv3": 1, "conv4": 2, "conv5": 2}
    types = [node.layer.type for node in port.network.nodes]
    assert {kind: types.count(kind) for kind in ("LRN", "Pooling", "InnerProduct", "Dropout")} == {
        "LRN": 2,
        "Pooling": 3,
        "InnerProduct": 3,
        "Dropout": 2,
    }


def test_preprocessing_is_in_the_manifest(graph: FrozenGraph):
    assert graph.manifest["preprocessing"] == {"scale": 1 / 256}


def test_split_is_stratified_and_shares_no_picture(digits: tuple[Digits, Digits]):
    seen, held_out = digits
    assert len(seen.labels) + len(held_out.labels) == 1797
    shares = np.bincount(held_out.labels) / (np.bincount(held_out.labels) + np.bincount(seen.labels))
    assert shares.min() > 0.19
    assert shares.max() < 0.21
    trained_on = {picture.tobytes() for picture in seen.pictures}
    assert not any(picture.tobytes() in trained_on for picture in held_out.pictures)


def test_97_percent_of_unseen_digits_are_named_right(graph: FrozenGraph, held_out: Digits):
    prob = graph.run({"data": held_out.fed()}, layout="caffe")["prob"]
    assert (prob.argmax(axis=1) == held_out.labels).mean() >= 0.97


def test_pictures_are_held_out_digits_one_of_each_class(held_out: Digits):
    assert (DEMO / "labels.txt").read_text(encoding="utf-8").split() == list(CLASSES)
    assert sorted(path.name for path in (DEMO / "pictures").iterdir()) == [f"digit-{digit}.png" for digit in range(10)]
    for digit in range(10):
        with Image.open(DEMO / "pictures" / f"digit-{digit}.png") as image:
            assert image.mode == "L"
            pixels = np.asarray(image)
        alike = (held_out.pictures[:, 0] == pixels).all(axis=(1, 2))
        assert held_out.labels[alike].tolist() == [digit]


def test_reference_and_graph_agree_at_every_layer(port: Port, graph: FrozenGraph, held_out: Digits, agree):
    inputs = {"data": held_out.fed()[:7]}
    expected = run_reference(port.shapes, port.arrays(), inputs)
    assert [layer for layer, _ in expected] == ALEXNET
    for (layer, top), value in expected.items():
        tensor = graph.layers[layer, top]
        agree(graph.run(inputs, [tensor], layout="caffe")[tensor], value, 2e-5, layer)


def test_opencv_gives_the_same_probabilities(graph: FrozenGraph, held_out: Digits):
    cv2 = pytest.importorskip("cv2")
    net = cv2.dnn.readNetFromCaffe(*map(str, SOURCES))
    pictures = held_out.fed()[:50]
    net.setInput(pictures)
    ours = graph.run({"data": pictures}, layout="caffe")["prob"]
    assert ours.shape == (50, 10)
    assert np.abs(net.forward("prob") - ours).max() <= 1e-5


def test_a_short_training_learns_and_can_be_read_back(digits: tuple[Digits, Digits], tmp_path: Path):
    seen, held_out = digits
    losses: list[float] = []
    trained = train(seen, steps=80, report=lambda step, loss: losses.append(loss))
    assert len(losses) == 80
    assert losses[0] == pytest.approx(np.log(10), rel=0.1)  # before training, all classes are alike
    assert np.mean(losses[-10:]) < 0.75 * losses[0]
    written = write_demo(tmp_path, trained, held_out)
    assert [str(path.relative_to(tmp_path)) for path in written[:3]] == [
        "digits.caffemodel",
        "digits.prototxt",
        "labels.txt",
    ]
    assert sorted(tmp_path.rglob("*.*")) == sorted(written)  # and no stage is left behind
    read = convert(tmp_path / "digits.prototxt", tmp_path / "digits.caffemodel")
    assert read.network == trained.network
    assert list(read.parameters) == list(trained.parameters)
    for name, parameter in trained.parameters.items():
        np.testing.assert_array_equal(read.parameters[name].caffe, parameter.caffe)


def test_the_seed_decides(digits: tuple[Digits, Digits], agree: Callable[..., None]):
    """But for the order in which threads add up."""
    seen, _ = digits
    once, again, other = (train(seen, steps=2, seed=seed).parameters["conv4/weights"].caffe for seed in (3, 3, 4))
    agree(again, once, 1e-5)
    assert np.abs(once - other).mean() > 0.1 * np.abs(once).mean()


def test_a_batch_is_shifted_and_each_digit_comes_once(digits: tuple[Digits, Digits]):
    seen = Digits(digits[0].pictures[:130], np.arange(130))
    batches = list(train_demo._batches(seen, 4, np.random.default_rng(5)))
    assert [batch.pictures.shape for batch in batches] == [(64, 1, 32, 32)] * 4
    assert len(set(np.concatenate([batch.labels for batch in batches[:2]]))) == 128
    same = [np.array_equal(picture, seen.pictures[label]) for picture, label in zip(*vars(batches[0]).values())]
    assert 0 <= sum(same) < 20  # one place in 25 is where the digit was


def test_command_line_trains_and_prints(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert train_demo.main(["-o", str(tmp_path), "--steps", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1442 digits to train on, 355 held out"
    assert re.fullmatch(r"step 1 of 3   loss \d\.\d{4}", lines[1])
    assert re.fullmatch(r"step 3 of 3   loss \d\.\d{4}", lines[2])
    assert re.fullmatch(r"held-out digits: \d+ of 355 right \(\d+\.\d%\)", lines[3])
    assert lines[4] == f"{tmp_path / 'digits.caffemodel'}: {SOURCES[1].stat().st_size:,} bytes"
    assert len(lines) == 4 + 13


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "nowhere"], "nowhere: no such folder; make it first, or name another with -o\n"),
        (["--steps", "0"], "--steps 0: expected 1 or more\n"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture):
    assert train_demo.main(arguments) == 2
    assert capsys.readouterr().err == message


def test_without_scikit_learn_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn.datasets", None)
    with pytest.raises(Refused, match="pip install scikit-learn"):
        read_digits()
