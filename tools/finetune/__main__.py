"""The command line: python -m tools.finetune MODEL --data TRAIN --train-layers fc8 fc7 -o OUTPUT..."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from converter.exit_code import exit_code
from tools.arguments import RAW_SCALE, count, count_or_none, number, positive
from tools.training.cluster import add_devices

_HELP = """\
Teaches a network your own classes, and writes it in every form that the converter writes.

  python -m tools.finetune alexnet.pb --data flowers/ --train-layers fc8 fc7 -o flowers.pb
  python -m tools.finetune deploy.prototxt weights.caffemodel --data train.txt --validation val.txt -o tuned.caffemodel
  python -m tools.finetune bvlc --weights bvlc_alexnet.npy --skip-layers fc8 --data s3://bucket/train -o tuned/

MODEL is a port of this project (.pb, .ckpt, its manifest beside it), a definition with weights, or one of the AlexNet
family by name. The data are a text list (a picture's path and its label on each line), a folder of pictures for each
class, or x.npy with y.npy; here, or in s3:// or gs://.

The layer that makes the scores is made anew for the classes that the data show, and learns. Checkpoints and
TensorBoard's files go to the --run folder; --resume goes on from the latest with the very same numbers. Ctrl-C saves
and stops.

Exit code: 0 done, 2 could not do it, or was interrupted.
"""


def parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.finetune",
        description=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("model", nargs="*", metavar="MODEL", help="port, definition with weights, or name of a network")
    add("--weights", metavar="FILE", help="weights of a network that is named")
    add("--skip-layers", nargs="+", default=[], metavar="LAYER", help="layers whose weights are not loaded")
    add("--input-shape", action="append", default=[], metavar="BLOB=N,C,H,W", help="shape of an input that the "
        "definition leaves open")  # fmt: skip
    add("--scores", metavar="BLOB", help="the output that learns, where there are several")
    add("-o", "--output", action="append", default=[], metavar="OUTPUT", help="what to write at the end, by its "
        "ending: .pb, .ckpt, NAME/ (SavedModel), .caffemodel, .prototxt ...; may repeat")  # fmt: skip

    data = parser.add_argument_group("pictures").add_argument
    data("--data", metavar="TRAIN", help="what to learn from")
    data("--validation", metavar="VAL", help="what each epoch is tested on")
    data("--hold-out", type=positive, metavar="SHARE", help="test on this share of each class of TRAIN instead")
    data("--root", default="", metavar="FOLDER", help="where a list's paths begin (default: the list's folder)")
    data("--labels", type=Path, metavar="FILE", help="names of the classes, one a line")
    data("--max-bad", type=count_or_none, default=0, metavar="N", help="pictures to pass over that are missing or "
        "broken (default: 0)")  # fmt: skip
    data("--mean", metavar="B,G,R", help="mean to subtract (default: as stated)")
    data("--mean-file", metavar="FILE", help="mean picture to subtract (.binaryproto, .npy)")
    data("--scale", type=number, metavar="X", help="what values are multiplied by, after the mean")
    data("--raw-scale", type=positive, metavar="X", help=RAW_SCALE)
    data("--channel-order", choices=("BGR", "RGB"), help="order in which the network reads colours")
    data("--resize", type=count, metavar="N", help="bring pictures to N by N, then crop")
    data("--crop", type=count, metavar="N", help="size of the crop; the network's input has it already")
    data("--mirror", action=argparse.BooleanOptionalAction, help="mirror every other training picture "
        "(default: as stated)")  # fmt: skip

    learn = parser.add_argument_group("learning").add_argument
    learn("--train-layers", nargs="+", default=[], metavar="LAYER", help="layers that learn, or all; the others are "
          "frozen (default: those without weights to begin with)")  # fmt: skip
    learn("--keep-head", action="store_true", help="begin with the weights of the layer that makes the scores; the "
          "data must show as many classes")  # fmt: skip
    learn("--epochs", type=count, default=10, metavar="N", help="times to see all pictures (default: 10)")
    learn("--batch", type=count, default=32, metavar="N", help="pictures of a step (default: 32)")
    learn("--optimizer", choices=("sgd", "adam"), default="sgd", help="(default: sgd)")
    learn("--learning-rate", type=positive, default=0.001, metavar="X", help="(default: 0.001)")
    learn("--momentum", type=number, default=0.9, metavar="X", help="of sgd (default: 0.9)")
    learn("--weight-decay", type=number, default=0.0005, metavar="X", help="how strongly weights, not biases, "
          "are drawn to zero (default: 0.0005)")  # fmt: skip
    learn("--head-lr-mult", type=positive, default=1.0, metavar="X", help="how many times as fast the layer that "
          "makes the scores learns (default: 1)")  # fmt: skip
    learn("--schedule", choices=("constant", "step", "exponential", "cosine"), default="constant", help="how the "
          "learning rate goes (default: constant)")  # fmt: skip
    learn("--gamma", type=positive, default=0.1, metavar="X", help="factor of step and exponential (default: 0.1)")
    learn("--step-epochs", type=positive, default=10.0, metavar="N", help="epochs between two steps (default: 10)")
    learn("--warmup", type=number, default=0.0, metavar="N", help="epochs in which the rate rises (default: 0)")
    learn("--seed", type=count_or_none, default=1, metavar="N", help="of first weights, order, crops, dropout")

    run_group = parser.add_argument_group("run")
    run = run_group.add_argument
    run("--run", type=Path, metavar="FOLDER", help="where checkpoints and TensorBoard's files go (default: the first "
        "output's name with .run)")  # fmt: skip
    run("--resume", action="store_true", help="go on from the latest checkpoint in the --run folder")
    run("--keep", type=count, default=3, metavar="N", help="checkpoints to keep beside the best (default: 3)")
    run("--threads", type=count, metavar="N", help="processor threads (default: all)")
    run("--deterministic", action="store_true", help="only use TensorFlow's operations that compute the same numbers "
        "at every run, also where others are faster")  # fmt: skip
    add_devices(run_group)
    run("--model-dir", type=Path, metavar="FOLDER", help="write a SavedModel to FOLDER/1 (SageMaker's SM_MODEL_DIR)")
    run("--output-data-dir", type=Path, metavar="FOLDER", help="write metrics.json there (SM_OUTPUT_DATA_DIR)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code: 0 done, 2 could not do it, or was interrupted (a line on stderr
    says which)."""

    own = _own_arguments(sys.argv[1:] if argv is None else argv)

    def run(arguments: argparse.Namespace) -> None:
        from tools.finetune import command  # after parsing: --help waits for no NumPy
        from tools.finetune.sagemaker import defaults

        again = parser()
        again.set_defaults(**defaults(again, os.environ))
        command.run(again.parse_args(own))

    return exit_code(parser(), run, own)


def _own_arguments(argv: Sequence[str]) -> Sequence[str]:
    """Returns the arguments without what SageMaker's container repeats there."""
    if not os.environ.get("SM_HPS"):
        return argv
    from tools.finetune.sagemaker import own_arguments
    from weights import Refused

    try:
        return own_arguments(argv, os.environ)
    except Refused:
        return argv  # what is wrong with SM_HPS is said once these are parsed


if __name__ == "__main__":
    sys.exit(main())
