"""Arrays of floats in every program that prepares pictures: refused where 0 to 255 is meant, and what settles it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from graphs.alexnet.estimator import input_fn
from tools import classify
from tools.finetune import __main__ as finetune
from tools.record import __main__ as record
from tools.recording_file import read_recording
from tools.train import __main__ as train
from tools.train_demo import read_digits
from tools.validate import __main__ as validate
from weights import Refused

pytest.importorskip("fsspec")
pytest.importorskip("sklearn")

HOLDS = "holds floats of 0 to 1, but mean 0 and scale 0.003906 are for values of 0 to 255"
WAYS = "say --raw-scale 255 where 1 stands for 255, --raw-scale 1 where they are meant as they are"
Call = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Returns a function that runs a program: its exit code and what it said on stderr."""

    def run(program, *arguments: object) -> tuple[int, list[str]]:
        code = program.main([str(argument) for argument in arguments])
        return code, capsys.readouterr().err.splitlines()

    return run


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three of the demo's digits as bytes, and as floats of 0 to 1: x.npy (N, C, H, W) and y.npy."""
    seen, _ = read_digits()
    chosen = np.flatnonzero(seen.labels < 3)[:61]
    found = {}
    for name, pictures in (("bytes", seen.pictures[chosen]), ("floats", seen.pictures[chosen] / np.float32(255))):
        found[name] = tmp_path_factory.mktemp(name)
        np.save(found[name] / "x.npy", pictures)
        np.save(found[name] / "y.npy", seen.labels[chosen])
    return found


class TestFinetune:
    @pytest.fixture
    def tune(self, call: Call, demo_port: Path, tmp_path: Path) -> Callable[..., tuple[int, list[str]]]:
        words = ["--epochs", "1", "--threads", "1", "-o", tmp_path / "out.npz", "--run"]
        runs = iter("abc")
        return lambda *options: call(finetune, demo_port, *options, *words, tmp_path / next(runs))

    def test_refuses_either_set(self, tune, places):
        code, err = tune("--data", places["floats"], "--validation", places["floats"])
        assert (code, err) == (2, [f"{places['floats']}/x.npy: {HOLDS}; {WAYS}"])
        code, err = tune("--data", places["bytes"], "--validation", places["floats"])
        assert (code, err) == (2, [f"{places['floats']}/x.npy: {HOLDS}; {WAYS}"])

    def test_multiplied_they_are_the_bytes(self, tune, places, tmp_path):
        numbers = []
        for name, options in (("bytes", []), ("floats", ["--raw-scale", "255"])):
            assert tune("--data", places[name], *options) == (0, [])
            numbers.append(dict(np.load(tmp_path / "out.npz")))
        for name, array in numbers[0].items():
            np.testing.assert_allclose(numbers[1][name], array, atol=1e-5, err_msg=name)
        assert tune("--data", places["floats"], "--raw-scale", "1")[0] == 0
        assert np.abs(np.load(tmp_path / "out.npz")["fc8/weights"] - numbers[0]["fc8/weights"]).max() > 1e-3

    def test_without_arrays_of_floats_it_is_no_use(self, tune, places):
        code, err = tune("--data", places["bytes"], "--raw-scale", "255")
        assert code == 0
        assert err == ["note: --raw-scale has no effect: it is for arrays of floats, and there are none"]


class TestRecordAndValidate:
    @pytest.fixture
    def sources(self, demo: Path) -> list[Path]:
        return [demo / "digits.prototxt", demo / "digits.caffemodel"]

    def test_a_recording_refuses_and_multiplies(self, call, sources, places, tmp_path):
        arrays = ["--images", places["floats"] / "x.npy", "-o", tmp_path / "floats.h5"]
        code, err = call(record, *sources, *arrays)
        assert (code, err) == (2, [f"{places['floats']}/x.npy: {HOLDS}; {WAYS}"])
        code, err = call(record, *sources, *arrays, "--raw-scale", 255)
        assert (code, err) == (0, ["note: floats of arrays are multiplied by 255 first, as --raw-scale says"])
        assert call(record, *sources, "--images", places["bytes"] / "x.npy", "-o", tmp_path / "bytes.h5") == (0, [])
        floats, whole = (read_recording(tmp_path / f"{name}.h5") for name in ("floats", "bytes"))
        assert floats.facts.notes == ("floats of arrays are multiplied by 255 first, as --raw-scale says",)
        np.testing.assert_allclose(floats.run(0).inputs["data"], whole.run(0).inputs["data"], atol=1e-6)

    def test_an_npz_and_every_array_is_named(self, call, sources, places, tmp_path):
        array = np.load(places["floats"] / "x.npy")
        for name in ("a", "b"):
            np.savez(tmp_path / f"{name}.npz", x=array, y=array[:, 0])
        arrays = ["--images", tmp_path / "a.npz", tmp_path / "b.npz", places["bytes"] / "x.npy"]
        code, err = call(record, *sources, *arrays, "-o", tmp_path / "out.h5")
        assert (code, err) == (2, [f"{tmp_path}/{name}.npz: {HOLDS}; {WAYS}" for name in ("a", "b")])

    def test_the_validator_refuses(self, call, sources, demo_port, places):
        arrays = ["--images", places["floats"] / "x.npy"]
        code, err = call(validate, demo_port, *sources, *arrays)
        assert (code, err) == (2, [f"{places['floats']}/x.npy: {HOLDS}; {WAYS}"])
        assert call(validate, demo_port, *sources, *arrays, "--raw-scale", 255)[0] == 0

    def test_a_mean_that_is_said(self, call, places, tmp_path):
        text = (
            'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 1 dim: 32 dim: 32 } } }'
        )
        (tmp_path / "net.prototxt").write_text(text + 'layer { name: "abs" type: "AbsVal" bottom: "data" top: "abs" }')
        words = [tmp_path / "net.prototxt", "--images", places["floats"] / "x.npy", "-o", tmp_path / "out.h5"]
        code, err = call(record, *words, "--mean", "33")
        found = "holds floats of 0 to 1, but mean 33 and scale 1 are for values of 0 to 255"
        assert (code, err) == (2, [f"{places['floats']}/x.npy: {found}; {WAYS}"])
        assert call(record, *words, "--mean", "0.5", "--scale", "2") == (0, [])
        assert np.abs(read_recording(tmp_path / "out.h5").run(0).inputs["data"]).max() == 1


class TestTrain:
    NET = """
    layer { name: "data" type: "Data" top: "data" top: "label" transform_param { mean_value: 33 scale: 0.5 }
      data_param { source: "lmdb" batch_size: 7 } }
    layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc"
      inner_product_param { num_output: 3 weight_filler { type: "xavier" } } }
    layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
    """

    @pytest.fixture
    def trained(self, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple]:
        monkeypatch.chdir(tmp_path)
        Path("net.prototxt").write_text(self.NET)
        Path("solver.prototxt").write_text('net: "net.prototxt" base_lr: 1e-4 lr_policy: "fixed" max_iter: 3 '
                                           "random_seed: 3 snapshot_after_train: false")  # fmt: skip
        shape = ["--input-shape", "data=7,1,32,32"]
        return lambda *options: call(train, "--solver", "solver.prototxt", *shape, *options)

    def test_refuses_and_multiplies(self, trained, places, tmp_path):
        images = ["--images", places["floats"]]
        code, err = trained(*images)
        found = "holds floats of 0 to 1, but mean 33 and scale 0.5 are for values of 0 to 255"
        assert (code, err[-1]) == (2, f"{places['floats']}/x.npy: {found}; {WAYS}")
        losses = {}
        for name, options in (("bytes", []), ("floats", ["--raw-scale", "255"])):
            log = ["--log", tmp_path / f"{name}.csv"]
            assert trained("--images", places[name], *log, *options)[0] == 0
            losses[name] = [float(row.split(",")[1]) for row in log[1].read_text().splitlines()[1:]]
        assert losses["floats"] == pytest.approx(losses["bytes"], rel=1e-4)


def test_the_classifier_takes_files_alone(call, demo_port, places):
    code, err = call(classify, demo_port, places["floats"] / "x.npy")
    assert (code, err) == (2, [f"{places['floats']}/x.npy: is no picture that Pillow can read"])


def test_an_estimator_s_pictures():
    rows = np.random.default_rng(1).random((2, 224, 224, 3), np.float32)
    with pytest.raises(Refused, match=r"^images: holds floats of \S+ to 1, but mean 122.7, .*; give images \* 255$"):
        input_fn(rows, batch_size=1)
    input_fn(rows * 255, batch_size=1)
