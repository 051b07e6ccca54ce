"""The command line: python -m converter SOURCE... -o OUTPUT..."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from converter import __version__
from converter.exit_code import exit_code

_HELP = """\
Turns a Caffe model into a TensorFlow 1 style graph, exactly.

  python -m converter deploy.prototxt weights.caffemodel -o alexnet.pb
  python -m converter deploy.prototxt                      print the table of layers

Sources are recognised by their content, in any order: a definition (.prototxt); weights (.caffemodel,
.caffemodel.h5, .npz, .npy, .safetensors, PyTorch's .pth, a TF1 checkpoint, a frozen .pb, Deep Compression's .net); a
mean picture (.binaryproto, .npy). The output's ending says what is written:

  .pb             frozen graph, runs in plain TensorFlow
  .ckpt           TF1 checkpoint with its .meta
  NAME/           SavedModel (the path ends in a slash)
  .py             readable source of the graph, standalone
  .npz .npy .safetensors      variable name -> array, TensorFlow layout
  .caffemodel .caffemodel.h5  weights as today's Caffe stores them
  .prototxt       definition in today's spelling
  .binaryproto    mean picture
"""


def parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m converter",
        description=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("sources", nargs="+", metavar="SOURCE", help="definition, weights, mean picture")
    add("-o", "--output", action="append", default=[], metavar="OUTPUT", help="what to write; may repeat")
    add("--phase", choices=("TEST", "TRAIN"), default="TEST", help="which layers run (default: TEST)")
    add("--level", type=int, default=0, metavar="N", help="the net's level, for include and exclude rules (default: 0)")
    add("--stage", action="append", default=[], metavar="NAME", help="a stage the net is in, for rules; may repeat")
    add(
        "--input-shape",
        action="append",
        default=[],
        metavar="BLOB=N,C,H,W",
        help="shape of an input that the definition leaves open, in Caffe's order; may repeat",
    )
    add("--skip-layer", action="append", default=[], metavar="LAYER", help="leave a layer to its filler; may repeat")
    add(
        "--weights-layout",
        choices=("caffe", "tensorflow"),
        help="how the weights' arrays lie, where their shapes can't tell",
    )
    add(
        "--allow",
        action="append",
        default=[],
        metavar="FIELD",
        help="pass over a field that can't be honoured, as FIELD or LAYER.FIELD; may repeat",
    )
    add("--version", action="version", version=f"caffeport {__version__}")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code: 0 done, 2 could not do it (a line on stderr says why)."""
    return exit_code(parser(), _run, argv)


def _run(arguments: argparse.Namespace) -> None:
    from converter.command import execute

    execute(arguments)


if __name__ == "__main__":
    sys.exit(main())
