"""What whole conversions cost, in time and memory, beside the commands that they are held against."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.benchmark.processes import Spent, in_turns
from tools.benchmark.tables import machine, print_table
from weights.refused import Refused

COLUMNS = ("what", ">measured", "beside", "target", "met")


@dataclass(frozen=True)
class Row:
    """One line of the table. ``is_met`` is None where nothing could be measured."""

    what: str
    measured: str
    beside: str
    target: str
    is_met: bool | None = None

    def cells(self) -> tuple[str, ...]:
        """Returns the line's texts."""
        return self.what, self.measured, self.beside, self.target, {True: "yes", False: "NO", None: "-"}[self.is_met]


def run(definition: Path, weights: Path, runs: int) -> None:
    """Measures the conversions of one network and prints the table.

    Raises Refused where the files are missing or do not convert.
    """
    busy_before = machine()
    rows = measure(definition, weights, runs)
    headline = [
        f"{weights.name}, {weights.stat().st_size / 1e6:,.1f} MB; {busy_before}",
        f"whole processes in turns, each {runs} times after once to warm up; times are medians, memory is the largest "
        "peak; 1 MB is 10^6 bytes",
    ]
    print_table(headline, COLUMNS, (row.cells() for row in rows))


def measure(definition: Path, weights: Path, runs: int) -> list[Row]:
    """Returns the table's lines. Raises Refused where the files are missing or do not convert."""
    with tempfile.TemporaryDirectory() as folder:
        commands = _commands(str(definition), str(weights), Path(folder))
        imports_tensorflow = _imports_tensorflow(commands["npz"])
        spent = in_turns(commands, runs)
    return [
        *_npz_rows(spent, imports_tensorflow),
        *_frozen_rows(spent),
        _quick_row("--help", spent["help"], code=0),
        _quick_row("a wrong file name", spent["wrong name"], code=2),
    ]


def _commands(definition: str, weights: str, folder: Path) -> dict[str, list[str]]:
    """Returns name -> command, of those that can run here."""
    python, converter = [sys.executable], [sys.executable, "-m", "converter"]
    commands = {"npz": [*converter, definition, weights, "-o", str(folder / "port.npz")]}
    if importlib.util.find_spec("cv2"):
        commands["cv2"] = [*python, "-c", f"import cv2; cv2.dnn.readNetFromCaffe({definition!r}, {weights!r})"]
    if importlib.util.find_spec("tensorflow"):
        commands["pb"] = [*converter, definition, weights, "-o", str(folder / "port.pb")]
        commands["tensorflow"] = [*python, "-c", "import tensorflow"]
    commands["help"] = [*converter, "--help"]
    commands["wrong name"] = [*converter, str(folder / "absent.prototxt")]
    return commands


def _imports_tensorflow(command: list[str]) -> bool:
    """Runs a command once and returns whether it imports TensorFlow. Raises Refused where the command does."""
    traced = [command[0], "-X", "importtime", *command[1:]]  # tells each import on stderr
    done = subprocess.run(traced, capture_output=True, text=True)
    lines = done.stderr.splitlines()
    if done.returncode:
        raise Refused(*(line for line in lines if not line.startswith("import time:")))
    return any(line.rpartition("|")[2].strip() == "tensorflow" for line in lines)


def _npz_rows(spent: Mapping[str, Spent], imports_tensorflow: bool) -> list[Row]:
    npz = spent["npz"]
    time = Row("-o .npz, time", _seconds(npz), "cv2 is not installed", "at most 1.5 times")
    if "cv2" in spent:
        ratio = npz.seconds / spent["cv2"].seconds
        beside = f"cv2.dnn.readNetFromCaffe {_seconds(spent['cv2'])}: {ratio:.2f} times"
        time = Row(time.what, time.measured, beside, time.target, ratio <= 1.5 and npz.codes == {0})
    imported = "imported" if imports_tensorflow else "not imported"
    return [
        time,
        Row("-o .npz, peak memory", _megabytes(npz), "", "under 800 MB", npz.peak < 800e6),
        Row("-o .npz, TensorFlow", imported, "", "not imported", not imports_tensorflow),
    ]


def _frozen_rows(spent: Mapping[str, Spent]) -> list[Row]:
    what, target = ("-o .pb, time", "-o .pb, peak memory"), ("at most 2 s more", "under 1200 MB")
    if "pb" not in spent:
        return [Row(what[0], "", "TensorFlow is not installed", target[0]), Row(what[1], "", "", target[1])]
    pb, more = spent["pb"], spent["pb"].seconds - spent["tensorflow"].seconds
    beside = f"import tensorflow {_seconds(spent['tensorflow'])}: {more:.2f} s more"
    return [
        Row(what[0], _seconds(pb), beside, target[0], more <= 2 and pb.codes == {0}),
        Row(what[1], _megabytes(pb), "", target[1], pb.peak < 1.2e9),
    ]


def _quick_row(what: str, spent: Spent, code: int) -> Row:
    return Row(f"{what}, time", _seconds(spent), "", "under 0.4 s", spent.seconds < 0.4 and spent.codes == {code})


def _seconds(spent: Spent) -> str:
    return f"{spent.seconds:.2f} s"


def _megabytes(spent: Spent) -> str:
    return f"{spent.peak / 1e6:,.0f} MB"
