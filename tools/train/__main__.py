"""The command line: python -m tools.train --solver solver.prototxt --data RUN.npz -o FINAL.caffemodel"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from converter.exit_code import exit_code
from tools.arguments import RAW_SCALE, positive
from tools.training.cluster import add_devices

_HELP = """\
Trains a network as Caffe does, from its own solver and train_val, on TensorFlow.

  python -m tools.train --solver solver.prototxt --data run.npz -o final.caffemodel
  python -m tools.train --solver solver.prototxt --weights bvlc_alexnet.caffemodel --data run.npz --log loss.csv
  python -m tools.train --solver solver.prototxt --images train.txt --test-images val.txt --resume
  python -m tools.train --solver solver.prototxt -o final.caffemodel        (its HDF5Data layers name what feeds it)

Types SGD, Nesterov, Adam, RMSProp, AdaGrad and AdaDelta, all of Caffe's learning rate policies, its fillers, weight
decay, clipping, iter_size, test nets and snapshots. A field of the solver is used or refused, or said to have no
effect. The net is fed from --data: arrays named after its inputs, N, C, H, W, with one more index in front that counts
passes (iterations times iter_size); after the last pass comes the first again. Or from HDF5 files whose datasets are
named after them, row by row: --data FILE.h5 or a list of such files (.txt), or without it those that HDF5Data layers
name. Or from --images, which its data layer prepares: mean, scale, crop and mirror.

Snapshots are PREFIX_iter_N.ckpt, a TF1 checkpoint that training goes on from, and PREFIX_iter_N.caffemodel. A
training that goes on from a snapshot gives the very same numbers as one that was never interrupted. Ctrl-C takes a
snapshot after the iteration and stops, with exit code 2.
"""


def parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.train",
        description=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--solver", type=Path, required=True, metavar="FILE", help="Caffe's solver.prototxt")
    add("--data", type=Path, metavar="FILE", help="what the training net is fed: arrays (.npz), or rows (.h5, or a "
        "list of them, .txt)")  # fmt: skip
    add("--images", metavar="PLACE", help="feed it pictures instead: a list (path label), a folder for each "
        "class, or arrays (x.npy, y.npy), here or at s3://, gs://; prepared as the data layer says")  # fmt: skip
    add("--test-images", action="append", default=[], metavar="PLACE", help="likewise, for the test nets")
    add("--resize", type=int, metavar="N", help="bring pictures to N by N before they are cropped")
    add("--raw-scale", type=positive, metavar="X", help=RAW_SCALE)
    add("--shuffle", action="store_true", help="draw a new order of the pictures or rows for each epoch; without it a "
        "list's order counts, as in Caffe, and folders are shuffled")  # fmt: skip
    add(
        "--max-bad", type=int, default=0, metavar="N", help="pass over up to N pictures that can't be read (default: 0)"
    )
    add("--test-data", type=Path, action="append", default=[], metavar="FILE", help="what the test nets are fed: "
        "one for all, or one for each in their order")  # fmt: skip
    add("--weights", action="append", default=[], metavar="FILE", help="first values, in any format that python -m "
        "converter reads; several with commas, or repeated; they replace those that the solver names")  # fmt: skip
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--snapshot", type=Path, metavar="FILE", help="go on from this snapshot")
    start.add_argument("--resume", action="store_true", help="go on from the latest snapshot of the solver's "
        "snapshot_prefix, from the start where there is none")  # fmt: skip
    add("--log", type=Path, metavar="LOSS.csv", help="where each iteration's loss goes: iteration, loss, lr")
    add("-o", "--output", action="append", default=[], metavar="OUTPUT", help="what to write at the end: any output "
        "of python -m converter; may repeat")  # fmt: skip
    add("--input-shape", action="append", default=[], metavar="BLOB=N,C,H,W", help="shape of an input that a data "
        "layer leaves open, where --data does not tell")  # fmt: skip
    add("--allow", action="append", default=[], metavar="FIELD", help="pass over a field of a layer that can't be "
        "honoured")  # fmt: skip
    add_devices(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code: 0 done, 2 could not do it or was interrupted (a line on stderr says
    why)."""

    def run(arguments: argparse.Namespace) -> None:
        from tools.train import command  # after parsing: --help waits for no NumPy

        command.run(arguments)

    return exit_code(parser(), run, argv)


if __name__ == "__main__":
    sys.exit(main())
