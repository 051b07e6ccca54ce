"""Types of command lines' values, for argparse."""

from __future__ import annotations

import argparse


def count(text: str) -> int:
    """Returns a count of 1 or more. Raises ArgumentTypeError where it is none."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a count of 1 or more")
    return int(text)


def count_or_none(text: str) -> int:
    """Returns a count of 0 or more. Raises ArgumentTypeError where it is none."""
    return 0 if text == "0" else count(text)
