"""Training on several machines: two processes on loopback, each lending its CPU, against one."""

from __future__ import annotations

import argparse
import csv
import os
import socket
import subprocess
import sys

import numpy as np
import pytest

from converter.describe import Request, describe
from converter.prototxt import parse_prototxt
from converter.rules import State
from converter.upgrade import upgrade
from graphs.names import name_values
from graphs.network import Network, infer
from graphs.tensorflow1 import tensorflow1
from tools.training.cluster import Cluster, add_devices, lend, read_cluster, session_on
from tools.training.towers import add_towers
from weights import Refused

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 6 dim: 3 dim: 11 dim: 13 } } }
layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 6 } } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 5 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""


def network(text: str) -> Network:
    return describe(upgrade(parse_prototxt(text)), Request(State("TRAIN"))).network


def free_ports() -> tuple[str, str]:
    """Returns two places to listen at: different ones, as both are taken before either is given back."""
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        first, second = (f"127.0.0.1:{each.getsockname()[1]}" for each in (one, other))
        return first, second


@pytest.mark.slow
def test_two_processes_train_as_one_does(root, tmp_path):
    folder = root / "tests" / "golden_training" / "sgd_step"
    argv = [sys.executable, "-m", "tools.train", "--solver", "solver.prototxt", "--weights", "initial.caffemodel",
            "--data", "run.npz"]  # fmt: skip
    cluster = ["--cluster", ",".join(free_ports())]
    start = {"cwd": folder, "env": {**os.environ, "PYTHONPATH": str(root)}, "stderr": subprocess.PIPE, "text": True}
    lending = subprocess.Popen([*argv, *cluster, "--task", "1"], stdout=subprocess.PIPE, **start)
    try:
        files = ["--log", str(tmp_path / "loss.csv"), "-o", str(tmp_path / "final.npz")]
        leading = subprocess.run([*argv, *cluster, *files], stdout=subprocess.PIPE, **start, timeout=240, check=False)
        assert leading.returncode == 0, leading.stderr
        assert "among 2 devices" in leading.stdout
        assert lending.wait(timeout=60) == 0
    finally:
        lending.kill()
        lending.communicate()
    with open(tmp_path / "loss.csv", newline="", encoding="utf-8") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    with np.load(folder / "run.npz") as recorded:
        assert np.allclose(losses, recorded["loss"], rtol=2e-6)  # Caffe's own, on one device
    one = tmp_path / "one.npz"
    subprocess.run([*argv, "-o", str(one)], stdout=subprocess.PIPE, **start, timeout=240, check=True)
    with np.load(one) as alone, np.load(tmp_path / "final.npz") as together:
        for name in alone:
            assert np.abs(alone[name] - together[name]).max() <= 2e-6 * np.abs(alone[name]).max(), name


def test_each_device_computes_its_part_forward_and_backward():
    tf = tensorflow1("the tests")
    net = network(NET)
    devices = ["/device:CPU:0", "/device:GPU:0"]
    with tf.Graph().as_default() as graph:
        seed = tf.placeholder(tf.int64, [2])
        trained = add_towers(tf, net, name_values(infer(net)), devices, seed, "net.prototxt")
        tf.gradients(trained.loss, list(trained.variables.values()), colocate_gradients_with_ops=True)
    assert {name: tuple(one.shape) for name, one in trained.inputs.items()} == {"data": (6, 11, 13, 3), "label": (6,)}
    assert trained.blobs["fc"].shape.as_list() == [6, 5]
    # Each forward, and backward for weights and input.
    products = [one for one in graph.get_operations() if one.type == "MatMul"]
    assert sorted(one.device for one in products) == [*["/device:CPU:0"] * 3, *["/device:GPU:0"] * 3]


def test_the_mean_of_the_parts_is_the_whole(rng):
    tf = tensorflow1("the tests")
    net = network(NET)
    names = name_values(infer(net))
    fed = {"data": rng.normal(size=(6, 11, 13, 3)), "label": rng.integers(0, 5, 6)}
    found = []
    for count in (1, 2, 3):
        with tf.Graph().as_default(), tf.Session() as session:
            seed = tf.constant([0, 0], tf.int64)
            trained = add_towers(tf, net, names, ["/device:CPU:0"] * count, seed, "net.prototxt")
            first = np.random.default_rng(7)
            for variable in trained.variables.values():
                variable.load(first.normal(size=variable.shape.as_list()), session)
            slopes = tf.gradients(trained.loss, list(trained.variables.values()))
            found.append(session.run([trained.loss, *slopes], {trained.inputs[blob]: fed[blob] for blob in fed}))
    for parts in found[1:]:
        for whole, own in zip(found[0], parts):
            assert np.allclose(whole, own, rtol=1e-5, atol=1e-6)


UNEVEN = "has 7 pictures, which 2 devices can't share evenly; choose a batch that is a multiple of 2"
NO_MEAN = "so the parts' mean is not the whole's loss; train on one device"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("dim: 6 ", "dim: 7 ", [f"input 'data' {UNEVEN}", f"input 'label' {UNEVEN}"]),
        ('top: "loss"', 'top: "loss" loss_param { normalization: NONE }',
         [f"layer 'loss' (SoftmaxWithLoss): its normalization is NONE, {NO_MEAN}"]),
        ('top: "loss"', 'top: "loss" loss_param { ignore_label: 3 }',
         [f"layer 'loss' (SoftmaxWithLoss): it divides by the labels that are not ignored, {NO_MEAN}"]),
    ],
)  # fmt: skip
def test_what_cannot_be_shared_out(old, new, said):
    tf = tensorflow1("the tests")
    net = network(NET.replace(old, new))
    with tf.Graph().as_default(), pytest.raises(Refused) as refused:
        add_towers(tf, net, name_values(infer(net)), ["/device:CPU:0"] * 2, tf.constant([0, 0]), "net.prototxt")
    assert list(refused.value.reasons) == [f"net.prototxt: {one}" for one in said]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--cluster", "here"], "--cluster: 'here' is no HOST:PORT; expected such as 10.0.0.1:2222,10.0.0.2:2222"),
        (["--cluster", "a:1,a:1"], "--cluster: names a machine twice; give each process a port of its own"),
        (["--cluster", "a:1,b:1", "--task", "2"], "--task 2: the cluster has the tasks 0 to 1"),
        (["--task", "1"], "--task 1: say --cluster HOST:PORT,HOST:PORT too"),
    ],
)
def test_command_lines_that_make_no_sense(argv, said):
    parser = argparse.ArgumentParser()
    add_devices(parser)
    with pytest.raises(Refused) as refused:
        read_cluster(parser.parse_args(argv))
    assert str(refused.value) == said


def test_all_gpus_where_there_is_none():
    tf = tensorflow1("the tests")
    with pytest.raises(Refused, match="--all-gpus: TensorFlow sees no GPU here"), session_on(None, True, tf.Graph()):
        pass


def test_machines_that_do_not_answer(monkeypatch):
    monkeypatch.setattr("tools.training.cluster.PATIENCE", 0.5)
    monkeypatch.setattr("tools.training.cluster.LOOKED_AFTER", 0.2)
    hosts = free_ports()
    tf = tensorflow1("the tests")
    with (
        pytest.raises(
            Refused, match=f"--cluster: {hosts[1]} does not answer; run the same command there with --task 1"
        ),
        session_on(Cluster(hosts, 0), False, tf.Graph()),
    ):
        pass
    hosts = free_ports()
    with pytest.raises(Refused, match=f"--cluster: {hosts[0]}, which leads, does not answer any more"):
        lend(Cluster(hosts, 1))
