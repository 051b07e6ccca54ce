"""What every command line of this project ends in."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

DONE, DIFFERS, REFUSED = 0, 1, 2


def exit_code(
    parser: argparse.ArgumentParser,
    run: Callable[[argparse.Namespace], int | None],
    argv: Sequence[str] | None,
) -> int:
    """Parses ``argv`` (None: the process's own), runs ``run`` and returns the exit code: what ``run`` returns, or DONE
    for None; REFUSED for a user's mistake, each reason a line on stderr, and where the user interrupts."""
    try:
        arguments = parser.parse_args(argv)
    except SystemExit as end:
        return int(end.code or 0)
    from weights.refused import Refused  # after parsing: --help waits for no NumPy

    try:
        return run(arguments) or DONE
    except Refused as refused:
        for reason in refused.reasons:
            print(reason, file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    except (BrokenPipeError, SystemExit):  # the reader, `head` for one, has seen enough; rich exits where this is so
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  for the interpreter's last flush
        return DONE
    return REFUSED
