"""Ports through XLA: the numbers of Caffe, the faults that TensorFlow finds, programs in files and what is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from converter import Port, convert
from graphs.tensorflow1 import tensorflow1
from tools.record.engines import Reference
from tools.record.live import computed, facts_of
from tools.recording import Picture, Preprocessing, Value, whole
from tools.recording_file import read_recording, write_recording
from tools.validate import __main__ as validate
from tools.validate import assert_port, report_on
from tools.validate.report import AGREES
from tools.validate.xla.stablehlo import EXACT, ROUNDED, proved
from weights import Refused

jax = pytest.importorskip("jax")

TOLERANCE = 2e-5
"""What Caffe's own numbers can be judged to."""

CASES = (
    "argmax", "batchnorm", "conv_depthwise", "conv_dilated", "conv_group2", "crop", "deconv_stride2_pad1",
    "eltwise_max", "embed", "in_place_chain", "inner_product_axis2", "lrn_k2_n3", "lrn_within", "lstm", "mvn",
    "pool_ave_3x2_pad1", "pool_max_3x2_pad1", "prelu", "reduction_mean_axis2", "slice_points", "softmax_with_loss",
    "v1_layers",
)  # fmt: skip

WITHOUT_TENSORFLOW = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "tensorflow" or name.startswith("google.protobuf"):
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

sys.meta_path.insert(0, Absent())
from tools.validate.__main__ import main
sys.exit(main(sys.argv[1:]))
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        code = validate.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@dataclass(frozen=True)
class Small:
    """A small net's port, what Caffe made of it, and its programs: for the recording's batch, and at 1 and 3."""

    port: Path
    recording: Path
    program: Path
    convert: Callable[[], Port]


@pytest.fixture(scope="module")
def small(golden: Path, caffe_recording: Callable, tmp_path_factory: pytest.TempPathFactory) -> Small:
    case, folder = golden / "in_place_chain", tmp_path_factory.mktemp("small")
    port, numbers = convert(case / "net.prototxt", case / "weights.caffemodel"), np.load(case / "reference.npz")
    port.save(folder / "net.pb")
    inputs = {blob: numbers[f"input/{blob}"] for blob in port.network.inputs}
    caffe_recording(port, numbers, inputs, folder / "reference.h5")
    arguments = [folder / "net.pb", "--against", folder / "reference.h5", "--engine", "xla", "--tolerance", TOLERANCE,
                 "--save-program", folder / "program.h5", "--program-batch", 1, 3]  # fmt: skip
    assert validate.main([*map(str, arguments), "--quiet"]) == 0
    return Small(folder / "net.pb", folder / "reference.h5", folder / "program.h5", lambda: port)


class TestAgainstCaffe:
    @pytest.mark.parametrize("case", CASES)
    def test_a_small_net(self, case, golden, tmp_path, caffe_recording):
        folder = golden / case
        port = convert(*sorted(folder.glob("*.prototxt")), *folder.glob("*.caffemodel"))
        port.save(tmp_path / "net.pb")
        numbers = np.load(folder / "reference.npz")
        inputs = {blob: numbers[f"input/{blob}"] for blob in port.network.inputs}
        caffe_recording(port, numbers, inputs, tmp_path / "reference.h5")
        report = report_on(tmp_path / "net.pb", tmp_path / "reference.h5", TOLERANCE, engine="xla")
        assert report.verdict.answer == AGREES, report.verdict.reasons
        assert all(one.computed is not None and one.computed.compared for one in report.layers)
        assert any(one.isolated is not None for one in report.layers)

    def test_lenet(self, shared, tmp_path, caffe_recording):
        folder = shared / "models" / "lenet"
        port = convert(folder / "deploy.prototxt", folder / "lenet.caffemodel")
        port.save(tmp_path / "lenet.pb")
        numbers = np.load(folder / "reference.npz")
        caffe_recording(port, numbers, {"data": numbers["input/data"]}, tmp_path / "reference.h5")
        report = report_on(tmp_path / "lenet.pb", tmp_path / "reference.h5", TOLERANCE, engine="xla")
        assert report.verdict.answer == AGREES, report.verdict.reasons
        assert all(one.isolated is not None for one in report.layers)

    @pytest.mark.slow
    def test_alexnet_in_full_size(self, shared, tmp_path, caffe_recording, run):
        folder, weights = shared / "models" / "alexnet", tmp_path / "alexnet.caffemodel"
        tool = shared / "tools" / "make_seeded_caffemodel.py"
        subprocess.run([sys.executable, tool, "alexnet", weights, "0"], check=True, capture_output=True)
        port = convert(folder / "deploy.prototxt", weights)
        port.save(tmp_path / "alexnet.pb")
        weights.unlink()
        fed = np.load(shared / "models" / "squeezenet" / "input.npz")
        pictures = (fed["bgr"].astype(np.float32) - fed["mean"][:, None, None])[:4]
        numbers, recording = np.load(folder / "seed0_reference.npz"), tmp_path / "reference.h5"
        caffe_recording(port, numbers, {"data": pictures}, recording)
        saved = tmp_path / "program.h5"
        code, _, err = run(tmp_path / "alexnet.pb", "--against", recording, "--engine", "xla", "--tolerance", TOLERANCE,
                           "--save-program", saved, "--program-batch", 1, 16, 128, "--quiet")  # fmt: skip
        assert (code, err) == (0, "")
        with h5py.File(saved) as file:
            arrays = sum(dataset.id.get_storage_size() for dataset in file["weights"].values())
            code = sum(dataset.nbytes for dataset in file["code"].values())
        assert arrays < 60_965_224 * 4 + (1 << 16)  # as many parameters as AlexNet has, and their checksums
        assert code < 1 << 20
        assert saved.stat().st_size - arrays < 1 << 20
        report = report_on(saved, recording, TOLERANCE, engine="xla")
        assert report.verdict.answer == AGREES, report.verdict.reasons
        assert len(report.layers) == 23
        for path in tmp_path.glob("*.*"):
            path.unlink()


class TestThatAgrees:
    def test_the_demo_with_its_tables(self, demo_port, demo, run):
        code, out, err = run(demo_port, "--against", demo / "reference.h5", "--engine", "xla", "--program-batch", 3)
        assert (code, err) == (0, "")
        assert f"engine     XLA through JAX {jax.__version__}, float32\n" in out
        assert ", TF32 off\n" in out
        assert "top-1 agrees on 10 of 10" in out
        assert "verdict: agrees\n" in out
        (timing,) = [line.split() for line in out.splitlines() if "XLA through JAX   JAX" in line]
        assert timing[0] == "3"
        assert 0 < float(timing[-5]) <= float(timing[-4])

    def test_states_what_ran(self, small):
        report = assert_port(small.port, small.recording, TOLERANCE, engine="xla", device="cpu")
        assert report.device["engine"] == "XLA through JAX"
        assert (report.device["kind"], report.device["dtype"], report.device["tf32"]) == ("cpu", "float32", False)
        assert report.device["versions"]["jax"] == jax.__version__
        assert report.device["versions"]["tensorflow"] == tensorflow1("a test").__version__
        assert all(one.isolated is not None for one in report.layers)

    @pytest.mark.parametrize("form", ["net.ckpt", "net/"])
    def test_a_port_whose_weights_are_variables(self, small, tmp_path, form):
        small.convert().save(f"{tmp_path}/{form}")
        assert_port(tmp_path / form, small.recording, TOLERANCE, engine="xla")


def test_a_drifted_port_s_first_layer_is_named_as_by_tensorflow(drifted, demo, tmp_path, run):
    recording, saved = demo / "reference.h5", tmp_path / "drifted.h5"
    by_tensorflow = report_on(drifted, recording).verdict
    assert (by_tensorflow.first, by_tensorflow.guilty) == ("norm2 (LRN)", ("norm2 (LRN)",))
    by_xla = [
        run(drifted, "--against", recording, "--engine", "xla", "--save-program", saved, "--json", tmp_path / "r.json"),
        run("--program", saved, "--against", recording, "--json", tmp_path / "saved.json"),
    ]
    assert [code for code, _, _ in by_xla] == [1, 1]
    for file in ("r.json", "saved.json"):
        verdict = json.loads((tmp_path / file).read_text())["verdict"]
        assert (verdict["first"], verdict["guilty"]) == (by_tensorflow.first, list(by_tensorflow.guilty))


class TestASavedProgram:
    def test_runs_without_tensorflow_and_protobuf(self, small, root, tmp_path):
        argv = ["--program", small.program, "--against", small.recording, "--tolerance", TOLERANCE, "--device", "cpu",
                "--json", tmp_path / "r.json"]  # fmt: skip
        command = [sys.executable, "-c", WITHOUT_TENSORFLOW, *map(str, argv)]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert "verdict: agrees\n" in done.stdout
        batches = [line.split()[0] for line in done.stdout.splitlines() if "XLA through JAX   JAX" in line]
        assert batches == ["1", "3"]
        timings = json.loads((tmp_path / "r.json").read_text())["timings"]
        assert [(one["batch"], one["runs"]) for one in timings["engines"]] == [(1, 30), (3, 30)]

    def test_gives_the_very_numbers_of_the_port(self, small):
        saved, live = (report_on(path, small.recording, engine="xla") for path in (small.program, small.port))
        assert [(one.layer, one.computed, one.isolated) for one in saved.layers] == [
            (one.layer, one.computed, one.isolated) for one in live.layers
        ]
        assert len(saved.layers) == 5
        assert saved.predictions == live.predictions
        assert saved.port["kind"] == "XLA program of net.pb, frozen graph"

    def test_has_the_same_bytes_again(self, small, tmp_path, run):
        again = tmp_path / "again.h5"
        assert run(small.port, "--against", small.recording, "--engine", "xla", "--save-program", again,
                   "--program-batch", 1, 3)[0] == 0  # fmt: skip
        assert again.read_bytes() == small.program.read_bytes()

    def test_may_be_rounded_to_tf32_when_asked(self, small, run):
        with h5py.File(small.program) as file:
            codes = [dataset[()].tobytes() for dataset in file["code"].values()]
        assert all(proved(code) == code for code in codes)
        texts = [proved(code, tf32=True) for code in codes]
        assert all(isinstance(text, str) and EXACT not in text for text in texts)
        assert any(ROUNDED in text for text in texts)
        code, out, _ = run("--program", small.program, "--against", small.recording, "--tf32")
        assert code == 0
        assert ", TF32 on\n" in out

    def test_that_was_saved_against_samples_judges_no_layer_alone(self, small, tmp_path, run):
        whole, sampled = read_recording(small.recording), tmp_path / "sampled.h5"
        first = whole.run(0)
        parts = {key: some(one) for key, one in first.values.items()}
        write_recording(sampled, whole.facts, [replace(first, values=parts)])
        saved = tmp_path / "program.h5"
        assert run(small.port, "--against", sampled, "--engine", "xla", "--save-program", saved)[0] == 0
        code, out, _ = run("--program", saved, "--against", small.recording, "--json", tmp_path / "r.json")
        assert code == 0
        assert "note: program.h5 was saved against samples: no layer is judged in isolation\n" in out
        layers = json.loads((tmp_path / "r.json").read_text())["layers"]
        why = "its program was not saved, as only samples of its bottoms were known"
        assert [(one["isolated"], one["why_not"]) for one in layers] == [(None, why)] * 5


class TestRefuses:
    def test_a_gpu_where_there_is_none(self, small, run):
        if any(device.platform != "cpu" for device in jax.devices()):
            pytest.skip("there is a GPU here")
        for device in ("gpu", "gpu:1"):
            expected = f"--device {device}: JAX {jax.__version__} sees no GPU here; try --device cpu\n"
            assert run("--program", small.program, "--against", small.recording, "--device", device) == (
                2,
                "",
                expected,
            )

    @pytest.mark.parametrize(("arguments", "reason"), [
        (("{port}", "--program", "{program}", "--against", "{reference}"),
         "--program {program}: takes the place of PORT; leave out PORT"),
        (("--against", "{reference}"), "say which port: PORT, or --program FILE; --help shows more"),
        (("{port}", "--against", "{reference}", "--save-program", "x.h5"), "--save-program: needs --engine xla"),
        (("{port}", "--against", "{reference}", "--program-batch", "3"), "--program-batch: needs --engine xla"),
        (("{port}", "--against", "{reference}", "--engine", "xla", "--save-program", "no/x.h5"),
         "no/x.h5: the folder no does not exist; make it first"),
        (("--program", "{program}", "--against", "{reference}", "--map", "fc7=x"),
         "{program}: its tensors were matched when it was saved; --map, --input, --output and --feed are of no use "
         "now"),
        (("--program", "{reference}", "--against", "{reference}"),
         "{reference}: is HDF5, but no program; make one with python -m tools.validate PORT --against recording.h5 "
         "--engine xla --save-program FILE"),
        (("--program", "none.h5", "--against", "{reference}"), "none.h5: no such file"),
        (("--program", "{program}", "--against", "{reference}", "--program-batch", "7"),
         "{program}: has no program from data:0 to p:0 for 7 pictures at once, only for 1, 2, 3; save it again against "
         "this recording"),
    ])  # fmt: skip
    def test_what_does_not_go_together(self, small, run, arguments, reason):
        names = {"port": small.port, "program": small.program, "reference": small.recording}
        code, _, err = run(*(argument.format(**names) for argument in arguments), "--quiet")
        assert (code, err) == (2, reason.format(**names) + "\n")

    def test_a_program_of_another_network(self, small, demo, run):
        code, out, err = run("--program", small.program, "--against", demo / "reference.h5")
        assert (code, out) == (2, "")
        assert err == (
            f"reference.h5: is of another network than {small.program} is a program of: its inputs are "
            "{'data': [-1, 1, 32, 32]}, the program's {'data': [-1, 3, 6, 6]}\n"
        )

    def test_a_program_of_other_layers(self, small, tmp_path, run):
        recording = read_recording(small.recording)
        layers = tuple(replace(one, type="TanH" if one.type == "ReLU" else one.type) for one in recording.facts.layers)
        write_recording(tmp_path / "other.h5", replace(recording.facts, layers=layers), [recording.run(0)])
        assert run("--program", small.program, "--against", tmp_path / "other.h5") == (
            2, "", f"other.h5: is of another network than {small.program} is a program of: the program has no layer r "
            "(TanH) that reads and makes the same\n",
        )  # fmt: skip

    def test_a_recording_of_other_batches(self, small, tmp_path, run):
        recording = read_recording(small.recording)
        first = recording.run(0)
        inputs = {blob: np.resize(array, (5, *array.shape[1:])) for blob, array in first.inputs.items()}
        values = {key: whole(np.resize(one.values, (5, *one.shape[1:]))) for key, one in first.values.items()}
        write_recording(tmp_path / "five.h5", recording.facts, [replace(first, inputs=inputs, values=values)])
        code, out, err = run("--program", small.program, "--against", tmp_path / "five.h5")
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.endswith(" for 5 pictures at once, only for 1, 2, 3; save it again against this recording\n")

    @pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.95])
    def test_a_truncated_file(self, small, tmp_path, run, share):
        path, content = tmp_path / "program.h5", small.program.read_bytes()
        path.write_bytes(content[: 7 + int(share * len(content))])
        code, out, err = run("--program", path, "--against", small.recording)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith(f"{path}: is no ")

    @pytest.mark.parametrize("what", ["code", "short", "shape", "missing", "link", "facts", "dtype", "weights"])
    def test_a_hostile_file(self, small, tmp_path, capfd, what):
        path = tmp_path / "program.h5"
        shutil.copy(small.program, path)
        spoil(path, what)
        code = validate.main(["--program", str(path), "--against", str(small.recording)])
        out, err = capfd.readouterr()  # what native code says too
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith(f"{path}: ")

    def test_a_program_that_reaches_out_of_itself(self):
        from jax.extend.mlir.dialects import stablehlo

        text = """module { func.func public @main(%x: tensor<3xf32>) -> tensor<3xf32> {
            %y = stablehlo.custom_call @xla_ffi_python_cpu_callback(%x) : (tensor<3xf32>) -> tensor<3xf32>
            return %y : tensor<3xf32> } }"""
        code = stablehlo.serialize_portable_artifact_str(text, stablehlo.get_minimum_version())
        with pytest.raises(Refused, match="reaches out of it: xla_ffi_python_cpu_callback"):
            proved(code)

    def test_products_that_may_be_rounded(self):
        from jax.extend.mlir.dialects import stablehlo

        text = """module { func.func public @main(%x: tensor<3x5xf32>, %y: tensor<5x7xf32>) -> tensor<3x7xf32> {
            %z = stablehlo.dot_general %x, %y, contracting_dims = [1] x [0]
                : (tensor<3x5xf32>, tensor<5x7xf32>) -> tensor<3x7xf32>
            return %z : tensor<3x7xf32> } }"""
        code = stablehlo.serialize_portable_artifact_str(text, stablehlo.get_minimum_version())
        with pytest.raises(Refused, match="products that may be rounded to TF32"):
            proved(code)


class TestWhatXlaLacks:
    def test_layers_whose_result_has_any_size(self, tmp_path, rng, run):
        text = """
            layer { name: "loc" type: "Input" top: "loc" input_param { shape { dim: 1 dim: 52 } } }
            layer { name: "conf" type: "Input" top: "conf" input_param { shape { dim: 1 dim: 39 } } }
            layer { name: "priors" type: "Input" top: "priors" input_param { shape { dim: 1 dim: 2 dim: 52 } } }
            layer { name: "found" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "priors" top: "found"
              detection_output_param { num_classes: 3 nms_param { nms_threshold: 0.45 } keep_top_k: 5
                confidence_threshold: 0.1 } }"""
        (tmp_path / "ssd.prototxt").write_text(text)
        port = convert(tmp_path / "ssd.prototxt")
        port.save(tmp_path / "ssd.pb")
        engine = Reference(port)
        facts = facts_of(port, engine, Preprocessing())
        corners = np.sort(rng.uniform(0, 1, (13, 2, 2)), axis=1).reshape(13, 4)
        priors = np.stack([corners.reshape(-1), np.full(52, 0.1)])[None]
        inputs = {"loc": rng.normal(0, 0.1, (1, 52)), "conf": rng.uniform(0, 1, (1, 39)), "priors": priors}
        pictures = (Picture("a", "0" * 64),)
        fed = {blob: array.astype(np.float32) for blob, array in inputs.items()}
        write_recording(tmp_path / "r.h5", facts, [computed(facts, engine, 0, fed, pictures)])
        assert report_on(tmp_path / "ssd.pb", tmp_path / "r.h5").verdict.answer == AGREES
        assert run(tmp_path / "ssd.pb", "--against", tmp_path / "r.h5", "--engine", "xla") == (
            2, "", f"{tmp_path / 'ssd.pb'}: its results have shapes that depend on the values; run it with --engine "
            "tensorflow\n",
        )  # fmt: skip

    def test_python_in_a_graph(self, golden, tmp_path, caffe_recording, capfd):
        folder = golden / "relu"
        port = convert(folder / "net.prototxt")
        numbers = np.load(folder / "reference.npz")
        (blob,) = port.network.inputs
        caffe_recording(port, numbers, {blob: numbers[f"input/{blob}"]}, tmp_path / "r.h5")
        (layer,) = read_recording(tmp_path / "r.h5").facts.layers
        tf = tensorflow1("a test")
        with tf.Graph().as_default() as graph:
            shape = numbers[f"input/{blob}"].shape
            data = tf.placeholder(tf.float32, [None, *shape[2:], shape[1]], name="data")
            made = tf.numpy_function(lambda x: np.maximum(x, 0), [data], tf.float32, name="python")
            tf.identity(tf.ensure_shape(made, data.shape), name=layer.name)
        (tmp_path / "python.pb").write_bytes(graph.as_graph_def().SerializeToString())
        arguments = [tmp_path / "python.pb", "--against", tmp_path / "r.h5", "--engine", "xla", "--trust"]
        code = validate.main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()  # what native code says too
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "XLA has no form of it: it has no operation PyFunc ('python')" in err


def some(value: Value) -> Value:
    """Returns three values in the place of a whole blob."""
    index = np.array([2, 3, 5])
    return Value(value.shape, value.values.reshape(-1)[index], index, value.statistics)


def spoil(path: Path, what: str) -> None:
    """Changes a program file in one respect."""
    with h5py.File(path, "r+") as file:
        facts = file["facts"][()].tobytes()

        def put(name: str, content: object) -> None:
            del file[name]
            file[name] = content

        if what == "code":  # no program at all
            for name in list(file["code"]):
                put(f"code/{name}", np.frombuffer(b"ML\xefR\x01StableHLO_v0.9.0\x00" * 5, np.uint8))
        elif what == "short":
            for name in list(file["code"]):
                put(f"code/{name}", file[f"code/{name}"][:-31])
        elif what == "shape":
            put("weights/0", np.zeros((3, 5), np.float32))
        elif what == "missing":
            del file["weights/0"]
        elif what == "link":
            del file["weights/0"]
            file["weights/0"] = h5py.ExternalLink("elsewhere.h5", "x")
        elif what == "facts":
            put("facts", np.frombuffer(facts[:-9], np.uint8))
        elif what == "dtype":
            put("facts", np.frombuffer(facts.replace(b'"float32"', b'"complex64"'), np.uint8))
        else:  # the programs take fewer weights than they say
            stated = json.loads(facts)
            for one in stated["programs"]:
                one["weights"] = []
            put("facts", np.frombuffer(json.dumps(stated).encode(), np.uint8))
