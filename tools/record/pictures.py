"""Which pictures there are, and how one is read."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tools.record.decoding import decode, resized
from weights import Refused

ENDINGS = (".png", ".jpg", ".jpeg", ".jpe", ".bmp", ".pgm", ".ppm", ".tif", ".tiff", ".webp", ".gif", ".jp2")
"""What counts as a picture in a folder; files that are named one by one are tried whatever their ending."""

ARRAYS = (".npy", ".npz")


@dataclass(frozen=True, eq=False)
class PictureSource:
    """A picture that can be read: a file, or row ``row`` of an array (N, C, H, W), whose floats are multiplied by
    ``raw_scale``."""

    name: str
    path: Path
    array: np.ndarray | None = None
    row: int = 0
    raw_scale: float = 1.0

    def read(self, channels: int, size: tuple[int, int]) -> tuple[np.ndarray, str]:
        """Returns the picture in ``size`` (height, width), (H, W, C) uint8 or an array's own numbers, and the digest of
        its bytes. Raises Refused where it can't be read."""
        if self.array is not None:
            values = np.ascontiguousarray(self.array[self.row])
            if len(values) != channels:
                raise Refused(f"has {len(values)} channels, the network's input {channels}")
            digest = hashlib.sha256(values.tobytes()).hexdigest()
            if self.raw_scale != 1 and values.dtype.kind == "f":
                values = values.astype(np.float32) * np.float32(self.raw_scale)
            return resized(np.moveaxis(values, 0, -1), size), digest
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise Refused(f"{error.strerror or error}") from error
        return resized(decode(data, channels), size), hashlib.sha256(data).hexdigest()


def list_pictures(paths: Sequence[str | Path]) -> tuple[tuple[PictureSource, ...], tuple[str, ...]]:
    """Returns the pictures in files, folders (their own files, by name) and arrays (.npy, .npz; uint8 or float,
    (N, C, H, W), as FILE or FILE:NAME), and notes for the user. Raises Refused where one is missing or there are
    none."""
    found: list[PictureSource] = []
    notes: list[str] = []
    problems: list[str] = []
    for given in paths:
        path, name = _split(str(given))
        if path.is_dir():
            files = sorted(
                file for file in path.iterdir() if file.is_file() or (file.is_symlink() and not file.exists())
            )
            pictures = [file for file in files if file.suffix.lower() in ENDINGS]
            if len(pictures) < len(files):
                others = len(files) - len(pictures)
                notes.append(f"{path}: {others} file{'s are' if others > 1 else ' is'} passed over, being no pictures")
            if not pictures:
                problems.append(f"{path}: holds no pictures ({', '.join(ENDINGS[:4])}, ...)")
            found += [PictureSource(file.name, file) for file in pictures]
        elif not path.exists():
            problems.append(f"{path}: no such file or folder")
        elif path.suffix in ARRAYS:
            array = _array(path, name)
            if not len(array):
                problems.append(f"{given}: holds 0 pictures")
            found += [PictureSource(f"{path.name}[{row}]", path, array, row) for row in range(len(array))]
        else:
            found.append(PictureSource(path.name, path))
    if problems:
        raise Refused(*problems)
    found, repeated = _told_apart(found)
    if repeated:
        notes.append(f"{', '.join(repeated[:4])}{', ...' if len(repeated) > 4 else ''}: named twice, read once")
    return tuple(found), tuple(notes)


def _told_apart(pictures: list[PictureSource]) -> tuple[list[PictureSource], list[str]]:
    """Returns the pictures, those of the same name with their folders, and the names of those that were there before
    already."""
    counts = Counter(one.name for one in pictures)
    apart: dict[str, PictureSource] = {}
    repeated = []
    for one in pictures:
        folder = f"{one.path.parent}/" if counts[one.name] > 1 else ""
        name = folder + one.name
        if name in apart:
            repeated.append(name)
        else:
            apart[name] = replace(one, name=name)
    return list(apart.values()), repeated


def _split(given: str) -> tuple[Path, str]:
    path, colon, name = given.rpartition(":")
    if colon and path.endswith(ARRAYS) and not Path(given).exists():
        return Path(path), name
    return Path(given), ""


def _array(path: Path, name: str) -> np.ndarray:
    """Returns the array of pictures in a file, (N, C, H, W)."""
    try:
        loaded: Any = np.load(path, mmap_mode="r", allow_pickle=False)
        if path.suffix == ".npz":
            with loaded:
                arrays = {key: loaded[key] for key in ([name] if name else loaded.files)}
        else:
            arrays = {name: loaded}
    except KeyError as error:
        raise Refused(f"{path}: holds no array '{name}'") from error
    except Exception as error:  # zipfile's, zlib's and NumPy's own
        raise Refused(f"{path}: is no whole file of arrays: {' '.join(str(error).split())[:200]}") from error
    fitting = {
        key: array for key, array in arrays.items()
        if array.ndim == 4 and array.shape[1] in (1, 3) and array.dtype.kind in "uf"
    }  # fmt: skip
    if len(fitting) != 1:
        what = f"{len(fitting)} arrays ({', '.join(fitting)})" if fitting else "no array"
        raise Refused(f"{path}: holds {what} of pictures, (N, 1 or 3, H, W), uint8 or float; name one as {path}:NAME")
    (array,) = fitting.values()
    return array
