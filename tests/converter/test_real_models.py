"""Trained models and full-size AlexNets, held against what Caffe computed of them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import graphs
from converter import convert
from graphs import run_reference


@pytest.fixture
def seeded(shared: Path, tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Returns a function that makes a full-size .caffemodel, by a program that shares no code with this project."""
    made = []

    def make(net: str) -> Path:
        made.append(tmp_path / f"{net}.caffemodel")
        tool = shared / "tools" / "make_seeded_caffemodel.py"
        subprocess.run([sys.executable, str(tool), net, str(made[-1]), "0"], check=True)
        return made[-1]

    yield make
    for path in made:
        path.unlink(missing_ok=True)


def squeezenet_input(shared: Path) -> np.ndarray:
    with np.load(shared / "models" / "squeezenet" / "input.npz") as arrays:
        return arrays["bgr"].astype(np.float32) - arrays["mean"].reshape(3, 1, 1)


def check_samples(values: dict[tuple[str, str], np.ndarray], path: Path, agree, tolerance: float = 1e-4) -> None:
    """Holds every layer against Caffe's values at 256 sampled places of it."""
    with np.load(path) as recorded:
        layers = [tuple(str(line).split("\t")) for line in recorded["layers"]]
        assert layers
        for number, key in enumerate(layers):
            sample = {part: recorded[f"{number:04}/{part}"] for part in ("index", "value", "shape", "absmax")}
            value = values[key]
            assert value.shape == tuple(sample["shape"]), key
            # The largest magnitude is among what is compared, so that the tolerance is a share of it.
            got = np.append(value.reshape(-1)[sample["index"]], np.abs(value).max())
            agree(got, np.append(sample["value"], sample["absmax"]), tolerance, "/".join(key))
        outputs = [name for name in recorded.files if name.startswith("output/")]
        assert outputs
        for name in outputs:
            last = {top: value for (_, top), value in values.items()}[name.removeprefix("output/")]
            agree(last, recorded[name], tolerance, name)


@pytest.fixture(scope="module")
def lenet(shared):
    folder = shared / "models" / "lenet"
    return convert(folder / "deploy.prototxt", folder / "lenet.caffemodel")


def test_lenet_gives_caffes_probabilities_for_200_digits(lenet, shared, tmp_path):
    with np.load(shared / "models" / "lenet" / "digits.npz") as arrays:
        images, labels, expected = (arrays[name] for name in ("images", "labels", "prob"))
    path = tmp_path / "lenet.pb"
    lenet.save(path)
    graph = graphs.load(path)
    got = graph.run({"data": images.astype(np.float32) / 256}, layout="caffe")["prob"]
    graph.close()
    assert got.shape == expected.shape == (200, 10)
    assert np.abs(got - expected).max() <= 1e-5
    np.testing.assert_array_equal(got.argmax(axis=1), labels)


def test_lenet_agrees_layer_by_layer(lenet, shared, graph_values, agree):
    with np.load(shared / "models" / "lenet" / "reference.npz") as recorded:
        inputs = {"data": recorded["input/data"]}
        runs = [graph_values(lenet, inputs), run_reference(lenet.shapes, lenet.arrays(), inputs)]
        names = [name for name in recorded.files if name.startswith("layer/")]
        assert len(names) == 8
        for values in runs:
            for name in names:
                agree(values[tuple(name.split("/")[1:])], recorded[name], 2e-5, name)


def test_squeezenet_recognises_six_pictures(shared, graph_values, agree):
    folder = shared / "models" / "squeezenet"
    port = convert(folder / "deploy.prototxt", folder / "squeezenet.caffemodel")
    values = graph_values(port, {"data": squeezenet_input(shared)})
    check_samples(values, folder / "reference.npz", agree)
    labels = (shared / "labels" / "imagenet.txt").read_text().splitlines()
    found = [labels[index] for index in values["pool_final", "pool_final"].reshape(6, 1000).argmax(axis=1)]
    expected = ["llama", "sea lion", "zebra", "quail", "weasel", "miniature poodle"]
    assert [label.split(",")[0] for label in found] == expected


def test_squeezenet_in_the_reference(shared, agree):
    folder = shared / "models" / "squeezenet"
    port = convert(folder / "deploy.prototxt", folder / "squeezenet.caffemodel")
    one = squeezenet_input(shared)[:1]
    values = run_reference(port.shapes, port.arrays(), {"data": one}, np.float32)
    with np.load(folder / "reference.npz") as recorded:
        agree(values["pool_final", "pool_final"], recorded["output/pool_final"][:1], 1e-4)


@pytest.mark.slow
def test_alexnet_at_full_size_agrees_layer_by_layer(shared, seeded, graph_values, agree):
    folder = shared / "models" / "alexnet"
    port = convert(folder / "deploy.prototxt", seeded("alexnet"))
    values = graph_values(port, {"data": squeezenet_input(shared)[:4]})
    check_samples(values, folder / "seed0_reference.npz", agree)


@pytest.mark.slow
def test_caffenet_at_full_size_agrees_with_opencv(shared, seeded, graph_values, agree):
    # Caffe's values are recorded for AlexNet only; OpenCV's reader and layers are the other ones within reach.
    cv2 = pytest.importorskip("cv2", reason="needs opencv-python-headless")
    definition = shared / "models" / "caffenet" / "deploy.prototxt"
    weights = seeded("caffenet")
    pictures = squeezenet_input(shared)[:2]
    net = cv2.dnn.readNetFromCaffe(str(definition), str(weights))
    net.setInput(pictures)
    expected = dict(zip(("pool1", "norm1", "fc8", "prob"), net.forward(["pool1", "norm1", "fc8", "prob"])))
    values = graph_values(convert(definition, weights), {"data": pictures})
    for name, value in expected.items():
        agree(values[name, name], value, 1e-4, name)
