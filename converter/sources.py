"""The files that a port is made from, recognised by what is in them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from weights import Refused

# First bytes -> what the file is, and what to do with it here.
MAGIC = {
    b"\x89HDF\r\n\x1a\n": "is an HDF5 file; HDF5 weights are not read yet, give the .caffemodel",
    b"PK\x03\x04": "is a zip archive (.npz?); such weights are not read yet, give the .caffemodel",
    b"\x93NUMPY": "is a NumPy file; such weights are not read yet, give the .caffemodel",
    b"\x89PNG": "is a picture; give a .prototxt and a .caffemodel",
    b"\xff\xd8\xff": "is a picture; give a .prototxt and a .caffemodel",
    b"\x1f\x8b": "is compressed (gzip); unpack it first",
    b"version https://git-lfs": "is a Git LFS pointer, not the file itself; run 'git lfs pull' where it came from",
}

DEFINITION = "definition"
WEIGHTS = "weights"


@dataclass(frozen=True)
class Source:
    """A file as it was read: ``kind`` is DEFINITION or WEIGHTS."""

    path: Path
    kind: str
    data: bytes

    @property
    def name(self) -> str:
        """The file's name, without its folder."""
        return self.path.name

    @cached_property
    def sha256(self) -> str:
        """The hexadecimal digest of the file's bytes."""
        return hashlib.sha256(self.data).hexdigest()


def read_source(path: str | Path) -> Source:
    """Returns the file in ``path``. Raises Refused where it can't be read, is empty, or is of a known other kind."""
    path = Path(path)
    if path.is_dir():
        raise Refused(f"{path}: is a folder; give a .prototxt and a .caffemodel")
    if path.exists() and not path.is_file():
        raise Refused(f"{path}: is not a regular file")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Refused(f"{path}: {error.strerror or error}") from error
    if not data:
        raise Refused(f"{path}: is empty")
    for magic, reason in MAGIC.items():
        if data.startswith(magic):
            raise Refused(f"{path}: {reason}")
    return Source(path, DEFINITION if is_text(data[:65536]) else WEIGHTS, data)


def is_text(head: bytes) -> bool:
    """Returns whether a file that starts so is text: no control characters but white space."""
    return not any(byte < 9 or 13 < byte < 32 or byte == 127 for byte in head)


def decoded(data: bytes) -> str:
    """Returns a text file's characters: UTF-8, or Latin-1 where it is not (comments in older encodings)."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")
