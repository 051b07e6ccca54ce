"""NumPy's .npz: variable name -> array, in TensorFlow's layout.

Format: NumPy's NEP 1 (.npy) inside a zip archive.
"""

from __future__ import annotations

import math
import mmap
import struct
import zipfile
import zlib
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np

from weights import wire
from weights.layout import Shape
from weights.parameter import Parameter, in_tensorflow_layout
from weights.refused import Refused
from weights.stored import Lazy, Stored, by_variable, once


def write_npz(path: Path, parameters: Iterable[Parameter]) -> None:
    """Writes one uncompressed member per parameter, two arrays in memory at a time.

    The bytes depend on the numbers alone: a member's date is the format's first (1980), its order that of
    ``parameters``.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, array in in_tensorflow_layout(parameters):
            with archive.open(name + ".npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, np.lib.format.header_data_from_array_1_0(array))
                member.write(wire.flat(array))  # NumPy's own writer copies it in pieces


def read_npz(path: Path) -> Stored:
    """Returns the arrays of an .npz, not yet read: those that are not compressed stay in the file until used.

    Raises Refused where the archive is broken or a member is no array of numbers; reading an array proves its
    checksum.
    """
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            once((member.filename.removesuffix(".npy") for member in archive.infolist()), "arrays")
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                try:
                    arrays[name] = _member(path, archive, member)
                except (ValueError, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
                    raise Refused(f"member '{name}': {_line(error)}") from error
    except (zipfile.BadZipFile, struct.error, OSError) as error:
        raise Refused(f"is no whole .npz: {_line(error)}") from error
    if not arrays:
        raise Refused("holds no arrays")
    return by_variable(arrays, None)


def _member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Lazy:
    with archive.open(member) as file:
        shape, in_fortran_order, dtype = read_npy_header(file)
        start = file.tell()
    size = math.prod(shape) * of_numbers(dtype).itemsize
    if start + size != member.file_size:
        raise ValueError(f"its shape {shape} needs {size:,} bytes; {member.file_size - start:,} are stored")
    is_stored = member.compress_type == zipfile.ZIP_STORED
    read = _mapped if is_stored else _unpacked
    return Lazy(shape, dtype, partial(read, path, member, start, shape, in_fortran_order, dtype))


def read_npy_header(file: IO[bytes]) -> tuple[Shape, bool, np.dtype]:
    """Returns (shape, whether in Fortran order, type) of the .npy that starts here; the file stands at its values.

    Raises ValueError where it is no .npy.
    """
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, in_fortran_order, dtype = read(file)
    except zipfile.BadZipFile:
        raise
    except Exception as error:  # NumPy evaluates the header as Python: a broken one can raise anything
        raise ValueError(f"its header is broken: {_line(error)}") from error
    if any(size < 0 for size in shape):
        raise ValueError(f"its shape is {shape}")
    return shape, in_fortran_order, dtype


def of_numbers(dtype: np.dtype) -> np.dtype:
    """Returns the type. Raises ValueError where it is none of numbers."""
    if dtype.kind not in "fiu":
        raise ValueError(f"holds values of type {dtype}; expected numbers")
    return dtype


def _shaped(values: np.ndarray, shape: Shape, in_fortran_order: bool) -> np.ndarray:
    return values.reshape(shape[::-1]).T if in_fortran_order else values.reshape(shape)


def _mapped(
    path: Path, member: zipfile.ZipInfo, start: int, shape: Shape, in_fortran_order: bool, dtype: np.dtype
) -> np.ndarray:
    """Returns a member's array as a view on the file."""
    with open(path, "rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    names = struct.unpack_from("<HH", data, member.header_offset + 26)
    begin = member.header_offset + 30 + sum(names)
    whole = memoryview(data)[begin : begin + member.file_size]
    if len(whole) != member.file_size or zlib.crc32(whole) != member.CRC:
        raise Refused(f"{path}: member '{member.filename}': its checksum does not fit; the file is damaged")
    return _shaped(np.frombuffer(whole[start:], dtype), shape, in_fortran_order)


def _unpacked(
    path: Path, member: zipfile.ZipInfo, start: int, shape: Shape, in_fortran_order: bool, dtype: np.dtype
) -> np.ndarray:
    """Returns a compressed member's array."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            file.read(start)
            data = file.read(math.prod(shape) * dtype.itemsize)
        return _shaped(np.frombuffer(data, dtype), shape, in_fortran_order)
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError) as error:
        raise Refused(f"{path}: member '{member.filename}': {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
