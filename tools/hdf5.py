"""HDF5 files that may come from anywhere: opened and believed only as far as they are proved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weights import Refused

SIGNATURE = b"\x89HDF\r\n\x1a\n"

DENSEST = 1100
"""Bytes that one byte of a compressed file can stand for; a file that claims more is not believed."""


@dataclass(frozen=True)
class Form:
    """A kind of file of ours. ``kind`` and ``format`` stand in its attributes; ``noun`` is what messages call it,
    ``maker`` the command that makes one, ``again`` what to do with one of another version."""

    kind: str
    format: int
    noun: str
    maker: str
    again: str


@contextmanager
def opened(path: Path, form: Form) -> Iterator[Any]:
    """Yields the open h5py.File. Raises Refused, one line, where it is missing, broken, or of another kind; also for
    what h5py raises in the block."""
    import h5py

    try:
        with path.open("rb") as plain:
            signature = plain.read(8)
    except IsADirectoryError as error:
        raise Refused(f"{path}: is a folder; name a {form.noun}, which {form.maker} makes") from error
    except OSError as error:
        raise Refused(f"{path}: {error.strerror or error}") from error
    if signature != SIGNATURE:
        raise Refused(f"{path}: is no {form.noun}; make one with {form.maker}")
    try:
        with h5py.File(path, "r") as file:
            if file.attrs.get("kind") != form.kind:
                raise Refused(f"{path}: is HDF5, but no {form.noun}; make one with {form.maker}")
            if file.attrs.get("format") != form.format:
                version = file.attrs.get("format")
                raise Refused(
                    f"{path}: is of {form.noun} format {version}, this reads format {form.format}; {form.again}"
                )
            yield file
    except Refused:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise Refused(f"{path}: is no whole {form.noun}: {' '.join(str(error).split())[:200]}") from error


def proved(path: Path, form: Form, file: Any, name: str, rows: int | None = None) -> Any:
    """Returns an array once it is known to lie in this very file, to be no larger than the file can hold, and to have
    ``rows``."""
    import h5py

    parts = name.split("/")
    for depth in range(1, len(parts) + 1):
        if not isinstance(file.get("/".join(parts[:depth]), getlink=True), h5py.HardLink):
            raise Refused(f"{path}: is no whole {form.noun}: '{name}' is missing or a link")
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "fiu":
        raise Refused(f"{path}: is no whole {form.noun}: '{name}' is no array of numbers")
    if dataset.external or dataset.is_virtual or dataset.nbytes > DENSEST * (dataset.id.get_storage_size() + 64):
        raise Refused(f"{path}: is no whole {form.noun}: '{name}' does not hold its numbers")
    if rows is not None and len(dataset) != rows:
        raise Refused(f"{path}: is no whole {form.noun}: '{name}' has {len(dataset)} rows, not {rows}")
    return dataset
