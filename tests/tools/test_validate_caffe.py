"""Ports held against what Caffe itself computed: the small nets that came with the tests, and the real models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from converter import convert
from tools.record import __main__ as record
from tools.validate import report_on
from tools.validate.report import AGREES

TOLERANCE = 2e-5
"""What Caffe's own numbers can be judged to."""


IN_TRAIN = {"batchnorm_train_reference"}
"""Recorded in phase TRAIN, which no deployed port has."""


def cases() -> list[str]:
    """Returns the recordings whose inputs and outputs have a row for each picture, as a validator's recording has."""
    golden = Path(__file__).resolve().parent.parent / "golden"
    return [path.name for path in sorted(golden.iterdir()) if path.name not in IN_TRAIN and has_rows(path)]


def has_rows(folder: Path) -> bool:
    with np.load(folder / "reference.npz") as numbers:
        rows = {numbers[name].shape[:1] for name in numbers.files if name.startswith("input/")}
        ends = {numbers[name].shape[:1] for name in numbers.files if name.startswith("output/")}
    return len(rows) == 1 and () not in rows and ends <= {*rows, ()}


def test_most_recordings_have_a_row_for_each_picture():
    assert len(cases()) > 120


@pytest.mark.parametrize("case", cases())
def test_a_small_net_agrees_with_caffe_by_the_validator_too(case, golden, tmp_path, caffe_recording):
    folder = golden / case
    port = convert(*sorted(folder.glob("*.prototxt")), *folder.glob("*.caffemodel"))
    port.save(tmp_path / "net.pb")
    numbers = np.load(folder / "reference.npz")
    inputs = {blob: numbers[f"input/{blob}"] for blob in port.network.inputs}
    caffe_recording(port, numbers, inputs, tmp_path / "reference.h5")
    report = report_on(tmp_path / "net.pb", tmp_path / "reference.h5", TOLERANCE)
    assert report.verdict.answer == AGREES, report.verdict.reasons
    assert all(one.computed is not None and one.computed.compared for one in report.layers)
    assert any(one.isolated is not None for one in report.layers)


def test_lenet(shared, tmp_path, caffe_recording):
    folder = shared / "models" / "lenet"
    port = convert(folder / "deploy.prototxt", folder / "lenet.caffemodel")
    port.save(tmp_path / "lenet.pb")
    numbers = np.load(folder / "reference.npz")
    caffe_recording(port, numbers, {"data": numbers["input/data"]}, tmp_path / "reference.h5")
    report = report_on(tmp_path / "lenet.pb", tmp_path / "reference.h5", TOLERANCE)
    assert report.verdict.answer == AGREES, report.verdict.reasons
    print("lenet:", *report.verdict.reasons)
    assert all(one.isolated is not None for one in report.layers)


def test_lenet_s_two_hundred_digits(shared, tmp_path):
    folder, digits = shared / "models" / "lenet", np.load(shared / "models" / "lenet" / "digits.npz")
    convert(folder / "deploy.prototxt", folder / "lenet.caffemodel").save(tmp_path / "lenet.pb")
    sources = [str(folder / "deploy.prototxt"), str(folder / "lenet.caffemodel")]
    pictures = ["--images", str(folder / "digits.npz"), "--scale", "0.00390625"]
    assert record.main([*sources, *pictures, "-o", str(tmp_path / "r.h5")]) == 0
    report = report_on(tmp_path / "lenet.pb", tmp_path / "r.h5", TOLERANCE)
    assert report.verdict.answer == AGREES, report.verdict.reasons
    print("lenet:", *report.verdict.reasons)
    assert [one.port[0].index for one in report.predictions] == list(digits["labels"])
    best = [one.port[0].score for one in report.predictions]
    assert np.abs(best - digits["prob"].max(axis=1)).max() < 1e-5  # Caffe's own


@pytest.fixture(scope="module")
def squeezenet(request, tmp_path_factory) -> Path:
    shared = request.getfixturevalue("shared")
    folder = shared / "models" / "squeezenet"
    path = tmp_path_factory.mktemp("squeezenet") / "squeezenet.pb"
    convert(folder / "deploy.prototxt", folder / "squeezenet.caffemodel").save(path)
    return path


def test_squeezenet(shared, squeezenet, tmp_path, caffe_recording):
    folder = shared / "models" / "squeezenet"
    port = convert(folder / "deploy.prototxt", folder / "squeezenet.caffemodel")
    fed = np.load(folder / "input.npz")
    pictures = fed["bgr"].astype(np.float32) - fed["mean"][:, None, None]
    caffe_recording(port, np.load(folder / "reference.npz"), {"data": pictures}, tmp_path / "reference.h5")
    report = report_on(squeezenet, tmp_path / "reference.h5", TOLERANCE)
    assert report.verdict.answer == AGREES, report.verdict.reasons
    print("squeezenet:", *report.verdict.reasons)
    assert len(report.layers) == 65
    assert all(one.agrees and one.overlap == 5 for one in report.predictions)


@pytest.mark.slow
def test_squeezenet_on_the_photographs(shared, squeezenet, tmp_path):
    folder = shared / "models" / "squeezenet"
    sources = [str(folder / "deploy.prototxt"), str(folder / "squeezenet.caffemodel")]
    assert record.main([*sources, "--images", str(shared / "images"), "--mean", "104,117,123", "--labels",
                        str(shared / "labels" / "imagenet.txt"), "-o", str(tmp_path / "r.h5")]) == 0  # fmt: skip
    report = report_on(squeezenet, tmp_path / "r.h5", TOLERANCE)
    assert report.verdict.answer == AGREES, report.verdict.reasons
    print("squeezenet:", *report.verdict.reasons)
    names = {one.picture.partition(".")[0]: one.port[0].label.partition(",")[0] for one in report.predictions}
    assert names == {
        "llama": "llama",
        "sealion": "sea lion",
        "zebra": "zebra",
        "quail": "quail",
        "weasel": "weasel",
        "poodle": "miniature poodle",
    }


@pytest.mark.slow
def test_alexnet_in_full_size(shared, tmp_path, caffe_recording):
    folder, weights = shared / "models" / "alexnet", tmp_path / "alexnet.caffemodel"
    tool = shared / "tools" / "make_seeded_caffemodel.py"
    subprocess.run([sys.executable, tool, "alexnet", weights, "0"], check=True, capture_output=True)
    port = convert(folder / "deploy.prototxt", weights)
    port.save(tmp_path / "alexnet.pb")
    fed = np.load(shared / "models" / "squeezenet" / "input.npz")
    pictures = (fed["bgr"].astype(np.float32) - fed["mean"][:, None, None])[:4]
    numbers = np.load(folder / "seed0_reference.npz")
    caffe_recording(port, numbers, {"data": pictures}, tmp_path / "reference.h5")
    report = report_on(tmp_path / "alexnet.pb", tmp_path / "reference.h5", TOLERANCE)
    assert report.verdict.answer == AGREES, report.verdict.reasons
    print("alexnet:", *report.verdict.reasons)
    assert len(report.layers) == 23
    for path in tmp_path.glob("alexnet.*"):
        path.unlink()
