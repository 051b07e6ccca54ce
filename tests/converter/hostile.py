"""Feeds damaged copies of one file to the command line, in a process of its own, and counts what each got.

    python hostile.py FILE ENDING KIND... -- ARGUMENT...

ARGUMENT is what the command line gets, {} standing for the damaged copy; ENDING what is to be written.

Prints JSON: for each KIND of damage, how many were refused and how many gave a correct result, then the peak memory.
Exits with 1, and says why, at the first traceback, wrong result, page of errors or file left behind.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import re
import resource
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from converter.__main__ import main


def truncated(data: bytes) -> Iterator[bytes]:
    """The file cut at every 1 % of its length."""
    for percent in range(100):
        yield data[: len(data) * percent // 100]


def flipped(data: bytes) -> Iterator[bytes]:
    """Copies with one bit turned over, near the beginning (where structure lies) and anywhere."""
    rng = random.Random(1)
    for number in range(160):
        position = rng.randrange(min(len(data), 600) if number % 2 else len(data))
        yield data[:position] + bytes([data[position] ^ 1 << rng.randrange(8)]) + data[position + 1 :]


def lying(data: bytes) -> Iterator[bytes]:
    """Copies with four bytes replaced by the ends of what numbers can say."""
    rng = random.Random(2)
    extremes = (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80", b"\x00\x00\x00\x00")
    for number in range(100):
        position = rng.randrange(min(len(data), 600) if number % 2 else len(data))
        yield data[:position] + extremes[number % 4] + data[position + 4 :]


def noise(data: bytes) -> Iterator[bytes]:
    """The file's first bytes, and noise after them."""
    rng = random.Random(3)
    for kept in (0, 1, 8, 16, 64, 256):
        for _ in range(4):
            yield data[:kept] + rng.randbytes(4096)


KINDS = {function.__name__: function for function in (truncated, flipped, lying, noise)}


def attempt(arguments: list[str], output: Path) -> int:
    """Runs the command line; returns its exit code. Raises AssertionError where it misbehaves."""
    shown, said = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(said):
        code = main([*arguments, "-o", str(output)])
    lines = said.getvalue().splitlines()
    assert code in (0, 2), code
    assert code == 0 or lines, "refused without a word"
    assert all(len(line) < 1200 for line in lines), said.getvalue()
    left = [path.name for path in output.parent.iterdir()]
    assert left == ([output.name] if code == 0 else []), left
    output.unlink(missing_ok=True)
    return code


def main_hostile(file: Path, ending: str, kinds: list[str], arguments: list[str]) -> int:
    """Runs all damage of these kinds; returns the exit code."""
    data, counts = file.read_bytes(), {}
    with tempfile.TemporaryDirectory() as folder:
        damaged, output = Path(folder) / "in" / file.name, Path(folder) / "out" / f"port{ending}"
        damaged.parent.mkdir()
        output.parent.mkdir()
        for companion in companions(file):
            (damaged.parent / companion.name).write_bytes(companion.read_bytes())
        for kind in kinds:
            got: Counter[str] = Counter()
            for number, variant in enumerate(KINDS[kind](data)):
                damaged.write_bytes(variant)
                try:
                    code = attempt([argument.replace("{}", str(damaged)) for argument in arguments], output)
                except BaseException as error:
                    print(f"{kind} {number}: {type(error).__name__}: {error}", file=sys.stderr)
                    raise
                got["read" if code == 0 else "refused"] += 1
            counts[kind] = dict(got)
    counts["peak MiB"] = peak_mib()
    print(json.dumps(counts))
    return 0


def peak_mib() -> int:
    """Returns this process's own peak memory; what getrusage says begins with its parent's."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def companions(file: Path) -> list[Path]:
    """Returns the other files of a checkpoint."""
    for part in (".index", ".data-00000-of-00001"):
        if file.name.endswith(part):
            return list(file.parent.glob(file.name.removesuffix(part) + ".*"))
    return []


if __name__ == "__main__":
    split = sys.argv.index("--")
    sys.exit(main_hostile(Path(sys.argv[1]), sys.argv[2], sys.argv[3:split], sys.argv[split + 1 :]))
