"""Training from pictures: what the data layer says of them is done, and nothing else."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from tools.train.__main__ import main
from tools.train.nets import read_net
from tools.train.pictures import Chosen, read_pictures
from tools.train.solver import read_solver

pytest.importorskip("fsspec")
PIL = pytest.importorskip("PIL.Image")
HEIGHT, WIDTH, CROP, BATCH, COUNT = 19, 23, 13, 5, 12

DATA = """
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
  transform_param { %s } data_param { source: "train_lmdb" batch_size: 5 } }
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
  transform_param { %s } data_param { source: "val_lmdb" batch_size: 4 } }
"""
NET = """
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "label" top: "accuracy" include { phase: TEST } }
"""
CENTRED = "crop_size: 13 mean_value: 104 mean_value: 117 mean_value: 123 scale: 0.5"


@pytest.fixture
def folder(tmp_path, monkeypatch, rng):
    """A folder with a list of pictures, B, G, R as ``pixels`` returns them."""
    monkeypatch.chdir(tmp_path)
    lines = []
    for number in range(COUNT):
        pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
        PIL.fromarray(pixels).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png {number % 3}")
    (tmp_path / "list.txt").write_text("\n".join(lines))
    return tmp_path


def pixels(number):
    return np.asarray(PIL.open(f"{number}.png"))[:, :, ::-1].astype(np.float32)


def write(train=CENTRED, test=CENTRED, more="", data=DATA):
    Path("net.prototxt").write_text(data % (train, test) + NET)
    Path("solver.prototxt").write_text(
        'net: "net.prototxt" base_lr: 0.0001 lr_policy: "fixed" max_iter: 7 random_seed: 3 '
        f"snapshot_after_train: false {more}"
    )


def rows(name):
    """Returns a log's rows."""
    return list(csv.DictReader(Path(name).read_text().splitlines()))


def source(of="train", **options):
    solver = read_solver(Path("solver.prototxt"))
    definition = solver.train if of == "train" else solver.tests[0].definition
    net = read_net(definition, {}, ())
    shown, notes = read_pictures(net, Chosen("list.txt", **options), solver.path, 3)
    return net, shown, notes


def test_test_takes_the_middle_less_the_mean_times_the_scale_in_the_list_s_order(folder, agree):
    write(more="test_iter: 1 test_interval: 3")
    net, shown, _ = source("test")
    read = shown.reader(net.inputs, 2)
    top, left = (HEIGHT - CROP) // 2, (WIDTH - CROP) // 2
    for first in (8, 0):  # the third batch of four, and after it the first again
        data, label = read(0)
        middle = np.stack([pixels(n)[top : top + CROP, left : left + CROP] for n in range(first, first + 4)])
        agree(data, (middle - [104, 117, 123]) * 0.5, 1e-6)
        assert label.tolist() == [n % 3 for n in range(first, first + 4)]
        assert label.dtype == data.dtype == np.float32


def test_training_takes_some_window_mirrored_or_not_in_the_list_s_order(folder):
    write(CENTRED + " mirror: true")
    net, shown, notes = source()
    assert "list.txt: pictures come in its order, as in Caffe; --shuffle draws one for each epoch" in notes
    read = shown.reader(net.inputs, 0)
    seen = set()
    for first in range(0, 60, BATCH):  # five epochs
        data, _ = read(0)
        for place, values in enumerate(data):
            whole = (pixels((first + place) % COUNT) - [104, 117, 123]) * 0.5
            found = [
                (top, left, mirrored)
                for top in range(HEIGHT - CROP + 1)
                for left in range(WIDTH - CROP + 1)
                for mirrored in (False, True)
                if np.allclose(whole[top : top + CROP, left : left + CROP][:, :: -1 if mirrored else 1], values)
            ]
            assert len(found) == 1
            seen.add(found[0])
    assert {mirrored for _, _, mirrored in seen} == {True, False}
    assert len(seen) > 30


def test_mean_file_is_cropped_where_the_picture_is(folder, agree, rng):
    mean = rng.uniform(90, 130, (3, HEIGHT, WIDTH)).astype(np.float32)
    np.save("mean.npy", mean)
    write(test='crop_size: 13 mean_file: "mean.npy"', more="test_iter: 1 test_interval: 3")
    net, shown, _ = source("test")
    data, _ = shown.reader(net.inputs, 0)(0)
    top, left = (HEIGHT - CROP) // 2, (WIDTH - CROP) // 2
    expected = pixels(1) - np.moveaxis(mean, 0, -1)
    agree(data[1], expected[top : top + CROP, left : left + CROP], 1e-6)


IMAGE_DATA = DATA.replace('"Data"', '"ImageData"').replace("data_param", "image_data_param")


def test_image_data_resizes_and_shuffles_as_its_layer_says(folder):
    write("", "", data=IMAGE_DATA.replace("batch_size: 5", "batch_size: 5 new_height: 7 new_width: 11 shuffle: true"))
    net, shown, _ = source()
    assert net.inputs == {"data": (5, 3, 7, 11), "label": (5,)}
    data, label = shown.reader(net.inputs, 0)(0)
    assert data.shape == (5, 7, 11, 3)
    assert label.tolist() != [0, 1, 2, 0, 1]


def test_training_and_going_on_give_the_same(folder, capsys):
    write(CENTRED + " mirror: true", more='snapshot: 3 snapshot_prefix: "net" test_iter: 3 test_interval: 4')
    arguments = ["--solver", "solver.prototxt", "--images", "list.txt", "--test-images", "list.txt", "--shuffle"]
    assert main([*arguments, "--log", "whole.csv"]) == 0
    whole = capsys.readouterr()
    assert "note: net.prototxt: layer 'data' (Data): its pictures come from list.txt" in whole.err
    assert main([*arguments, "--log", "rest.csv", "--snapshot", "net_iter_3.ckpt"]) == 0
    assert rows("rest.csv") == rows("whole.csv")[3:]
    after = capsys.readouterr().out.splitlines()
    assert [line for line in whole.out.splitlines() if "Test net" in line][2:] == [
        line for line in after if "Test net" in line
    ]


def test_a_drawn_seed_is_kept_by_the_snapshot(folder):
    write(CENTRED + " mirror: true", more='snapshot: 3 snapshot_prefix: "net"')
    text = Path("solver.prototxt").read_text().replace("random_seed: 3", "")
    Path("solver.prototxt").write_text(text)
    arguments = ["--solver", "solver.prototxt", "--images", "list.txt", "--shuffle"]
    assert main([*arguments, "--log", "whole.csv"]) == 0
    assert main([*arguments, "--log", "rest.csv", "--snapshot", "net_iter_3.ckpt"]) == 0
    assert rows("rest.csv") == rows("whole.csv")[3:]


def test_a_broken_picture_is_named_and_passed_over_on_request(folder, capsys):
    write()
    Path("4.png").write_bytes(Path("4.png").read_bytes()[:200])
    arguments = ["--solver", "solver.prototxt", "--images", "list.txt"]
    assert main(arguments) == 2
    assert "list.txt: line 5: 4.png: " in capsys.readouterr().err.splitlines()[-1]
    assert main([*arguments, "--max-bad", "1"]) == 0
    assert "list.txt: line 5: 4.png: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("label", "list.txt: line 13: 0.png: label 3 is no class of layer 'loss' (SoftmaxWithLoss); expected 0 to 2"),
        ("both", "net.prototxt: is fed from both; say --data or --images"),
        ("neither", "net.prototxt: is fed from nothing; say --data or --images"),
        ("mean", "net.prototxt: mean_file: 'absent.npy' is neither in the working directory nor beside the solver, "
         "absent.npy"),
        ("inputs", "net.prototxt: pictures can't feed its inputs 'a', 'b'; say --data FILE.npz"),
    ],
)  # fmt: skip
def test_what_can_not_be_fed_is_said(what, said, folder, capsys):
    write('crop_size: 13 mean_file: "absent.npy"' if what == "mean" else CENTRED)
    if what == "label":
        with open("list.txt", "a") as file:
            file.write("\n0.png 3")
    if what == "inputs":
        one = 'layer { name: "%s" type: "Input" top: "%s" input_param { shape { dim: 2 dim: 3 } } }'
        loss = 'layer { name: "e" type: "EuclideanLoss" bottom: "a" bottom: "b" }'
        Path("net.prototxt").write_text(one % ("a", "a") + one % ("b", "b") + loss)
    given = {"both": ["--images", "list.txt", "--data", "x.npz"], "neither": []}.get(what, ["--images", "list.txt"])
    assert main(["--solver", "solver.prototxt", *given]) == 2
    assert [line for line in capsys.readouterr().err.splitlines() if not line.startswith("note: ")] == [said]
