"""What an interrupted command has done so far, beside its output, so that the next one goes on from there."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tools.recording import Broken, Facts, Picture, Run, Statistics, Truth, Value


@dataclass(frozen=True)
class Journal:
    """A folder ``.OUTPUT.journal`` with a file for each part that is done. ``request`` names all that the parts depend
    on; a journal of another request is thrown away."""

    folder: Path

    @classmethod
    def beside(cls, output: Path, request: Any) -> Journal:
        """Returns the journal of an output, empty unless one of the very same request lies there. Nothing is written
        before the first part."""
        folder = output.with_name(f".{output.name}.journal")
        digest = hashlib.sha256(json.dumps(request, sort_keys=True, default=str).encode()).hexdigest()
        journal = cls(folder / digest[:32])
        if folder.is_dir() and not journal.folder.is_dir():
            shutil.rmtree(folder, ignore_errors=True)
        return journal

    def done(self) -> int:
        """Returns how many parts are there, counted from the first without a gap."""
        count = 0
        while self._path(count).exists():
            count += 1
        return count

    def load(self, part: int) -> bytes:
        """Returns what was stored."""
        return self._path(part).read_bytes()

    def store(self, part: int, content: bytes) -> None:
        """Stores a part, whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        unfinished = self._path(part).with_suffix(".unfinished")
        unfinished.write_bytes(content)
        os.replace(unfinished, self._path(part))

    def room(self) -> Path:
        """Returns a folder for what is not yet whole, which goes when the journal goes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for stale in self.folder.glob(".caffeport-*"):
            shutil.rmtree(stale, ignore_errors=True)
        return self.folder

    def remove(self) -> None:
        """Removes the journal: the work is done, or can't be."""
        shutil.rmtree(self.folder.parent, ignore_errors=True)

    def _path(self, part: int) -> Path:
        return self.folder / f"{part:06}"


def journaled(truth: Truth, journal: Journal) -> Iterator[Run]:
    """Yields a truth's runs: those in the journal as they were, then the others, which are stored there."""
    done = min(journal.done(), truth.count)
    for number in range(done):
        yield unpacked(journal.load(number), truth.facts, number)
    for run in truth.runs(done):
        if truth.count > 1:
            journal.store(run.number, packed(run, truth.facts))
        yield run


def packed(run: Run, facts: Facts) -> bytes:
    """Returns a run as bytes (an .npz)."""
    arrays: dict[str, np.ndarray] = {}
    for place, key in enumerate(_keys(facts)):
        value = run.values.get(key)
        if value is not None:
            arrays[f"value{place}"] = value.values
            arrays[f"shape{place}"] = np.array(value.shape, np.int64)
            known = value.statistics
            arrays[f"statistics{place}"] = np.array([known.absmax, known.rms, known.mean])
            if value.index is not None:
                arrays[f"index{place}"] = value.index
    arrays |= {f"input{place}": run.inputs[blob] for place, blob in enumerate(facts.inputs) if run.inputs}
    arrays |= {f"output{place}": run.outputs[blob] for place, blob in enumerate(facts.classes) if run.outputs}
    head = {
        "pictures": [[picture.name, picture.sha256] for picture in run.pictures],
        "broken": [[one.name, one.reason] for one in run.broken],
    }
    arrays["head"] = np.frombuffer(json.dumps(head).encode(), np.uint8)
    held = io.BytesIO()
    np.savez(held, **arrays)  # type: ignore[arg-type]
    return held.getvalue()


def unpacked(content: bytes, facts: Facts, number: int) -> Run:
    """Returns the run that ``packed`` made bytes of."""
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        head = json.loads(arrays["head"].tobytes())
        values = {
            key: Value(
                tuple(int(size) for size in arrays[f"shape{place}"]),
                arrays[f"value{place}"],
                arrays.get(f"index{place}"),
                Statistics(*map(float, arrays[f"statistics{place}"])),
            )
            for place, key in enumerate(_keys(facts))
            if f"value{place}" in arrays
        }
        inputs = {blob: arrays[f"input{p}"] for p, blob in enumerate(facts.inputs) if f"input{p}" in arrays}
        outputs = {blob: arrays[f"output{p}"] for p, blob in enumerate(facts.classes) if f"output{p}" in arrays}
    pictures = tuple(Picture(*one) for one in head["pictures"])
    return Run(number, pictures, inputs, values, outputs, tuple(Broken(*one) for one in head["broken"]))


def _keys(facts: Facts) -> list[tuple[str, str]]:
    return [key for layer in facts.layers for key in layer.keys]
