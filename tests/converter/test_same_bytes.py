"""The same input gives the same bytes, whatever the process and the hash of its strings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

NAMES = ("net.pb", "net.ckpt", "net.npz", "net.py", "net.caffemodel", "net.prototxt", "net.npy", "net.safetensors")
NAMES += ("net.h5", "model/")


def convert(root: Path, case: Path, folder: Path, seed: int) -> dict[str, bytes]:
    """Returns the files of a port, made in a process of its own."""
    folder.mkdir()
    outputs = [argument for name in NAMES for argument in ("-o", f"{folder}/{name}")]
    subprocess.run(
        [sys.executable, "-m", "converter", str(case / "net.prototxt"), str(case / "weights.caffemodel"), *outputs],
        cwd=root,
        env={**os.environ, "PYTHONHASHSEED": str(seed)},
        check=True,
        capture_output=True,
    )
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_processes_write_the_same_bytes(root, golden, tmp_path):
    first = convert(root, golden / "mini_resnet", tmp_path / "first", seed=1)
    second = convert(root, golden / "mini_resnet", tmp_path / "second", seed=2)
    assert {name.split("/")[0].removesuffix(".json") for name in first} >= {name.rstrip("/") for name in NAMES} - {
        "net.ckpt"
    }
    assert {"net.ckpt.index", "net.ckpt.meta", "net.ckpt.data-00000-of-00001", "net.ckpt.json"} <= set(first)
    assert set(first) == set(second)
    differing = [name for name, content in first.items() if second[name] != content]
    assert differing == []
