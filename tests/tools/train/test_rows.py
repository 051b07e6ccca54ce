"""Training from HDF5: rows as Caffe's HDF5DataLayer reads them, and files that can't be believed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tools.train.__main__ import main
from tools.train.rows import Rows, ordered, read_table
from weights import Refused

h5py = pytest.importorskip("h5py")
COUNTS, BATCH = (5, 3, 7), 4

NET = """
layer { name: "rows" type: "HDF5Data" top: "data" top: "label" include { phase: TRAIN }
  hdf5_data_param { source: "lists/train.txt" batch_size: 4 } }
layer { name: "rows" type: "HDF5Data" top: "data" top: "label" include { phase: TEST }
  hdf5_data_param { source: "lists/test.txt" batch_size: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""
SOLVER = 'net: "net.prototxt" base_lr: 0.1 lr_policy: "fixed" max_iter: 7 random_seed: 3 snapshot_after_train: false\n'


@pytest.fixture
def folder(tmp_path, monkeypatch, rng):
    """A folder with a solver whose layers name lists of HDF5 files."""
    monkeypatch.chdir(tmp_path)
    Path("lists").mkdir()
    for number, count in enumerate(COUNTS):
        write(f"{number}.h5", rng.standard_normal((count, 5, 2)), rng.integers(0, 3, count))
    Path("lists/train.txt").write_text("0.h5\n1.h5 2.h5\n")
    Path("lists/test.txt").write_text("lists/../1.h5\n")
    Path("net.prototxt").write_text(NET)
    Path("solver.prototxt").write_text(SOLVER)
    return tmp_path


def write(name, data, label, kind="<f8"):
    with h5py.File(name, "w") as file:
        file["data"], file["label"] = np.asarray(data, kind), np.asarray(label, "<i4")


def read(name, of="data"):
    with h5py.File(name, "r") as file:
        return np.asarray(file[of][()], np.float32)


def train(*more, solver=""):
    Path("solver.prototxt").write_text(SOLVER + solver)
    return main(["--solver", "solver.prototxt", *more])


def rows(shuffle=False, seed=3):
    return ordered(
        Rows((read_table("rows", [Path(f"{n}.h5") for n in range(3)], ["data"], BATCH, False),)), shuffle, seed
    )


def test_batches_run_across_files_and_begin_again_as_in_caffe(folder):
    """HDF5DataLayer's Next: the next row, at a file's end the next file, after the last the first."""
    reader = rows().reader({"data": (BATCH, 5, 2)}, 0)
    files, file, row = [read(f"{number}.h5") for number in range(3)], 0, 0
    for number in range(9):
        expected = np.empty((BATCH, 5, 2), np.float32)
        for item in range(BATCH):
            expected[item] = files[file][row]
            row += 1
            if row == len(files[file]):
                file, row = (file + 1) % len(files), 0
        (found,) = reader(number)
        assert found.dtype == np.float32
        assert np.array_equal(found, expected)


def test_a_batch_larger_than_all_rows_repeats_them(folder):
    table = read_table("rows", [Path("1.h5")], ["data"], 7, False)
    (found,) = Rows((table,)).reader({"data": (7, 5, 2)}, 0)(1)
    assert np.array_equal(found, read("1.h5")[[(7 + item) % 3 for item in range(7)]])


def test_shuffled_rows_come_once_each_epoch_and_with_the_same_seed_again(folder):
    every = np.concatenate([read(f"{number}.h5") for number in range(3)])
    passes = [rows(True).reader({"data": (BATCH, 5, 2)}, 0)(number)[0] for number in range(15)]
    again = rows(True).reader({"data": (BATCH, 5, 2)}, 11)(11)[0]
    assert np.array_equal(again, passes[11])
    epochs = np.concatenate(passes).reshape(4, 15, 5, 2)
    for epoch in epochs:
        assert np.array_equal(np.sort(epoch[:, 0, 0]), np.sort(every[:, 0, 0]))
    assert not np.array_equal(epochs[0], every)
    assert not np.array_equal(epochs[0], epochs[1])
    other = rows(True, 4).reader({"data": (BATCH, 5, 2)}, 0)(0)[0]
    assert not np.array_equal(other, passes[0])


def test_a_solver_whose_layers_name_lists_needs_no_data_and_trains_as_from_arrays(folder, capsys):
    assert train("--log", "rows.csv", solver="test_iter: 3 test_interval: 4") == 0
    told = capsys.readouterr()
    assert [line for line in told.out.splitlines() if "Testing" in line] == [
        "Iteration 0, Testing net (#0)",
        "Iteration 4, Testing net (#0)",
    ]
    data, label = (
        np.resize(np.concatenate([read(f"{number}.h5", of) for number in range(3)]), (7, BATCH, *shape))
        for of, shape in (("data", (5, 2)), ("label", ()))
    )
    np.savez("run.npz", data=data, label=label)
    assert train("--data", "run.npz", "--log", "arrays.csv") == 0
    assert Path("rows.csv").read_text() == Path("arrays.csv").read_text()


@pytest.mark.parametrize("given", ["lists/train.txt", "0.h5"])
def test_data_may_be_a_list_or_one_file(given, folder, capsys):
    assert train("--data", given, "--log", "given.csv") == 0
    assert f"note: net.prototxt: layer 'rows' (HDF5Data): its rows come from {given}" in capsys.readouterr().err
    Path("lists/train.txt").write_text("0.h5\n1.h5\n2.h5" if given.startswith("lists") else "0.h5")
    assert train("--log", "named.csv") == 0
    assert Path("given.csv").read_text() == Path("named.csv").read_text()


def test_files_are_looked_for_in_the_working_directory_and_then_beside_what_names_them(folder, monkeypatch, capsys):
    (folder / "elsewhere").mkdir()
    for number in range(3):
        (folder / f"{number}.h5").rename(folder / "lists" / f"{number}.h5")
    monkeypatch.chdir(folder / "elsewhere")
    assert main(["--solver", "../solver.prototxt"]) == 0
    notes = capsys.readouterr().err
    place = (
        "note: net.prototxt: layer 'rows' (HDF5Data): source: 'lists/train.txt' is not in the working directory; taken"
    )
    assert f"{place} from ../lists/train.txt\n" in notes
    assert "note: ../lists/train.txt: '2.h5' is not in the working directory; taken from ../lists/2.h5\n" in notes


def test_shuffle_of_a_layer_is_done_and_said(folder, capsys):
    assert train("--log", "order.csv") == 0
    Path("net.prototxt").write_text(NET.replace("batch_size: 4", "batch_size: 4 shuffle: true"))
    assert train("--log", "shuffled.csv") == 0
    said = "note: net.prototxt: rows come in an order that random_seed draws; Caffe's own can't be repeated"
    assert said in capsys.readouterr().err.splitlines()
    assert Path("order.csv").read_text() != Path("shuffled.csv").read_text()


def spoil_labels(folder):
    write("2.h5", read("2.h5"), [0, 1, 2, 0, 1, 3, 9])


def spoil_shape(folder):
    write("1.h5", np.zeros((3, 5, 3)), np.zeros(3))


def spoil_rows(folder):
    write("1.h5", np.zeros((3, 5, 2)), np.zeros(4))


def spoil_file(folder):
    Path("1.h5").write_bytes(Path("1.h5").read_bytes()[:700])


def spoil_names(folder):
    with h5py.File("1.h5", "w") as file:
        file["pictures"] = np.zeros((3, 5, 2))


def spoil_link(folder):
    with h5py.File("1.h5", "w") as file:
        file["data"] = h5py.ExternalLink("0.h5", "data")
        file["label"] = np.zeros(5)


def spoil_list(folder):
    Path("lists/train.txt").write_text("0.h5\nnowhere.h5\nnor/here.h5\n")


def empty_list(folder):
    Path("lists/train.txt").write_text("\n")


def no_list(folder):
    Path("lists/train.txt").unlink()


def transform(folder):
    Path("net.prototxt").write_text(NET.replace("batch_size: 4 }", "batch_size: 4 } transform_param { scale: 2 }"))


def no_batch(folder):
    Path("net.prototxt").write_text(NET.replace("batch_size: 4", ""))


LAYER = "net.prototxt: layer 'rows' (HDF5Data): "


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_labels, ["2.h5: label 3 at 'label'[5] is no class of layer 'loss' (SoftmaxWithLoss); expected 0 to 2 (1 "
                        "more)"]),
        (spoil_shape, [LAYER + "1.h5: 'data' has rows of 5x3, but 5x2 in 0.h5"]),
        (spoil_rows, [LAYER + "1.h5: its datasets have not as many rows: 'data' 3x5x2, 'label' 4"]),
        (spoil_file, [LAYER + "1.h5: is no whole HDF5 file of data: "]),
        (spoil_names, [LAYER + f"1.h5: has no dataset '{name}', a top of the net; it has pictures"
                       for name in ("data", "label")]),
        (spoil_link, [LAYER + "1.h5: is no whole HDF5 file of data: 'data' is missing or a link"]),
        (spoil_list, [LAYER + f"lists/train.txt: '{name}' is neither in the working directory nor beside the list, "
                      f"lists/{name}" for name in ("nowhere.h5", "nor/here.h5")]),
        (empty_list, [LAYER + "lists/train.txt: lists no HDF5 files; expected their names, one a line"]),
        (no_list, [LAYER + "'lists/train.txt' is neither in the working directory nor beside the definition, "
                   "lists/train.txt"]),
        (transform, [LAYER + "has a transform_param; Caffe accepts none there, so take it out"]),
        (no_batch, [LAYER + "does not say source and batch_size"]),
    ],
)  # fmt: skip
def test_what_is_no_data_is_said_by_file(spoil, said, folder, capsys):
    spoil(folder)
    assert train() == 2
    found = capsys.readouterr().err.splitlines()
    assert len(found) == len(said)
    for line, start in zip(found, said):
        assert line.startswith(start)


def test_numbers_that_a_file_does_not_hold_are_not_believed(folder):
    with h5py.File("1.h5", "w") as file:
        file.create_dataset("data", (1 << 30, 5, 2), "<f4", chunks=(64, 5, 2))  # never written
        file["label"] = np.zeros(3)
    with pytest.raises(Refused, match=r"^1.h5: is no whole HDF5 file of data: 'data' does not hold its numbers$"):
        read_table("rows", [Path("1.h5")], ["data"], 4, False)
