"""Measurements as a picture."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from tools.benchmark.turns import Measured
from weights import Refused
from weights.staging import staged


def check_matplotlib() -> None:
    """Raises Refused with the extra to install where matplotlib is absent."""
    if importlib.util.find_spec("matplotlib") is None:
        raise Refused("--plot needs matplotlib, which is not installed: pip install 'caffeport[benchmark]'")


def plot(path: Path, title: str, measured: Sequence[Measured]) -> None:
    """Writes a PNG with a panel for each pass: bars of mean milliseconds a picture, by batch and engine, with the
    standard deviation. Raises Refused where it can't be written."""
    from matplotlib.figure import Figure  # draws without a screen, and leaves no state behind

    passes = list(dict.fromkeys(one.what for one in measured))
    engines = list(dict.fromkeys(one.engine for one in measured))
    batches = sorted({one.batch for one in measured})
    figure = Figure(figsize=(4.2 * len(passes), 3.4), dpi=100, layout="constrained")
    width = 0.8 / len(engines)
    for panel, what in zip(figure.subplots(1, len(passes), squeeze=False)[0], passes):
        for place, engine in enumerate(engines):
            rows = [one for one in measured if (one.what, one.engine) == (what, engine)]
            at = [batches.index(one.batch) + (place - (len(engines) - 1) / 2) * width for one in rows]
            heights = [1e3 * one.mean / one.batch for one in rows]
            errors = [1e3 * one.deviation / one.batch for one in rows]
            panel.bar(at, heights, width, yerr=errors, label=engine, color=f"C{place}", error_kw={"linewidth": 0.8})
        panel.set_title(what)
        panel.set_xticks(range(len(batches)), [str(batch) for batch in batches])
        panel.set_xlabel("batch")
        panel.set_ylabel("ms a picture")
        panel.grid(axis="y", alpha=0.3)
        panel.set_axisbelow(True)
    figure.suptitle(title)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(engines))
    with staged(path.parent) as folder:
        figure.savefig(folder / path.name, format="png", metadata={"Software": None})
