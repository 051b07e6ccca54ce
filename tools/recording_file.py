"""Recordings in files: HDF5 with everything that a comparison needs, and nothing that can run.

    facts           what holds for all runs, and each run's pictures: JSON, as bytes
    mean            the mean that was subtracted, (C,) or (C, H, W)
    inputs/I        rows as they were fed, float32; of blob number I of the facts
    outputs/I       rows of scores, float32
    values          the layers' values, layer after layer and run after run, whole or sampled, float32
    index           flat places of the sampled ones in their blobs, int32 or int64
    shapes          a row for each run: its number, then the sizes of all layers' blobs, one blob after the other
    counts, whole   (runs, layers' tops): how many values there are; 1 for a whole blob, 0 for a sample, 2 for nothing
    statistics      (runs, layers' tops, 3): largest magnitude, root mean square, mean

Every array carries checksums, which HDF5 verifies as it reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tools.hdf5 import Form, opened, proved
from tools.prefetch import prefetched
from tools.recording import Broken, Facts, Key, Picture, Run, Statistics, Value
from tools.recording_facts import facts_as_json, facts_from_json
from weights import Refused
from weights.staging import staged

FORM = Form("caffeport recording", 1, "recording", "python -m tools.record", "record it again")

ABSENT = 2
"""Stands in ``whole`` for a value that was not recorded."""

SHOWN = 3
"""Broken pictures that are named where no other is left."""

LARGE = 64 << 20
"""Bytes of a run from which on they are stored as they are: packing floats costs more time than it saves room."""


@dataclass(frozen=True)
class RunHead:
    """What is known of a run before its numbers are read: pictures, and how many rows were fed."""

    pictures: tuple[Picture, ...]
    broken: tuple[Broken, ...]
    rows: int


@dataclass(frozen=True, eq=False)
class Recording:
    """A recording in a file, a ``Truth``; its numbers are read run by run, when they are asked for.

    ``starts`` is array -> where each run begins in it, and the end.
    """

    path: Path
    facts: Facts
    heads: tuple[RunHead, ...]
    starts: dict[str, np.ndarray] = field(repr=False)

    @property
    def count(self) -> int:
        """Number of runs."""
        return len(self.heads)

    @property
    def pictures(self) -> tuple[Picture, ...]:
        """All pictures, in order."""
        return tuple(picture for head in self.heads for picture in head.pictures)

    def run(self, number: int) -> Run:
        """Returns a run. Raises Refused where the file is broken there."""
        head = self.heads[number]
        if not head.rows:
            return Run(number, (), {}, {}, {}, head.broken)
        with _opened(self.path) as file:
            inputs = self._inputs(file, number)
            outputs = {
                blob: self._rows(file, f"outputs/{place}", number) for place, blob in enumerate(self.facts.classes)
            }
            table = {name: file[name][number] for name in ("shapes", "counts", "whole", "statistics")}
            index = self._rows(file, "index", number).astype(np.int64)
            values = self._values(self._rows(file, "values", number), index, table)
        return Run(number, head.pictures, inputs, values, outputs, head.broken)

    def fed(self, number: int) -> tuple[tuple[Picture, ...], dict[str, np.ndarray]]:
        """Returns a run's pictures and inputs alone. Raises Refused where the file is broken there."""
        head = self.heads[number]
        if not head.rows:
            return (), {}
        with _opened(self.path) as file:
            return head.pictures, self._inputs(file, number)

    def runs(self, start: int = 0) -> Iterator[Run]:
        """Yields the runs from number ``start`` on, the next one read meanwhile."""
        yield from prefetched(self.run, start, self.count)

    def _inputs(self, file: Any, number: int) -> dict[str, np.ndarray]:
        return {blob: self._rows(file, f"inputs/{place}", number) for place, blob in enumerate(self.facts.inputs)}

    def _rows(self, file: Any, name: str, number: int) -> np.ndarray:
        start, stop = self.starts[name][number : number + 2]
        return file[name][start:stop]

    def _values(self, numbers: np.ndarray, index: np.ndarray, table: dict[str, np.ndarray]) -> dict[Key, Value]:
        values: dict[Key, Value] = {}
        at, at_index, at_size = 0, 0, 1
        for place, (key, rank) in enumerate(_ranks(self.facts)):
            if table["whole"][place] == ABSENT:
                at_size += rank
                continue
            count, is_whole = int(table["counts"][place]), bool(table["whole"][place])
            shape = tuple(int(size) for size in table["shapes"][at_size : at_size + rank])
            own = numbers[at : at + count]
            places = None if is_whole else index[at_index : at_index + count]
            if places is not None and len(places) and not 0 <= places.min() <= places.max() < _size(shape):
                raise Refused(f"{self.path}: is no whole recording: '{key[0]}' has places outside of its blob")
            statistics = Statistics(*map(float, table["statistics"][place]))
            values[key] = Value(shape, own.reshape(shape) if places is None else own, places, statistics)
            at, at_index, at_size = at + count, at_index + (0 if is_whole else count), at_size + rank
        return values


def write_recording(path: Path, facts: Facts, runs: Iterable[Run], inside: Path | None = None) -> None:
    """Writes a recording, run after run as they come, whole or not at all; ``inside`` is a folder for what is not yet
    whole. Raises Refused where ``path`` can't be written, and where no picture could be read."""
    import h5py

    with staged(path.parent, inside) as stage, h5py.File(stage / path.name, "w") as file:
        file.attrs["kind"], file.attrs["format"] = FORM.kind, FORM.format
        heads = [_append(file, facts, run) for run in runs]
        if not any(head["pictures"] for head in heads):
            reasons = [f"{name}: {reason}" for head in heads for name, reason in head["broken"]]
            raise Refused(*reasons[:SHOWN], f"none of the {len(reasons)} pictures can be read")
        _extend(file, "mean", np.asarray(facts.preprocessing.mean, np.float32))
        text = json.dumps({**facts_as_json(facts), "runs": heads}, separators=(",", ":"))
        _extend(file, "facts", np.frombuffer(text.encode(), np.uint8))


def _append(file: Any, facts: Facts, run: Run) -> dict[str, Any]:
    for place, blob in enumerate(facts.inputs if run.pictures else ()):
        _extend(file, f"inputs/{place}", np.asarray(run.inputs[blob], np.float32))
    for place, blob in enumerate(facts.classes if run.pictures else ()):
        _extend(file, f"outputs/{place}", run.outputs[blob])
    absent = Value((), np.zeros(0, np.float32), None, Statistics(0.0, 0.0, 0.0))
    values = [run.values.get(key, absent) for key, _ in _ranks(facts)]
    shapes = [value.shape or (0,) * rank for value, (_, rank) in zip(values, _ranks(facts))]
    index = [value.index for value in values if value.index is not None]
    known = [[value.statistics.absmax, value.statistics.rms, value.statistics.mean] for value in values]
    _extend(file, "values", np.concatenate([value.values.reshape(-1) for value in values]))
    _extend(file, "index", np.concatenate(index) if index else np.zeros(0, np.int64))
    _extend(file, "shapes", np.array([[run.number, *(size for shape in shapes for size in shape)]], np.int64))
    _extend(file, "counts", np.array([[value.values.size for value in values]], np.int64))
    _extend(file, "whole", np.array([[ABSENT if v is absent else v.is_whole for v in values]], np.uint8))
    _extend(file, "statistics", np.array([known], np.float64))
    return {
        "pictures": [[picture.name, picture.sha256] for picture in run.pictures],
        "broken": [[one.name, one.reason] for one in run.broken],
        "rows": len(next(iter(run.inputs.values()))) if run.inputs else 0,
    }


def _extend(file: Any, name: str, rows: np.ndarray) -> None:
    """Appends rows to an array, which is made where it is not there yet."""
    if name in file:
        dataset = file[name]
        start = len(dataset)
        dataset.resize(start + len(rows), axis=0)
        dataset[start:] = rows
        return
    inner = max(1, int(np.prod(rows.shape[1:], dtype=np.int64)))
    chunk = (max(1, min(len(rows) or 1024, (1 << 16) // inner)), *(max(1, size) for size in rows.shape[1:]))
    packed = {"compression": "gzip", "compression_opts": 4, "shuffle": True} if rows.nbytes < LARGE else {}
    file.create_dataset(name, data=rows, maxshape=(None, *rows.shape[1:]), chunks=chunk, fletcher32=True, **packed)


def read_recording(path: str | Path) -> Recording:
    """Returns the recording in a file, proved as a whole but for its numbers' checksums, which are verified as each is
    read. Raises Refused, one line, where it is missing, truncated, of another version, or none at all."""
    path = Path(path)
    with _opened(path) as file:
        _proved(path, file, "facts")
        stated = json.loads(file["facts"][()].tobytes())
        facts = facts_from_json(stated, _proved(path, file, "mean")[()])
        heads = tuple(
            RunHead(
                tuple(Picture(str(name), str(digest)) for name, digest in one["pictures"]),
                tuple(Broken(str(name), str(reason)) for name, reason in one["broken"]),
                int(one["rows"]),
            )
            for one in stated["runs"]
        )
        starts = _starts(path, file, facts, heads)
    return Recording(path, facts, heads, starts)


def _opened(path: Path) -> AbstractContextManager[Any]:
    return opened(path, FORM)


def _proved(path: Path, file: Any, name: str, rows: int | None = None) -> Any:
    return proved(path, FORM, file, name, rows)


def _starts(path: Path, file: Any, facts: Facts, heads: tuple[RunHead, ...]) -> dict[str, np.ndarray]:
    ranks = [rank for _, rank in _ranks(facts)]
    for name, width in (("shapes", 1 + sum(ranks)), ("counts", len(ranks)), ("whole", len(ranks))):
        if _proved(path, file, name, len(heads)).shape[1:] != (width,):
            raise Refused(f"{path}: is no whole recording: '{name}' has another width than it should")
    if _proved(path, file, "statistics", len(heads)).shape[1:] != (len(ranks), 3):
        raise Refused(f"{path}: is no whole recording: 'statistics' has another width than it should")
    counts, whole, shapes = (file[name][()] for name in ("counts", "whole", "shapes"))
    whole = whole.astype(int)
    ends = np.cumsum(ranks)[:-1]
    sizes = np.array([[_size(shape) for shape in np.split(row, ends)] for row in shapes[:, 1:]], dtype=object)
    if (counts < 0).any() or (counts > sizes).any() or ((whole == 1) & (counts != sizes)).any():
        raise Refused(f"{path}: is no whole recording: its values have impossible sizes")
    rows = {
        **{f"inputs/{place}": [head.rows for head in heads] for place in range(len(facts.inputs))},
        **{f"outputs/{place}": [len(head.pictures) for head in heads] for place in range(len(facts.classes))},
        "values": counts.sum(axis=1),
        "index": np.where(whole, 0, counts).sum(axis=1),
    }
    starts = {name: np.concatenate([[0], np.cumsum(np.array(own, np.int64))]) for name, own in rows.items()}
    for name, own in starts.items():
        _proved(path, file, name, own[-1])
    return starts


def _size(shape: Iterable[int]) -> int:
    size = 1
    for one in shape:
        size *= int(one)
    return size


def _ranks(facts: Facts) -> list[tuple[Key, int]]:
    """Returns each layer's values with their number of axes."""
    return [(key, len(top.shape)) for layer in facts.layers for key, top in zip(layer.keys, layer.tops)]
