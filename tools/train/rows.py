"""What a training is fed from HDF5 files: Caffe's HDF5DataLayer, whose datasets are named like its tops.

Rows come in the order of the files and within them, batches run across the files' borders, and after the last row comes
the first again. Only the rows of a batch are in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from converter.sources import decoded
from graphs.layer import spell
from graphs.network import Network
from tools.hdf5 import SIGNATURE, Form, proved
from tools.train.arrays import in_graph_layout, label_problem, label_ranges
from tools.train.solver import located
from weights import Refused, Shape

_FORM = Form("", 0, "HDF5 file of data", "", "")
_CHECKED = 1 << 16
"""Rows of labels that are looked at in one piece."""


@dataclass(frozen=True)
class Table:
    """Rows of HDF5 files, ``batch`` to a pass. ``name`` is what messages call them; ``counts`` has each file's rows,
    ``shapes`` blob -> shape of a row. ``shuffled`` draws a new order for each epoch, of the files and within each, that
    ``seed`` alone decides."""

    name: str
    files: tuple[Path, ...]
    counts: tuple[int, ...]
    shapes: Mapping[str, Shape]
    batch: int
    shuffled: bool = False
    seed: int = 0

    def pieces(self, number: int) -> Iterator[tuple[int, Sequence[int]]]:
        """Yields (file, its rows) for what pass ``number`` reads, in order."""
        position, left = number * self.batch, self.batch
        total = sum(self.counts)
        while left:
            epoch, row = divmod(position, total)
            for file in self._order(epoch, -1, len(self.files)):
                if row < self.counts[file]:
                    taken = min(left, self.counts[file] - row)
                    yield file, self._order(epoch, file, self.counts[file])[row : row + taken]
                    break
                row -= self.counts[file]
            position, left = position + taken, left - taken

    def _order(self, epoch: int, of: int, count: int) -> Sequence[int]:
        return _drawn(self.seed, epoch, of + 1, count) if self.shuffled else range(count)


@lru_cache(maxsize=8)
def _drawn(seed: int, epoch: int, of: int, count: int) -> tuple[int, ...]:
    return tuple(np.random.default_rng([seed, epoch, of]).permutation(count).tolist())


@dataclass(frozen=True, eq=False)
class Rows:
    """What feeds a network from tables, each of its inputs from one of them."""

    tables: tuple[Table, ...]
    stack: ExitStack = field(default_factory=ExitStack)
    opened: dict[Path, Any] = field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, Shape]:
        """Blob -> shape of a batch."""
        return {blob: (table.batch, *shape) for table in self.tables for blob, shape in table.shapes.items()}

    def reader(self, inputs: Mapping[str, Shape], start: int) -> Callable[[int], list[np.ndarray]]:
        """Returns the function from a pass's number to what it is fed: float32 in TensorFlow's layout, in the order of
        ``inputs``."""
        tables = {blob: table for table in self.tables for blob in table.shapes}

        def read(number: int) -> list[np.ndarray]:
            return [in_graph_layout(self._batch(tables[blob], blob, number)) for blob in inputs]

        return read

    def _batch(self, table: Table, blob: str, number: int) -> np.ndarray:
        pieces = [_taken(self._file(table.files[file])[blob], rows) for file, rows in table.pieces(number)]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _file(self, path: Path) -> Any:
        import h5py

        if path not in self.opened:
            if len(self.opened) >= 2 * len(self.tables):  # the one that ends and the one that begins
                self.stack.close()
                self.opened.clear()
            self.opened[path] = self.stack.enter_context(h5py.File(path, "r"))
        return self.opened[path]


def _taken(dataset: Any, rows: Sequence[int]) -> np.ndarray:
    """Returns rows of a dataset as float32, which HDF5 reads in rising order only."""
    if isinstance(rows, range):
        return np.asarray(dataset[rows.start : rows.stop], np.float32)
    rising = np.argsort(rows)
    values = np.empty((len(rows), *dataset.shape[1:]), np.float32)
    values[rising] = dataset[np.asarray(rows)[rising]]
    return values


def is_rows(path: Path) -> bool:
    """Returns whether a file of --data is HDF5, or a list (.txt) of such files."""
    return path.is_file() and (path.suffix == ".txt" or _is_hdf5(path))


def _is_hdf5(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(SIGNATURE)) == SIGNATURE
    except OSError as error:
        raise Refused(f"{path}: {error.strerror or error}") from error


def listed_files(path: Path) -> tuple[list[Path], list[str]]:
    """Returns the HDF5 files that a list names, or ``path`` where it is one, and notes. Names with spaces can't be
    listed, as in Caffe; files are looked for in the working directory and then beside the list. Raises Refused with
    each that is not there."""
    if _is_hdf5(path):
        return [path], []
    found: list[Path] = []
    notes: list[str] = []
    problems: list[str] = []
    for name in decoded(path.read_bytes()).split():
        try:
            file, is_beside = located(name, path, "the list")
        except Refused as refused:
            problems += refused.within(str(path)).reasons
            continue
        found.append(file)
        notes += [f"{path}: '{name}' is not in the working directory; taken from {file}"] if is_beside else []
    if problems:
        raise Refused(*problems)
    if not found:
        raise Refused(f"{path}: lists no HDF5 files; expected their names, one a line")
    return found, notes


def read_table(name: str, files: Sequence[Path], blobs: Sequence[str], batch: int, shuffle: bool) -> Table:
    """Returns the table of ``blobs`` in ``files``, every file's datasets proved. Raises Refused with all that is wrong:
    a file or a dataset that is missing or broken, rows that differ in number or shape."""
    counts: list[int] = []
    problems: list[str] = []
    shapes: dict[str, Shape] = {}
    for path in files:
        try:
            rows, of = _proved(path, blobs)
        except Refused as refused:
            problems += refused.reasons
            continue
        counts.append(rows)
        for blob, shape in of.items():
            known = shapes.setdefault(blob, shape)
            if shape != known:
                told = f"'{blob}' has rows of {spell(shape)}"
                problems.append(f"{path}: {told}, but {spell(known)} in {files[0]}")
    if problems:
        raise Refused(*problems)
    return Table(name, tuple(files), tuple(counts), shapes, batch, shuffle)


def _proved(path: Path, blobs: Sequence[str]) -> tuple[int, dict[str, Shape]]:
    """Returns how many rows a file has, and blob -> shape of one."""
    import h5py

    if not path.is_file():
        raise Refused(f"{path}: no such file")
    try:
        with h5py.File(path, "r") as file:
            missing = [blob for blob in blobs if blob not in file]
            there = ", ".join(sorted(file)[:9]) or "nothing"
            if missing:
                raise Refused(
                    *(f"{path}: has no dataset '{blob}', a top of the net; it has {there}" for blob in missing)
                )
            found = {blob: tuple(proved(path, _FORM, file, blob).shape) for blob in blobs}
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        if isinstance(error, Refused):
            raise
        raise Refused(f"{path}: is no whole {_FORM.noun}: {' '.join(str(error).split())[:200]}") from error
    told = ", ".join(f"'{blob}' {spell(shape)}" for blob, shape in found.items())
    rows = {shape[0] for shape in found.values() if shape}
    if len(rows) != 1 or not all(found.values()):
        raise Refused(f"{path}: its datasets have not as many rows: {told}")
    if not sum(rows):
        raise Refused(f"{path}: has no rows: {told}")
    return rows.pop(), {blob: shape[1:] for blob, shape in found.items()}


def ordered(rows: Rows, shuffle: bool, seed: int) -> Rows:
    """Returns the same rows, all shuffled where asked for; ``seed`` decides the orders that are drawn."""
    return Rows(tuple(replace(table, shuffled=table.shuffled or shuffle, seed=seed) for table in rows.tables))


def check_rows(rows: Rows, network: Network) -> None:
    """Raises Refused where rows are not what a network is fed: inputs that no table has, other shapes, labels that are
    no class."""
    problems = []
    names = ", ".join(dict.fromkeys(table.name for table in rows.tables))
    for blob, shape in network.inputs.items():
        if blob not in rows.shapes:
            problems.append(f"{names}: nothing of it feeds '{blob}', an input of the net; say --data FILE.npz")
        elif rows.shapes[blob] != shape:
            told = f"'{blob}' comes as {spell(rows.shapes[blob])}"
            problems.append(f"{names}: {told}; the net wants {spell(shape)}")
    problems = problems or [line for table in rows.tables for line in _label_problems(rows, table, network)]
    if problems:
        raise Refused(*problems)


def _label_problems(rows: Rows, table: Table, network: Network) -> Iterator[str]:
    for blob, of in label_ranges(network).items():
        for path, count in zip(table.files, table.counts) if blob in table.shapes else ():
            size = max(1, _CHECKED // max(1, math.prod(table.shapes[blob])))
            dataset = rows._file(path)[blob]
            for start in range(0, count, size):
                told = label_problem(np.asarray(dataset[start : start + size]), blob, of, start)
                if told:
                    yield f"{path}: {told}"
                    break
