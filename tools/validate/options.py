"""What the command line says of tolerances, tensors and workers, as values."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

from tools.validate.comparison import TOLERANCE
from tools.validate.running import Tolerances
from tools.validate.subject import Words
from weights import Refused


def read_tolerances(texts: Sequence[str]) -> Tolerances:
    """Returns what ``--tolerance 1e-4`` and ``--tolerance fc7=1e-3`` say. Raises Refused for what is no tolerance."""
    default, layers = TOLERANCE, {}
    for text in texts:
        layer, equals, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= 0) or (equals and not layer):
            raise Refused(f"--tolerance {text}: expected a number such as 1e-4, or LAYER=1e-3")
        if layer:
            layers[layer] = value
        else:
            default = value
    return Tolerances(default, layers)


def read_words(arguments: argparse.Namespace) -> Words:
    """Returns what the command line says of a graph's tensors. Raises Refused where it can't be read."""
    layers = dict(_pair(text, "--map", "LAYER=TENSOR") for text in arguments.map)
    ends = [
        {blob: tensor for blob, _, tensor in (text.rpartition("=") for text in texts)}
        for texts in (arguments.input, arguments.output)
    ]
    feeds = {}
    for name, number in (_pair(text, "--feed", "NAME=NUMBER") for text in arguments.feed):
        try:
            feeds[name] = float(number)
        except ValueError as error:
            raise Refused(f"--feed {name}={number}: expected a number") from error
    return Words(layers, ends[0], ends[1], feeds)


def _pair(text: str, option: str, expected: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise Refused(f"{option} {text}: expected {expected}")
    return name, value


OF_PICTURES = ("labels", "mean", "mean_file", "scale", "channel_order", "resize", "crop", "batch")
"""Options of pictures that are run here; a recording holds its own."""


def check_together(arguments: argparse.Namespace) -> None:
    """Raises Refused where options are given that would have no effect, or a recording that is not there: all that can
    be told before a port is opened, which takes seconds."""
    if arguments.against and not arguments.against.exists():
        raise Refused(f"{arguments.against}: No such file or directory")
    idle = [name for name in OF_PICTURES if arguments.against and getattr(arguments, name) is not None]
    if idle:
        option = f"--{idle[0].replace('_', '-')}"
        raise Refused(f"{option}: has no effect on {arguments.against}, whose pictures were prepared when they were "
                      "recorded; leave it out, or record again with it")  # fmt: skip
    if arguments.timings and arguments.quiet and not (arguments.json or arguments.html):
        raise Refused("--timings --quiet: would print none of the timings; say --json FILE or --html FILE too, or "
                      "leave out --quiet")  # fmt: skip
    _check_runner(arguments)


def _check_runner(arguments: argparse.Namespace) -> None:
    """Raises Refused where what is said of workers does not fit."""
    if arguments.runner == "plain" and (arguments.workers or arguments.ray_address):
        option = "--workers" if arguments.workers else "--ray-address"
        raise Refused(f"{option}: is of use with --runner ray only; say that too")
    if arguments.runner == "ray" and arguments.engine == "xla":
        raise Refused("--runner ray: shares out sessions of TensorFlow; leave out --engine xla")
    if arguments.runner == "ray" and ":" in arguments.device:
        raise Refused(f"--device {arguments.device}: Ray gives each worker a GPU of its own; say --device gpu")
