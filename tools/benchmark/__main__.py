"""The command line: python -m tools.benchmark conversion|inference|training ..."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from converter.exit_code import DIFFERS, DONE, exit_code
from tools.arguments import count


def parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    parser = argparse.ArgumentParser(prog="python -m tools.benchmark", description="Measures, and prints a table.")
    commands = parser.add_subparsers(dest="command", required=True)

    conversion = commands.add_parser("conversion", help="time and memory of whole conversions")
    conversion.add_argument("definition", metavar="DEFINITION", help="the net's .prototxt")
    conversion.add_argument("weights", metavar="WEIGHTS", help="its .caffemodel")
    conversion.add_argument("--runs", type=count, default=5, help="runs of each command (default: 5)")

    inference = commands.add_parser("inference", help="a frozen graph beside the other engines that are installed")
    inference.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="definition and weights, and a frozen graph (.pb) to take instead of one converted here; "
        "a frozen graph alone is timed alone",
    )
    inference.add_argument("--batch", type=count, nargs="+", default=[1, 16], help="pictures a run (default: 1 16)")
    inference.add_argument("--turns", type=count, default=10, help="turns of each engine (default: 10)")
    inference.add_argument("--runs", type=count, default=5, help="runs in a turn (default: 5)")
    _add_device(inference)
    inference.add_argument("--csv", metavar="FILE", help="write every run's seconds there too")

    training = commands.add_parser("training", help="forward, and forward-backward: the gradient of every variable")
    training.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="definition, with weights or without; or a name of the AlexNet family",
    )
    training.add_argument("--batch", type=count, nargs="+", default=[1, 16], help="pictures a step (default: 1 16)")
    training.add_argument("--steps", type=count, default=100, help="steps that count, after 10 (default: 100)")
    _add_device(training)
    training.add_argument("--csv", metavar="FILE", help="write every step's seconds there too")
    training.add_argument("--plot", metavar="FILE.png", help="draw the table there")
    return parser


def _add_device(command: argparse.ArgumentParser) -> None:
    command.add_argument("--threads", type=count, default=2, help="threads of each engine (default: 2)")
    command.add_argument("--device", type=_device, default="cpu", metavar="cpu|gpu[:N]", help="default: cpu")
    command.add_argument("--tf32", action="store_true", help="let a GPU round factors to TF32")


def _device(text: str) -> str:
    if not re.fullmatch(r"cpu|gpu(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"'{text}' is no device; expected cpu, gpu or gpu:N")
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code: 0 done, 1 the engines compute differently, 2 could not do it (a
    line on stderr says why)."""
    return exit_code(parser(), run, argv)


def run(arguments: argparse.Namespace) -> int:
    """Does what the command line asks. Raises Refused where it can't be done."""
    if arguments.command == "conversion":
        from tools.benchmark import conversion

        conversion.run(Path(arguments.definition), Path(arguments.weights), arguments.runs)
        return DONE

    from tools.benchmark import inference, training
    from tools.benchmark.engines import Setting
    from tools.benchmark.turns import Plan

    setting = Setting(arguments.threads, arguments.device, arguments.tf32)
    if arguments.command == "training":
        same = training.run(arguments.sources, arguments.batch, arguments.steps, setting, arguments.csv, arguments.plot)
        return DONE if same else DIFFERS

    plan = Plan(tuple(arguments.batch), arguments.turns, arguments.runs, setting)
    return DONE if inference.run(arguments.sources, plan, arguments.csv) else DIFFERS


if __name__ == "__main__":
    sys.exit(main())
