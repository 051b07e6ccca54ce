"""Damaged files of every format: one line and exit code 2, or a correct result; never a traceback, a hang, a file left
behind, or a lot of memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

import converter
from converter.__main__ import main
from weights import Layout, Parameter, Refused

GOLDEN = Path(__file__).parent.parent / "golden" / "mini_alexnet"
HOSTILE = Path(__file__).parent / "hostile.py"
ROOT = Path(__file__).parent.parent.parent
KINDS = ("truncated", "flipped", "lying", "noise")
WITHOUT_TENSORFLOW = ("caffemodel", "caffemodel.h5", "npz", "npy", "safetensors")


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> Path:
    """Mini-AlexNet's weights in every format."""
    folder = tmp_path_factory.mktemp("hostile")
    port = converter.convert(GOLDEN / "net.prototxt", GOLDEN / "weights.caffemodel")
    for ending in (*WITHOUT_TENSORFLOW, "ckpt", "pb"):
        port.save(folder / f"w.{ending}")
    return folder


def damage(file: Path, *arguments: str, ending: str = ".npz", kinds: tuple[str, ...] = KINDS) -> dict[str, Any]:
    """Feeds damaged copies of ``file`` to the command line and returns how many were refused and read, by kind."""
    command = [sys.executable, str(HOSTILE), str(file), ending, *kinds, "--", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=500)
    assert done.returncode == 0, done.stderr[-2000:]
    counts = json.loads(done.stdout)
    print(f"\n{file.name}: {counts}")
    return counts


@pytest.mark.slow
@pytest.mark.parametrize("ending", [*WITHOUT_TENSORFLOW, "ckpt.index", "ckpt.data-00000-of-00001", "pb"])
def test_damaged_weights(files, ending):
    counts = damage(files / f"w.{ending}", str(GOLDEN / "net.prototxt"), "{}")
    assert sum(counts["truncated"].values()) == 100
    if "data" not in ending and ending != "pb":
        assert counts["truncated"].get("read", 0) == 0, "a file cut short was taken for whole"
    assert counts["peak MiB"] < (1000 if ending in WITHOUT_TENSORFLOW else 1500)  # TensorFlow alone takes 500


@pytest.mark.slow
def test_damaged_definitions():
    counts = damage(GOLDEN / "net.prototxt", "{}", ending=".prototxt")
    assert counts["truncated"]["refused"] > 90  # a cut between two layers leaves a net, and a shorter one is a net too
    assert counts["peak MiB"] < 1000


@pytest.mark.slow
def test_damaged_mean_pictures(tmp_path):
    np.save(tmp_path / "mean.npy", np.random.default_rng(0).uniform(0, 255, (3, 31, 37)).astype(np.float32))
    converter.convert(GOLDEN / "net.prototxt", tmp_path / "mean.npy").save(tmp_path / "mean.binaryproto")
    for name in ("mean.npy", "mean.binaryproto"):
        counts = damage(tmp_path / name, str(GOLDEN / "net.prototxt"), "{}", ending=".binaryproto")
        assert counts["truncated"] == {"refused": 100}
        assert counts["peak MiB"] < 1000


@pytest.mark.slow
def test_damaged_deep_compression(shared):
    model = shared / "models/squeezenet"
    file = model / "compressed_SqueezeNet.net"
    counts = damage(file, str(model / "deploy.prototxt"), "{}", kinds=("truncated", "lying", "noise"))
    assert counts["truncated"] == {"refused": 100}
    assert counts["peak MiB"] < 1000


@pytest.mark.slow
def test_a_hundred_thousand_layers(tmp_path):
    text = 'layer { name: "x" type: "Input" top: "x0" input_param { shape { dim: 2 dim: 3 } } }\n'
    text += "".join(f'layer {{ name: "r{i}" type: "ReLU" bottom: "x{i}" top: "x{i + 1}" }}\n' for i in range(100_000))
    (tmp_path / "net.prototxt").write_text(text)
    assert main([str(tmp_path / "net.prototxt"), "-o", str(tmp_path / "again.prototxt")]) == 0
    assert (tmp_path / "again.prototxt").read_text().count('type: "ReLU"') == 100_000


NET = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 7 } } }
layer { name: "fc" type: "InnerProduct" bottom: "x" top: "y" inner_product_param { num_output: 5 } }
"""


@pytest.fixture
def refusal(tmp_path, capsys):
    """Returns a function that converts the small net with a file of weights and returns the one line that is said."""
    (tmp_path / "net.prototxt").write_text(NET)

    def refuse(name: str) -> str:
        code = main([str(tmp_path / "net.prototxt"), str(tmp_path / name), "-o", str(tmp_path / "out.npz")])
        said = capsys.readouterr().err.splitlines()
        assert code == 2
        assert len(said) == 1, said
        assert not (tmp_path / "out.npz").exists()
        return said[0].removeprefix(f"{tmp_path / name}: ")

    return refuse


def npy(body: bytes, shape: str = "()", descr: str = "|O") -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(10 + len(text) + 1) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + body


@pytest.mark.parametrize(
    ("pickled", "reason"),
    [
        (
            b"cos\nsystem\n(S'true'\ntR.",
            "its pickle asks for os.system; only arrays, dicts, lists and strings are read",
        ),
        (b"\x80\x02cbuiltins\neval\nX\x01\x00\x00\x001\x85R.", "its pickle asks for builtins.eval; only arrays, dicts"),
        (b"(ios\nsystem\nS'true'\n.", "its pickle uses INST; only arrays, dicts, lists and strings are read"),
        (b"\x80\x02}\x8a\xff", "its pickle is broken: "),
        (b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f}.", "its pickle is broken: "),
        (b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.", "its pickle "),
        (b"\x80\x02}r\xff\xff\xff\x7f.", "its pickle numbers its objects beyond its own length"),
        (b"\x80\x02]q\x00.", "holds a list; expected a dict of layers"),
        (b"\x80\x02}X\x02\x00\x00\x00fcX\x01\x00\x00\x00as.", "layer 'fc' holds something else than arrays"),
    ],
)
def test_pickles_that_are_no_dict_of_arrays(tmp_path, refusal, pickled, reason):
    (tmp_path / "w.npy").write_bytes(npy(pickled))
    assert refusal("w.npy").startswith(reason)


def test_a_pickle_does_not_run_what_it_calls(tmp_path, refusal):
    trap = tmp_path / "trap"
    (tmp_path / "w.npy").write_bytes(npy(f"cos\nmkdir\n(S'{trap}'\ntR.".encode()))
    refusal("w.npy")
    assert not trap.exists()


def test_an_npy_whose_shape_lies(tmp_path, refusal):
    (tmp_path / "w.npy").write_bytes(npy(b"\0" * 40, "(1099511627776, 3)", "<f4"))
    assert "needs 13,194,139,533,312 bytes; 40 are stored" in refusal("w.npy")


def test_a_zip_bomb(tmp_path, refusal):
    head = npy(b"", "(5, 268435456)", "<f4")
    with (
        zipfile.ZipFile(tmp_path / "w.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("fc/weights.npy", "w", force_zip64=True) as member,
    ):
        member.write(head)
        for _ in range(64):
            member.write(b"\0" * (1 << 20))
    assert "needs 5,368,709,120 bytes; 67,108,864 are stored" in refusal("w.npz")


def test_an_npz_member_that_is_damaged(tmp_path, refusal):
    np.savez(tmp_path / "w.npz", **{"fc/weights": np.ones((7, 5), np.float32), "fc/biases": np.ones(5, np.float32)})
    data = bytearray((tmp_path / "w.npz").read_bytes())
    data[data.index(np.float32(1).tobytes() * 3)] ^= 1
    (tmp_path / "w.npz").write_bytes(data)
    assert refusal("w.npz") == "is no whole .npz: Bad CRC-32 for file 'fc/weights.npy'"


def test_hdf5_that_links_elsewhere(tmp_path, refusal):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["data/fc/0"] = h5py.ExternalLink("/etc/passwd", "/x")
    assert refusal("w.h5") == "'data/fc/0' is a link to somewhere else; only arrays of the file itself are read"
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.create_dataset("data/fc/0", (35,), "f4", external=[("other.bin", 0, 140)])
    assert refusal("w.h5") == "'data/fc/0' keeps its numbers in another file"


def test_hdf5_with_other_content(tmp_path, refusal):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["weights"] = np.ones(3)
        file["name"] = "fc"
    assert refusal("w.h5") == "'name' is no array of numbers"
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["data/fc/0"] = h5py.Empty("f4")
    assert refusal("w.h5") == "'data/fc/0' is no array of numbers"
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.create_group("data/fc")
    assert refusal("w.h5").startswith("holds no arrays; expected a snapshot of Caffe's weights (NAME.caffemodel.h5)")
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["data/fc/kernel"] = np.ones(3)
    assert refusal("w.h5") == "'fc/kernel' is no numbered array; expected a snapshot of Caffe's weights"


def test_hdf5_with_a_surplus_and_a_missing_array(tmp_path, refusal):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file["data/fc/0"] = np.ones((5, 7), np.float32)
    assert refusal("w.h5") == "layer 'fc' (InnerProduct): has 1 blobs there (5x7); expected 2 (5x7 and 5)"
    with h5py.File(tmp_path / "w.h5", "a") as file:
        file["data/fc/1"] = np.ones(5, np.float32)
        file["data/fc/2"] = np.ones(5, np.float32)
    assert "has 3 blobs there (5x7 and 5 and 5); expected 2" in refusal("w.h5")


def test_safetensors_whose_header_lies(tmp_path, refusal):
    (tmp_path / "w.safetensors").write_bytes((60).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[9]}'.ljust(60))
    assert refusal("w.safetensors").startswith("is no whole safetensors file: ")


def test_two_gigabytes_are_refused_before_the_work_starts(tmp_path):
    (tmp_path / "net.prototxt").write_text(NET)
    port = converter.convert(tmp_path / "net.prototxt")
    huge = np.broadcast_to(np.float32(0), (1 << 15, 1 << 15))
    port = replace(port, parameters={"fc/weights": Parameter("fc/weights", Layout(huge.shape), huge)})
    for ending in ("pb", "caffemodel"):
        with pytest.raises(Refused, match=r"the weights are 4.0 GiB, and one protobuf message ends at 2 GiB; write a"):
            port.save(tmp_path / f"out.{ending}")
    assert not list(tmp_path.glob("out*"))
