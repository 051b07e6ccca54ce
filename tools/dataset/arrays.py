"""Pictures in arrays: a pair of .npy files, the pictures and their labels."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from graphs.layer import spell
from tools.dataset.examples import Examples
from tools.dataset.labels import proved
from tools.dataset.storage import locate, temporary_folder
from weights import Refused


@dataclass(frozen=True, eq=False)
class Rows:
    """Pictures as the rows of ``array``, (N, H, W, C), on the disk; in ``folder`` where it was fetched."""

    listed: str
    array: np.ndarray = field(repr=False)
    folder: Any = field(default=None, repr=False)

    @property
    def is_remote(self) -> bool:
        """Whether a picture is waited for: never, as an array is fetched whole."""
        return False

    def name(self, number: int) -> str:
        """Returns ``x.npy: row 7``; rows count from 0."""
        return f"{self.listed}: row {number}"

    def picture(self, number: int) -> np.ndarray:
        """Returns a row, (H, W, C). Raises Refused where it holds values that are no numbers."""
        row = np.ascontiguousarray(self.array[number])
        if row.dtype.kind == "f" and not np.isfinite(row).all():
            raise Refused("holds values that are not finite")
        return row

    def problems(self, numbers: Sequence[int]) -> Iterator[str]:
        """Yields "" for each of ``numbers``: all are there, and values are looked at when they are read."""
        return ("" for _ in numbers)


def arrays_of(*sets: Examples) -> dict[str, np.ndarray]:
    """Returns the arrays that pictures of the sets are rows of, by the names that the user gave."""
    return {one.source.listed: one.source.array for one in sets if isinstance(one.source, Rows)}


def is_pair(place: str) -> bool:
    """Returns whether ``place`` names arrays: ``x.npy``, or ``pictures.npy,labels.npy``."""
    return all(part.endswith(".npy") for part in place.split(","))


def read_pair(place: str, classes: Sequence[str] | None) -> Examples:
    """Returns the pictures of a pair of arrays: ``x.npy`` with ``y.npy`` beside it (the same name but for the first
    letter), or ``pictures.npy,labels.npy``.

    Pictures are (N, H, W, C), (N, C, H, W) or grey (N, H, W), whole numbers or floats; channels are in the order that
    the network reads. Labels are class indices (N,) or one-hot (N, classes). Raises Refused where they are not.
    """
    pictures, labels = _names(place)
    array, folder = _load(pictures)
    rows = Rows(pictures, _channels_last(pictures, array), folder)
    given, _ = _load(labels)
    if given.shape[:1] != array.shape[:1]:
        raise Refused(f"{labels}: has the shape {spell(given.shape)}, but {pictures} holds {len(array)} pictures")
    if not len(array):
        raise Refused(f"{pictures}: holds no picture")
    if given.ndim == 2 and given.shape[1] > 1:
        if classes is not None and given.shape[1] != len(classes):
            raise Refused(f"{labels}: is one-hot over {given.shape[1]} classes, but training has {len(classes)}")
        classes = classes or tuple(map(str, range(given.shape[1])))
    indices, names, notes = proved(_indices(labels, given), classes, lambda row: f"{labels}: row {row}")
    return Examples(place, rows, np.arange(len(indices)), indices, names, notes)


def _names(place: str) -> tuple[str, str]:
    parts = place.split(",")
    if len(parts) == 2:
        return parts[0], parts[1]
    folder, name = posixpath.split(place)
    if len(parts) > 2 or name[:1] not in ("x", "X"):
        raise Refused(f"{place}: does not say where the labels are; name both: pictures.npy,labels.npy")
    return place, posixpath.join(folder, {"x": "y", "X": "Y"}[name[0]] + name[1:])


def _load(place: str) -> tuple[np.ndarray, Any]:
    """Returns an array, mapped from the disk, and the folder that it was fetched to, None where it lies here."""
    storage, path = locate(place)
    folder: Any = None
    try:
        if storage.is_remote:
            folder = temporary_folder()
            fetched = Path(folder.name, "array.npy")
            storage.fetch(path, fetched)
            path = str(fetched)
        return np.load(path, mmap_mode="r", allow_pickle=False), folder
    except FileNotFoundError as error:
        raise Refused(f"{place}: no such file") from error
    except Refused as refused:
        raise type(refused)(*refused.within(place).reasons) from refused
    except (OSError, ValueError, EOFError) as error:
        if "objects" in str(error):
            raise Refused(f"{place}: holds pickled objects, which are not read as they may run code") from error
        raise Refused(f"{place}: is no whole array: {' '.join(str(error).split())}") from error


def _channels_last(place: str, array: np.ndarray) -> np.ndarray:
    """Returns a view of pictures as (N, H, W, C)."""
    if array.dtype.kind not in "uif":
        raise Refused(f"{place}: holds {array.dtype}; expected whole numbers or floats")
    if array.ndim == 3:
        return array[..., None]
    if array.ndim == 4 and array.shape[3] in (1, 3):
        return array
    if array.ndim == 4 and array.shape[1] in (1, 3):
        return np.moveaxis(array, 1, 3)
    raise Refused(f"{place}: has the shape {spell(array.shape)}; expected pictures: NxHxWxC, NxCxHxW or NxHxW")


def _indices(place: str, given: np.ndarray) -> np.ndarray:
    """Returns labels as class indices (N,)."""
    if given.dtype.kind not in "biuf" or given.ndim > 2:
        what = f"{given.dtype} of the shape {spell(given.shape)}"
        raise Refused(f"{place}: holds {what}; expected class indices (N) or one-hot rows (NxCLASSES)")
    if given.ndim == 2 and given.shape[1] > 1:
        wrong = np.flatnonzero(((given != 0).sum(axis=1) != 1) | (given.max(axis=1) != 1))
        if len(wrong):
            raise Refused(f"{place}: row {wrong[0]} is not one-hot; expected one 1, and 0 elsewhere")
        return given.argmax(axis=1)
    flat = given.reshape(-1)
    wrong = np.flatnonzero(flat != np.floor(flat)) if flat.dtype.kind == "f" else np.empty(0, int)
    if len(wrong):
        raise Refused(f"{place}: row {wrong[0]}: label {flat[wrong[0]]:g} is no whole number")
    return flat
