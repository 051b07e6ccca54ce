"""python -m tools.validate: ports that agree, ports that drift, reports, and what it refuses."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as xml
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from converter import convert
from graphs.tensorflow1 import tensorflow1
from tools.record import __main__ as record
from tools.recording_file import read_recording, write_recording
from tools.validate import __main__ as validate
from tools.validate import assert_port, report_on, running
from weights import Refused

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        code = validate.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def reference(demo: Path) -> Path:
    return demo / "reference.h5"


def changed(port: Path, folder: Path, change: Callable[[dict], None]) -> Path:
    """Returns a copy of a port whose manifest is changed."""
    for path in (port, port.with_name(port.name + ".json")):
        shutil.copy(path, folder / path.name)
    copy = folder / port.name
    file = copy.with_name(copy.name + ".json")
    manifest = json.loads(file.read_text())
    change(manifest)
    file.write_text(json.dumps(manifest))
    return copy


class TestThatAgrees:
    def test_the_demo_with_its_tables(self, demo_port, reference, run):
        code, out, err = run(demo_port, "--against", reference)
        assert (code, err) == (0, "")
        lines = [line.split() for line in out.splitlines()]
        assert out.splitlines()[-2] == "verdict: agrees"
        assert "top-1 agrees on 10 of 10" in out
        assert ["digit-3.png", "three"] in [line[:2] for line in lines]
        layers = {line[0]: line for line in lines if line and line[-1] == "ok"}
        assert list(layers)[:4] == ["conv1", "relu1", "norm1", "pool1"]
        assert len(layers) == 23
        assert "note: layers were judged in isolation on 2 of 10 pictures, those recorded whole" in out

    @pytest.mark.parametrize("form", ["digits.ckpt", "digits/", "digits.py"])
    @pytest.mark.parametrize("manifest", [True, False], ids=["manifest", "stranger"])
    def test_in_every_form(self, demo, reference, tmp_path, run, form, manifest):
        port = convert(demo / "digits.prototxt", demo / "digits.caffemodel")
        written = port.save(f"{tmp_path}/{form}")
        if form.endswith(".py"):
            port.save(tmp_path / "digits.npz")
        if not manifest:
            next(path for path in written if path.suffix == ".json").unlink()
        code, out, err = run(tmp_path / form, "--against", reference, "--quiet")
        assert (code, out, err) == (0, "verdict: agrees\n", "")

    def test_computed_here_from_definition_and_weights(self, demo, demo_port, run):
        code, out, err = run(demo_port, demo / "digits.prototxt", demo / "digits.caffemodel", "--images",
                             demo / "pictures", "--labels", demo / "labels.txt")  # fmt: skip
        assert (code, err) == (0, "")
        assert "in isolation on" not in out  # on all of them

    def test_beside_a_recording_the_weights_let_all_be_judged_in_isolation(self, demo, demo_port, reference, run):
        code, out, _ = run(demo_port, demo / "digits.prototxt", demo / "digits.caffemodel", "--against", reference)
        assert code == 0
        assert "in isolation on" not in out

    def test_in_a_test(self, demo_port, reference):
        report = assert_port(demo_port, reference)
        assert report.pictures == 10
        assert all(prediction.agrees and prediction.overlap == 5 for prediction in report.predictions)
        assert report.predictions[3].port[0].label == "three"
        assert all(one.isolated is not None for one in report.layers)


class TestThatDiffers:
    def test_names_the_layer(self, drifted, reference, run):
        code, out, err = run(drifted, "--against", reference)
        assert (code, err) == (1, "")
        assert "verdict: differs, first at norm2 (LRN)" in out
        assert "fed the reference's own input, these differ: norm2 (LRN); " in out
        marks = {
            line.split()[0]: line.split()[-1]
            for line in out.splitlines()
            if line.split()[1:2] in (["LRN"], ["Pooling"])
        }
        assert marks == {"norm1": "ok", "pool1": "ok", "norm2": "GUILTY", "pool2": "differs", "pool5": "differs"}

    def test_though_no_top_1_does(self, drifted, reference):
        report = report_on(drifted, reference)
        assert all(prediction.agrees for prediction in report.predictions)
        assert report.verdict.guilty == ("norm2 (LRN)",)

    def test_in_a_test(self, drifted, reference):
        with pytest.raises(AssertionError) as raised:
            assert_port(drifted, reference)
        first, *reasons = str(raised.value).splitlines()
        assert first == f"{drifted}: differs, first at norm2 (LRN)"
        assert reasons[0].startswith("norm2 (LRN): differs by ")

    def test_within_a_tolerance_that_is_asked_for(self, drifted, reference, run):
        report = report_on(drifted, reference)
        needed = max(one.computed.relative for one in report.layers if one.computed)
        assert run(drifted, "--against", reference, "--tolerance", needed * 1.01, "--quiet")[0] == 0
        assert run(drifted, "--against", reference, "--tolerance", needed * 0.99, "--quiet")[0] == 1
        code, out, _ = run(drifted, "--against", reference, "--tolerance", f"norm2={needed * 1.01}", "--quiet")
        assert (code, out) == (1, "verdict: differs, first at pool2 (Pooling)\n")

    def test_nan_is_no_pass(self, demo, tmp_path, reference):
        port = convert(demo / "digits.prototxt", demo / "digits.caffemodel")
        biases = port.parameters["conv2/biases"]
        wrong = np.where(np.arange(biases.caffe.size) == 3, np.float32(np.nan), biases.caffe)
        parameters = {**port.parameters, biases.name: replace(biases, array=wrong)}
        replace(port, parameters=parameters).save(tmp_path / "digits.pb")
        report = report_on(tmp_path / "digits.pb", reference, tolerance=1e30)
        assert report.verdict.first == "conv2 (Convolution)"
        assert "no numbers (NaN or infinite)" in report.verdict.reasons[0]

    def test_an_output_that_the_manifest_names_wrongly(self, demo_port, reference, tmp_path, run):
        def swap(manifest: dict) -> None:
            manifest["layers"][-1]["tops"][0]["tensor"] = "fc8:0"

        code, out, _ = run(changed(demo_port, tmp_path, swap), "--against", reference, "--quiet")
        assert (code, out) == (1, "verdict: differs, first at prob (Softmax)\n")


class TestReports:
    def test_json_and_junit_of_a_pass(self, demo_port, reference, tmp_path, run):
        code, _, _ = run(
            demo_port, "--against", reference, "--json", tmp_path / "r.json", "--junit", tmp_path / "r.xml"
        )
        assert code == 0
        found = json.loads((tmp_path / "r.json").read_text())
        assert found["verdict"]["answer"] == "agrees"
        assert len(found["predictions"]) == 10
        assert found["device"]["tf32"] is False
        assert {"tensorflow", "numpy", "caffeport"} <= set(found["device"]["versions"])
        suite = xml.parse(tmp_path / "r.xml").getroot()[0]
        assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("24", "0", "0")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["r.json", "r.xml"]

    def test_junit_of_a_failure(self, drifted, reference, tmp_path, run):
        assert run(drifted, "--against", reference, "--junit", tmp_path / "r.xml")[0] == 1
        suite = xml.parse(tmp_path / "r.xml").getroot()[0]
        failed = [case.get("name") for case in suite if case.find("failure") is not None]
        assert failed[0] == "norm2"
        assert failed[-1] == "verdict"
        message = suite.find("testcase[@name='norm2']/failure").get("message")
        assert message.startswith("norm2 (LRN): differs by ")
        assert "in isolation; allowed is 0.0001" in message


class TestCertificate:
    @pytest.fixture
    def certified(self, demo_port, reference, tmp_path, run) -> Path:
        path = tmp_path / "port.json"
        assert run(demo_port, "--against", reference, "--certificate", path)[0] == 0
        return path

    def test_is_verified(self, certified, demo_port, reference, run):
        found = json.loads(certified.read_text())
        assert len(found["layers"]) == 23
        code, out, _ = run(demo_port, "--verify", certified)
        assert code == 0
        assert out.splitlines()[0].startswith(f"true:  {demo_port}: is the very port that was certified (SHA-256 ")
        code, out, _ = run(demo_port, "--verify", certified, "--against", reference, "--quiet")
        assert code == 0
        assert out.splitlines()[1:] == [
            "true:  reference.h5: is as it was certified",
            "true:  all 23 values were within tolerance",
            "verdict: agrees",
        ]

    def test_is_not_true_of_another_port(self, certified, drifted, run):
        code, out, _ = run(drifted, "--verify", certified)
        assert code == 1
        assert f"FALSE: {drifted}: is not the port that was certified: its SHA-256 is " in out

    def test_is_not_written_for_a_port_that_differs(self, drifted, reference, tmp_path, run):
        path = tmp_path / "none.json"
        code, _, err = run(drifted, "--against", reference, "--certificate", path, "--quiet")
        assert (code, err) == (1, f"note: {path}: no certificate is written, as the port differs\n")
        assert not path.exists()

    @pytest.mark.parametrize(("text", "reason"), [
        ("{", "is no certificate: it is no JSON"),
        ("{}", "is no certificate; write one with --certificate"),
        ('{"kind": "caffeport certificate", "format": 9}', "is a certificate of format 9; this reads format 1"),
        ('{"kind": "caffeport certificate", "format": 1}', "is no whole certificate"),
    ])  # fmt: skip
    def test_that_is_none(self, demo_port, tmp_path, run, text, reason):
        path = tmp_path / "port.json"
        path.write_text(text)
        assert run(demo_port, "--verify", path) == (2, "", f"{path}: {reason}\n")


class TestInterrupted:
    def test_goes_on_where_it_stopped_with_the_very_same_numbers(
        self, demo, demo_port, reference, tmp_path, run, monkeypatch
    ):
        assert run(demo_port, "--against", reference, "--json", tmp_path / "plain.json")[0] == 0
        original, calls = running.compare_run, []

        def interrupted(*arguments):
            calls.append(arguments[2].number)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return original(*arguments)

        monkeypatch.setattr(running, "compare_run", interrupted)
        out = tmp_path / "r.json"
        assert run(demo_port, "--against", reference, "--json", out) == (2, "", "interrupted\n")
        code, _, err = run(demo_port, "--against", reference, "--json", out)
        assert (code, err) == (0, "note: goes on after 1 of 2 batches that were compared\n")
        assert calls == [0, 1, 1]
        found, plain = (json.loads(path.read_text()) for path in (out, tmp_path / "plain.json"))
        del found["seconds"], plain["seconds"]
        assert found == plain
        assert sorted(path.name for path in tmp_path.iterdir()) == ["plain.json", "r.json"]


class TestIsRefused:
    def test_a_recording_of_another_network(self, demo_port, golden, tmp_path, run):
        case, out = golden / "mini_alexnet", tmp_path / "other.h5"
        (shape,) = convert(case / "net.prototxt").network.inputs.values()
        np.save(tmp_path / "x.npy", np.zeros((2, *shape[1:]), np.float32))
        record.main([str(case / "net.prototxt"), str(case / "weights.caffemodel"), "--images", str(tmp_path / "x.npy"),
                     "-o", str(out)])  # fmt: skip
        code, _, err = run(demo_port, "--against", out)
        assert code == 2
        last = err.splitlines()[-1]
        assert last.startswith("other.h5: is of another network, 'mini_alexnet': ") or "is of another network" in last

    def test_a_recording_whose_layers_are_others(self, demo_port, reference, tmp_path, run):
        def rename(manifest: dict) -> None:
            manifest["layers"][4]["name"] = "other"

        copy = changed(demo_port, tmp_path, rename)
        expected = (
            "reference.h5: is of another network, 'AlexNet in miniature': the port has no layer pool1 (Pooling)\n"
        )
        assert run(copy, "--against", reference) == (2, "", expected)

    def test_another_preprocessing(self, demo_port, reference, tmp_path, run):
        def scale(manifest: dict) -> None:
            manifest["preprocessing"] = {"scale": 1.0, "mean_value": [33.0]}

        assert run(changed(demo_port, tmp_path, scale), "--against", reference) == (
            2, "", "reference.h5: is of another preprocessing: scale 0.00390625, the port's manifest states 1; mean 0, "
            "the port's manifest states 33\n",
        )  # fmt: skip

    def test_weights_that_the_recording_was_not_made_from(self, demo, demo_port, drifted, reference, run):
        definition = drifted.with_name("digits.prototxt")
        assert run(demo_port, definition, demo / "digits.caffemodel", "--against", reference) == (
            2, "", f"{definition}: is not what {reference} was recorded from\n",
        )  # fmt: skip

    def test_a_truncated_recording(self, demo_port, reference, tmp_path, run):
        path = tmp_path / "reference.h5"
        path.write_bytes(reference.read_bytes()[:100_000])
        code, out, err = run(demo_port, "--against", path, "--json", tmp_path / "r.json")
        assert (code, out) == (2, "")
        assert err.startswith(f"{path}: is no whole recording: ")
        assert err.count("\n") == 1
        assert [one.name for one in tmp_path.iterdir()] == ["reference.h5"]

    def test_a_recording_without_a_value(self, demo_port, reference, tmp_path):
        recording = read_recording(reference)
        held = recording.run(0)
        nothing = [type(held)(0, held.pictures, held.inputs, {}, held.outputs)]
        write_recording(tmp_path / "empty.h5", recording.facts, nothing)
        report = report_on(demo_port, tmp_path / "empty.h5")
        assert report.verdict.exit_code == 2
        assert report.verdict.reasons == ("nothing was compared",)

    @pytest.mark.parametrize(("arguments", "reason"), [
        ((), "{port}: say what to hold it against: --against recording.h5, or DEFINITION WEIGHTS --images PATH"),
        (("--against", "none.h5"), "none.h5: No such file or directory"),
        (("--against", "{reference}", "--images", "x"),
         "--against and --images: give one of them; a recording holds its pictures"),
        (("--images", "x"), "--images: give the DEFINITION and WEIGHTS that the pictures are to be run through"),
        (("--against", "{reference}", "--device", "tpu"), "--device tpu: expected auto, cpu, gpu or gpu:N"),
        (("--against", "{reference}", "--tolerance", "x"),
         "--tolerance x: expected a number such as 1e-4, or LAYER=1e-3"),
        (("--against", "{reference}", "--tolerance", "nan"),
         "--tolerance nan: expected a number such as 1e-4, or LAYER=1e-3"),
        (("--against", "{reference}", "--tolerance", "fc99=1"),
         "--tolerance fc99=...: no layer of that name was recorded"),
        (("--against", "{reference}", "--map", "fc99=x"), "--map fc99=x: no layer of that name was recorded"),
        (("--against", "{reference}", "--map", "fc7"), "--map fc7: expected LAYER=TENSOR"),
        (("--against", "{reference}", "--map", "fc7=none"), "'none' is no tensor of numbers in this graph"),
        (("--against", "{reference}", "--feed", "x=y"), "--feed x=y: expected a number"),
        (("--against", "{reference}", "--json", "no/r.json"), "no/r.json: the folder no does not exist; make it first"),
    ])  # fmt: skip
    def test_what_can_t_be_done(self, demo_port, reference, run, arguments, reason):
        names = {"port": demo_port, "reference": reference}
        found = run(demo_port, *(argument.format(**names) for argument in arguments))
        assert found == (2, "", reason.format(**names) + "\n")

    def test_a_gpu_where_there_is_none(self, demo_port, reference, run):
        import tensorflow

        if tensorflow.config.list_physical_devices("GPU"):
            pytest.skip("there is a GPU")
        version = tensorflow1("the tests").__version__
        for device in ("gpu", "gpu:1"):
            assert run(demo_port, "--against", reference, "--device", device) == (
                2, "", f"--device {device}: TensorFlow {version} sees no GPU here; try --device cpu\n",
            )  # fmt: skip

    @pytest.mark.parametrize(("name", "content", "reason"), [
        ("none.pb", None, "no such file"),
        ("text.pb", b"text", "is no frozen graph: it does not decode as a GraphDef"),
        ("empty.pb", b"", "is no frozen graph: it has no nodes"),
        ("code.py", b"x = 1",
         "has no build() and load(); expected a source that python -m converter ... -o NAME.py wrote"),
        ("broken.py", b"1 / 0", "can't be run: ZeroDivisionError: division by zero"),
    ])  # fmt: skip
    def test_a_port_that_is_none(self, reference, tmp_path, run, name, content, reason):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        assert run(path, "--against", reference) == (2, "", f"{path}: {reason}\n")

    def test_a_folder_that_is_no_saved_model(self, reference, tmp_path, run):
        assert run(tmp_path, "--against", reference) == (
            2, "", f"{tmp_path}: is a folder without a SavedModel; name a .pb, a checkpoint, a .py or a SavedModel's "
            "folder\n",
        )  # fmt: skip

    def test_a_source_without_its_weights(self, demo, reference, tmp_path, run):
        convert(demo / "digits.prototxt", demo / "digits.caffemodel").save(tmp_path / "digits.py")
        assert run(tmp_path / "digits.py", "--against", reference) == (
            2, "", f"{tmp_path / 'digits.py'}: needs its weights: {tmp_path / 'digits.npz'}, or name them with "
            "--weights\n",
        )  # fmt: skip

    def test_a_checkpoint_without_its_graph(self, demo, reference, tmp_path, run):
        convert(demo / "digits.prototxt", demo / "digits.caffemodel").save(tmp_path / "digits.ckpt")
        (tmp_path / "digits.ckpt.meta").unlink()
        code, _, err = run(tmp_path / "digits.ckpt", "--against", reference)
        assert (code, err) == (
            2, f"{tmp_path / 'digits.ckpt'}.meta: is not there; a checkpoint alone is variables without a graph\n",
        )  # fmt: skip

    def test_a_manifest_that_is_another_s(self, demo_port, reference, tmp_path, run):
        def rename(manifest: dict) -> None:
            manifest["layers"][2]["tops"][0]["tensor"] = "elsewhere:0"

        copy = changed(demo_port, tmp_path, rename)
        assert run(copy, "--against", reference) == (
            2, "", f"{copy}: has no tensor 'elsewhere:0', which its manifest names: it is cut short, or the manifest "
            "is another's\n",
        )  # fmt: skip

    def test_a_manifest_that_is_none(self, demo_port, reference, tmp_path, run):
        def empty(manifest: dict) -> None:
            manifest.clear()

        copy = changed(demo_port, tmp_path, empty)
        assert run(copy, "--against", reference) == (
            2, "", f"{copy}.json: is no manifest of a port; take it away to match tensors by name and shape\n",
        )  # fmt: skip


def test_refused_is_raised_in_a_test(tmp_path, reference):
    with pytest.raises(Refused):
        assert_port(tmp_path / "none.pb", reference)


@pytest.mark.parametrize(
    ("option", "value"), [("--mean", 1), ("--scale", 7), ("--resize", 9), ("--labels", "labels.txt"), ("--batch", 3)]
)
def test_what_prepares_pictures_has_no_effect_on_a_recording(demo_port, reference, run, option, value):
    assert run(demo_port, "--against", reference, option, value) == (
        2, "", f"{option}: has no effect on {reference}, whose pictures were prepared when they were recorded; leave "
        "it out, or record again with it\n",
    )  # fmt: skip


def test_timings_that_nobody_would_see(demo_port, reference, run):
    assert run(demo_port, "--against", reference, "--timings", "--quiet") == (
        2, "", "--timings --quiet: would print none of the timings; say --json FILE or --html FILE too, or leave out "
        "--quiet\n",
    )  # fmt: skip


def test_a_misspelt_option_is_not_taken_for_another(demo_port, reference, run):
    code, _, err = run(demo_port, "--against", reference, "--jso", "report.json")
    assert (code, err.splitlines()[-1]) == (
        2, "python -m tools.validate: error: unrecognized arguments: --jso report.json",
    )  # fmt: skip


def test_says_what_was_written_and_what_verifying_came_to(demo_port, reference, run, tmp_path):
    certificate = tmp_path / "port.json"
    code, out, _ = run(demo_port, "--against", reference, "--certificate", certificate)
    assert (code, out.splitlines()[-1].split(": ")[0]) == (0, str(certificate))
    code, out, _ = run(demo_port, "--verify", certificate)
    last = "verdict: as certified; nothing was computed again, which --against does"
    assert (code, out.splitlines()[-1]) == (0, last)
