"""Whatever is given, the answer is short lines that say what to do, exit code 2, and no file left behind.

Where damage leaves something readable (a flipped bit within a weight), a result is right too; a traceback never is.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from converter.__main__ import main

DATA = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 11 dim: 13 } } }\n'
LONGEST = 600


def layer(name: str, type_name: str, parameters: str = "", bottom: str = "data") -> str:
    return f'layer {{ name: "{name}" type: "{type_name}" bottom: "{bottom}" top: "{name}" {parameters} }}\n'


def field(number: int, payload: bytes) -> bytes:
    """Returns a length-delimited field as protobuf has it; written out here, so that it shares no code with readers."""
    return number_on_the_wire(number << 3 | 2) + number_on_the_wire(len(payload)) + payload


def number_on_the_wire(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value % 128 + 128])
        value //= 128
    return out + bytes([value])


def caffemodel(name: str, *blobs: bytes) -> bytes:
    return field(1, b"net") + field(100, field(1, name.encode()) + b"".join(field(7, blob) for blob in blobs))


def blob(dims: tuple[int, ...], values: bytes) -> bytes:
    return field(7, field(1, b"".join(map(number_on_the_wire, dims)))) + field(5, values)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one, so that messages name files shortly."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def write(here: Path) -> Callable[[str, str | bytes], str]:
    def write(name: str, content: str | bytes) -> str:
        (here / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return name

    return write


@pytest.fixture
def run(here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, list[str]]]:
    """Returns a function that runs the command line: its exit code and the lines on stderr.

    Holds for every run: each line is short, nothing looks like a traceback, and a refusal leaves the folder as it was.
    """

    def run(*argv: str) -> tuple[int, list[str]]:
        before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
        code = main(argv)
        lines = capsys.readouterr().err.splitlines()
        assert code in (0, 2)
        assert all(0 < len(line) <= LONGEST + 100 for line in lines), lines
        assert "Traceback" not in "\n".join(lines)
        if code == 2:
            assert lines
            assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before
        return code, lines

    return run


@pytest.fixture
def refusal(run) -> Callable[..., list[str]]:
    """Returns a function that runs the command line, which must refuse, and returns why."""

    def refusal(*argv: str) -> list[str]:
        code, lines = run(*argv)
        assert code == 2
        return lines

    return refusal


@pytest.fixture
def net(here: Path, golden: Path) -> tuple[str, str]:
    """A definition and its weights in the current folder."""
    for name in ("net.prototxt", "weights.caffemodel"):
        (here / name).write_bytes((golden / "mini_alexnet" / name).read_bytes())
    return "net.prototxt", "weights.caffemodel"


class TestFiles:
    def test_missing_ones_are_all_named(self, refusal):
        assert refusal("nope.prototxt", "nope.caffemodel") == [
            "nope.prototxt: no such file",
            "nope.caffemodel: no such file",
        ]

    def test_empty(self, refusal, write):
        assert refusal(write("net.prototxt", "")) == ["net.prototxt: is empty"]

    def test_folder(self, refusal, here):
        (here / "model").mkdir()
        assert refusal("model") == ["model: is a folder; give a .prototxt and a .caffemodel"]

    def test_a_path_that_no_system_accepts(self, refusal):
        assert refusal("a\0b") == [r"a\x00b: no such file"]

    @pytest.mark.parametrize(
        "start", [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a"], ids=["png", "jpeg", "gif"]
    )
    def test_picture(self, refusal, write, start):
        lines = refusal(write("cat.prototxt", start + bytes(range(256))))
        assert lines == ["cat.prototxt: is a picture; give a .prototxt and a .caffemodel"]

    def test_hdf5_of_nothing(self, refusal, write, net):
        lines = refusal(net[0], write("weights.h5", b"\x89HDF\r\n\x1a\n" + bytes(100)), "-o", "out.npz")
        assert len(lines) == 1
        assert lines[0].startswith("weights.h5: ")
        assert "HDF5" in lines[0]

    def test_git_lfs_pointer(self, refusal, write, net):
        pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 243862414\n"
        lines = refusal(net[0], write("w.caffemodel", pointer))
        assert lines == [
            "w.caffemodel: is a Git LFS pointer, not the file itself; run 'git lfs pull' where it came from"
        ]

    def test_weights_twice(self, refusal, net):
        assert refusal(*net, net[1]) == ["weights.caffemodel and weights.caffemodel: both are weights; give one"]

    def test_weights_without_a_definition(self, refusal, write):
        # Some carry the definition that they were trained with; this one has names and numbers alone.
        lines = refusal(write("w.caffemodel", caffemodel("c", blob((5,), bytes(20)))), "-o", "out.pb")
        assert lines == ["w.caffemodel: holds weights without a definition; give the net's .prototxt too"]

    def test_definition_without_weights(self, refusal, net):
        assert refusal(net[0], "-o", "out.pb") == ["out.pb: needs weights; give the net's .caffemodel too"]


class TestOutputs:
    def test_folder_that_does_not_exist(self, refusal, net):
        lines = refusal(*net, "-o", "nowhere/out.pb")
        assert lines == ["nowhere/out.pb: the folder nowhere does not exist; make it first"]

    @pytest.mark.parametrize(("name", "ending"), [("out.onnx", ".onnx"), ("out", "")])
    def test_unknown_ending(self, refusal, net, name, ending):
        (line,) = refusal(*net, "-o", name)
        assert line.startswith(f"{name}: unknown ending '{ending}'; expected one of .pb, .ckpt, ")

    def test_folder_of_that_name(self, refusal, net, here):
        (here / "out.pb").mkdir()
        assert refusal(*net, "-o", "out.pb") == ["out.pb: is a folder; name a file, or end it in / for a SavedModel"]

    def test_folder_with_other_things_is_not_replaced_by_a_saved_model(self, refusal, net, write, here):
        (here / "models").mkdir()
        write("models/thesis.tex", "years of work")
        lines = refusal(*net, "-o", "models/")
        assert lines == ["models: holds thesis.tex, which a SavedModel would replace; name another folder"]

    def test_saved_model_replaces_an_older_one(self, run, net, here):
        assert run(*net, "-o", "model/") == (0, [])
        (here / "model" / "saved_model.pb").write_bytes(b"older")
        assert run(*net, "-o", "model/") == (0, [])
        assert (here / "model" / "saved_model.pb").stat().st_size > 5

    @pytest.mark.parametrize("path", ["./", "../"])
    def test_saved_model_without_a_folder_of_its_own(self, refusal, net, path):
        (line,) = refusal(*net, "-o", path)
        assert line.endswith(": a SavedModel needs a folder of its own; name one, such as model/")

    def test_saved_model_in_place_of_a_file(self, refusal, net):
        assert refusal(*net, "-o", "net.prototxt/") == [
            "net.prototxt: is a file; name another folder for the SavedModel"
        ]

    def test_nothing_is_written_where_one_of_several_outputs_is_refused(self, refusal, net):
        (line,) = refusal(*net, "-o", "fine.npz", "-o", "out.onnx")
        assert line.startswith("out.onnx: ")

    @pytest.mark.parametrize(
        ("ending", "limit"),
        [
            (".npz", 9999),
            (".caffemodel", 9999),
            (".npy", 9999),
            (".safetensors", 9999),
            (".h5", 9999),
            (".prototxt", 1000),
            (".py", 1000),
            (".pb", 9999),
            (".ckpt", 50_000),  # enough for Python's write of the graph; TensorFlow's of the numbers fails
        ],
    )
    def test_full_disk_leaves_no_file_and_the_older_one_whole(self, net, here, root, ending, limit):
        # A limit on the size of a file stands for the disk: the system call fails in the same place.
        program = (
            "import resource, sys\n"
            "from converter.__main__ import main\n"
            f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
            "sys.exit(main(sys.argv[1:]))\n"
        )
        older = here / ("out" + ending)
        older.write_text("older")
        before = sorted(path.name for path in here.iterdir())
        done = subprocess.run(
            [sys.executable, "-c", program, *(str(here / name) for name in net), "-o", str(older)],
            cwd=root,
            capture_output=True,
            text=True,
        )
        lines = done.stderr.splitlines()
        assert (done.returncode, len(lines)) == (2, 1), done.stderr
        (line,) = lines
        assert line.startswith(f"{older}: could not be written: ")
        assert "File too large" in line
        assert older.read_text() == "older"
        assert sorted(path.name for path in here.iterdir()) == before


class TestDefinitions:
    def test_solver(self, refusal, write):
        lines = refusal(write("solver.prototxt", 'net: "train_val.prototxt"\nbase_lr: 0.01\nmax_iter: 9\n'))
        assert lines == [
            "solver.prototxt: is a solver's definition, not a network's; "
            "give the definition that it names, train_val.prototxt"
        ]

    def test_lenets_solver(self, refusal, shared):
        path = shared / "models" / "lenet" / "lenet_solver.prototxt"
        (line,) = refusal(str(path))
        assert line.startswith(f"{path}: is a solver's definition, not a network's; ")
        assert line.endswith("examples/mnist/lenet_train_test.prototxt")

    def test_every_unknown_type_with_its_layers(self, refusal, write):
        types = ["Foo", "Bar", "Foo", "Foo", "Foo", "Foo"]
        text = DATA + "".join(layer(f"u{index}", type_name) for index, type_name in enumerate(types))
        assert refusal(write("net.prototxt", text)) == [
            "net.prototxt: layer 'u0', 'u2', 'u3' and 2 more: type Foo is not supported; register a definition of it "
            "(graphs.layer), or take the layer out",
            "net.prototxt: layer 'u1': type Bar is not supported; register a definition of it (graphs.layer), or take "
            "the layer out",
        ]

    def test_no_type(self, refusal, write):
        lines = refusal(write("net.prototxt", DATA + 'layer { name: "x" bottom: "data" top: "x" }'))
        assert lines == ["net.prototxt: layer 'x': type (none) is not supported"]

    def test_misspelled_field_is_named_with_its_line(self, refusal, write):
        lines = refusal(write("net.prototxt", DATA + layer("y", "ReLU", "relu_parm { negative_slope: 1 }")))
        assert lines == [
            "net.prototxt: line 2, column 56: LayerParameter has no field 'relu_parm'; mend its spelling or take it out"
        ]

    def test_no_layers(self, refusal, write):
        lines = refusal(write("net.prototxt", 'name: "x"'))
        assert lines == ["net.prototxt: holds no layers; expected a network definition (layer { ... })"]

    @pytest.mark.parametrize("text", ["hello world", '{"layers": []}', "<!DOCTYPE html>\n<html>", "layer {" * 9999])
    def test_text_of_another_kind(self, refusal, write, text):
        (line,) = refusal(write("net.prototxt", text))
        assert line.startswith("net.prototxt: line 1, column ")

    def test_bottom_that_nobody_makes(self, refusal, write):
        lines = refusal(write("net.prototxt", DATA + layer("y", "ReLU", bottom="dta")))
        assert len(lines) == 1
        assert lines[0].startswith("net.prototxt: layer 'y' (ReLU): bottom 'dta' is made by no layer")

    def test_cycle(self, refusal, write):
        lines = refusal(write("net.prototxt", DATA + layer("a", "ReLU", bottom="b") + layer("b", "ReLU", bottom="a")))
        assert lines == [
            "net.prototxt: layer 'a' (ReLU): bottom 'b' is made further down, by layer 'b'; "
            "Caffe runs layers in file order, so this is a cycle or the layers are out of order"
        ]

    def test_pooling_window_larger_than_its_input(self, refusal, write):
        lines = refusal(write("net.prototxt", DATA + layer("p", "Pooling", "pooling_param { kernel_size: 17 }")))
        assert lines == [
            "net.prototxt: layer 'p' (Pooling): window 17x17 with pad 0x0 is larger than its bottom, 2x3x11x13, by "
            "more than Caffe rounds up"
        ]

    def test_even_local_size(self, refusal, write):
        lines = refusal(write("net.prototxt", DATA + layer("norm1", "LRN", "lrn_param { local_size: 4 }")))
        assert lines == ["net.prototxt: layer 'norm1' (LRN): local_size 4 is even; Caffe accepts odd sizes"]

    @pytest.mark.parametrize(
        ("dims", "reason"),
        [
            ("2 dim: -3", "shape 2x-3 has an axis below 1"),
            ("2 dim: 0", "shape 2x0 has an axis below 1"),
            (
                "1099511627776",
                "a blob of shape 1099511627776 has more values than Caffe can count, 2,147,483,647",
            ),
            (
                "1000000000 dim: 1000000000 dim: 1000000000",
                "a blob of shape 1000000000x1000000000x1000000000 has more values than Caffe can count, 2,147,483,647",
            ),
        ],
    )
    def test_sizes_that_are_none(self, refusal, write, dims, reason):
        text = DATA.replace("dim: 2 dim: 3 dim: 11 dim: 13", f"dim: {dims}") + layer("y", "ReLU")
        assert refusal(write("net.prototxt", text)) == [f"net.prototxt: layer 'data' (Input): {reason}"]

    def test_sizes_that_no_machine_has(self, here, root, write):
        # Within what Caffe can count, but nothing may be made that is as long as an axis.
        text = DATA.replace("dim: 2 dim: 3 dim: 11 dim: 13", "dim: 1 dim: 1 dim: 1000000000 dim: 2")
        text += layer("p", "Pooling", "pooling_param { pool: AVE kernel_size: 2 stride: 3 pad: 1 }")
        text += layer("q", "Pooling", "pooling_param { pool: MAX kernel_size: 2 stride: 3 pad: 1 }")
        text += layer("c", "Convolution", "convolution_param { num_output: 1 kernel_size: 3 pad: 1 }")
        write("net.prototxt", text)
        program = (
            "import resource, sys\n"
            "from converter.__main__ import main\n"
            "resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))\n"
            "sys.exit(main(sys.argv[1:]))\n"
        )
        command = [sys.executable, "-c", program, str(here / "net.prototxt")]
        for output in ([], ["-o", str(here / "out.py")], ["-o", str(here / "out.prototxt")]):
            done = subprocess.run([*command, *output], cwd=root, capture_output=True, text=True, timeout=60)
            assert (done.returncode, done.stderr) == (0, "")

    def test_ten_thousand_layers(self, run, write):
        text = DATA + "".join(
            layer(f"r{index}", "ReLU", bottom=f"r{index - 1}" if index else "data") for index in range(10_000)
        )
        code, lines = run(write("net.prototxt", text), "-o", "out.py", "-o", "out.prototxt")
        assert (code, lines) == (0, [])
        compile(Path("out.py").read_text(), "out.py", "exec")

    @pytest.mark.parametrize(
        "damage",
        [
            lambda text: text.replace(b"\n", b"\r\n"),
            lambda text: b"\xef\xbb\xbf" + text,
            lambda text: b"# caf\xe9, \xfc\xff\n" + text,
        ],
        ids=["CRLF", "BOM", "a comment in Latin-1"],
    )
    def test_text_as_other_systems_write_it(self, run, write, net, damage):
        write(net[0], damage(Path(net[0]).read_bytes()))
        assert run(*net, "-o", "out.npz") == (0, [])

    def test_utf16(self, refusal, write):
        (line,) = refusal(write("net.prototxt", (DATA + layer("y", "ReLU")).encode("utf-16")))
        assert line == "net.prototxt: is UTF-16 text; save it as UTF-8"

    def test_names_that_would_break_a_line(self, refusal, write):
        name = r"q\"uo\'te {0} {x} %s\nnew\tline \033[31m"
        lines = refusal(write("net.prototxt", DATA + layer(name, "LRN", "lrn_param { local_size: 4 }")))
        assert lines == [
            r"""net.prototxt: layer 'q"uo'te {0} {x} %s\nnew\tline \x1b[31m' (LRN): """
            "local_size 4 is even; Caffe accepts odd sizes"
        ]

    def test_names_of_any_characters_come_through(self, run, write, capsys):
        name = r"q\"uo\'te {0} {x} %s\nnew\tline \"\"\" \\"
        write("net.prototxt", f'name: "{name}"\n{DATA}{layer(name, "ReLU")}')
        code, lines = run("net.prototxt", "-o", "out.py", "-o", "out.prototxt")
        assert (code, lines) == (0, [])
        compile(Path("out.py").read_text(), "out.py", "exec")
        assert run("out.prototxt") == (0, [])

    def test_a_name_of_a_whole_page(self, refusal, write):
        (line,) = refusal(write("net.prototxt", DATA + layer("x" * 9999, "LRN", "lrn_param { local_size: 4 }")))
        assert line.endswith("(LRN): local_size 4 is even; Caffe accepts odd sizes")

    def test_cut_short_anywhere(self, run, write, net):
        text = Path(net[0]).read_bytes()
        codes = []
        for percent in range(2, 100, 2):
            code, lines = run(write("cut.prototxt", text[: len(text) * percent // 100]), "-o", "out.py")
            assert all(line.startswith("cut.prototxt: ") for line in lines)
            codes.append(code)
        assert codes.count(2) > 40  # only a cut between two layers leaves a definition

    @pytest.mark.parametrize("seed", range(4))
    def test_flipped_bits(self, run, write, net, seed):
        rng = np.random.default_rng(seed)
        for _ in range(50):
            data = bytearray(Path(net[0]).read_bytes())
            data[rng.integers(len(data))] ^= 1 << rng.integers(8)
            _, lines = run(write("flipped.prototxt", bytes(data)), "-o", "out.py")
            assert all("flipped.prototxt: " in line for line in lines)


class TestWeights:
    @pytest.fixture
    def conv(self, write) -> str:
        """A definition with one layer that has weights, 5x3x2x2 and 5."""
        return write(
            "conv.prototxt", DATA + layer("c", "Convolution", "convolution_param { num_output: 5 kernel_size: 2 }")
        )

    def test_bytes_of_nothing(self, refusal, write, net):
        rng = np.random.default_rng(7)
        for size in (1, 2, 3, 5, 100, 10_000):
            lines = refusal(net[0], write("random.caffemodel", b"\0" + rng.bytes(size)), "-o", "out.npz")
            assert len(lines) == 1
            assert lines[0].startswith("random.caffemodel: is no whole .caffemodel: byte ")

    def test_cut_short_anywhere(self, refusal, write, net):
        data = Path(net[1]).read_bytes()
        for percent in range(2, 100, 2):
            lines = refusal(net[0], write("cut.caffemodel", data[: len(data) * percent // 100]), "-o", "out.npz")
            assert all(line.startswith("cut.caffemodel: ") for line in lines)

    def test_cut_short_says_so(self, refusal, write, net):
        data = Path(net[1]).read_bytes()
        (line,) = refusal(net[0], write("cut.caffemodel", data[: len(data) // 2]), "-o", "out.npz")
        assert line.startswith("cut.caffemodel: is no whole .caffemodel: byte ")
        assert line.endswith("are left (cut short?)")

    @pytest.mark.parametrize("case", ["conv_basic", "mini_resnet", "shared_parameters", "v1_layers"])
    def test_flipped_bits(self, run, write, golden, case):
        rng = np.random.default_rng(len(case))
        write("net.prototxt", (golden / case / "net.prototxt").read_bytes())
        whole = (golden / case / "weights.caffemodel").read_bytes()
        for _ in range(50):
            data = bytearray(whole)
            # Half of them near the start, where names and lengths are dense.
            data[rng.integers(len(data) if rng.integers(2) else min(len(data), 300))] ^= 1 << rng.integers(8)
            _, lines = run("net.prototxt", write("flipped.caffemodel", bytes(data)), "-o", "out.npz")
            assert all("flipped.caffemodel: " in line for line in lines)

    def test_length_that_lies(self, refusal, write, conv):
        data = caffemodel("c", blob((5,), bytes(20)))
        lying = data.replace(number_on_the_wire(20) + bytes(20), number_on_the_wire(2**31) + bytes(20))
        assert lying != data
        (line,) = refusal(conv, write("w.caffemodel", lying), "-o", "out.npz")
        assert line.startswith("w.caffemodel: layer 'c': byte ")
        assert "a field of 2,147,483,648 bytes starts where" in line

    @pytest.mark.parametrize(
        ("dims", "spelled"),
        [((1 << 40,), "1099511627776"), ((1 << 31, 1 << 31), "2147483648x2147483648"), ((0,), "0")],
    )
    def test_shape_that_lies(self, refusal, write, conv, dims, spelled):
        (line,) = refusal(conv, write("w.caffemodel", caffemodel("c", blob(dims, bytes(20)))), "-o", "out.npz")
        needed = int(np.prod([int(size) for size in dims], dtype=object))
        assert line == (f"w.caffemodel: layer 'c': a blob of shape {spelled} needs {needed:,} values; 5 are stored")

    def test_negative_shape(self, refusal, write, conv):
        (line,) = refusal(conv, write("w.caffemodel", caffemodel("c", blob((2**64 - 3,), bytes(20)))), "-o", "out.npz")
        assert line == "w.caffemodel: layer 'c': a blob has the shape -3; no axis is below 0"

    def test_half_a_float(self, refusal, write, conv):
        (line,) = refusal(conv, write("w.caffemodel", caffemodel("c", blob((5,), bytes(19)))), "-o", "out.npz")
        assert line == "w.caffemodel: layer 'c': a blob's bytes are no whole number of floats"

    def test_every_blob_that_does_not_fit(self, refusal, write, net):
        text = Path(net[0]).read_text().replace("num_output: 32", "num_output: 33")
        assert refusal(write("net.prototxt", text), net[1], "-o", "out.npz") == [
            "weights.caffemodel: layer 'fc6' (InnerProduct): its weights have the shape 32x16 there; expected 33x16",
            "weights.caffemodel: layer 'fc6' (InnerProduct): its biases have the shape 32 there; expected 33",
            "weights.caffemodel: layer 'fc7' (InnerProduct): its weights have the shape 32x32 there; expected 33x33",
            "weights.caffemodel: layer 'fc7' (InnerProduct): its biases have the shape 32 there; expected 33",
            "weights.caffemodel: layer 'fc8' (InnerProduct): its weights have the shape 10x32 there; expected 10x33",
        ]

    def test_weights_of_another_net(self, refusal, net, golden):
        lines = refusal(net[0], str(golden / "conv_basic" / "weights.caffemodel"), "-o", "out.npz")
        assert len(lines) == 9  # one for each layer of the net that has weights, and what the file has instead
        assert lines[-1].endswith("layers there that the network does not have: 'y' (8x6x3x3, 8)")
        assert all("has no weights there; expected " in line for line in lines[:-1])

    def test_unknown_bytes_without_a_definition(self, refusal, write):
        (line,) = refusal(write("net.prototxt", (DATA + layer("y", "ReLU")).encode() + b"\0"))
        assert line.startswith("net.prototxt: ")


@pytest.fixture(scope="module")
def program(root: Path) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    def run(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "converter", *argv], cwd=root, capture_output=True, text=True, timeout=60
        )

    return run


class TestProgram:
    """A process of its own says the same."""

    def test_refusal(self, program, tmp_path):
        missing = str(tmp_path / "nope.prototxt")
        done = program(missing)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{missing}: no such file\n")

    def test_no_arguments(self, program):
        done = program()
        assert done.returncode == 2
        assert "the following arguments are required: SOURCE" in done.stderr

    def test_result(self, program, golden, tmp_path):
        done = program(str(golden / "relu" / "net.prototxt"), "-o", str(tmp_path / "out.py"))
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"{tmp_path / 'out.py'}: ")
