"""What the command line does once its arguments are parsed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from weights.refused import Refused, one_line

if TYPE_CHECKING:
    from converter.port import Port


def execute(arguments: argparse.Namespace) -> None:
    """Does what the command line asks. Raises Refused where it can't be done."""
    missing = [source for source in arguments.sources if not _exists(Path(source))]
    if missing:
        raise Refused(*(f"{source}: no such file" for source in missing))

    from converter.outputs import check  # only now: a wrong file name is told at once
    from converter.port import convert

    port = convert(
        *arguments.sources,
        phase=arguments.phase,
        level=arguments.level,
        stages=arguments.stage,
        input_shapes=dict(map(input_shape, arguments.input_shape)),
        skip_layers=arguments.skip_layer,
        weights_layout=arguments.weights_layout,
        allow=arguments.allow,
    )
    for note in port.notes:
        print(f"note: {one_line(note)}", file=sys.stderr)
    if not arguments.output:
        from converter.summary import print_summary

        print_summary(port)
        return
    for output in arguments.output:
        check(port, output)
    for output in arguments.output:
        print(one_line(describe_file(port, port.save(output))))


def describe_file(port: Port, files: list[Path]) -> str:
    """Returns the line that says what was written: ``alexnet.pb, 232.6 MiB (and alexnet.pb.json)``."""
    size = sum(part.stat().st_size for file in files for part in (file.rglob("*") if file.is_dir() else [file]))
    others = ", ".join(file.name for file in files[1:])
    unit, scale = ("MiB", 2**20) if size >= 2**20 else ("KiB", 2**10)
    ends = f"{', '.join(port.network.inputs)} -> {', '.join(port.network.outputs)}"
    first = files[0]
    return f"{first}: {size / scale:,.1f} {unit}, {ends}" + (f" (with {others})" if others else "")


def _exists(path: Path) -> bool:
    return path.exists() or path.with_name(path.name + ".index").exists()


def input_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Returns (blob, shape) of ``data=1,3,227,227``. Raises Refused where the text is something else."""
    blob, _, sizes = text.rpartition("=")
    try:
        shape = tuple(int(size) for size in sizes.split(","))
    except ValueError:
        shape = ()
    if not blob or not shape or min(shape) < 1:
        raise Refused(f"--input-shape {text}: expected a blob and its sizes, such as data=1,3,227,227")
    return blob, shape
