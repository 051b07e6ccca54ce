"""A report as tables on the terminal."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tools.validate.comparison import Difference
from tools.validate.report import AGREES, Guess, LayerResult, Prediction, Report
from tools.validate.timing_tables import print_timings

SHOWN = 40
"""Pictures in the table; of more, those that agree least."""


def print_report(report: Report, every_match: bool = False) -> None:
    """Prints a report: what was compared, pictures end to end, layers, the verdict. ``every_match`` shows for each
    layer how its tensor was found, also where the manifest names it."""
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    for line in _headline(report):
        console.print(line, markup=False)
    if report.predictions:
        console.print(_pictures(report))
        console.print(_agreement(report), markup=False)
    console.print(_layers(report, every_match))
    if report.timings is not None:
        print_timings(report.timings)
    for line in report.notes:
        console.print(f"note: {line}", markup=False)
    for line in _verdict(report):
        console.print(line, markup=False, style="bold" if line.startswith("verdict") else None)
    if report.diagnosis:
        console.print("diagnosis:", markup=False, style="bold")
    for one in report.diagnosis:
        console.print(Padding(Text(str(one)), (0, 0, 0, 2)))


def _headline(report: Report) -> Iterator[str]:
    port, reference, device = report.port, report.reference, report.device
    where = f"{reference['file']}, " if reference.get("file") else ""
    yield f"port       {port['file']} ({port['kind']}), tensors matched {port['matched']}"
    yield f"reference  {where}{reference['engine']}, {reference['preprocessing']}"
    yield f"engine     {device['engine']} {_version(device)}, {device['dtype']}"
    yield f"device     {device['name']}, TF32 {'on' if device['tf32'] else 'off'}"
    broken = f", {len(report.broken)} left out that can't be read" if report.broken else ""
    yield f"pictures   {report.pictures}{broken}"


def _version(device: Mapping[str, Any]) -> str:
    versions = device["versions"]
    return str(versions.get("jax") or versions.get("tensorflow"))


def _pictures(report: Report) -> Table:
    table = _table("picture", "reference's top-5", "port's top-5", ">margin", ">difference", "agree")
    shown = list(report.predictions)
    if len(shown) > SHOWN:
        worst = sorted(range(len(shown)), key=lambda place: (shown[place].agrees, -shown[place].difference))[:SHOWN]
        shown = [shown[place] for place in sorted(worst)]
    several = len({one.output for one in report.predictions}) > 1
    for one in shown:
        name = f"{one.picture} ({one.output})" if several else one.picture
        cells = (
            name, _top(one.reference), _top(one.port), f"{one.margin:.3g}", f"{one.difference:.2g}", _same(one),
        )  # fmt: skip
        table.add_row(*map(Text, cells))
    return table


def _top(guesses: tuple[Guess, ...]) -> str:
    return "; ".join(f"{one.label.partition(',')[0]} {one.score:.4f}" for one in guesses)


def _same(one: Prediction) -> str:
    return f"yes, {one.overlap}/{len(one.reference)}" if one.agrees else f"NO, {one.overlap}/{len(one.reference)}"


def _agreement(report: Report) -> str:
    same = sum(one.agrees for one in report.predictions)
    worst = max((one.difference for one in report.predictions), key=lambda value: (math.isnan(value), value))
    few = f" (the {SHOWN} that agree least are shown)" if len(report.predictions) > SHOWN else ""
    return f"top-1 agrees on {same} of {len(report.predictions)}; largest difference of a score {worst:.2g}{few}\n"


def _layers(report: Report, every_match: bool) -> Table:
    matched = every_match or any(one.how not in ("manifest",) for one in report.layers)
    columns = ["layer", "type", *(["tensor", "by"] if matched else [])]
    table = _table(
        *columns, ">largest", ">relative", ">rms ratio", ">cosine", "worst at", ">isolated", ">allowed", ""
    )  # fmt: skip
    for one in report.layers:
        name = one.layer if one.top == one.layer or len({o.top for o in report.layers if o.layer == one.layer}) == 1 \
            else f"{one.layer}/{one.top}"  # fmt: skip
        cells = (
            name,
            one.type,
            *((one.tensor or "none", one.how) if matched else ()),
            *_figures(one.computed),
            _relative(one.isolated) if one.isolated else "-",
            f"{one.allowed:.0e}",
            _mark(one),
        )
        style = None if one.passes else "red"
        table.add_row(*(Text(cell) for cell in cells), style=style)
    return table


def _figures(found: Difference | None) -> tuple[str, str, str, str, str]:
    if found is None:
        return ("-",) * 5
    if found.problem:
        return ("", "", "", "", found.problem)
    worst = ", ".join(map(str, found.worst.index)) if found.worst else ""
    return f"{found.largest:.2g}", _relative(found), f"{found.rms_ratio:.6g}", f"{found.cosine:.7g}", worst


def _relative(found: Difference) -> str:
    if found.problem:
        return "shape"
    return "no number" if found.not_finite else f"{found.relative:.1e}"


def _mark(one: LayerResult) -> str:
    if one.computed is None and one.isolated is None:
        return "not compared"
    if one.passes:
        return "ok"
    return "GUILTY" if one.is_guilty else "differs"


def _verdict(report: Report) -> Iterator[str]:
    verdict = report.verdict
    yield f"verdict: {verdict.answer}" + (f", first at {verdict.first}" if verdict.first else "")
    for reason in verdict.reasons[:12]:
        yield f"  {reason}"
    if len(verdict.reasons) > 12:
        yield f"  and {len(verdict.reasons) - 12} more"
    if verdict.answer != AGREES and report.first is not None and report.first.computed is not None:
        needed = report.first.computed.relative
        if math.isfinite(needed):
            yield f"  a tolerance of {report.first.layer}={rounded_up(needed)} would have passed there"


def rounded_up(value: float) -> str:
    """Returns two digits, not below the value."""
    digits = 1 - math.floor(math.log10(value)) if value else 0
    return f"{math.ceil(value * 10**digits) / 10**digits:.1e}"


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left", overflow="fold")
    return table
