"""Fine-tuning as a user does it: from pictures and a port to a port that knows other classes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphs
from converter import Port, convert
from converter.__main__ import main as convert_main
from graphs import run_reference
from graphs.tensorflow1 import tensorflow1
from tools.finetune.__main__ import main
from tools.finetune.schedule import Schedule
from tools.train_demo import CLASSES as NAMES
from tools.train_demo import Digits, read_digits
from tools.validate.__main__ import main as validate
from weights import Refused

Image = pytest.importorskip("PIL.Image")
pytest.importorskip("fsspec")
pytest.importorskip("sklearn")

SHOWN = (1, 4, 7)
"""The digits that the tests learn to tell apart."""
EACH = 23


@pytest.fixture(scope="module")
def digits() -> Digits:
    """Those of the demo's training digits that are shown, ``EACH`` of each, class by class."""
    seen, _ = read_digits()
    chosen = np.concatenate([np.flatnonzero(seen.labels == digit)[:EACH] for digit in SHOWN])
    return Digits(seen.pictures[chosen], seen.labels[chosen])


@pytest.fixture(scope="module")
def folder(digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of pictures for each class, named as the demo's labels."""
    root = tmp_path_factory.mktemp("digits")
    for place, (picture, label) in enumerate(zip(digits.pictures, digits.labels)):
        (root / NAMES[label]).mkdir(exist_ok=True)
        Image.fromarray(picture[0]).save(root / NAMES[label] / f"{place:03}.png")
    return root


@pytest.fixture(scope="module")
def base(folder: Path, demo_port: Path) -> list[str]:
    """What most command lines here begin with: one thread, so that the same sums are made in the same order."""
    return [str(demo_port), "--data", str(folder), "--hold-out", "0.25", "--batch", "13", "--threads", "1",
            "--learning-rate", "0.01"]  # fmt: skip


@pytest.fixture(scope="module")
def tuned(base: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole training, fc8 and fc7 over three epochs, with all that it writes."""
    place = tmp_path_factory.mktemp("tuned")
    forms = ["out.pb", "out.ckpt", "saved/", "out.caffemodel", "out.prototxt"]
    outputs = [word for form in forms for word in ("-o", f"{place}/{form}")]
    options = ["--train-layers", "fc8", "fc7", "--epochs", "3", "--run", str(place / "run")]
    assert main([*base, *options, *outputs, "--output-data-dir", str(place)]) == 0
    return place


def test_the_classes_are_learned(tuned: Path, folder: Path):
    metrics = json.loads((tuned / "metrics.json").read_text())
    assert metrics["before"]["count"] == metrics["after"]["count"] == 3 * round(EACH / 4)
    assert metrics["after"]["accuracy"] >= 0.9 > metrics["before"]["accuracy"]
    assert [epoch["number"] for epoch in metrics["epochs"]] == [1, 2, 3]
    assert [epoch["step"] for epoch in metrics["epochs"]] == [4, 8, 12]


def test_frozen_layers_stay_and_the_others_learn(tuned: Path, demo_port: Path):
    before, after = convert(demo_port), convert(tuned / "out.pb")
    for name, parameter in before.parameters.items():
        if not name.startswith("fc8/"):
            same = np.array_equal(parameter.caffe, after.parameters[name].caffe)
            assert same != name.startswith("fc7/"), name
    assert after.parameters["fc8/weights"].caffe.shape == (3, 128)


def test_the_manifest_names_the_classes_and_the_preprocessing(tuned: Path):
    manifest = json.loads((tuned / "out.pb.json").read_text())
    assert manifest["classes"] == ["four", "one", "seven"]
    assert manifest["preprocessing"] == {"scale": 1 / 256}


def test_every_form_and_opencv_give_the_same_probabilities(tuned: Path, digits: Digits, agree: Callable[..., None]):
    cv2 = pytest.importorskip("cv2")
    tf = tensorflow1("the tests")
    pictures = digits.fed()[::5]
    net = cv2.dnn.readNetFromCaffe(str(tuned / "out.prototxt"), str(tuned / "out.caffemodel"))
    net.setInput(pictures)
    expected = net.forward("prob")
    assert expected.shape == (14, 3)
    graph = graphs.load(tuned / "out.pb")
    agree(graph.run({"data": pictures}, layout="caffe")["prob"], expected, 1e-5, "frozen graph")
    graph.close()
    with tf.Graph().as_default(), tf.Session() as session:
        meta = tf.saved_model.loader.load(session, ["serve"], str(tuned / "saved"))
        ends = meta.signature_def["serving_default"]
        feeds = {ends.inputs["data"].name: np.moveaxis(pictures, 1, -1)}
        agree(session.run(ends.outputs["prob"].name, feeds), expected, 1e-5, "SavedModel")
    for name in ("out.ckpt", "run/best.ckpt"):
        port = convert(tuned / name)
        values = run_reference(port.shapes, port.arrays(), {"data": pictures}, np.float32)
        agree(values["prob", "prob"], expected, 1e-5, name)


def test_the_best_checkpoint_is_a_port_of_its_own(tuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    """It converts to the very .caffemodel that training wrote, and the validator holds it against that."""
    again = tmp_path / "again.caffemodel"
    assert convert_main([str(tuned / "run" / "best.ckpt"), "-o", str(again)]) == 0
    assert again.read_bytes() == (tuned / "out.caffemodel").read_bytes()
    sources = [str(tuned / "out.prototxt"), str(again)]
    pictures = ["--images", str(next((Path(__file__).parents[2] / "tools/demo/pictures").iterdir()))]
    assert validate([str(tuned / "run" / "best.ckpt"), *sources, *pictures, "--trust"]) == 0


def test_only_the_last_checkpoints_and_the_best_are_kept(base: list[str], tmp_path: Path):
    run = tmp_path / "run"
    options = ["--epochs", "3", "--keep", "2", "--run", str(run), "-o", str(tmp_path / "out.npz")]
    assert main([*base, *options]) == 0
    assert sorted(path.name for path in run.glob("*.index")) == [
        "best.ckpt.index", "step-12.ckpt.index", "step-8.ckpt.index",
    ]  # fmt: skip
    assert not list(run.glob(".caffeport*"))


def tags(folder: Path) -> dict[str, list[tuple[int, Any]]]:
    """Returns tag -> (step, value) of the event files in a folder, "graph" for the graph itself."""
    tf = tensorflow1("the tests")
    found: dict[str, list[tuple[int, Any]]] = {}
    for path in sorted(folder.iterdir()):
        for event in tf.train.summary_iterator(str(path)):
            if event.graph_def:
                found["graph"] = [(0, event.graph_def)]
            for value in event.summary.value:
                number = value.simple_value if value.HasField("simple_value") else value.histo
                found.setdefault(value.tag, []).append((event.step, number))
    return found


def test_tensorboard_gets_curves_histograms_and_the_graph(tuned: Path):
    metrics = json.loads((tuned / "metrics.json").read_text())
    training, validation = tags(tuned / "run/events/training"), tags(tuned / "run/events/validation")
    assert [step for step, _ in training["batch/loss"]] == list(range(1, 13))
    assert {rate for _, rate in training["batch/learning_rate"]} == {np.float32(0.01)}
    assert all(length > 0 for _, length in training["batch/gradient"])
    losses = [epoch["loss"] for epoch in metrics["epochs"]]
    np.testing.assert_allclose([value for _, value in training["epoch/loss"]], losses, rtol=1e-6)
    wanted = [metrics["before"], *(epoch["validation"] for epoch in metrics["epochs"])]
    assert [step for step, _ in validation["epoch/accuracy"]] == [0, 4, 8, 12]
    np.testing.assert_allclose(
        [value for _, value in validation["epoch/accuracy"]], [one["accuracy"] for one in wanted]
    )
    names = {f"{layer}/{part}" for layer in ("fc7", "fc8") for part in ("weights", "biases")}
    for kind in ("gradients", "weights"):
        own = {tag.split("/", 2)[2] for tag in training if tag.startswith(f"histograms/{kind}/")}
        assert own == names
    (_, histogram), *_ = training["histograms/weights/fc8/weights"]
    assert histogram.num == 3 * 128
    for run, names in ((training, {"training/conv1", "fc8/weights"}), (validation, {"conv1", "fc8", "fc8/weights"})):
        graph = tensorflow1("the tests").GraphDef.FromString(run["graph"][0][1])
        assert names <= {node.name for node in graph.node}


def test_what_is_printed(base: list[str], tmp_path: Path, capsys: pytest.CaptureFixture):
    assert main([*base, "--epochs", "2", "--train-layers", "fc7", "-o", str(tmp_path / "out.pb")]) == 0
    shown = capsys.readouterr()
    assert shown.err == "note: --train-layers: fc8 learns too: its weights are new\n"
    lines = shown.out.splitlines()
    number = r"\d+\.\d{4}"
    epoch = rf"epoch 1 of 2   loss {number}   accuracy \d+\.\d%   validation: loss {number}, accuracy \d+\.\d%   "
    assert re.fullmatch(epoch + r"\d+\.\d pictures/s   best so far", lines[0])
    assert re.fullmatch(rf"{tmp_path}/out.pb: \d+\.\d KiB, data -> prob \(with out.pb.json\)", lines[2])
    table = [line.split() for line in lines[3:] if line.strip()]
    assert table[0][:3] == ["on", "18", "held-out"]
    assert table[2][0] == "before"
    assert table[3][:2] == ["after", "epoch"]


@pytest.fixture(scope="module")
def pairs(digits: Digits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same pictures as x.npy and y.npy."""
    place = tmp_path_factory.mktemp("pairs")
    np.save(place / "x.npy", np.moveaxis(digits.pictures, 1, -1))
    np.save(place / "y.npy", np.searchsorted(SHOWN, digits.labels))
    return place


def test_arrays_in_place_of_files_with_the_definition_and_its_weights(demo: Path, pairs: Path, tmp_path: Path):
    sources = [str(demo / "digits.prototxt"), str(demo / "digits.caffemodel")]
    options = ["--data", str(pairs), "--batch", "16", "--epochs", "2", "--optimizer", "adam"]
    assert main([*sources, *options, "-o", str(tmp_path / "out.pb")]) == 0
    assert convert(tmp_path / "out.pb").classes == ("0", "1", "2")


def test_the_head_is_kept_where_the_classes_are_the_same(demo_port: Path, tmp_path: Path):
    """The demo knows its digits: its own head names them before any step."""
    seen, _ = read_digits()
    np.save(tmp_path / "x.npy", np.moveaxis(seen.pictures[:100], 1, -1))
    np.save(tmp_path / "y.npy", seen.labels[:100])
    options = ["--data", str(tmp_path), "--keep-head", "--epochs", "1", "--output-data-dir", str(tmp_path)]
    assert main([str(demo_port), *options, "-o", str(tmp_path / "out.pb")]) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["before"]["accuracy"] >= 0.97
    assert metrics["before"]["among_top"] == 1


def test_sagemaker_s_environment(base: list[str], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    hyperparameters = {"model": base[0], "epochs": 1, "train-layers": "fc8 fc7", "threads": "1", "hold_out": 0.25}
    for name, value in {
        "SM_CHANNEL_TRAINING": str(folder),
        "SM_MODEL_DIR": str(tmp_path / "model"),
        "SM_OUTPUT_DATA_DIR": str(tmp_path / "output"),
        "SM_HPS": json.dumps(hyperparameters),
    }.items():
        monkeypatch.setenv(name, value)
    assert main([]) == 0
    assert (tmp_path / "model" / "1" / "saved_model.pb").is_file()
    assert json.loads((tmp_path / "output" / "metrics.json").read_text())["epochs"][0]["number"] == 1


class TestSchedule:
    def test_constant(self):
        assert {Schedule("constant", 0.3, 5, 7).rate(step) for step in range(35)} == {0.3}

    def test_step(self):
        schedule = Schedule("step", 1.0, 6, 10, gamma=0.1, every=2)
        assert [schedule.rate(step) for step in (0, 19, 20, 39, 40)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])

    def test_exponential(self):
        schedule = Schedule("exponential", 2.0, 6, 10, gamma=0.25)
        assert [schedule.rate(step) for step in (0, 5, 10, 20)] == pytest.approx([2, 1, 0.5, 0.125])

    def test_cosine(self):
        schedule = Schedule("cosine", 1.0, 4, 10)
        assert [schedule.rate(step) for step in (0, 10, 20, 40)] == pytest.approx([1, 0.5 + 0.125**0.5, 0.5, 0])

    def test_warm_up_rises_evenly_to_where_the_schedule_begins(self):
        schedule = Schedule("cosine", 1.0, 5, 10, warmup=1)
        assert [schedule.rate(step) for step in range(10)] == pytest.approx([n / 10 for n in range(1, 11)])
        assert schedule.rate(10) == 1
        assert schedule.rate(30) == pytest.approx(0.5)

    def test_a_warm_up_without_end(self):
        with pytest.raises(Refused, match=r"^--warmup 3: lasts as long as the training, 3 epochs$"):
            Schedule("constant", 1.0, 3, 10, warmup=3)


def test_a_tuned_port_is_tuned_again(tuned: Path, base: list[str], tmp_path: Path):
    port: Port = convert(tuned / "out.pb")
    assert port.classes == ("four", "one", "seven")
    options = ["--keep-head", "--epochs", "1", "--output-data-dir", str(tmp_path), "-o", str(tmp_path / "out.npz")]
    assert main([str(tuned / "out.pb"), *base[1:], *options]) == 0
    assert json.loads((tmp_path / "metrics.json").read_text())["before"]["accuracy"] >= 0.9
