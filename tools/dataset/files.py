"""Pictures in files: named by a list, or laid in a folder for each class."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from tools.dataset.examples import Examples
from tools.dataset.labels import proved, refuse_all
from tools.dataset.storage import Kept, Storage, Unreachable, locate
from tools.record.decoding import check
from tools.record.pictures import ENDINGS
from weights import Refused

TOGETHER = 16
"""Requests that are under way at once: a bucket takes its time to answer, and answers many."""


@dataclass(frozen=True, eq=False)
class Files:
    """Picture files below ``base``, by their paths from there; a path that names a storage of its own lies there.

    ``lines`` are their lines in the list ``listed``; None where ``listed`` is a folder.
    """

    listed: str
    storage: Storage
    base: str
    paths: tuple[str, ...]
    lines: np.ndarray | None = None
    kept: Kept = field(default_factory=Kept, repr=False)

    @property
    def is_remote(self) -> bool:
        """Whether a picture is waited for rather than read."""
        return self.storage.is_remote or any("://" in path for path in self.paths[:1])

    def name(self, number: int) -> str:
        """Returns ``train.txt: line 7: cats/3.jpg``, or ``pictures/cats/3.jpg``."""
        if self.lines is None:
            return f"{self.listed.rstrip('/')}/{self.paths[number]}"
        return f"{self.listed}: line {self.lines[number]}: {self.paths[number]}"

    def picture(self, number: int) -> bytes:
        """Returns a file's bytes; of a bucket's they are kept for the next time. Raises Refused where there is no such
        file, Unreachable where the storage is at fault."""
        storage, path = self._where(number)
        try:
            return self.kept.read(storage, path, number) if storage.is_remote else storage.read(path)
        except Unreachable as refused:
            raise Unreachable(*refused.within(storage.spelled(path)).reasons) from refused

    def problems(self, numbers: Sequence[int]) -> Iterator[str]:
        """Yields for each of ``numbers`` why it can't be a picture: its file is missing or, on the disk, its first
        bytes are no picture's. Raises Unreachable where the storage is at fault."""
        places = [self._where(number) for number in numbers]
        folders = {
            (storage.scheme, posixpath.dirname(path)): (storage, posixpath.dirname(path))
            for storage, path in places
            if storage.is_remote
        }
        with ThreadPoolExecutor(TOGETHER) as workers:
            present = {path for found in workers.map(lambda one: _files(*one), folders.values()) for path in found}
        for storage, path in places:
            if storage.is_remote:
                yield "" if path in present else "no such file"
            else:
                yield _problem(path)

    def _where(self, number: int) -> tuple[Storage, str]:
        path = self.paths[number]
        if "://" in path:
            return locate(path)
        return self.storage, posixpath.normpath(posixpath.join(self.base, path))


def _files(storage: Storage, folder: str) -> list[str]:
    """Returns the paths of a folder's files, none where it does not exist."""
    try:
        return [path for path, is_folder in storage.entries(folder).items() if not is_folder]
    except Unreachable as refused:
        raise Unreachable(*refused.within(storage.spelled(folder)).reasons) from refused
    except Refused:
        return []


def _problem(path: str) -> str:
    try:
        with open(path, "rb") as file:
            check(file)
    except FileNotFoundError:
        return "no such file"
    except OSError as error:
        return error.strerror or str(error)
    except Refused as refused:
        return str(refused)
    return ""


def read_list(place: str, root: str, classes: Sequence[str] | None) -> Examples:
    """Returns the pictures that a text list names: a line for each, its path (from ``root``, else from the list's
    folder; it may hold spaces) and then its label. Blank lines say nothing.

    Raises Refused with the lines that are none of this, and where there is no picture.
    """
    storage, path = locate(place)
    try:
        text = storage.read(path)
    except Refused as refused:
        raise type(refused)(*refused.within(place).reasons) from refused
    if b"\0" in text:
        raise Refused(f"{place}: is no text; expected lines of a path and a label, a folder, or a pair of .npy")
    lines = text.decode("utf-8-sig", errors="surrogateescape").split("\n")
    split = {number: line.rsplit(None, 1) for number, line in enumerate(lines, start=1) if line.strip()}
    refuse_all(
        f"{place}: line {number}: {_wrong(words)}; expected a path and a label, a whole number that counts from 0"
        for number, words in split.items()
        if _wrong(words)
    )
    if not split:
        raise Refused(f"{place}: names no picture")
    numbers = np.array(list(split), np.int64)
    values = np.array([int(words[1]) for words in split.values()], np.int64)
    labels, names, notes = proved(values, classes, lambda index: f"{place}: line {numbers[index]}")
    base_storage, base = locate(root) if root else (storage, posixpath.dirname(path))
    files = Files(place, base_storage, base.rstrip("/"), tuple(words[0].strip() for words in split.values()), numbers)
    return Examples(place, files, np.arange(len(labels)), labels, names, notes)


def _wrong(words: list[str]) -> str:
    if len(words) < 2:
        return f"'{words[0]}' is all there is"
    label = words[1].lstrip("+-")
    if not (label.isascii() and label.isdigit() and len(label) < 19):
        return f"label '{words[1]}' is no whole number"
    return ""


def read_folder(place: str, classes: Sequence[str] | None) -> Examples:
    """Returns the pictures in a folder that has a folder for each class, in the order of their names; files that are
    hidden or no pictures by their ending are passed over, and counted in the notes.

    Raises Refused where there are no such folders, one has no pictures, or they are not those of ``classes``.
    """
    storage, path = locate(place)
    path, shown = path.rstrip("/"), place.rstrip("/")
    try:
        inside = storage.entries(path)
        found = {posixpath.basename(one): one for one, is_folder in inside.items() if is_folder}
        folders = {name: found[name] for name in sorted(found) if not name.startswith(".")}
        with ThreadPoolExecutor(TOGETHER) as workers:
            entries = dict(zip(folders, workers.map(storage.entries, folders.values())))
    except Refused as refused:
        raise type(refused)(*refused.within(place).reasons) from refused
    pictures = {name: sorted(filter(_is_picture, files.items())) for name, files in entries.items()}
    _check_classes(shown, pictures, classes)
    names = tuple(pictures) if classes is None else tuple(classes)
    paths = [f"{name}/{posixpath.basename(file)}" for name in names for file, _ in pictures[name]]
    labels = np.repeat(np.arange(len(names), dtype=np.int64), [len(pictures[name]) for name in names])
    others = len(inside) - len(folders) + sum(len(files) - len(pictures[name]) for name, files in entries.items())
    notes = (f"{shown}: passed over, being hidden or no pictures: {others}",) if others else ()
    return Examples(place, Files(shown, storage, path, tuple(paths)), np.arange(len(paths)), labels, names, notes)


def _is_picture(entry: tuple[str, bool]) -> bool:
    path, is_folder = entry
    name = posixpath.basename(path)
    return not is_folder and not name.startswith(".") and name.lower().endswith(ENDINGS)


def _check_classes(shown: str, pictures: dict[str, list[tuple[str, bool]]], classes: Sequence[str] | None) -> None:
    """Raises Refused where a folder's classes are none, empty, or not those that are expected."""
    if not pictures:
        raise Refused(f"{shown}: holds no folders; expected one for each class, with its pictures")
    empty = [name for name, files in pictures.items() if not files]
    refuse_all(f"{shown}/{name}: holds no pictures ({', '.join(ENDINGS[:4])}, ...)" for name in empty)
    if classes is not None:
        surplus = [name for name in pictures if name not in classes]
        lacking = [name for name in classes if name not in pictures]
        refuse_all(
            [f"{shown}: has a folder for class '{name}', which is not among the training classes" for name in surplus]
            + [f"{shown}: has no folder for class '{name}', which training has" for name in lacking]
        )
