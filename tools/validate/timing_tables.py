"""Timings as tables on the terminal."""

from __future__ import annotations

from typing import Any

from tools.benchmark.tables import print_table
from tools.validate.report import EngineTiming, LayerTiming, Timings

ENGINES = (
    ">batch",
    "engine",
    "version",
    ">median ms",
    ">p95 ms",
    ">pictures/s",
    ">time / port's",
    ">largest difference",
)
LAYERS = ("layer", "type", ">ms", ">share", ">GFLOP", ">GFLOP/s")


def print_timings(timings: Timings) -> None:
    """Prints the engines beside each other, then the port layer by layer."""
    print_table(_settings(timings), ENGINES, map(_engine, timings.engines))
    for engine, reason in timings.absent.items():
        print(f"not timed: {engine}: {reason}")
    if not timings.layers:
        return
    busy = [one for one in timings.layers if one.seconds]
    fused = [one.layer for one in timings.layers if not one.seconds]
    total = sum(one.seconds for one in timings.layers)
    above = f"the port's layers at batch {timings.layers_batch}, one operation at a time: {total * 1e3:.1f} ms a pass"
    print_table(["", above], LAYERS, map(_layer, busy))
    if fused:
        print(f"no time of their own (fused into others, or nothing to do): {', '.join(fused)}\n")


def _settings(timings: Timings) -> list[str]:
    device, turns = (timings.settings.get(name) for name in ("device", "turns"))
    said = {name: one for name, one in timings.settings.items() if name not in ("device", "turns")}
    lines = [", ".join([str(device), *map(_setting, said.items())]), str(turns)]
    return [f"{'timings' if not place else '':11}{line}" for place, line in enumerate(lines)]


def _setting(named: tuple[str, Any]) -> str:
    name, value = named
    if isinstance(value, bool):
        return f"{name.upper()} {'on' if value else 'off'}"
    return f"{value} {name}" if isinstance(value, int) else f"{name} {value}"


def _engine(one: EngineTiming) -> tuple[str, ...]:
    return (
        str(one.batch),
        one.engine,
        one.version,
        f"{one.median * 1e3:.2f}",
        f"{one.p95 * 1e3:.2f}",
        f"{one.pictures_per_second:.1f}",
        f"{one.ratio:.2f}",
        f"{one.difference:.1e}",
    )


def _layer(one: LayerTiming) -> tuple[str, ...]:
    rate = (f"{one.flops / 1e9:.3f}", f"{one.gflops_per_second:.1f}") if one.flops else ("", "")
    return one.layer, one.type, f"{one.seconds * 1e3:.3f}", f"{one.share:.1%}", *rate
