"""The files that a port is made from, recognised by what is in them."""

from __future__ import annotations

import hashlib
import mmap
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from weights import Refused
from weights.torch_file import LEGACY_MAGIC

DEFINITION = "definition"
CAFFEMODEL = "caffemodel"
HDF5 = "HDF5 snapshot"
NPZ = "npz"
NPY = "npy"
PICKLE = "pickle"
SAFETENSORS = "safetensors"
TORCH = "PyTorch file"
CHECKPOINT = "checkpoint"
FROZEN = "frozen graph"
MEAN = "mean picture"

# First bytes -> the kind of file.
MAGIC = {
    b"\x89HDF\r\n\x1a\n": HDF5,
    b"PK\x03\x04": NPZ,
    LEGACY_MAGIC: TORCH,
    b"\x93NUMPY": NPY,
    b"\x80\x02": PICKLE,
    b"\x80\x03": PICKLE,
    b"\x80\x04": PICKLE,
    b"\x80\x05": PICKLE,
}

# First bytes -> what to say of files that are none of ours.
FOREIGN = {
    b"\x89PNG": "is a picture; give a .prototxt and a .caffemodel",
    b"\xff\xd8\xff": "is a picture; give a .prototxt and a .caffemodel",
    b"GIF8": "is a picture; give a .prototxt and a .caffemodel",
    b"\xff\xfe": "is UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "is UTF-16 text; save it as UTF-8",
    b"\x1f\x8b": "is compressed (gzip); unpack it first",
    b"version https://git-lfs": "is a Git LFS pointer, not the file itself; run 'git lfs pull' where it came from",
    b"PK\x05\x06": "is an empty archive",
}


@dataclass(frozen=True)
class Source:
    """A file that was recognised. Of a checkpoint, ``path`` is the prefix of its files."""

    path: Path
    kind: str

    @property
    def name(self) -> str:
        """The file's name, without its folder."""
        return self.path.name

    @cached_property
    def data(self) -> memoryview:
        """The file's bytes, where they lie on the disk: what is read of them is copied by whoever needs it."""
        with open(self.path, "rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    @property
    def files(self) -> list[Path]:
        """The files that hold it."""
        if self.kind != CHECKPOINT:
            return [self.path]
        found = self.path.parent.glob(self.path.name + ".*")
        return sorted(file for file in found if ".data-" in file.name or file.name.endswith(".index"))

    @cached_property
    def sha256(self) -> str:
        """The hexadecimal digest of its bytes."""
        digest = hashlib.sha256()
        for path in self.files:
            digest.update(Source(path, self.kind).data)
        return digest.hexdigest()


def recognise(path: str | Path) -> Source:
    """Returns the file in ``path`` with its kind. Raises Refused where it can't be read, is empty, or is of a known
    other kind."""
    path = Path(path)
    prefix = checkpoint_prefix(path)
    if prefix is not None:
        return Source(prefix, CHECKPOINT)
    if path.is_dir():
        raise Refused(f"{path}: is a folder; give a .prototxt and a .caffemodel")
    if path.exists() and not path.is_file():
        raise Refused(f"{path}: is not a regular file")
    try:
        with open(path, "rb") as file:
            head = file.read(65536)
    except OSError as error:
        raise Refused(f"{path}: {error.strerror or error}") from error
    if not head:
        raise Refused(f"{path}: is empty")
    for magic, reason in FOREIGN.items():
        if head.startswith(magic):
            raise Refused(f"{path}: {reason}")
    return Source(path, _kind(head, path.stat().st_size))


def is_mean(source: Source) -> bool:
    """Returns whether a source is a mean picture: a BlobProto, or an .npy of plain numbers."""
    if source.kind != NPY:
        return source.kind == MEAN
    head = bytes(source.data[:256])
    return b"'O'" not in head and b"|O" not in head


def checkpoint_prefix(path: Path) -> Path | None:
    """Returns the prefix of a TF1 checkpoint that ``path`` names, as such or by one of its files; else None."""
    for ending in (".index", ".meta", ".data-00000-of-00001"):
        if path.name.endswith(ending):
            path = path.with_name(path.name.removesuffix(ending))
            break
    return path if path.with_name(path.name + ".index").is_file() and not path.is_dir() else None


def _kind(head: bytes, size: int) -> str:
    for magic, kind in MAGIC.items():
        if head.startswith(magic):
            return TORCH if kind == NPZ and _starts_with_pickle(head) else kind
    if is_text(head):
        return DEFINITION
    if len(head) > 9 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8:
        return SAFETENSORS
    if head[:1] in (b"\x08", b"\x2a", b"\x3a"):  # BlobProto's num, data or shape; a net starts with its name or a layer
        return MEAN
    if head[:1] == b"\x0a" and _starts_with_node(head):
        return FROZEN
    return CAFFEMODEL


def _starts_with_pickle(head: bytes) -> bool:
    """Returns whether a zip archive's first member is FOLDER/data.pkl, as torch.save has it."""
    return head[30 : 30 + int.from_bytes(head[26:28], "little")].endswith(b"/data.pkl")


def _starts_with_node(head: bytes) -> bool:
    """Returns whether the first field holds a message that starts with two strings, as a GraphDef's first node
    does (its name, its operation); in a .caffemodel it is the net's name."""
    inner = 2 if head[1] < 0x80 else 3 if head[2] < 0x80 else 4 if head[3] < 0x80 else 5
    if head[inner : inner + 1] != b"\x0a" or len(head) < inner + 2:
        return False
    after_name = inner + 2 + head[inner + 1]
    return head[after_name : after_name + 1] == b"\x12"


def is_text(head: bytes) -> bool:
    """Returns whether a file that starts so is text: no control characters but white space."""
    return not any(byte < 9 or 13 < byte < 32 or byte == 127 for byte in head)


def decoded(data: bytes | memoryview) -> str:
    """Returns a text file's characters: UTF-8, or Latin-1 where it is not (comments in older encodings)."""
    try:
        return str(data, "utf-8-sig")
    except UnicodeDecodeError:
        return str(data, "latin-1")
