"""The runs that Caffe's own solvers made: the same losses, iteration by iteration, and the same weights at the end."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

import graphs
from converter import convert
from tools.train.__main__ import main

RUNS = Path(__file__).resolve().parents[2] / "golden_training"
NAMES = sorted(path.name for path in RUNS.iterdir())
LOSS, WEIGHTS = 5e-7, 2e-6
"""Shares of a run's largest loss, and of a blob's largest magnitude. Measured: 3.5e-7 and 1.4e-6 at most."""
STEEP = {
    "fuzz_tr1_t00117": (4e-6, 3e-5),
    "fuzz_tr1_t00137": (1.2e-6, 5e-5),
    "fuzz_tr2_t00342": (LOSS, 1.2e-4),
}
"""Runs that make more of a rounding. With first weights moved by half of their last digit they end up 1.5e-6, 5e-7 and
1.5e-7 away in the loss, 1.1e-5, 2.1e-5 and 7.1e-5 in the weights (the last in biases before a BatchNorm, whose gradient
is nothing but rounding); from Caffe they are 1.8e-6, 5e-7 and 1e-7, 1.3e-5, 2e-5 and 3.8e-5 away."""


def logged(path):
    """Returns the losses and the learning rates of a log."""
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["iteration"]) for row in rows] == list(range(len(rows)))
    return np.array([float(row["loss"]) for row in rows]), np.array([float(row["lr"]) for row in rows])


def same_weights(definition, got, expected, agree, tolerance):
    found = convert(definition, got, phase="TRAIN").parameters
    for name, parameter in convert(definition, expected, phase="TRAIN").parameters.items():
        agree(found[name].caffe, parameter.caffe, tolerance, name)


def trained(run, tmp_path, *more, solver=None, data=None):
    arguments = ["--solver", solver or run / "solver.prototxt", "--data", data or run / "run.npz"]
    arguments += ["--weights", run / "initial.caffemodel", "--log", tmp_path / "loss.csv"]
    return main([str(one) for one in (*arguments, "-o", tmp_path / "final.caffemodel", *more)])


@pytest.mark.parametrize("name", NAMES)
def test_losses_and_final_weights_are_caffe_s(name, tmp_path, agree):
    run = RUNS / name
    assert trained(run, tmp_path) == 0
    losses, _ = logged(tmp_path / "loss.csv")
    of_loss, of_weights = STEEP.get(name, (LOSS, WEIGHTS))
    agree(losses, np.load(run / "run.npz")["loss"], of_loss, "losses")
    same_weights(run / "train.prototxt", tmp_path / "final.caffemodel", run / "final.caffemodel", agree, of_weights)


def test_a_frozen_layer_keeps_its_very_bytes(tmp_path):
    run = RUNS / "sgd_frozen_layer_inv"
    assert trained(run, tmp_path) == 0
    before, after = (
        convert(run / "train.prototxt", file).parameters["fc3/weights"].caffe
        for file in (run / "initial.caffemodel", tmp_path / "final.caffemodel")
    )
    assert np.array_equal(before, after)


def test_two_halves_of_a_batch_with_iter_size_2_train_as_caffe_did_on_the_whole(tmp_path, agree):
    run = RUNS / "sgd_step"
    arrays = np.load(run / "run.npz")
    halves = {blob: arrays[blob].reshape(32, 4, *arrays[blob].shape[2:]) for blob in ("data", "label")}
    np.savez(tmp_path / "halves.npz", **halves)
    definition = (run / "train.prototxt").read_text().replace("dim: 8", "dim: 4")
    (tmp_path / "train.prototxt").write_text(definition)
    (tmp_path / "solver.prototxt").write_text((run / "solver.prototxt").read_text() + "iter_size: 2\n")
    assert trained(run, tmp_path, solver=tmp_path / "solver.prototxt", data=tmp_path / "halves.npz") == 0
    agree(logged(tmp_path / "loss.csv")[0], arrays["loss"], LOSS, "losses")
    same_weights(run / "train.prototxt", tmp_path / "final.caffemodel", run / "final.caffemodel", agree, WEIGHTS)


def test_from_a_snapshot_to_a_caffemodel_and_through_opencv(tmp_path, agree, rng):
    cv2 = pytest.importorskip("cv2")
    run = RUNS / "adam_fixed"
    text = (run / "solver.prototxt").read_text().replace("snapshot_after_train: false", "snapshot_after_train: true")
    (tmp_path / "solver.prototxt").write_text(text + f'snapshot_prefix: "{tmp_path}/adam"\n')
    (tmp_path / "train.prototxt").write_text((run / "train.prototxt").read_text())
    assert trained(run, tmp_path, "-o", str(tmp_path / "final.pb"), solver=tmp_path / "solver.prototxt") == 0

    lines = (run / "train.prototxt").read_text().splitlines()
    deploy = [line for line in lines if '"label"' not in line]  # neither the labels nor the loss
    (tmp_path / "deploy.prototxt").write_text("\n".join(deploy))
    port = convert(tmp_path / "deploy.prototxt", tmp_path / "adam_iter_16.ckpt")
    port.save(tmp_path / "from_checkpoint.caffemodel")

    pictures = rng.standard_normal((8, 3, 23, 19)).astype(np.float32)
    graph = graphs.load(tmp_path / "final.pb")
    ours = graph.run({"data": pictures, "label": np.zeros(8)}, fetch=["fc4"], layout="caffe")["fc4"]
    graph.close()
    for weights in ("from_checkpoint.caffemodel", "adam_iter_16.caffemodel", "final.caffemodel"):
        net = cv2.dnn.readNetFromCaffe(str(tmp_path / "deploy.prototxt"), str(tmp_path / weights))
        net.setInput(pictures)
        agree(net.forward("fc4"), ours, 2e-6, weights)
