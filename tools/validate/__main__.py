"""The command line: python -m tools.validate PORT --against reference.h5"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from converter.exit_code import exit_code
from tools.benchmark.__main__ import count
from tools.record.__main__ import add_pictures

_HELP = """\
Holds a port against Caffe's truth, picture by picture and layer by layer, and names the first layer that differs.

  python -m tools.validate alexnet.pb --against reference.h5
  python -m tools.validate alexnet.pb deploy.prototxt alexnet.caffemodel --images pictures/

PORT is a frozen graph, a checkpoint with its .meta, a SavedModel's folder or a .py source, written by this project or
by anyone. Without a manifest beside it, tensors are matched by name, shape and order, and the match is shown.

Exit code: 0 all within tolerance, 1 it differs, 2 could not do it (also: something could not be compared).
"""


def parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.validate", description=_HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("port", type=Path, metavar="PORT", help="the port under test")
    add("sources", nargs="*", metavar="SOURCE", help="definition and weights, to compute the reference here; beside "
        "--against they let every layer be judged in isolation")  # fmt: skip
    add("--against", type=Path, metavar="FILE.h5", help="recording that python -m tools.record made")
    add_pictures(parser)
    add("--tolerance", action="append", default=[], metavar="[LAYER=]X", help="largest difference over the largest "
        "magnitude (default: 1e-4), of all layers or of one; may repeat")  # fmt: skip
    add("--map", action="append", default=[], metavar="LAYER=TENSOR", help="which tensor is a layer's; may repeat")
    add("--input", action="append", default=[], metavar="[BLOB=]TENSOR", help="which placeholder is the input")
    add("--output", action="append", default=[], metavar="[BLOB=]TENSOR", help="which tensor is the output")
    add("--feed", action="append", default=[], metavar="NAME=X", help="number for another placeholder: keep_prob=1")
    add("--weights", type=Path, metavar="FILE", help="weights of a .py source, where they are not beside it")
    add("--trust", action="store_true", help="run a graph that touches files, other machines or Python")
    add("--device", default="auto", metavar="auto|cpu|gpu[:N]", help="where to run (default: a GPU if there is one)")
    add("--tf32", action="store_true", help="let a GPU round factors to TF32, which comparisons do without")
    add("--timings", action="store_true", help="time the port too, layer by layer, and beside it every other engine "
        "that is installed, which need DEFINITION and WEIGHTS as SOURCES")  # fmt: skip
    add("--timing-batch", type=count, nargs="+", default=[1, 16], metavar="N", help="pictures a pass (default: 1 16)")
    add("--timing-tf32", action="store_true", help="let a GPU round factors to TF32 while it is timed")
    add("--json", type=Path, metavar="FILE", help="write the report there as JSON")
    add("--junit", type=Path, metavar="FILE", help="write the report there as JUnit's XML")
    add("--certificate", type=Path, metavar="FILE", help="write a certificate there if the port agrees")
    add("--verify", type=Path, metavar="FILE", help="check a certificate against PORT, and compare again if there is "
        "something to compare with")  # fmt: skip
    add("--quiet", action="store_true", help="print the verdict only")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code: 0 all within tolerance, 1 it differs, 2 could not do it."""

    def run(arguments: argparse.Namespace) -> int:
        from tools.validate import command  # after parsing: --help waits for no NumPy

        return command.run(arguments)

    return exit_code(parser(), run, argv)


if __name__ == "__main__":
    sys.exit(main())
