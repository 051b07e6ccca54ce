"""Types of command lines' values, for argparse, and words that several say."""

from __future__ import annotations

import argparse
import math

RAW_SCALE = (
    "what the floats of arrays are multiplied by before the mean is taken off, as Caffe's raw_scale: 255 for values of "
    "0 to 1, 1 to take them as they are"
)


def count(text: str) -> int:
    """Returns a count of 1 or more. Raises ArgumentTypeError where it is none."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a count of 1 or more")
    return int(text)


def count_or_none(text: str) -> int:
    """Returns a count of 0 or more. Raises ArgumentTypeError where it is none."""
    return 0 if text == "0" else count(text)


def number(text: str) -> float:
    """Returns a finite number of 0 or more. Raises ArgumentTypeError where it is none."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of 0 or more")
    return value


def positive(text: str) -> float:
    """Returns a finite number above 0. Raises ArgumentTypeError where it is none."""
    value = number(text)
    if not value:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number above 0")
    return value
