"""python -m tools.train from end to end: going on from snapshots, test nets, and what stops it."""

from __future__ import annotations

import errno
import os
import re
import signal

import numpy as np
import pytest

from converter import convert
from graphs import run_reference
from tools.train import reporting, running


def rows(path):
    return path.read_text().splitlines()


def final(path):
    return {name: one.caffe for name, one in convert("net.prototxt", path, phase="TRAIN").parameters.items()}


def equal(one, other):
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


INPUTS = (
    'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 6 dim: 4 } } }'
    'layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 6 } } }'
)

RULES = {
    "SGD": "momentum: 0.9",
    "RMSProp": "",
    "AdaDelta": "momentum: 0.9",
    "Adam": "momentum: 0.9",
}


@pytest.mark.parametrize("name", RULES)
def test_a_resumed_training_gives_the_very_same_numbers(name, train):
    """With dropout, moving averages, iter_size and a learning rate that changes."""
    train.write(f'type: "{name}" {RULES[name]} iter_size: 2 snapshot: 5 weight_decay: 0.01')
    assert train("--log", "whole.csv", "-o", "whole.caffemodel") == 0
    assert train("--snapshot", "small_iter_5.ckpt", "--log", "rest.csv", "-o", "rest.caffemodel") == 0
    assert rows(train.folder / "rest.csv") == [
        rows(train.folder / "whole.csv")[0],
        *rows(train.folder / "whole.csv")[6:],
    ]
    assert equal(final("whole.caffemodel"), final("rest.caffemodel"))
    assert len(rows(train.folder / "whole.csv")) == 13


def test_resume_takes_the_latest_and_goes_on_with_the_log(train, capsys):
    train.write("snapshot: 5")
    assert train("--log", "loss.csv", "-o", "whole.caffemodel") == 0
    whole = rows(train.folder / "loss.csv")
    assert train("--resume", "--log", "loss.csv", "-o", "again.caffemodel") == 0
    assert "Resuming from small_iter_10.ckpt at iteration 10" in capsys.readouterr().out
    assert rows(train.folder / "loss.csv") == whole
    assert equal(final("whole.caffemodel"), final("again.caffemodel"))


def test_resume_without_a_snapshot_begins(train, capsys):
    assert train("--resume") == 0
    assert "note: --resume: there is no snapshot small_iter_*.ckpt; training begins" in capsys.readouterr().err


def test_the_seed_decides_fillers_and_dropout(train):
    outcomes = []
    for seed in (7, 7, 8):
        train.write(base=train.solver.replace("random_seed: 7", f"random_seed: {seed}"))
        assert train("-o", "final.caffemodel") == 0
        outcomes.append(final("final.caffemodel"))
    assert equal(outcomes[0], outcomes[1])
    assert not equal(outcomes[0], outcomes[2])


def test_a_seed_that_was_drawn_is_said_and_repeats_the_run(train, capsys):
    train.write(base=train.solver.replace("random_seed: 7", ""))
    assert train("-o", "first.caffemodel") == 0
    seed = re.search(r"note: solver.prototxt: sets no random_seed; (\d+) was drawn", capsys.readouterr().err)[1]
    train.write(base=train.solver.replace("random_seed: 7", f"random_seed: {seed}"))
    assert train("-o", "second.caffemodel") == 0
    assert equal(final("first.caffemodel"), final("second.caffemodel"))


def test_test_nets_print_their_mean_outputs_as_caffe_does(train, capsys):
    """Before training, the mean over test_iter passes, each as the NumPy reference computes it."""
    train.save("test.npz", **{blob: array[:3] for blob, array in train.arrays.items()})
    train.save("test2.npz", **{blob: array[4:6] for blob, array in train.arrays.items()})
    train.write("test_iter: 3 test_iter: 2 test_interval: 8 test_compute_loss: true snapshot: 12")
    assert train("--test-data", "test.npz", "--test-data", "test2.npz") == 0
    lines = capsys.readouterr().out.splitlines()
    heads = [line for line in lines if "Testing net" in line]
    assert heads == [f"Iteration {at}, Testing net (#{net})" for at in (0, 8) for net in (0, 1)]

    port = convert("net.prototxt", "small_iter_12.caffemodel")
    train.write("test_iter: 3 test_interval: 100")  # starts from these weights, whose values can be computed
    assert train("--weights", "small_iter_12.caffemodel", "--test-data", "test.npz") == 0
    lines = capsys.readouterr().out.splitlines()
    expected = np.zeros(2)
    for data, label in zip(train.arrays["data"][:3], train.arrays["label"]):
        values = run_reference(port.shapes, port.arrays(), {"data": data, "label": label})
        expected += [values["accuracy", "accuracy"] / 3, values["loss", "loss"] / 3]
    found = [
        re.fullmatch(r"    Test net output #(\d): (\w+) = (\S+?)( \(\* 1 = \S+ loss\))?", line) for line in lines[1:3]
    ]
    assert [one[2] for one in found] == ["accuracy", "loss"]
    assert [one[4] is None for one in found] == [True, False]
    assert [float(one[3]) for one in found] == pytest.approx(expected, rel=1e-5)


def test_a_test_net_uses_the_parameters_of_the_layers_of_the_same_name(train, capsys):
    """Two layers that share a parameter in training only: Caffe's ShareTrainedLayersWith goes by layers."""
    shared = (
        f"{INPUTS}"
        'layer { name: "a" type: "InnerProduct" bottom: "data" top: "a" param { name: "w" } param { name: "b" } '
        'inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }'
        'layer { name: "z" type: "InnerProduct" bottom: "a" top: "z" param { name: "w" } param { name: "b" } '
        'inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }'
        'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "z" bottom: "label" top: "loss" }'
    )
    (train.folder / "test.prototxt").write_text(re.sub(r'param { name: "[wb]" } ', "", shared))
    data = train.arrays["data"][:, :, 0, :4, 0]
    more = 'test_net: "test.prototxt" test_iter: 1 test_interval: 12 test_initialization: false snapshot: 12'
    base = train.solver.replace('net: "net', 'train_net: "net').replace("0.01", "0.5")
    train.write(more, net=shared, base=base, data=data)
    train.save("test.npz", data=data[:1], label=train.arrays["label"][:1])
    assert train("--test-data", "test.npz") == 0
    (line,) = [one for one in capsys.readouterr().out.splitlines() if "Test net output" in one]
    port = convert("net.prototxt", "small_iter_12.caffemodel", phase="TRAIN")
    fed = {"data": data[0], "label": train.arrays["label"][0]}
    expected = run_reference(port.shapes, port.arrays(), fed)["loss", "loss"]
    assert float(line.split()[6]) == pytest.approx(float(expected), rel=1e-5)


def test_tests_can_wait_for_the_first_interval(train, capsys):
    train.write("test_iter: 2 test_interval: 6 test_initialization: false")
    assert train("--test-data", "run.npz") == 0
    heads = [line for line in capsys.readouterr().out.splitlines() if "Testing net" in line]
    assert heads == ["Iteration 6, Testing net (#0)", "Iteration 12, Testing net (#0)"]


def test_lines_are_caffe_s(train, capsys):
    train.write("display: 5 average_loss: 3 momentum: 0.9")
    assert train("--log", "loss.csv") == 0
    lines = [re.sub(r"\(\S+ iter/s, \S+s/5", "(R iter/s, Ts/5", line) for line in capsys.readouterr().out.splitlines()]
    losses = [float(row.split(",")[1]) for row in rows(train.folder / "loss.csv")[1:]]
    smoothed = {at: sum(losses[max(0, at - 2) : at + 1]) / min(3, at + 1) for at in (0, 5, 10)}
    assert lines == [
        text
        for at, loss in smoothed.items()
        for text in (
            f"Iteration {at} (R iter/s, Ts/5 iters), loss = {loss:g}",
            f"    Train net output #0: loss = {losses[at]:g} (* 1 = {losses[at]:g} loss)",
            f"Iteration {at}, lr = 0.01",
        )
    ] + ["Optimization Done."]


def test_data_comes_again_after_its_last_pass_and_that_is_said(train, capsys):
    short = {blob: array[:4] for blob, array in train.arrays.items()}
    train.save("short.npz", **short)
    train.save("long.npz", **{blob: np.concatenate([array] * 3) for blob, array in short.items()})
    assert train("-o", "short.caffemodel", data="short.npz") == 0
    said = "note: short.npz: has 4 passes for 12; after the last comes the first again, as in Caffe"
    assert said in capsys.readouterr().err.splitlines()
    assert train("-o", "long.caffemodel", data="long.npz") == 0
    assert equal(final("short.caffemodel"), final("long.caffemodel"))


def test_weights_that_begin_at_zero_are_said(train, capsys):
    """Caffe trains a definition without fillers from zeros, and so does the port."""
    bare = train.net.replace('weight_filler { type: "xavier" }', "")
    zero = train.net.replace('weight_filler { type: "xavier" }', 'weight_filler { type: "constant" }')
    for net, why in ((bare, "as in Caffe where no filler is stated"), (zero, "as its filler says")):
        train.write(net=net, base=train.solver.replace("max_iter: 12", "max_iter: 0"))
        assert train("-o", "first.caffemodel") == 0
        said = f"its weights begin at 0, {why}; behind a ReLU they stay 0"
        assert f"note: net.prototxt: layer 'fc' (InnerProduct): {said}" in capsys.readouterr().err.splitlines()
        assert not convert("net.prototxt", "first.caffemodel", phase="TRAIN").parameters["fc/weights"].caffe.any()
    assert train("--weights", "first.caffemodel") == 0
    assert "begin at 0" not in capsys.readouterr().err


def test_layers_without_weights_in_the_file_keep_their_fillers(train, capsys):
    assert train("-o", "first.caffemodel") == 0
    train.write(net=train.net.replace('"fc"', '"fc_new"'), base=train.solver.replace("max_iter: 12", "max_iter: 0"))
    assert train("--weights", "first.caffemodel", "-o", "second.caffemodel") == 0
    first = convert("net.prototxt", "second.caffemodel", phase="TRAIN").parameters
    err = capsys.readouterr().err
    assert "first.caffemodel: has no weights of 'fc_new': first values are their fillers' or an earlier file's" in err
    train.write()
    before = final("first.caffemodel")
    assert np.array_equal(first["conv/weights"].caffe, before["conv/weights"])
    assert not np.array_equal(first["fc_new/weights"].caffe, before["fc/weights"])


def test_ctrl_c_takes_a_snapshot_and_stops_and_training_goes_on_from_it(train, capsys, monkeypatch):
    assert train("--log", "whole.csv", "-o", "whole.caffemodel") == 0
    add = reporting.LossLog.add

    def pressed(log, iteration, loss, rate):
        add(log, iteration, loss, rate)
        if iteration == 4:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(reporting.LossLog, "add", pressed)
    before = signal.getsignal(signal.SIGINT)
    assert train("--log", "loss.csv", "-o", "final.caffemodel") == 2
    assert signal.getsignal(signal.SIGINT) is before
    assert capsys.readouterr().err.splitlines()[-1] == (
        "interrupted after 5 iterations; go on with --snapshot small_iter_5.ckpt"
    )
    assert not (train.folder / "final.caffemodel").exists()
    assert train("--snapshot", "small_iter_5.ckpt", "--log", "loss.csv", "-o", "final.caffemodel") == 0
    assert rows(train.folder / "loss.csv") == rows(train.folder / "whole.csv")
    assert equal(final("whole.caffemodel"), final("final.caffemodel"))


def test_a_loss_that_is_no_number_stops_it_and_says_where(train, refused):
    data = train.arrays["data"].copy()
    data[7] = 1e38  # the sum of their squares is infinite
    train.write("snapshot: 3", data=data)
    assert refused("--log", "loss.csv", "-o", "final.caffemodel") == [
        "solver.prototxt: iteration 7: the loss is nan, first at layer 'bn' (BatchNorm): its value 'bn'; stopped "
        "before its update; the last good snapshot is small_iter_6.ckpt"
    ]
    assert not (train.folder / "final.caffemodel").exists()
    assert len(rows(train.folder / "loss.csv")) == 8
    train.write()
    assert train("--snapshot", "small_iter_6.ckpt") == 0


def test_a_rate_that_explodes_stops_it_with_all_weights_still_finite(train, refused):
    train.write("snapshot: 1", base=train.solver.replace("base_lr: 0.01", "base_lr: 1e30"))
    (said,) = refused()
    assert re.match(
        r"solver.prototxt: iteration \d+: its update left values in '\w+/\w+' that are no finite numbers; the last",
        said,
    )
    kept = re.search(r"the last good snapshot is (small_iter_\d+).ckpt$", said)[1]
    assert all(np.isfinite(array).all() for array in final(f"{kept}.caffemodel").values())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("display: 1", "iteration 0: its update"),
        ("max_iter: 1", "iteration 0: its update"),
        ("snapshot: 5", "iteration 1: this update or one of the 1 before"),
    ],
)
def test_a_parameter_that_is_no_number_stops_it_though_the_loss_is_one(more, said, train, refused):
    """Behind a Sigmoid, weights of minus infinity leave loss and gradients 0."""
    net = (
        f"{INPUTS}"
        'layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" param { } param { lr_mult: 0 } '
        'inner_product_param { num_output: 2 weight_filler { type: "xavier" } } }'
        'layer { name: "sigmoid" type: "Sigmoid" bottom: "fc" top: "sigmoid" }'
        'layer { name: "sum" type: "Reduction" bottom: "sigmoid" top: "sum" loss_weight: 100 }'
    )
    data = np.abs(train.arrays["data"][:, :, 0, :4, 0]) + 1
    base = train.solver.replace("base_lr: 0.01", "base_lr: 3e38")
    train.write(more, net=net, base=base.replace("max_iter: 12\n", "") if "max_iter" in more else base, data=data)
    assert refused("--log", "loss.csv", "-o", "final.caffemodel") == [
        f"solver.prototxt: {said} left values in 'fc/weights' that are no finite numbers; no snapshot was written yet"
    ]
    assert not (train.folder / "final.caffemodel").exists()


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        ('type: "SoftmaxWithLoss"', r"layer 'loss' \(SoftmaxWithLoss\): its softmax gives \d labels? a probability "
         r"below 1.2e-38; each counts 87.3365, however wrong. A loss that stays there does not show how far training "
         r"diverges: try a lower base_lr or clip_gradients, or look at the data's scale"),
        ('type: "MultinomialLogisticLoss"', r"layer 'loss' \(MultinomialLogisticLoss\): its softmax gives \d labels? a "
         r"probability below 1e-20; each counts 46.0517, however wrong. .*"),
    ],
)  # fmt: skip
def test_labels_that_the_loss_cuts_off_are_said_once(loss, said, train, capsys):
    wrong = train.arrays["data"][:, :, :1, :1, :1] * np.float32(1e4)
    logits = np.concatenate([wrong, -wrong, wrong * 2, -wrong * 2], axis=2).reshape(12, 6, 4)
    scores = "fc" if "With" in loss else "soft"
    softmax = 'layer { name: "soft" type: "Softmax" bottom: "fc" top: "soft" }'
    net = (
        f"{INPUTS}"
        'layer { name: "fc" type: "Scale" bottom: "data" top: "fc" }'
        f'{softmax} layer {{ name: "loss" {loss} bottom: "{scores}" bottom: "label" top: "loss" }}'
    )
    train.write(net=net, base=train.solver.replace("0.01", "1e-9"), data=logits)
    assert train() == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "however wrong" in line]
    assert len(lines) == 1
    assert re.fullmatch(rf"note: solver.prototxt: iteration 0: {said}", lines[0])
    train.write(net=net, base=train.solver.replace("0.01", "1e-9"), data=logits / 1e4)
    assert train() == 0
    assert "however wrong" not in capsys.readouterr().err


def test_a_plateau_lowers_the_rate_of_the_very_iteration_whose_loss_says_so_and_goes_on_from_a_snapshot(train):
    base = (
        train.solver.replace('"fixed"', '"plateau"') + "gamma: 0.5 plateau_winsize: 2 plateau_winsize: 1 snapshot: 5\n"
    )
    train.write("iter_size: 2 momentum: 0.9", base=base)
    assert train("--log", "whole.csv", "-o", "whole.caffemodel") == 0
    whole = rows(train.folder / "whole.csv")
    least, event, steps = np.inf, 0, 0
    for row in whole[1:]:
        at, loss, rate = (float(one) for one in row.split(","))
        if loss < least:
            least, event = loss, at
        if steps < 2 and at >= event + (2, 1)[steps]:
            steps, event = steps + 1, at
        assert rate == pytest.approx(0.01 * 0.5**steps, rel=1e-6)
    assert steps == 2
    assert train("--snapshot", "small_iter_5.ckpt", "--log", "rest.csv", "-o", "rest.caffemodel") == 0
    assert rows(train.folder / "rest.csv")[1:] == whole[6:]
    assert equal(final("whole.caffemodel"), final("rest.caffemodel"))


def test_a_rate_that_waits_for_the_loss_updates_as_one_that_does_not(train):
    train.write("momentum: 0.9 weight_decay: 0.01 clip_gradients: 0.5")
    assert train("-o", "fixed.caffemodel", "--log", "fixed.csv") == 0
    train.write(
        "momentum: 0.9 weight_decay: 0.01 clip_gradients: 0.5", base=train.solver.replace('"fixed"', '"plateau"')
    )
    assert train("-o", "plateau.caffemodel", "--log", "plateau.csv") == 0
    assert rows(train.folder / "plateau.csv") == rows(train.folder / "fixed.csv")
    assert equal(final("fixed.caffemodel"), final("plateau.caffemodel"))


SEQUENCES = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 3 dim: 2 dim: 5 } } }
layer { name: "cont" type: "Input" top: "cont" input_param { shape { dim: 3 dim: 2 } } }
layer { name: "target" type: "Input" top: "target" input_param { shape { dim: 3 dim: 2 dim: 4 } } }
layer { name: "h" type: "LSTM" bottom: "x" bottom: "cont" top: "h"
  recurrent_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "EuclideanLoss" bottom: "h" bottom: "target" top: "loss" }
"""


def test_a_state_that_caffe_hands_to_the_next_pass_is_refused(train, refused, rng):
    arrays = {"x": rng.standard_normal((12, 3, 2, 5)), "target": rng.standard_normal((12, 3, 2, 4))}
    cont = np.ones((12, 3, 2))
    cont[1:, 0] = 0  # before the first pass the state is 0 anyway
    train.write(net=SEQUENCES, cont=cont, **arrays)
    assert train() == 0
    cont[7, 0, 1] = 1
    train.write(net=SEQUENCES, cont=cont, **arrays)
    assert refused() == [
        "net.prototxt: pass 7: layer 'h' (LSTM): 'cont' is not 0 at the first step, so that Caffe goes on with the "
        "state of the pass before, which is not kept here: let every pass begin with 0, or hand on the state with "
        "expose_hidden"
    ]
    cont[7, 0, 1], cont[0, 1, 0] = 0, 0.5
    train.write(net=SEQUENCES, cont=cont, **arrays)
    assert refused() == [
        "net.prototxt: pass 0: layer 'h' (LSTM): 'cont' has 0.5, for which Caffe's gradient is not the derivative; "
        "that is not repeated here: let it be 0 or 1 at every step"
    ]


PARAMETERS = """
layer { name: "target" type: "Input" top: "target" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "p" type: "Parameter" top: "p" parameter_param { shape { dim: 2 dim: 3 } } param { name: "shared" } }
layer { name: "b" type: "Bias" bottom: "target" top: "b" bias_param { axis: 0 num_axes: 2 } param { name: "shared" } }
layer { name: "loss" type: "EuclideanLoss" bottom: "p" bottom: "b" top: "loss" }
"""


def test_a_parameter_layer_that_shares_its_parameter_is_refused(train, refused, rng):
    train.write(net=PARAMETERS, target=rng.standard_normal((12, 2, 3)))
    assert refused() == [
        "net.prototxt: layer 'b' (Bias): shares p/weights with layer 'p' (Parameter), and in Caffe layer 'p' "
        "(Parameter) writes its gradient over what the other adds to it; that is not repeated here: let it have a "
        "parameter of its own"
    ]


@pytest.mark.parametrize("iter_size", [1, 2])
def test_no_snapshot_where_none_was_written(train, refused, iter_size):
    data = train.arrays["data"].copy()
    data[0, 2, 1, 3, 4] = np.nan
    train.write(f"iter_size: {iter_size}", data=data)
    assert refused() == [
        "solver.prototxt: iteration 0: the loss is nan, first at layer 'data' (Input): the input 'data'; stopped "
        "before its update; no snapshot was written yet"
    ]


def test_a_full_disk_at_a_snapshot_leaves_the_earlier_ones(train, refused, monkeypatch):
    write = running.write_caffemodel

    def full(file, definition, arrays):
        if "10" in file.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(file, definition, arrays)

    monkeypatch.setattr(running, "write_caffemodel", full)
    train.write("snapshot: 5")
    before = set(train.folder.iterdir())
    assert refused() == ["small_iter_10.ckpt: could not be written: No space left on device"]
    left = {path.name for path in set(train.folder.iterdir()) - before}
    assert left == {
        "small_iter_5.caffemodel",
        *(f"small_iter_5.ckpt.{end}" for end in ("index", "meta", "data-00000-of-00001")),
    }
    monkeypatch.undo()
    os.chdir(train.folder)
    assert train("--snapshot", "small_iter_5.ckpt") == 0


def test_snapshots_in_hdf5_hold_the_same(train):
    train.write("snapshot: 12 snapshot_format: HDF5")
    assert train("-o", "final.caffemodel") == 0
    assert equal(final("final.caffemodel"), final("small_iter_12.caffemodel.h5"))


def test_a_snapshot_of_another_graph_is_said_name_by_name(train, refused):
    train.write("snapshot: 12 momentum: 0.9")
    assert train() == 0
    other = train.net.replace('name: "fc" ', 'name: "fc9" ').replace("num_output: 5", "num_output: 7")
    train.write('type: "Adam"', net=other)
    said = [line.removeprefix("small_iter_12.ckpt: ") for line in refused("--snapshot", "small_iter_12.ckpt")]
    assert "lacks 'conv/weights/Adam' (3x3x3x7), which the graph has" in said
    assert "has 'fc/weights' (225x4), which the graph does not have" in said
    assert "has 'conv/weights/Momentum' (3x3x3x5), which the graph does not have" in said
    assert "has 'conv/weights' with the shape 3x3x3x5; expected 3x3x3x7" in said
    assert len(said) == len(set(said)) == 10 + 6 + 4


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"data": None}, "run.npz: has no array 'data', an input of the net; it has label"),
        ({"data": np.zeros((12, 6, 3, 7, 11))}, "run.npz: 'data' has the shape 12x6x3x7x11; expected PASSESx6x3x11x7"),
        ({"data": np.zeros((0, 6, 3, 11, 7))}, "run.npz: 'data' has no passes: its shape is 0x6x3x11x7"),
        ({"label": np.zeros((11, 6))}, "run.npz: its arrays have not as many passes: 'data' 12, 'label' 11"),
        ({"label": np.full((12, 6), 4)}, "run.npz: label 4 at 'label'[0, 0] is no class of layer 'loss' "
         "(SoftmaxWithLoss); expected 0 to 3 (71 more)"),
        ({"label": np.array([[0] * 6] * 11 + [[0, 0, 0, -1, 0, 0]])}, "run.npz: label -1 at 'label'[11, 3] is no class "
         "of layer 'loss' (SoftmaxWithLoss); expected 0 to 3"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_are_said(arrays, said, train, refused):
    kept = {name: array for name, array in {**train.arrays, **arrays}.items() if array is not None}
    train.save("run.npz", **kept)
    assert refused() == [said]


def test_a_label_that_the_loss_ignores_is_no_mistake(train):
    ignoring = train.net.replace('top: "loss" }', 'top: "loss" loss_param { ignore_label: 255 } }', 1)
    label = train.arrays["label"].copy()
    label[3, 4] = 255
    train.write(net=ignoring, label=label)
    assert train() == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--weights", "absent.caffemodel"], "absent.caffemodel: No such file or directory"),
        (["--weights", "net.prototxt"], "net.prototxt: is a definition; --weights wants a .caffemodel or another file "
         "of weights"),
        (["--weights", "a.npz", "--snapshot", "b.ckpt"], "--weights: a snapshot has weights already; give one of them"),
        (["--snapshot", "absent.ckpt"], "absent.ckpt: no such checkpoint; name it as it was written, without .index or "
         "with it"),
        (["-o", "final.foo"], "final.foo: unknown ending '.foo'; expected one of .pb, .ckpt, /, .py, .npz, .npy, "
         ".safetensors, .caffemodel, .caffemodel.h5, .h5, .prototxt, .binaryproto"),
        (["--test-data", "run.npz"], "--test-data and --test-images: solver.prototxt has no test_iter, and so no test "
         "nets"),
        (["--shuffle"], "--shuffle: has no effect on run.npz; take it out"),
        (["--resize", "227"], "--resize: has no effect on run.npz; take it out"),
        (["--max-bad", "3"], "--max-bad: has no effect on run.npz; take it out"),
        (["--log", "absent/loss.csv"], "absent/loss.csv: No such file or directory"),
        (["--data", "absent.npz"], "absent.npz: no such file"),
        (["--data", "net.prototxt"], "net.prototxt: is no whole .npz: File is not a zip file"),
    ],
)  # fmt: skip
def test_arguments_that_can_not_be_are_said_in_a_line(arguments, said, train, refused):
    assert refused(*arguments) == [said]


def test_weights_of_other_shapes_are_said(train, refused):
    assert train("-o", "first.caffemodel") == 0
    train.write(net=train.net.replace("num_output: 5", "num_output: 7"))
    assert refused("--weights", "first.caffemodel") == [
        "first.caffemodel: layer 'conv' (Convolution): its weights have the shape 5x3x3x3 there; expected 7x3x3x3",
        "first.caffemodel: layer 'conv' (Convolution): its biases have the shape 5 there; expected 7",
        "first.caffemodel: layer 'bn' (BatchNorm): its mean have the shape 5 there; expected 7",
        "first.caffemodel: layer 'bn' (BatchNorm): its variance have the shape 5 there; expected 7",
        "first.caffemodel: layer 'fc' (InnerProduct): its weights have the shape 4x225 there; expected 4x315",
    ]


def test_weights_of_none_of_the_layers_are_said(train, refused):
    np.savez(train.folder / "others.npz", **{"other/weights": np.zeros((2, 3), np.float32)})
    assert refused("--weights", "others.npz") == ["others.npz: has weights of none of the layers of net.prototxt"]


def test_a_net_without_a_loss_and_one_that_asks_for_what_has_no_gradient_are_refused(train, refused):
    lossless = train.net.replace('top: "loss" }', 'top: "loss" loss_weight: 0 }', 1)
    train.write(net=lossless)
    assert refused() == ["net.prototxt: no layer of it has a loss; end it in one, such as SoftmaxWithLoss"]
    train.write(net=train.net.replace("include { phase: TEST }", "loss_weight: 1"))
    assert refused() == ["net.prototxt: layer 'accuracy' (Accuracy): has a loss_weight, but no gradient; take it out"]


def test_gradients_that_are_not_caffe_s_are_refused(train, refused):
    train.write(net=train.net.replace('type: "ReLU"', 'type: "BNLL"'))
    assert refused() == [
        "net.prototxt: layer 'relu' (BNLL): Caffe's gradient reads 'bn', which it has itself overwritten in place by "
        "then, and so is not the derivative; that is not repeated here: give the top of 'relu' a name of its own"
    ]
    train.write(
        net=train.net.replace('type: "ReLU" bottom: "bn" top: "bn"', 'type: "Threshold" bottom: "bn" top: "bn"')
    )
    assert refused() == [
        "net.prototxt: layer 'relu' (Threshold): has no gradient, though layers that learn lie below it and a loss "
        "above; Caffe stops there too: say propagate_down: false"
    ]


def test_a_fork_s_statistics_that_would_have_to_follow_are_refused(train, refused):
    train.write(
        net=train.net.replace('type: "BatchNorm"', 'type: "BN"').replace(
            "batch_norm_param { moving_average_fraction: 0.8 }", ""
        )
    )
    assert refused() == [
        "net.prototxt: layer 'bn' (BN): how a fork's BN follows its statistics in training is not known; say frozen: "
        "true"
    ]


def test_test_nets_need_data(train, refused):
    train.write("test_iter: 2 test_interval: 5")
    assert refused() == ["solver.prototxt: has 1 test nets; say --test-data or --test-images, or take test_iter out"]


def test_data_layers_take_their_shapes_from_the_arrays(train):
    data_layer = """
    layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
      transform_param { scale: 0.5 } data_param { source: "lmdb" batch_size: 6 backend: LMDB } }
    """
    inputs = train.net.index('layer { name: "data"'), train.net.index('layer { name: "conv"')
    assert train("-o", "first.caffemodel") == 0
    before = final("first.caffemodel")
    train.write(net=train.net[: inputs[0]] + data_layer + train.net[inputs[1] :])
    assert train("-o", "second.caffemodel", "-o", "second.pb") == 0
    found = convert("net.prototxt", "second.caffemodel", phase="TRAIN", input_shapes={"data": (6, 3, 11, 7)})
    assert equal({name: one.caffe for name, one in found.parameters.items()}, before)
