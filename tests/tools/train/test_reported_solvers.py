"""Solvers as people have them: with a fork's fields, data in HDF5, and a rate that explodes."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from tools.train.__main__ import main

h5py = pytest.importorskip("h5py")


@pytest.fixture
def folder(shared, tmp_path, monkeypatch):
    """A copy of the folder, in which the command line runs."""
    shutil.copytree(shared / "reports" / "train_solver", tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")
    (tmp_path / "run").chmod(0o755)
    Path("snap").mkdir()
    return tmp_path / "run"


def train(name, capsys):
    """Returns the exit code, the losses and the learning rates, and what was said on stderr."""
    code = main(["--solver", f"s_{name}.prototxt", "--weights", "f.caffemodel", "--log", "loss.csv"])
    if code:
        return code, None, None, capsys.readouterr().err.splitlines()
    rows = list(csv.DictReader(Path("loss.csv").read_text().splitlines()))
    numbers = [np.array([float(row[of]) for row in rows]) for of in ("loss", "lr")]
    return code, *numbers, capsys.readouterr().err.splitlines()


def losses_by_hand(rates):
    """Returns the losses of plain gradient descent on the softmax of a linear layer, in float64, batches of four."""
    from converter import convert

    weights, biases = (
        convert("train_val.prototxt", "f.caffemodel", phase="TRAIN", input_shapes={"data": (4, 5), "label": (4,)})
        .parameters[f"fc/{name}"]
        .caffe.astype(np.float64)
        for name in ("weights", "biases")
    )
    with h5py.File("train.h5") as file:
        data, label = file["data"][()].astype(np.float64), file["label"][()].astype(int)
    losses = []
    for iteration, rate in enumerate(rates):
        of = [(4 * iteration + item) % len(data) for item in range(4)]
        scores = data[of] @ weights.T + biases
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        losses.append(-np.log(shares[range(4), label[of]]).mean())
        slopes = (shares - np.eye(3)[label[of]]) / 4
        weights, biases = weights - rate * slopes.T @ data[of], biases - 2 * rate * slopes.sum(axis=0)
    return np.array(losses)


RAMP = [0.01 + 0.09 * (iteration / 10) ** 2 for iteration in range(6)]


@pytest.mark.parametrize(
    ("name", "rates", "said"),
    [
        ("digits", [0.1] * 6, ()),
        ("multistep", [0.1] * 6, ("does not say stepvalue, which lr_policy 'multistep' reads; the learning rate stays "
                                  "what it is, as in Caffe",)),
        ("nvcaffe", RAMP, ("solver_data_type has no effect: it says in what NVIDIA's Caffe keeps weights and their "
                           "history; here that is float32",)),
        ("plateau", [0.1] * 6, ("plateau_winsize has no effect with lr_policy 'fixed'",)),
        ("ssd", [0.1] * 6, ("eval_type has no effect: it says how SSD's Caffe sums up its tests; here test nets print "
                            "the means of their outputs",
                            "ap_version has no effect: it says how SSD's Caffe sums up the tests of a detector")),
    ],
)  # fmt: skip
def test_solvers_of_forks_train_as_they_say(name, rates, said, folder, capsys, agree):
    code, losses, found, lines = train(name, capsys)
    assert code == 0
    agree(found, np.array(rates), 1e-6, "rates")
    agree(losses, losses_by_hand(rates), 1e-6, "losses")
    assert {f"note: s_{name}.prototxt: {line}" for line in said} <= set(lines)


def test_a_rate_that_explodes_is_said(folder, capsys):
    code, _, _, lines = train("nan", capsys)
    assert code == 0
    (line,) = [line for line in lines if "however wrong" in line]
    assert line.startswith("note: s_nan.prototxt: iteration 1: layer 'loss' (SoftmaxWithLoss): its softmax gives ")


def test_a_field_that_would_change_numbers_is_refused_by_name(folder, capsys):
    code, _, _, lines = train("localdecay", capsys)
    assert code == 2
    assert [line for line in lines if not line.startswith("note")] == [
        "s_localdecay.prototxt: local_lr_auto is true: Intel's Caffe takes each parameter's rate from the norms of its "
        "values and gradients, which is not done here; to train without say false"
    ]
