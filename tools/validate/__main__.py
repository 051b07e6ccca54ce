"""The command line: python -m tools.validate PORT --against reference.h5"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from converter.exit_code import exit_code
from tools.arguments import count
from tools.record.__main__ import add_pictures

_HELP = """\
Holds a port against Caffe's truth, picture by picture and layer by layer, and names the first layer that differs.

  python -m tools.validate alexnet.pb --against reference.h5
  python -m tools.validate alexnet.pb deploy.prototxt alexnet.caffemodel --images pictures/
  python -m tools.validate --program alexnet.h5 --against reference.h5 --device gpu

PORT is a frozen graph, a checkpoint with its .meta, a SavedModel's folder or a .py source, written by this project or
by anyone. Without a manifest beside it, tensors are matched by name, shape and order, and the match is shown.

Sets that outgrow one machine: --runner ray shares the batches out among the workers of a Ray cluster, each with the
port opened once, on a GPU of its own where there are any; the numbers are those of a plain run. Workers read the port,
the recording and the pictures under the same paths as this command: put them on a file system that all nodes share.

Exit code: 0 all within tolerance, 1 it differs, 2 could not do it (also: something could not be compared).
"""


def parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.validate",
        usage="%(prog)s PORT [DEFINITION WEIGHTS] (--against FILE.h5 | --images PATH ...) [options]",
        description=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("port", type=Path, nargs="?", metavar="PORT", help="the port under test")
    add("sources", nargs="*", metavar="SOURCE", help="definition and weights, to compute the reference here; beside "
        "--against they let every layer be judged in isolation")  # fmt: skip
    add("--tolerance", action="append", default=[], metavar="[LAYER=]X", help="largest difference over the largest "
        "magnitude (default: 1e-4), of all layers or of one; may repeat")  # fmt: skip
    add("--quiet", action="store_true", help="print the verdict only")
    truth = parser.add_argument_group("what it is held against")
    truth.add_argument("--against", type=Path, metavar="FILE.h5", help="recording that python -m tools.record made")
    add_pictures(truth, engine="--reference-engine")
    _add_graph(parser.add_argument_group("a graph of other people's"))
    _add_device(parser.add_argument_group("what runs it, and how fast"))
    _add_reports(parser.add_argument_group("reports"))
    _add_workers(parser.add_argument_group("many pictures"))
    return parser


def _add_graph(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--map", action="append", default=[], metavar="LAYER=TENSOR", help="which tensor is a layer's; may repeat")
    add("--input", action="append", default=[], metavar="[BLOB=]TENSOR", help="which placeholder is the input")
    add("--output", action="append", default=[], metavar="[BLOB=]TENSOR", help="which tensor is the output")
    add("--feed", action="append", default=[], metavar="NAME=X", help="number for another placeholder: keep_prob=1")
    add("--weights", type=Path, metavar="FILE", help="weights of a .py source, where they are not beside it")
    add("--trust", action="store_true", help="run a graph that touches files, other machines or Python")


def _add_device(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--device", default="auto", metavar="auto|cpu|gpu[:N]", help="where to run (default: a GPU if there is one)")
    add("--tf32", action="store_true", help="let a GPU round factors to TF32, which comparisons do without")
    add("--timings", action="store_true", help="time the port too, layer by layer, and beside it every other engine "
        "that is installed, which need DEFINITION and WEIGHTS")  # fmt: skip
    add("--timing-batch", type=count, nargs="+", default=[1, 16], metavar="N", help="pictures a pass (default: 1 16)")
    add("--timing-tf32", action="store_true", help="let a GPU round factors to TF32 while it is timed")
    add("--engine", choices=("tensorflow", "xla"), default="tensorflow", help="what runs the port: TensorFlow "
        "(default) or XLA through JAX, with the graph's own program as TensorFlow lowers it")  # fmt: skip
    add("--save-program", type=Path, metavar="FILE.h5", help="write the XLA programs there, weights beside them")
    add("--program", type=Path, metavar="FILE.h5", help="run saved programs in the place of PORT: takes JAX, but no "
        "TensorFlow")  # fmt: skip
    add("--program-batch", type=count, nargs="+", default=[], metavar="N", help="batches at which the program's "
        "forward pass is timed; with --save-program, those that can be timed later")  # fmt: skip


def _add_reports(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--html", type=Path, metavar="FILE", help="write the report there as one page that holds all it shows")
    add("--json", type=Path, metavar="FILE", help="write it there as JSON")
    add("--junit", type=Path, metavar="FILE", help="write it there as JUnit's XML")
    add("--certificate", type=Path, metavar="FILE", help="write a certificate there if the port agrees")
    add("--verify", type=Path, metavar="FILE", help="check a certificate against PORT, and compare again if there is "
        "something to compare with")  # fmt: skip


def _add_workers(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--runner", choices=("plain", "ray"), default="plain", help="ray: compare batches by several processes, "
        "on a Ray cluster or on this machine")  # fmt: skip
    add("--workers", type=count, metavar="N", help="processes of --runner ray (default: one for each GPU; without GPUs "
        "one for every four cores, as a session uses several)")  # fmt: skip
    add("--ray-address", metavar="HOST:PORT|auto", help="Ray cluster to join (default: what RAY_ADDRESS says, else one "
        "on this machine for as long as it is used)")  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code: 0 all within tolerance, 1 it differs, 2 could not do it."""

    def run(arguments: argparse.Namespace) -> int:
        from tools.validate import command  # after parsing: --help waits for no NumPy
        from tools.validate.xla.outcome import settled

        arguments.command = ("python", "-m", "tools.validate", *(sys.argv[1:] if argv is None else map(str, argv)))
        return command.run(settled(arguments))

    return exit_code(parser(), run, argv)


if __name__ == "__main__":
    sys.exit(main())
