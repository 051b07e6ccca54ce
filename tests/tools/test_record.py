"""python -m tools.record: what is recorded, from which pictures, and what it refuses."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import graphs
from converter import convert
from tools.record import __main__ as record
from tools.record import engines
from tools.recording_file import read_recording

Image = pytest.importorskip("PIL.Image")

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 5 dim: 7 } } }
layer { name: "pool" type: "Pooling" bottom: "data" top: "pool" pooling_param { pool: AVE kernel_size: 3 stride: 2 } }
layer { name: "scaled" type: "Power" bottom: "pool" top: "pool" power_param { scale: 0.5 } }
"""


@pytest.fixture
def run(capsys: pytest.CaptureFixture) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: object) -> tuple[int, str, str]:
        code = record.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "net.prototxt"
    path.write_text(NET)
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with five pictures of the net's size."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    numbers = np.random.default_rng(3)
    for name in "abcde":
        Image.fromarray(numbers.integers(0, 256, (5, 7, 3)).astype(np.uint8)).save(folder / f"{name}.png")
    return folder


def test_the_demo_s_recording_is_what_the_command_makes(demo, tmp_path, run):
    out = tmp_path / "reference.h5"
    code, said, err = run(
        demo / "digits.prototxt", demo / "digits.caffemodel", "--images", demo / "pictures", "--labels",
        demo / "labels.txt", "--whole", 2, "--sample", 64, "-o", out,
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert said == f"{out}: 0.2 MiB, 10 pictures, 2 of them whole, reference (NumPy, float64)\n"
    mine, committed = read_recording(out), read_recording(demo / "reference.h5")
    assert committed.facts.sources == mine.facts.sources, "make tools/demo/reference.h5 again"
    for one, other in zip(mine.runs(), committed.runs(), strict=True):
        assert one.pictures == other.pictures
        for key, value in one.values.items():
            assert np.allclose(value.values, other.values[key].values, rtol=1e-6, atol=1e-7)
    assert (demo / "reference.h5").stat().st_size < 300_000


def test_what_is_recorded_is_what_the_network_computes(net, pictures, tmp_path, run):
    out = tmp_path / "reference.h5"
    code, _, err = run(net, "--images", pictures, "--mean", "1,2,3", "--scale", 0.25, "--full", "-o", out)
    assert (code, err) == (0, "")
    recording = read_recording(out)
    (held,) = recording.runs()
    port = convert(net)
    for row, path in enumerate(sorted(pictures.iterdir())):
        image = np.asarray(Image.open(path)).astype(np.float64)
        fed = np.zeros((1, 3, 5, 7))
        for channel, (source, mean) in enumerate(((2, 1), (1, 2), (0, 3))):  # B, G, R
            fed[0, channel] = (image[:, :, source] - mean) * 0.25
        assert np.allclose(held.inputs["data"][row], fed[0], rtol=1e-6)
        expected = graphs.run_reference(port.shapes, port.arrays(), {"data": fed})
        assert np.allclose(held.values["pool", "pool"].values[row], expected["pool", "pool"][0], rtol=1e-5, atol=1e-5)
        assert np.allclose(held.values["scaled", "pool"].values[row], expected["scaled", "pool"][0], atol=1e-5)
    assert recording.facts.layers[1].bottoms == (("pool", "pool"),)
    assert recording.facts.outputs == {"pool": ("scaled", "pool")}
    assert str(recording.facts.preprocessing) == "BGR, mean 1, 2, 3, scale 0.25"


def test_channel_order_resize_and_crop(net, tmp_path, run):
    image = np.random.default_rng(4).integers(0, 256, (20, 20, 3)).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png")
    square = tmp_path / "square.prototxt"
    square.write_text(NET.replace("dim: 5 dim: 7", "dim: 6 dim: 6"))
    out = tmp_path / "reference.h5"
    code, _, _ = run(square, "--images", tmp_path / "a.png", "--channel-order", "RGB", "--mean", "1,2,3", "--resize",
                     20, "--crop", 6, "-o", out)  # fmt: skip
    assert code == 0
    fed = read_recording(out).run(0).inputs["data"][0]
    for channel in range(3):
        assert np.array_equal(fed[channel], image[7:13, 7:13, channel].astype(np.float32) - (channel + 1))
    code, _, err = run(square, "--images", tmp_path / "a.png", "--crop", 7, "-o", out)
    assert (code, err) == (2, "--crop 7: the network's input is 6x6\n")


def test_without_preprocessing_that_is_said(net, pictures, tmp_path, run):
    code, _, err = run(net, "--images", pictures, "-o", tmp_path / "reference.h5")
    assert code == 0
    assert err == (
        "note: no preprocessing is stated, so values stay 0 to 255, B, G, R, without a mean; see --mean and --scale\n"
    )


def test_a_mean_file_and_a_mean_that_the_definition_names(net, pictures, tmp_path, run):
    np.save(tmp_path / "mean.npy", np.random.default_rng(1).uniform(0, 9, (3, 5, 7)).astype(np.float32))
    out = tmp_path / "reference.h5"
    assert run(net, "--images", pictures, "--mean-file", tmp_path / "mean.npy", "-o", out)[0] == 0
    preprocessing = read_recording(out).facts.preprocessing
    assert np.array_equal(preprocessing.mean, np.load(tmp_path / "mean.npy"))
    assert str(preprocessing) == "BGR, mean the picture mean.npy, scale 1"
    stating = tmp_path / "stating.prototxt"
    stating.write_text(NET.replace('top: "data" ', 'top: "data" transform_param { mean_file: "m.binaryproto" } ', 1))
    code, _, err = run(stating, "--images", pictures, "-o", out)
    assert (code, err) == (2, 'the definition states mean_file "m.binaryproto"; give that file with --mean-file\n')


class TestPictures:
    def test_of_an_array(self, net, tmp_path, run):
        array = np.random.default_rng(5).integers(0, 256, (4, 3, 5, 7)).astype(np.uint8)
        np.savez(tmp_path / "all.npz", pictures=array, labels=np.arange(4))
        np.save(tmp_path / "all.npy", array)
        for name in ("all.npz", "all.npy", "all.npz:pictures"):
            out = tmp_path / "reference.h5"
            assert run(net, "--images", tmp_path / name, "-o", out)[0] == 0
            held = read_recording(out).run(0)
            assert np.array_equal(held.inputs["data"], array)
            assert [one.name for one in held.pictures] == [f"{name.split(':')[0]}[{row}]" for row in range(4)]

    @pytest.mark.parametrize(("order", "turned"), [("BGR", ""), ("RGB", ", and turned to RGB")])
    def test_of_an_array_whose_colours_nothing_tells_apart(self, net, tmp_path, run, order, turned):
        array = np.random.default_rng(5).integers(0, 256, (4, 3, 5, 7)).astype(np.uint8)
        np.save(tmp_path / "all.npy", array)
        words = (net, "--images", tmp_path / "all.npy", "--channel-order", order, "-o", tmp_path / "reference.h5")
        assert run(*words)[::2] == (0, f"note: channels of arrays are taken for BGR{turned}\n")
        held = read_recording(tmp_path / "reference.h5").run(0).inputs["data"]
        assert np.array_equal(held, array if order == "BGR" else array[:, ::-1])

    def test_that_are_broken_are_named_counted_and_left_out(self, net, pictures, tmp_path, run):
        (pictures / "bad.png").write_bytes(b"")
        (pictures / "notes.txt").write_text("not a picture")
        out = tmp_path / "reference.h5"
        code, said, err = run(net, "--images", pictures, "--scale", 1, "-o", out)
        assert code == 0
        assert err.splitlines() == [
            f"note: {pictures}: 1 file is passed over, being no pictures",
            "note: bad.png: is empty; left out",
            "note: 1 of 6 pictures can't be read and were left out",
        ]
        assert "5 pictures, all of them whole" in said
        recording = read_recording(out)
        assert [one.name for one in recording.pictures] == ["a.png", "b.png", "c.png", "d.png", "e.png"]
        assert [(one.name, one.reason) for one in recording.run(0).broken] == [("bad.png", "is empty")]

    def test_stream_in_batches(self, net, pictures, tmp_path, run):
        whole, parts = tmp_path / "whole.h5", tmp_path / "parts.h5"
        assert run(net, "--images", pictures, "--full", "-o", whole)[0] == 0
        assert run(net, "--images", pictures, "--full", "--batch", 2, "-o", parts)[0] == 0
        assert [len(held.pictures) for held in read_recording(parts).runs()] == [2, 2, 1]
        (one,) = read_recording(whole).runs()
        together = np.concatenate([held.values["pool", "pool"].values for held in read_recording(parts).runs()])
        assert np.array_equal(together, one.values["pool", "pool"].values)

    def test_that_are_fewer_than_a_fixed_batch_are_filled_up(self, pictures, tmp_path, run):
        fixed = tmp_path / "fixed.prototxt"
        fixed.write_text(
            NET.replace("dim: 1", "dim: 4", 1) + 'layer { name: "flat" type: "Reshape" bottom: "pool" top: "flat" '
            "reshape_param { shape { dim: 4 dim: 18 } } }"
        )
        out = tmp_path / "reference.h5"
        assert run(fixed, "--images", pictures, "-o", out)[0] == 0
        first, second = read_recording(out).runs()
        assert (len(first.pictures), len(second.pictures)) == (4, 1)
        assert np.array_equal(second.inputs["data"][0], second.inputs["data"][3])


class TestInterrupted:
    @pytest.fixture
    def failing(self, monkeypatch) -> Callable[[int], None]:
        """Returns a function that has the engine interrupted when it is run the so many-th time."""
        original = engines.Reference.run

        def after(count: int) -> None:
            calls = iter(range(1000))

            def counted(self, inputs):
                if next(calls) == count:
                    raise KeyboardInterrupt
                return original(self, inputs)

            monkeypatch.setattr(engines.Reference, "run", counted)

        return after

    def test_goes_on_where_it_stopped_with_the_very_same_bytes(self, net, pictures, tmp_path, run, failing):
        arguments = (net, "--images", pictures, "--scale", 1, "--batch", 1, "-o")
        assert run(*arguments, tmp_path / "plain.h5")[0] == 0
        out = tmp_path / "reference.h5"
        failing(3)
        assert run(*arguments, out) == (2, "", "interrupted\n")
        assert not out.exists()
        failing(2)  # two are left: this would be a third
        code, _, err = run(*arguments, out)
        assert (code, err) == (0, f"note: {out}: goes on after 3 of 5 batches that were done\n")
        assert out.read_bytes() == (tmp_path / "plain.h5").read_bytes()
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "net.prototxt", "pictures", "plain.h5", "reference.h5",
        ]  # fmt: skip

    def test_starts_anew_where_something_else_is_asked(self, net, pictures, tmp_path, run, failing):
        out = tmp_path / "reference.h5"
        failing(3)
        assert run(net, "--images", pictures, "--scale", 1, "--batch", 1, "-o", out)[0] == 2
        failing(999)
        code, _, err = run(net, "--images", pictures, "--scale", 2, "--batch", 1, "-o", out)
        assert (code, err) == (0, "")
        assert read_recording(out).facts.preprocessing.scale == 2


class TestEngines:
    def test_opencv_computes_what_the_reference_does(self, golden, tmp_path, run):
        pytest.importorskip("cv2")
        case = golden / "mini_alexnet"
        port = convert(case / "net.prototxt", case / "weights.caffemodel")
        (shape,) = port.network.inputs.values()
        array = np.random.default_rng(2).standard_normal((2, *shape[1:])).astype(np.float32)
        np.save(tmp_path / "x.npy", array)
        found = {}
        for engine in ("reference", "opencv"):
            out = tmp_path / f"{engine}.h5"
            arguments = (case / "net.prototxt", case / "weights.caffemodel", "--images", tmp_path / "x.npy", "--full")
            assert run(*arguments, "--engine", engine, "-o", out)[0] == 0
            found[engine] = read_recording(out)
        values, theirs = found["reference"].run(0).values, found["opencv"].run(0).values
        assert len(theirs) >= len(values) - 2
        for key, value in theirs.items():
            scale = np.abs(values[key].values).max()
            assert np.abs(value.values - values[key].values).max() <= 2e-5 * scale, key
        assert found["opencv"].facts.engine == "OpenCV dnn (float32)"
        assert "opencv" in found["opencv"].facts.versions

    def test_caffe_where_it_is_not(self, net, pictures, tmp_path, run):
        code, _, err = run(net, "--images", pictures, "--engine", "caffe", "-o", tmp_path / "r.h5")
        assert (code, err) == (2, "--engine caffe needs Caffe's Python package, which can't be imported here\n")


class TestIsRefused:
    @pytest.fixture
    def refusal(self, tmp_path, run) -> Callable[..., str]:
        """Returns a function that expects a refusal of one line, and nothing written."""

        def call(*arguments: object) -> str:
            before = sorted(tmp_path.rglob("*"))
            code, out, err = run(*arguments, "-o", tmp_path / "reference.h5")
            assert (code, out) == (2, "")
            assert sorted(tmp_path.rglob("*")) == before
            lines = [line for line in err.splitlines() if not line.startswith("note: ")]
            assert len(lines) == 1
            return lines[0]

        return call

    def test_a_net_with_several_inputs(self, net, pictures, refusal):
        net.write_text(NET + 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 } } }')
        assert refusal(net, "--images", pictures) == ("the network has 2 inputs (data, x); expected one, for pictures")

    def test_an_input_that_is_no_picture(self, net, pictures, refusal):
        net.write_text(NET.replace("dim: 3 dim: 5 dim: 7", "dim: 4 dim: 5 dim: 7"))
        assert refusal(net, "--images", pictures) == (
            "input 'data' has the shape Nx4x5x7; expected pictures, N x (1 or 3) x H x W"
        )

    def test_a_net_without_its_weights(self, demo, refusal):
        definition = demo / "digits.prototxt"
        assert refusal(definition, "--images", demo / "pictures") == (
            f"{definition}: needs weights; give the net's .caffemodel too"
        )

    def test_pictures_that_are_missing(self, net, tmp_path, refusal):
        path = tmp_path / "none"
        assert refusal(net, "--images", path) == f"{path}: no such file or folder"

    def test_a_folder_without_pictures(self, net, tmp_path, refusal):
        folder = tmp_path / "texts"
        folder.mkdir()
        (folder / "a.txt").write_text("x")
        assert refusal(net, "--images", folder) == f"{folder}: holds no pictures (.png, .jpg, .jpeg, .jpe, ...)"

    def test_an_array_of_something_else(self, net, tmp_path, refusal):
        path = tmp_path / "x.npy"
        np.save(path, np.zeros((3, 5)))
        expected = f"{path}: holds no array of pictures, (N, 1 or 3, H, W), uint8 or float; name one as {path}:NAME"
        assert refusal(net, "--images", path) == expected

    def test_an_array_that_would_run_code(self, net, tmp_path, refusal):
        path = tmp_path / "x.npy"
        np.save(path, np.array([{}], object), allow_pickle=True)
        assert refusal(net, "--images", path).startswith(f"{path}: is no whole file of arrays: ")

    @pytest.mark.parametrize(("arguments", "reason"), [
        (("--mean", "1,x"), "--mean 1,x: expected numbers, such as 104,117,123; for a file say --mean-file"),
        (("--mean", "1,2"), "the mean has 2 channels, the input 3"),
        (("--mean", "1,2,3", "--mean-file", "m.npy"), "--mean and --mean-file: give one of them"),
        (("--mean-file", "m.npy"), "m.npy: No such file or directory"),
        (("--resize", "3"), "pictures of 3x3 are too small for the input, 5x7"),
        (("--labels", "none.txt"), "none.txt: No such file or directory"),
    ])  # fmt: skip
    def test_preprocessing_that_can_t_be_honoured(self, net, pictures, refusal, arguments, reason):
        assert refusal(net, "--images", pictures, *arguments) == reason

    def test_as_many_labels_as_there_are_no_classes(self, demo, tmp_path, refusal):
        (tmp_path / "labels.txt").write_text("a\nb\n")
        assert refusal(demo / "digits.prototxt", demo / "digits.caffemodel", "--images", demo / "pictures", "--labels",
                       tmp_path / "labels.txt") == "there are 2 labels; the network tells 10 classes apart"  # fmt: skip

    def test_a_folder_that_is_not_there(self, net, pictures, tmp_path, run):
        code, _, err = run(net, "--images", pictures, "-o", tmp_path / "no" / "r.h5")
        assert (code, err) == (2, f"{tmp_path / 'no' / 'r.h5'}: the folder {tmp_path / 'no'} does not exist; "
                                  "make it first\n")  # fmt: skip

    def test_pictures_of_which_none_can_be_read(self, net, pictures, tmp_path, run):
        for path in pictures.iterdir():
            path.write_bytes(b"")
        code, _, err = run(net, "--images", pictures, "--scale", 1, "-o", tmp_path / "r.h5")
        assert code == 2
        assert err.splitlines()[-1] == "none of the 5 pictures can be read"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["net.prototxt", "pictures"]
        shutil.rmtree(pictures)
