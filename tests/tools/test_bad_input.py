"""What recording and validating do with files that are not what they should be: one line, exit 2, nothing written."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from converter import convert
from graphs.tensorflow1 import tensorflow1
from tools.record import __main__ as record
from tools.recording_file import FORM, read_recording
from tools.validate import __main__ as validate
from tools.validate.trust import check_trust
from weights import Refused

Image = pytest.importorskip("PIL.Image")

Run = Callable[..., tuple[int, str, str]]


def runner(capsys: pytest.CaptureFixture, main: Callable[[list[str]], int]) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def validated(capsys) -> Run:
    return runner(capsys, validate.main)


@pytest.fixture
def recorded(capsys) -> Run:
    return runner(capsys, record.main)


@pytest.fixture
def net(demo: Path) -> tuple[Path, Path]:
    return demo / "digits.prototxt", demo / "digits.caffemodel"


@pytest.fixture
def reference(demo: Path, tmp_path: Path) -> Path:
    """A copy of the demo's recording, alone in its folder."""
    (tmp_path / "r").mkdir()
    return Path(shutil.copy(demo / "reference.h5", tmp_path / "r" / "reference.h5"))


class TestRecording:
    @pytest.mark.parametrize("version", [FORM.format - 1, FORM.format + 1])
    def test_of_another_version(self, demo_port, reference, validated, version):
        with h5py.File(reference, "a") as file:
            file.attrs["format"] = version
        assert validated(demo_port, "--against", reference) == (
            2, "", f"{reference}: is of recording format {version}, this reads format {FORM.format}; record it again\n",
        )  # fmt: skip

    @pytest.mark.parametrize("percent", range(0, 100, 2))
    def test_that_is_cut_short(self, reference, percent):
        data = reference.read_bytes()
        reference.write_bytes(data[: len(data) * percent // 100])
        with pytest.raises(Refused) as refused:
            list(read_recording(reference).runs())
        (reason,) = refused.value.reasons
        what = "is no whole recording: " if percent else "is no recording; "
        assert reason.startswith(f"{reference}: {what}")

    @pytest.mark.parametrize("percent", [1, 50, 99])
    def test_that_is_cut_short_ends_the_command(self, demo_port, reference, validated, percent):
        data = reference.read_bytes()
        reference.write_bytes(data[: len(data) * percent // 100])
        code, out, err = validated(demo_port, "--against", reference, "--json", reference.with_name("r.json"))
        assert (code, out) == (2, "")
        assert err.startswith(f"{reference}: is no whole recording: ")
        assert err.count("\n") == 1
        assert [path.name for path in reference.parent.iterdir()] == ["reference.h5"]

    def test_that_is_a_folder_or_of_another_kind(self, demo_port, tmp_path, validated):
        assert validated(demo_port, "--against", tmp_path) == (
            2, "", f"{tmp_path}: is a folder; name a recording, which python -m tools.record makes\n",
        )  # fmt: skip
        np.savez(tmp_path / "a.npz", a=np.zeros(3))
        (tmp_path / "a.txt").write_text("text")
        (tmp_path / "empty.h5").touch()
        for name in ("a.npz", "a.txt", "empty.h5"):
            path = tmp_path / name
            assert validated(demo_port, "--against", path) == (
                2, "", f"{path}: is no recording; make one with python -m tools.record\n",
            )  # fmt: skip


class TestPort:
    @pytest.mark.parametrize("percent", range(2, 100, 7))
    def test_that_is_cut_short(self, demo, demo_port, tmp_path, validated, percent):
        data = demo_port.read_bytes()
        path = tmp_path / "cut.pb"
        path.write_bytes(data[: len(data) * percent // 100])
        code, out, err = validated(path, "--against", demo / "reference.h5")
        assert (code, out, err) == (2, "", f"{path}: is no frozen graph: it does not decode as a GraphDef\n")

    def test_that_ends_between_two_nodes(self, demo, demo_port, tmp_path, validated):
        tf = tensorflow1("the tests")
        definition = tf.GraphDef.FromString(demo_port.read_bytes())
        del definition.node[-3:]
        path = tmp_path / "cut.pb"
        path.write_bytes(definition.SerializeToString())
        code, out, err = validated(path, "--against", demo / "reference.h5", "--quiet")
        reason = "layer fc8 (InnerProduct) has no tensor in the port; say --map fc8=TENSOR"
        assert (code, out, err) == (2, f"verdict: incomplete: {reason}\n", "")
        shutil.copy(f"{demo_port}.json", f"{path}.json")
        code, out, err = validated(path, "--against", demo / "reference.h5", "--quiet")
        assert (code, out) == (2, "")
        what = "has no tensor 'fc8:0', which its manifest names: it is cut short, or the manifest is another's"
        assert err == f"{path}: {what}\n"

    def test_with_two_inputs_where_one_is_fed(self, demo, tmp_path, validated):
        tf = tensorflow1("the tests")
        with tf.Graph().as_default() as graph:
            one, other = (tf.placeholder(tf.float32, [None, 28, 28, 1], name=name) for name in ("one", "other"))
            tf.nn.softmax(tf.reshape(one + other, [-1, 784])[:, :10], name="prob")
            path = tmp_path / "two.pb"
            path.write_bytes(graph.as_graph_def().SerializeToString())
        (shape,) = read_recording(demo / "reference.h5").facts.inputs.values()
        spelled = "x".join(map(str, shape[1:]))
        code, out, err = validated(path, "--against", demo / "reference.h5")
        assert (code, out) == (2, "")
        assert err.startswith(f"{path}: ")
        assert err.count("\n") == 1
        assert spelled in err
        assert "say --input TENSOR" in err

    def test_every_operation_that_names_a_file_is_refused(self):
        """Those of this very TensorFlow."""
        tf = tensorflow1("the tests")
        from tensorflow.python.framework import op_def_registry

        found = []
        for name in filter(str.isidentifier, dir(tf.raw_ops)):
            definition = op_def_registry.get(name)
            if definition is None:
                continue
            words = {one.name for one in [*definition.input_arg, *definition.attr]}
            if any("file" in word or word in ("memory_region_name", "token") for word in words) or "PyFunc" in name:
                found.append(name)
                with pytest.raises(Refused, match=rf"holds operations that touch files.*: {name} \('sly'\)"):
                    check_trust(tf.GraphDef(node=[tf.NodeDef(name="sly", op=name)]))
        assert {"ReadFile", "WriteFile", "PyFunc", "EagerPyFunc", "ImmutableConst"} <= set(found)

    def test_that_changed_since_the_command_was_interrupted_is_compared_from_the_start(
        self, demo, demo_port, tmp_path, validated, monkeypatch
    ):
        from tools.validate import running

        port = tmp_path / "digits.pb"
        for ending in ("", ".json"):
            shutil.copy(f"{demo_port}{ending}", f"{port}{ending}")
        original, calls = running.compare_run, []

        def interrupted(*arguments):
            calls.append(arguments[2].number)
            if len(calls) == 2:
                raise KeyboardInterrupt
            return original(*arguments)

        monkeypatch.setattr(running, "compare_run", interrupted)
        arguments = (port, "--against", demo / "reference.h5", "--json", tmp_path / "r.json", "--quiet")
        assert validated(*arguments) == (2, "", "interrupted\n")
        port.write_bytes(port.read_bytes() + b"\x22\x02\x08\x0c")  # versions { producer: 12 }, again
        assert validated(*arguments) == (0, "verdict: agrees\n", "")
        assert calls == [0, 1, 0, 1]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["digits.pb", "digits.pb.json", "r.json"]


class TestOutput:
    def test_that_would_replace_an_input(self, net, demo_port, reference, recorded, validated):
        after = ": is read by this command, and would be replaced; name another file to write\n"
        folder = reference.parent
        own = [Path(shutil.copy(path, folder)) for path in (*net, demo_port, f"{demo_port}.json")]
        before = {path: path.read_bytes() for path in folder.iterdir()}
        for path in own[:2]:
            assert recorded(*own[:2], "--images", folder, "-o", path) == (2, "", f"{path}{after}")
        for path in (reference, own[2], own[3]):
            assert validated(own[2], "--against", reference, "--json", path) == (2, "", f"{path}{after}")
        assert {path: path.read_bytes() for path in folder.iterdir()} == before

    def test_that_are_two_in_one_file(self, demo_port, reference, validated):
        path = reference.with_name("r")
        assert validated(demo_port, "--against", reference, "--json", path, "--junit", path) == (
            2, "", f"{path}: two reports can't be one file; name another for --json\n",
        )  # fmt: skip

    def test_in_a_folder_that_can_t_be_written_to(self, net, demo, demo_port, recorded, validated):
        if not Path("/proc").is_dir():
            pytest.skip("needs a folder that not even root writes to")
        why = ": can't be written, as nothing can be made in /proc (No such file or directory); name another folder\n"
        assert validated(demo_port, "--against", demo / "reference.h5", "--json", "/proc/r.json") == (
            2, "", f"/proc/r.json{why}",
        )  # fmt: skip
        assert recorded(*net, "--images", demo / "pictures", "-o", "/proc/r.h5") == (2, "", f"/proc/r.h5{why}")

    def test_in_a_folder_that_is_not_there(self, net, demo, demo_port, tmp_path, recorded, validated):
        path = tmp_path / "no" / "r"
        expected = f"{path}: the folder {path.parent} does not exist; make it first\n"
        assert validated(demo_port, "--against", demo / "reference.h5", "--junit", path) == (2, "", expected)
        assert recorded(*net, "--images", demo / "pictures", "-o", path) == (2, "", expected)


class TestPictures:
    @pytest.fixture
    def folder(self, demo, tmp_path) -> Path:
        """Two pictures, a text, a text that pretends, an empty file, a link to nowhere, a folder, a pipe."""
        folder = tmp_path / "mixed"
        (folder / "inner.png").mkdir(parents=True)
        for digit in (1, 2):
            shutil.copy(demo / "pictures" / f"digit-{digit}.png", folder)
        (folder / "notes.txt").write_text("text")
        (folder / "text.png").write_text("text")
        (folder / "empty.jpg").touch()
        (folder / "gone.png").symlink_to("nowhere")
        os.mkfifo(folder / "pipe.png")
        return folder

    def test_of_a_folder_that_holds_all_sorts(self, net, folder, tmp_path, recorded):
        out = tmp_path / "r.h5"
        code, said, err = recorded(*net, "--images", folder, "-o", out)
        assert code == 0
        assert said.startswith(f"{out}: 0.1 MiB, 2 pictures, all of them whole")
        assert err.splitlines() == [
            f"note: {folder}: 1 file is passed over, being no pictures",
            "note: empty.jpg: is empty; left out",
            "note: gone.png: No such file or directory; left out",
            "note: text.png: is no picture that Pillow can read; left out",
            "note: 3 of 5 pictures can't be read and were left out",
        ]

    def test_that_are_broken_are_told_and_counted_in_a_report(self, net, demo_port, folder, validated):
        code, out, err = validated(demo_port, *net, "--images", folder)
        assert code == 0
        assert len(err.splitlines()) == 4
        assert "pictures   2, 3 left out that can't be read" in out

    def test_that_are_all_broken_are_no_pass(self, net, demo_port, folder, validated):
        code, out, err = validated(demo_port, *net, "--images", folder / "empty.jpg", "--quiet")
        assert (code, out, err) == (
            2, "verdict: incomplete: nothing was compared\n", "note: empty.jpg: is empty; left out\n",
        )  # fmt: skip

    def test_of_the_same_name(self, net, folder, tmp_path, recorded):
        one, other = tmp_path / "one", tmp_path / "other"
        for place, digit in ((one, 1), (other, 2)):
            place.mkdir()
            shutil.copy(folder / f"digit-{digit}.png", place / "digit.png")
        code, _, err = recorded(*net, "--images", one, other, one / "digit.png", "-o", tmp_path / "r.h5")
        assert (code, err) == (0, f"note: {one / 'digit.png'}: named twice, read once\n")
        names = [picture.name for picture in read_recording(tmp_path / "r.h5").pictures]
        assert names == [str(one / "digit.png"), str(other / "digit.png")]

    def test_of_an_array_without_any(self, net, tmp_path, recorded):
        path = tmp_path / "x.npy"
        np.save(path, np.zeros((0, 1, 28, 28), np.uint8))
        assert recorded(*net, "--images", path, "-o", tmp_path / "r.h5") == (2, "", f"{path}: holds 0 pictures\n")
        assert [one.name for one in tmp_path.iterdir()] == ["x.npy"]

    @pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
    def test_that_are_animated(self, net, tmp_path, recorded, kind):
        frames = [Image.fromarray(np.full((28, 28), value, np.uint8)) for value in (10, 90, 250)]
        path = tmp_path / "moving"
        frames[0].save(path, kind, save_all=True, append_images=frames[1:])
        code, _, err = recorded(*net, "--images", path, "-o", tmp_path / "r.h5")
        reason = "moving: is animated (3 frames); Caffe reads still pictures: save the one that is meant"
        assert code == 2
        assert err.splitlines() == [f"note: {reason}; left out", reason, "none of the 1 pictures can be read"]

    def test_with_a_preview_behind_them_as_cameras_write_them(self, net, tmp_path, recorded):
        large, small = (Image.fromarray(np.full((side, side), side, np.uint8)) for side in (28, 7))
        large.save(tmp_path / "camera.jpg", "MPO", save_all=True, append_images=[small])
        assert recorded(*net, "--images", tmp_path / "camera.jpg", "-o", tmp_path / "r.h5")[0] == 0
        (fed,) = read_recording(tmp_path / "r.h5").run(0).inputs.values()
        assert abs(float(fed.mean()) * 256 - 28) < 1

    def test_with_transparency(self, shared, tmp_path, recorded):
        """weasel.png and poodle.png are such."""
        definition = tmp_path / "net.prototxt"
        definition.write_text(
            'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 97 dim: 89 } } }'
            'layer { name: "pool" type: "Pooling" bottom: "data" top: "pool" pooling_param { kernel_size: 3 } }'
        )
        pictures = [shared / "images" / name for name in ("weasel.png", "poodle.png")]
        assert all("A" in Image.open(path).mode for path in pictures)
        assert recorded(definition, "--images", *pictures, "-o", tmp_path / "r.h5")[0] == 0
        assert len(read_recording(tmp_path / "r.h5").pictures) == 2

    def test_of_a_hundred_megapixels_take_no_memory(self, root, tmp_path):
        """They are left out by their headers; those that are just small enough are read within bounds."""
        held = io.BytesIO()
        Image.new("L", (10_000, 10_000)).save(held, "PNG")
        (tmp_path / "large.png").write_bytes(held.getvalue())
        program = (
            "import resource, sys\nfrom tools.record.decoding import decode\nfrom weights import Refused\n"
            "import PIL.Image\nbefore = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            "try:\n    decode(open(sys.argv[1], 'rb').read(), 3)\nexcept Refused as refused:\n    print(refused)\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
        )
        command = [sys.executable, "-c", program, str(tmp_path / "large.png")]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
        reason, kilobytes = done.stdout.splitlines()
        assert reason == "has 100.0 million pixels; at most 64 million are read: make it smaller"
        assert int(kilobytes) < 20_000


def test_a_mean_that_changed_since_a_recording_was_interrupted_starts_it_anew(
    demo, net, tmp_path, recorded, monkeypatch
):
    from tools.record import engines

    original, calls = engines.Reference.run, []

    def counted(self, inputs):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self, inputs)

    monkeypatch.setattr(engines.Reference, "run", counted)
    arguments = (*net, "--images", demo / "pictures", "--batch", 2, "-o", tmp_path / "r.h5", "--mean")
    assert recorded(*arguments, 3) == (2, "", "interrupted\n")
    assert recorded(*arguments, 5)[0] == 0
    assert len(calls) == 3 + 5
    inputs = [run.inputs["data"] for run in read_recording(tmp_path / "r.h5").runs()]
    assert min(float(one.min()) for one in inputs) == -5 / 256


def test_a_source_that_is_not_there(demo, tmp_path, recorded):
    convert(demo / "digits.prototxt")
    path = tmp_path / "none.caffemodel"
    code, out, err = recorded(demo / "digits.prototxt", path, "--images", demo / "pictures", "-o", tmp_path / "r.h5")
    assert (code, out) == (2, "")
    assert err.startswith(f"{path}: ")
    assert not list(tmp_path.iterdir())
