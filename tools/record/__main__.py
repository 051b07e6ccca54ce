"""The command line: python -m tools.record DEFINITION WEIGHTS --images ... -o reference.h5"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from converter.exit_code import exit_code
from tools.arguments import RAW_SCALE, count, count_or_none, positive

_HELP = """\
Records what a Caffe network computes on pictures: a file that a port can be held against where neither Caffe nor the
weights are.

  python -m tools.record deploy.prototxt alexnet.caffemodel --images pictures/ --mean 104,117,123 -o reference.h5
  python -m tools.validate alexnet.pb --against reference.h5

Pictures (files, folders, .npy or .npz arrays of N, C, H, W) are read and resized as Caffe's own tools do with OpenCV:
B, G, R of 0 to 255; 16 bits cut to the high 8; transparency dropped; CMYK converted; resized bilinearly without
smoothing first. EXIF's rotation is followed, as cv::imread does since OpenCV 3.1 (a Caffe with an older OpenCV does not
turn them: there, save pictures upright). A picture that can't be read, is animated or has more than 64 million pixels
is named, counted and left out. An interrupted recording goes on where it stopped.
"""


def parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.record",
        description=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("sources", nargs="+", metavar="SOURCE", help="definition, weights and, where there is one, the mean picture")
    add("-o", "--output", type=Path, required=True, metavar="FILE.h5", help="where the recording goes")
    add_pictures(parser, required=True)
    add("--whole", type=count_or_none, metavar="N", help="keep every value of the first N pictures, which lets layers "
        "be judged in isolation (default: as many as fit in 16 MiB)")  # fmt: skip
    add("--full", action="store_true", help="keep every value of all pictures")
    add("--sample", type=count, default=256, metavar="N", help="values of a layer and picture to keep of the others "
        "(default: 256), beside the largest magnitude, the root mean square and the mean")  # fmt: skip
    return parser


def add_pictures(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup, required: bool = False, engine: str = "--engine"
) -> None:
    """Adds the options that say which pictures are run, how they are prepared, and, as ``engine``, what computes."""
    add = parser.add_argument
    add("--images", nargs="+", required=required, metavar="PATH", help="pictures: files, folders, .npy, .npz[:NAME]")
    add("--labels", type=Path, metavar="FILE", help="names of the classes, one a line")
    add(engine, choices=("reference", "opencv", "caffe"), default="reference", help="what computes the truth (default: "
        "reference, NumPy in float64)")  # fmt: skip
    add("--mean", metavar="B,G,R", help="mean to subtract from each channel")
    add("--mean-file", metavar="FILE", help="mean picture to subtract (.binaryproto, .npy)")
    add("--scale", type=float, metavar="X", help="what values are multiplied by, after the mean")
    add("--raw-scale", type=positive, metavar="X", help=RAW_SCALE)
    add("--channel-order", choices=("BGR", "RGB"), help="order in which the network reads colours (default: BGR)")
    add("--resize", type=count, metavar="N", help="bring pictures to N by N first, then cut out the middle")
    add("--crop", type=count, metavar="N", help="the middle that is cut out, N by N: the network's input")
    add("--batch", type=count, metavar="N", help="pictures that are run at once")
    add("--input-shape", action="append", default=[], metavar="BLOB=N,C,H,W", help="shape of an input that the "
        "definition leaves open")  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code: 0 done, 2 could not do it (a line on stderr says why)."""

    def run(arguments: argparse.Namespace) -> None:
        from tools.record import command  # after parsing: --help waits for no NumPy

        command.run(arguments)

    return exit_code(parser(), run, argv)


if __name__ == "__main__":
    sys.exit(main())
