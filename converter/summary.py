"""What was read, as a table for people."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from graphs.layer import spell

if TYPE_CHECKING:
    from converter.port import Port


def print_summary(port: Port) -> None:
    """Prints the table of layers with output shapes, parameters and multiply-adds, and the totals."""
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading, justify in (
        ("layer", "left"),
        ("type", "left"),
        ("reads", "left"),
        ("makes", "left"),
        ("shape", "right"),
        ("parameters", "right"),
        ("multiply-adds", "right"),
    ):
        table.add_column(heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
    counted: set[str] = set()
    total = operations = 0
    for layer, variables in zip(port.shapes, port.names.variables):
        own = [spec for spec, name in zip(layer.parameters, variables) if name not in counted]
        counted.update(variables)
        count = sum(spec.layout.size for spec in own)
        total, operations = total + count, operations + layer.multiply_adds
        cells = (
            layer.node.name,
            layer.node.layer.type,
            ", ".join(layer.node.bottoms),
            ", ".join(layer.node.tops),
            ", ".join(dict.fromkeys(map(spell, layer.tops))),
            f"{count:,}" if count else "",
            f"{layer.multiply_adds:,}" if layer.multiply_adds else "",
        )
        table.add_row(*(Text(cell) for cell in cells))
    table.add_section()
    table.add_row("total", f"{len(port.shapes.layers)} layers", "", "", "", f"{total:,}", f"{operations:,}")
    title = port.network.name or "unnamed network"
    console.print(f"{title}, phase {port.network.phase}, {_batch(port)}", markup=False)
    console.print(table)
    if port.parameters:
        console.print(f"weights: all {len(port.parameters)} arrays are there and fit, {total * 4 / 2**20:,.1f} MiB")
    elif total:
        console.print("weights: none given; add the .caffemodel to check that they fit")


def _batch(port: Port) -> str:
    inputs = [shape for shape in port.network.inputs.values() if shape]
    sizes = sorted({shape[0] for shape in inputs})
    batch = f"batch {' and '.join(map(str, sizes))}" if sizes else "no input"
    return batch + (" as defined; the graph takes any" if port.shapes.free_batch else ", fixed by a layer")
