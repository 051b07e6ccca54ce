"""PyTorch's files of weights (.pth, .pt): a pickled ``state_dict`` beside its numbers, read without running anything.

Two forms are found. Since PyTorch 1.6, a zip archive, not compressed: FOLDER/data.pkl, and the numbers of storage KEY
in FOLDER/data/KEY. Before, one file: the pickles of a magic number, a version, the machine's sizes, the object, and the
list of its storages' keys; then for each of these a count (int64) and so many numbers. Both keep little endian numbers
unless they say so.
"""

from __future__ import annotations

import math
import mmap
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from weights.pickled_data import load_first
from weights.refused import Refused
from weights.stored import CAFFE, ArrayLike, Stored, once

LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""The first bytes of a file from before PyTorch 1.6: its magic number, pickled."""

_TYPES = {
    "FloatStorage": "f4",
    "DoubleStorage": "f8",
    "HalfStorage": "f2",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
}

_LARGEST = 2**40
"""More numbers than any tensor has."""


def read_torch(path: Path) -> Stored:
    """Returns the arrays of a ``state_dict`` as layers, in Caffe's layout, which is PyTorch's: ``features.0.weight`` is
    layer ``features.0``, array ``weight``. Each is a view on the file.

    A checkpoint that holds a ``state_dict`` beside other things is read too, and the ``module.`` that
    ``DataParallel`` puts before names is taken off. Raises Refused where the file is broken, holds a whole model (which
    takes code to read), or types of numbers that NumPy has not.
    """
    with open(path, "rb") as file:
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    value, storages = _read_legacy(data) if data[: len(LEGACY_MAGIC)] == LEGACY_MAGIC else _read_zip(path, data)
    if isinstance(value, dict) and isinstance(value.get("state_dict"), dict):
        value = value["state_dict"]
    if not isinstance(value, dict):
        raise Refused(f"holds a {type(value).__name__.strip('_')}; expected a state_dict of tensors")
    if not value:
        raise Refused("holds no tensors; expected a state_dict")
    once((str(name).removeprefix("module.") for name in value), "tensors")
    layers: dict[str, dict[int | str, ArrayLike]] = {}
    for name, tensor in value.items():
        if not isinstance(tensor, _Tensor):
            raise Refused(f"'{name}' is no tensor; save the state_dict alone: torch.save(model.state_dict(), path)")
        layer, _, part = str(name).removeprefix("module.").rpartition(".")
        layers.setdefault(layer or part, {})[part if layer else 0] = tensor.array(str(name), storages)
    return Stored(layers, CAFFE)


@dataclass(frozen=True)
class _Storage:
    """Numbers that the file keeps beside its pickle."""

    key: str
    dtype: np.dtype
    count: int


@dataclass(frozen=True)
class _Tensor:
    """A view on a storage: element (i, j, ...) is number offset + i * strides[0] + j * strides[1] + ..."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, name: str, storages: Mapping[str, memoryview]) -> np.ndarray:
        """Returns the view as an array. Raises Refused where it reaches beyond its storage."""
        numbers = (self.offset, *self.shape, *self.strides)
        if (
            any(type(number) is not int or not 0 <= number <= _LARGEST for number in numbers)
            or len(self.shape) != len(self.strides)
            or math.prod(max(1, size) for size in self.shape) > _LARGEST
        ):
            raise Refused(f"tensor '{name}' has the shape {self.shape} and the strides {self.strides}")
        last = self.offset + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides))
        if 0 in self.shape:
            return np.empty(self.shape, self.storage.dtype)
        if last >= self.storage.count:
            raise Refused(f"tensor '{name}' reaches to number {last:,} of the {self.storage.count:,} that are stored")
        raw = storages.get(self.storage.key, memoryview(b""))
        needed = self.storage.count * self.storage.dtype.itemsize
        if len(raw) != needed:
            raise Refused(f"tensor '{name}' needs {needed:,} bytes; {len(raw):,} are stored")
        values = np.frombuffer(raw, self.storage.dtype)
        steps = tuple(stride * values.itemsize for stride in self.strides)
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, steps, writeable=False)


class _Dict(dict):
    """Stands in for collections.OrderedDict, without the attributes that PyTorch hangs on it."""

    def __init__(self, *pairs: Any) -> None:
        super().__init__()
        if pairs:
            self.update(*pairs)

    def __setstate__(self, state: Any) -> None:
        pass


def _rebuild(storage: Any, offset: Any, shape: Any, strides: Any, *ignored: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise Refused("a tensor without a storage")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


_NAMES = {
    ("collections", "OrderedDict"): _Dict,
    ("torch._utils", "_rebuild_tensor"): _rebuild,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *ignored: tensor,
    **{("torch", storage): code for storage, code in _TYPES.items()},
}


@dataclass
class _Storages:
    """What a pickle asks for by persistent id, in the numbers' byte order ("<" or ">")."""

    order: str
    by_key: dict[str, _Storage] = field(default_factory=dict)

    def __call__(self, identity: Any) -> _Storage:
        """Returns the storage that ("storage", type, key, device, count, ...) names."""
        if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage":
            raise Refused("its pickle refers to something else than a storage")
        _, code, key, _, count, *view = identity
        if code not in _TYPES.values() or type(count) is not int or count < 0 or any(view):
            raise Refused(f"storage '{key}' is not described as PyTorch does")
        return self.by_key.setdefault(str(key), _Storage(str(key), np.dtype(self.order + code), count))


def _object(pickled: memoryview, storages: _Storages) -> tuple[Any, int]:
    """Returns what was saved, and the length of its pickle."""
    try:
        return load_first(pickled, _NAMES, storages)
    except Refused as refused:  # a whole model's pickle names its classes
        raise Refused(f"{refused}; save the state_dict alone: torch.save(model.state_dict(), path)") from refused


def _read_legacy(data: memoryview) -> tuple[Any, dict[str, memoryview]]:
    """Returns the object, and the storages' bytes by key."""
    position = len(LEGACY_MAGIC)
    _, used = load_first(data[position:], {})  # the format's version, 1001 for good
    position += used
    machine, used = load_first(data[position:], {})
    position += used
    is_little = not isinstance(machine, dict) or machine.get("little_endian", True)
    storages = _Storages("<" if is_little else ">")
    value, used = _object(data[position:], storages)
    position += used
    keys, used = load_first(data[position:], {})
    position += used
    raw: dict[str, memoryview] = {}
    for key in keys if isinstance(keys, list) else []:
        known = storages.by_key.get(str(key))
        if known is None or len(data) < position + 8:
            raise Refused(f"storage '{key}' is cut off, or no tensor's")
        (count,) = struct.unpack_from(f"{storages.order}q", data, position)
        if count != known.count:
            raise Refused(f"storage '{key}' has {count:,} numbers; its tensors speak of {known.count:,}")
        position += 8
        raw[str(key)] = data[position : position + count * known.dtype.itemsize]
        position += len(raw[str(key)])
    if position != len(data):
        raise Refused(f"{len(data) - position:,} bytes follow its last storage")
    return value, raw


def _read_zip(path: Path, data: memoryview) -> tuple[Any, dict[str, memoryview]]:
    """Returns the object, and the storages' bytes by key, their checksums proved."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member.filename.partition("/")[2]: member for member in archive.infolist()}
    except (zipfile.BadZipFile, struct.error, OSError, ValueError) as error:
        raise Refused(f"is no whole PyTorch file: {' '.join(str(error).split())[:200]}") from error
    if "data.pkl" not in members:
        raise Refused("is a zip archive without data.pkl; expected a state_dict as torch.save writes it")
    order = ">" if "byteorder" in members and bytes(_member(data, members["byteorder"])) == b"big" else "<"
    storages = _Storages(order)
    value, _ = _object(_member(data, members["data.pkl"]), storages)
    found = {key: members[f"data/{key}"] for key in storages.by_key if f"data/{key}" in members}
    return value, {key: _member(data, member) for key, member in found.items()}


def _member(data: memoryview, member: zipfile.ZipInfo) -> memoryview:
    """Returns a member's bytes where they lie."""
    if member.compress_type != zipfile.ZIP_STORED:
        raise Refused(f"member '{member.filename}' is compressed, which torch.save does not do")
    head = data[member.header_offset : member.header_offset + 30]
    if len(head) < 30:
        raise Refused(f"member '{member.filename}' is cut off")
    begin = member.header_offset + 30 + sum(struct.unpack_from("<HH", head, 26))
    whole = data[begin : begin + member.file_size]
    if len(whole) != member.file_size or zlib.crc32(whole) != member.CRC:
        raise Refused(f"member '{member.filename}': its checksum does not fit; the file is damaged")
    return whole
