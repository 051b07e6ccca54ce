"""The command line: python -m converter SOURCE... -o OUTPUT..."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from converter import __version__
from weights.refused import Refused

DONE, REFUSED = 0, 2

_HELP = """\
Turns a Caffe model into a TensorFlow 1 style graph, exactly.

  python -m converter deploy.prototxt weights.caffemodel -o alexnet.pb
  python -m converter deploy.prototxt                      print the table of layers

Sources are recognised by their content, in any order. The output's ending says what is written:

  .pb          frozen graph, runs in plain TensorFlow
  .ckpt        TF1 checkpoint with its .meta
  .py          readable source of the graph, standalone
  .npz         variable name -> array, TensorFlow layout
  .caffemodel  weights in today's Caffe format
  .prototxt    definition in today's Caffe format
"""


def parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m converter", description=_HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help="definition (.prototxt) and weights (.caffemodel)")
    parser.add_argument(
        "-o", "--output", action="append", default=[], metavar="OUTPUT", help="file to write; may repeat"
    )
    parser.add_argument("--phase", choices=("TEST", "TRAIN"), default="TEST", help="which layers run (default: TEST)")
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="FIELD",
        help="pass over a field that can't be honoured, as FIELD or LAYER.FIELD; may repeat",
    )
    parser.add_argument("--version", action="version", version=f"caffeport {__version__}")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code: 0 done, 2 could not do it (a line on stderr says why)."""
    try:
        arguments = parser().parse_args(argv)
    except SystemExit as end:
        return int(end.code or 0)
    try:
        run(arguments)
    except Refused as refused:
        for reason in refused.reasons:
            print(reason, file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return REFUSED
    return DONE


def run(arguments: argparse.Namespace) -> None:
    """Does what the command line asks. Raises Refused where it can't be done."""
    missing = [source for source in arguments.sources if not Path(source).exists()]
    if missing:
        raise Refused(*(f"{source}: no such file" for source in missing))

    from converter.port import convert

    port = convert(*arguments.sources, phase=arguments.phase, allow=arguments.allow)
    for note in port.notes:
        print(f"note: {note}", file=sys.stderr)

    from converter.summary import describe_file, print_summary

    if not arguments.output:
        print_summary(port)
        return

    from converter.outputs import check

    for output in arguments.output:
        check(port, Path(output))
    for output in arguments.output:
        print(describe_file(port, port.save(output)))


if __name__ == "__main__":
    sys.exit(main())
