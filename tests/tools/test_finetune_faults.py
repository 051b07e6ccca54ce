"""Fine-tuning that is stopped, fails, or can't begin: one line, exit code 2, and nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from converter import convert
from tools.finetune import training
from tools.finetune.__main__ import main
from tools.finetune.pictures import Batch, Pictures
from tools.finetune.state import Epoch, Score, State, manifest_with, read_state
from tools.train_demo import read_digits
from weights import Refused

pytest.importorskip("fsspec")
pytest.importorskip("sklearn")

EPOCHS, STEPS = 3, 5
"""Epochs of the trainings here, and batches of an epoch."""


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three of the demo's digits as x.npy and y.npy, 61 pictures."""
    seen, _ = read_digits()
    chosen = np.flatnonzero(seen.labels < 3)[:61]
    place = tmp_path_factory.mktemp("pairs")
    np.save(place / "x.npy", np.moveaxis(seen.pictures[chosen], 1, -1))
    np.save(place / "y.npy", seen.labels[chosen])
    return place


@pytest.fixture(scope="module")
def words(pairs: Path, demo_port: Path) -> list[str]:
    """A command line without its outputs: dropout, mirroring and random order are all at work; one thread, so that the
    same sums are made in the same order."""
    return [str(demo_port), "--data", str(pairs), "--validation", str(pairs), "--train-layers", "fc6", "fc7", "fc8",
            "--mirror", "--batch", "13", "--learning-rate", "0.02", "--threads", "1"]  # fmt: skip


def finish(words: list[str], folder: Path, *options: str) -> int:
    """Returns the exit code of a command line whose run and outputs are in ``folder``."""
    places = ["--run", str(folder / "run"), "-o", str(folder / "out.npz"), "--output-data-dir", str(folder)]
    return main([*words, "--epochs", str(EPOCHS), *places, *options])


@pytest.fixture(scope="module")
def whole(words: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    assert finish(words, folder) == 0
    return folder


def assert_same(folder: Path, whole: Path) -> None:
    """Weights, optimizer's numbers, losses and scores are the same to the last bit."""
    assert (folder / "out.npz").read_bytes() == (whole / "out.npz").read_bytes()
    assert json.loads((folder / "metrics.json").read_text()) == json.loads((whole / "metrics.json").read_text())
    last = f"run/step-{EPOCHS * STEPS}.ckpt.data-00000-of-00001"
    assert (folder / last).read_bytes() == (whole / last).read_bytes()


def interrupting(monkeypatch: pytest.MonkeyPatch, at: tuple[int, int]) -> None:
    """Has the user press Ctrl-C while batch ``at`` (epoch, position) is made."""
    original = Pictures.training

    def training(self: Pictures, epoch: int, position: int = 0) -> Iterator[Batch]:
        for place, batch in enumerate(original(self, epoch, position), position):
            if (epoch, place) == at:
                signal.raise_signal(signal.SIGINT)
            yield batch

    monkeypatch.setattr(Pictures, "training", training)


@pytest.mark.parametrize(
    ("at", "where", "latest"),
    [
        ((1, 2), "in epoch 2 after step 8", 8),
        ((1, STEPS - 1), "after epoch 2", 10),
        ((0, 0), "in epoch 1 after step 1", 1),
    ],
)
def test_ctrl_c_saves_and_the_next_goes_on(
    words: list[str], whole: Path, tmp_path: Path, monkeypatch, capsys, at: tuple[int, int], where: str, latest: int
):
    before = signal.getsignal(signal.SIGINT)
    with monkeypatch.context() as patch:
        interrupting(patch, at)
        assert finish(words, tmp_path) == 2
    run = tmp_path / "run"
    line = f"interrupted {where}: saved in {run}; the same command with --resume goes on\n"
    assert capsys.readouterr().err == line
    assert signal.getsignal(signal.SIGINT) == before
    assert (run / f"step-{latest}.ckpt.index").is_file()
    assert not (tmp_path / "out.npz").exists()
    assert finish(words, tmp_path, "--resume") == 0
    assert_same(tmp_path, whole)


def test_more_epochs_later_are_the_same_as_at_once(words: list[str], whole: Path, tmp_path: Path):
    assert finish(words, tmp_path, "--epochs", "1") == 0
    assert finish(words, tmp_path, "--resume") == 0
    assert_same(tmp_path, whole)


@pytest.mark.slow
def test_a_kill_in_the_middle_of_an_epoch(words: list[str], whole: Path, tmp_path: Path, root: Path):
    """The process is killed outright after its first checkpoint; the next one goes on from there."""
    program = (
        "import sys, time\nfrom tools.finetune import course\nfrom tools.finetune.__main__ import main\n"
        "step = course.Course._batch\n"
        "def slow(self, state, *rest):\n"
        "    if (state.epoch, state.position) == (1, 3):\n"
        "        print('in the middle', flush=True)\n        time.sleep(600)\n"
        "    return step(self, state, *rest)\n"
        "course.Course._batch = slow\nmain(sys.argv[1:])\n"
    )
    places = ["--run", str(tmp_path / "run"), "-o", str(tmp_path / "out.npz"), "--output-data-dir", str(tmp_path)]
    command = [sys.executable, "-c", program, *words, "--epochs", str(EPOCHS), *places]
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert any("in the middle" in line for line in process.stdout)
    process.kill()
    process.wait()
    assert sorted(path.name for path in (tmp_path / "run").glob("step-*.index")) == ["step-5.ckpt.index"]
    assert finish(words, tmp_path, "--resume") == 0
    assert_same(tmp_path, whole)


def begun(whole: Path, folder: Path) -> Path:
    """Returns a copy of a finished run, in ``folder``."""
    shutil.copytree(whole / "run", folder / "run")
    return folder / "run"


def test_a_run_is_not_begun_over_another(words: list[str], whole: Path, tmp_path: Path, capsys):
    run = begun(whole, tmp_path)
    assert finish(words, tmp_path) == 2
    reason = "holds the checkpoints of a run; --resume goes on with it, --run names another folder"
    assert capsys.readouterr().err == f"{run}: {reason}\n"


def test_what_is_resumed_must_be_the_same(words: list[str], whole: Path, tmp_path: Path, capsys):
    run = begun(whole, tmp_path)
    assert finish(words, tmp_path, "--resume", "--batch", "17", "--momentum", "0.5") == 2
    way = "say the same, or start anew in another --run folder"
    latest = run / "step-15.ckpt"
    assert capsys.readouterr().err.splitlines() == [
        f"{latest}: was trained with batch 13, now it is 17; {way}",
        f"{latest}: was trained with momentum 0.9, now it is 0.5; {way}",
    ]


def test_a_checkpoint_of_another_graph(words: list[str], whole: Path, tmp_path: Path, capsys):
    run = begun(whole, tmp_path)
    (run / "step-15.ckpt.data-00000-of-00001").unlink()
    convert(words[0]).save(tmp_path / "step-15.ckpt")
    for ending in ("index", "data-00000-of-00001"):
        shutil.move(tmp_path / f"step-15.ckpt.{ending}", run / f"step-15.ckpt.{ending}")
    assert finish(words, tmp_path, "--resume") == 2
    lines = capsys.readouterr().err.splitlines()
    assert f"{run}/step-15.ckpt: lacks 'fc8/weights/Momentum' (128x3), which the graph has" in lines
    assert f"{run}/step-15.ckpt: has 'fc8/weights' with the shape 128x10; expected 128x3" in lines
    assert len(lines) == 8  # six slots, two of the head


def test_nothing_to_resume(words: list[str], tmp_path: Path, capsys):
    assert finish(words, tmp_path, "--resume") == 2
    assert capsys.readouterr().err == f"--resume: {tmp_path}/run holds no checkpoint to go on from\n"


def test_a_loss_that_is_no_number(words: list[str], tmp_path: Path, capsys):
    """The second epoch's rate throws the weights out of all bounds; what the first one learned stays."""
    options = ["--schedule", "step", "--step-epochs", "1", "--gamma", "1e30"]
    assert finish(words, tmp_path, *options) == 2
    error = capsys.readouterr().err
    assert error.startswith("epoch 2, step 7: what training follows is no finite number, first at layer 'fc7' (InnerP")
    assert error.endswith(f"; try a smaller --learning-rate; the last checkpoint is {tmp_path}/run/step-5.ckpt\n")
    assert error.count("\n") == 1
    assert np.isfinite(convert(tmp_path / "run" / "best.ckpt").parameters["fc6/weights"].caffe).all()


def test_a_disk_that_is_full_at_a_checkpoint(words: list[str], whole: Path, tmp_path: Path, capsys, monkeypatch):
    """The earlier one survives, and the training goes on from it once there is room."""
    original = training.manifest_with

    def full(text: str, state: State, request: dict) -> str:
        if state.epoch == 2:
            raise OSError(28, os.strerror(28))
        return original(text, state, request)

    with monkeypatch.context() as patch:
        patch.setattr(training, "manifest_with", full)
        assert finish(words, tmp_path) == 2
    assert capsys.readouterr().err == f"{tmp_path}/run/best.ckpt: could not be written: No space left on device\n"
    assert sorted(path.name for path in (tmp_path / "run").glob("*.index")) == [
        "best.ckpt.index", "step-5.ckpt.index",
    ]  # fmt: skip
    assert finish(words, tmp_path, "--resume") == 0
    assert_same(tmp_path, whole)


def test_mistakes_are_one_line(words: list[str], pairs: Path, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    port, data, output = words[0], ["--data", str(pairs)], ["-o", "out.pb"]
    one_class = tmp_path / "one"
    one_class.mkdir()
    np.save(one_class / "x.npy", np.load(pairs / "x.npy")[:9])
    np.save(one_class / "y.npy", np.zeros(9, np.int64))
    weighted = "conv1, conv2, conv3, conv4, conv5, fc6, fc7, fc8"
    cases = {
        "MODEL: say what to train, such as alexnet.pb, a .prototxt and its weights, or bvlc": [*data, *output],
        "--data: say where the pictures are that show what to learn": [port, *output],
        "-o: say what to write, such as tuned.pb": [port, *data],
        "--validation and --hold-out: give one of them":
            [port, *data, *output, "--validation", "v", "--hold-out", ".2"],
        "nowhere.pb: no such file, and none of the AlexNet family (bvlc, caffenet, ": ["nowhere.pb", *data, *output],
        "torchvision: multiplies each channel by a number of its own, which a manifest can't state; ":
            ["torchvision", *data, *output],
        "bvlc.npy: no such file": ["bvlc", "--weights", "bvlc.npy", *data, *output],
        f"--train-layers fc9: no layer with weights has that name; there are {weighted}":
            [port, *data, *output, "--train-layers", "fc8", "fc9"],
        "--keep-head: layer 'fc8' tells 10 classes apart, the pictures have 3": [port, *data, *output, "--keep-head"],
        "out.xyz: unknown ending '.xyz'; expected one of": [port, *data, "-o", "out.xyz"],
        f"{pairs}/x.npy: a batch of 62 is larger than the set, 61 pictures; say --batch 61 or less":
            [port, *data, *output, "--batch", "62"],
        f"{one_class}/x.npy: all 9 pictures show class '0'; training needs two classes or more":
            [port, "--data", str(one_class), *output, "--batch", "3"],
        "--warmup 5: lasts as long as the training, 2 epochs": [port, *data, *output, "--warmup", "5", "--epochs", "2"],
    }  # fmt: skip
    for message, arguments in cases.items():
        assert main([*arguments, "--run", "run"]) == 2, message
        error = capsys.readouterr().err
        assert error.count("\n") == 1, error
        assert error.startswith(message), error
    assert not list(tmp_path.glob("out.*"))


def test_labels_out_of_range_are_each_named(words: list[str], pairs: Path, tmp_path: Path, capsys):
    (tmp_path / "labels.txt").write_text("zero\none\n")
    assert finish(words, tmp_path, "--labels", str(tmp_path / "labels.txt")) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"{pairs}/y.npy: row 2: label 2 is out of range; the 2 classes count from 0 to 1"
    assert lines[-1] == "and 10 more of the same kind"


def test_the_state_is_read_back_as_it_was(tmp_path: Path):
    score = Score(0.1 + 0.2, 2 / 3, 61, None)
    state = State(1, 2, 7, 1 / 3, 5, 26, score, 1, (Epoch(1, 5, 0.02, 1e-17, 0.7, score),))
    (tmp_path / "step-1.ckpt.json").write_text(manifest_with('{"network": "small"}', state, {"batch": 13}))
    assert read_state(tmp_path / "step-1.ckpt", {"batch": 13}) == state
    (tmp_path / "step-1.ckpt.json").write_text("{}")
    with pytest.raises(
        Refused, match=r"step-1.ckpt.json: does not say where the training stood; start anew in another"
    ):
        read_state(tmp_path / "step-1.ckpt", {"batch": 13})
