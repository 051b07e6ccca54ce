"""What both measurements print: the machine, and tables."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text


def machine() -> str:
    """Returns the processor's name, how many cores this process may use, and how busy they are now."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{processor()}, {cores} core{'' if cores == 1 else 's'}{load}, Python {platform.python_version()}"


def processor() -> str:
    """Returns the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def print_table(headline: Sequence[str], columns: Iterable[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints lines, then a table. A column whose heading starts with ``>`` is aligned to the right."""
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    for line in headline:
        console.print(line, markup=False)
    console.print(table)
