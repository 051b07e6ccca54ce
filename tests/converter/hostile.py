"""Feeds damaged copies of one file to the command line, in a process of its own, and counts what each got.

    python hostile.py DEFINITION FILE KIND...

Prints JSON: for each KIND of damage, how many were refused and how many gave a correct result, then the peak memory.
Exits with 1, and says why, at the first traceback, wrong result, page of errors or file left behind.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
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


def main_hostile(definition: Path, file: Path, kinds: list[str]) -> int:
    """Runs all damage of these kinds; returns the exit code."""
    data, counts = file.read_bytes(), {}
    with tempfile.TemporaryDirectory() as folder:
        damaged, output = Path(folder) / "in" / file.name, Path(folder) / "out" / "port.npz"
        damaged.parent.mkdir()
        output.parent.mkdir()
        companions = {}
        if file.name.endswith((".index", ".data-00000-of-00001")):
            prefix = file.name.removesuffix(".index").removesuffix(".data-00000-of-00001")
            companions = {path.name: path.read_bytes() for path in file.parent.glob(prefix + ".*")}
        for name, content in companions.items():
            (damaged.parent / name).write_bytes(content)
        for kind in kinds:
            got: Counter[str] = Counter()
            for number, variant in enumerate(KINDS[kind](data)):
                damaged.write_bytes(variant)
                try:
                    code = attempt([str(definition), str(damaged)], output)
                except BaseException as error:
                    print(f"{kind} {number}: {type(error).__name__}: {error}", file=sys.stderr)
                    raise
                got["read" if code == 0 else "refused"] += 1
            counts[kind] = dict(got)
    counts["peak MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps(counts))
    return 0


if __name__ == "__main__":
    sys.exit(main_hostile(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]))
