"""How fast a frozen graph runs beside other engines, on the same network and the same inputs."""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tools.benchmark.subject import prepare
from tools.benchmark.tables import machine, print_table
from tools.benchmark.turns import AGREEMENT, Measured, Plan, measure
from weights import Refused
from weights.staging import staged

COLUMNS = (
    "engine",
    "version",
    ">batch",
    ">median ms",
    ">p95 ms",
    ">pictures/s",
    ">time / TensorFlow's",
    ">largest difference",
)


def run(sources: Sequence[str], plan: Plan, csv_path: str | None = None) -> bool:
    """Measures, prints the table and writes it to ``csv_path``; returns whether all engines computed the same.

    ``sources`` are a definition and its weights, a frozen graph (``.pb``), or all three. Raises Refused where they are
    no such files, TensorFlow can't run them, or ``csv_path`` can't be written.
    """
    check_folder(csv_path)
    above = headline(plan)  # before this program makes the machine busy itself
    with tempfile.TemporaryDirectory() as folder:
        measured, skipped = measure(prepare(sources, Path(folder)), plan)
    print_table(above, COLUMNS, map(_cells, measured))
    for engine, reason in skipped.items():
        print(f"{engine}: skipped, {reason}")
    if csv_path:
        write_csv(Path(csv_path), measured, plan)
    return all(one.difference <= AGREEMENT for one in measured)


def check_folder(path: str | None) -> None:
    """Raises Refused where a file can't lie there for want of its folder."""
    if path and not Path(path).parent.is_dir():
        raise Refused(f"{path}: the folder {Path(path).parent} does not exist; make it first")


def headline(plan: Plan) -> list[str]:
    """Returns what is said above a table: the machine, the setting, how turns are taken."""
    onednn, setting = os.environ.get("TF_ENABLE_ONEDNN_OPTS"), plan.setting
    where = "" if setting.gpu is None else f"; {setting.device}, TF32 {'on' if setting.tf32 else 'off'}"
    return [
        f"{machine()}; {setting.threads} threads for each engine{where}; oneDNN in TensorFlow: "
        + (f"TF_ENABLE_ONEDNN_OPTS={onednn}" if onednn else "as TensorFlow decides"),
        f"{plan.turns} turns of {plan.runs} runs, each engine in its own process; ratios are medians over the turns",
    ]


def _cells(one: Measured) -> tuple[str, ...]:
    return (
        one.engine,
        one.version,
        str(one.batch),
        f"{one.median * 1e3:.1f}",
        f"{one.p95 * 1e3:.1f}",
        f"{one.pictures_per_second:.1f}",
        f"{one.ratio:.2f}",
        f"{one.difference:.1e}" + ("" if one.difference <= AGREEMENT else " DIFFERS"),
    )


def write_csv(path: Path, measured: Sequence[Measured], plan: Plan) -> None:
    """Writes one line for each run of each engine. Raises Refused where it can't be written."""
    with staged(path.parent) as folder, open(folder / path.name, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(
            ("engine", "version", "device", "threads", "pass", "batch", "turn", "run", "seconds", "largest_difference")
        )
        for one in measured:
            for turn, runs in enumerate(one.turns):
                for index, seconds in enumerate(runs):
                    facts = (one.engine, one.version, one.device, plan.setting.threads, one.what, one.batch)
                    writer.writerow((*facts, turn, index, f"{seconds:.6f}", f"{one.difference:.3e}"))
