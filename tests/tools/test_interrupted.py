"""Commands that are killed in the middle, by the user or without warning, and run again: the same as never killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools.record import __main__ as record

pytest.importorskip("PIL")


@pytest.fixture
def pictures(demo: Path, tmp_path: Path) -> Path:
    """50 pictures, one of them broken."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for path in (demo / "pictures").iterdir():
        for copy in range(5):
            (folder / f"{copy}-{path.name}").symlink_to(path)
    (folder / "1-digit-3.png").unlink()
    (folder / "1-digit-3.png").touch()
    return folder


def killed(root: Path, journal: Path, how: signal.Signals, module: str, *arguments: object) -> tuple[int, str]:
    """Runs a command in a process of its own, which gets the signal once its journal has five parts. Returns its exit
    code and stderr."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        while not list(journal.glob("*/000004")) and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(how)
        _, err = process.communicate(timeout=60)
    return process.returncode, err


def ran(root: Path, module: str, *arguments: object) -> tuple[int, str, str]:
    """Runs a command in a process of its own: within one, TensorFlow's threads, and so the order of its sums, are those
    of its first session. Returns its exit code, stdout and stderr."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout, done.stderr


SIGNALS = pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])


@SIGNALS
def test_a_recording(demo, root, pictures, tmp_path, capsys, how):
    sources = (demo / "digits.prototxt", demo / "digits.caffemodel")
    arguments = [*sources, "--images", pictures, "--batch", 1, "-o"]
    plain, out, journal = tmp_path / "plain.h5", tmp_path / "r.h5", tmp_path / ".r.h5.journal"
    assert record.main([str(one) for one in (*arguments, plain)]) == 0
    capsys.readouterr()
    code, err = killed(root, journal, how, "tools.record", *arguments, out)
    assert code == (2 if how == signal.SIGINT else -signal.SIGKILL)
    assert err.endswith("interrupted\n") or how == signal.SIGKILL
    assert sorted(os.listdir(tmp_path)) == [".r.h5.journal", "pictures", "plain.h5"]
    assert record.main([str(one) for one in (*arguments, out)]) == 0
    notes = capsys.readouterr().err.splitlines()
    assert notes[0].startswith(f"note: {out}: goes on after ")
    assert int(notes[0].split()[5]) >= 5
    assert notes[-1] == "note: 1 of 50 pictures can't be read and were left out"
    assert out.read_bytes() == plain.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["pictures", "plain.h5", "r.h5"]


@pytest.mark.slow
@SIGNALS
def test_a_validation(demo, demo_port, root, pictures, tmp_path, how):
    sources = (demo / "digits.prototxt", demo / "digits.caffemodel")
    arguments = [demo_port, *sources, "--images", pictures, "--batch", 1, "--quiet", "--json"]
    plain, out, journal = tmp_path / "plain.json", tmp_path / "r.json", tmp_path / ".r.json.journal"
    assert ran(root, "tools.validate", *arguments, plain)[0] == 0
    code, _ = killed(root, journal, how, "tools.validate", *arguments, out)
    assert code == (2 if how == signal.SIGINT else -signal.SIGKILL)
    assert sorted(os.listdir(tmp_path)) == [".r.json.journal", "pictures", "plain.json"]
    code, said, notes = ran(root, "tools.validate", *arguments, out)
    assert (code, said) == (0, "verdict: agrees\n")
    assert notes.startswith("note: goes on after ")
    one, other = (json.loads(path.read_text()) for path in (plain, out))
    for name in ("port", "reference", "device", "pictures", "predictions", "layers", "verdict", "broken", "notes"):
        assert one[name] == other[name], name
    assert (one["pictures"], len(one["broken"])) == (49, 1)
    assert sorted(os.listdir(tmp_path)) == ["pictures", "plain.json", "r.json"]
