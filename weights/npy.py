"""The .npy files that AlexNet ports use, and bare pickles: a pickled dict of layers, read without running anything.

Three forms are found: {layer: [weights, biases]} (caffe-tensorflow, Python 2), {layer: {"weights": ..., "biases": ...}}
(newer ones, and what is written here), with bytes or str keys. A plain array is a mean picture.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from weights.layout import Shape
from weights.npz import of_numbers, read_npy_header
from weights.parameter import Parameter
from weights.pickled_data import load_pickle
from weights.refused import Refused
from weights.stored import ArrayLike, Stored, once


def read_npy(data: bytes | memoryview) -> Stored | np.ndarray:
    """Returns the layers in a pickled dict, or the array where the file holds one.

    Runs no code: the pickle may make arrays, dicts, lists, tuples, strings and numbers, and nothing else. Raises
    Refused where it would do more, is broken, or is no dict of layers.
    """
    file = io.BytesIO(bytes(data[:65536]))  # all that a header can be
    try:
        shape, in_fortran_order, dtype = read_npy_header(file)
        if not dtype.hasobject:
            return _plain(memoryview(data)[file.tell() :], shape, in_fortran_order, of_numbers(dtype))
    except ValueError as error:
        raise error if isinstance(error, Refused) else Refused(f"is no whole .npy: {error}") from error
    if shape != ():
        raise Refused(f"holds an array of {shape} Python objects; expected one dict of layers")
    return Stored(_layers(load_pickle(memoryview(data)[file.tell() :], _NAMES)), None)


def read_pickle(data: memoryview) -> Stored:
    """Returns the layers in a pickle that no .npy is around, as Python ports dump their weights. See ``read_npy``."""
    return Stored(_layers(load_pickle(data, _NAMES)), None)


def _plain(values: memoryview, shape: Shape, in_fortran_order: bool, dtype: np.dtype) -> np.ndarray:
    needed = math.prod(shape) * dtype.itemsize
    if len(values) != needed:
        raise Refused(f"its shape {shape} needs {needed:,} bytes; {len(values):,} are stored")
    array = np.frombuffer(values, dtype)
    return array.reshape(shape[::-1]).T if in_fortran_order else array.reshape(shape)


class _Array:
    """Stands in for numpy.ndarray while unpickling: takes an array's state and proves it."""

    def __init__(self, *ignored: Any) -> None:
        self.value: Any = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, in_fortran_order, data = state
        if isinstance(dtype, _Type) and dtype.is_object:
            if shape != () or not isinstance(data, list) or len(data) != 1:
                raise Refused("holds an array of Python objects")
            self.value = data[0]
            return
        raw = data.encode("latin1") if isinstance(data, str) else data
        known = dtype.dtype()
        if (
            not isinstance(raw, bytes)
            or any(size < 0 for size in shape)
            or len(raw) != math.prod(shape) * known.itemsize
        ):
            raise Refused(f"an array of shape {shape} does not have as many numbers as that")
        values = np.frombuffer(raw, known)
        self.value = values.reshape(shape[::-1]).T if in_fortran_order else values.reshape(shape)


class _Type:
    """Stands in for numpy.dtype while unpickling."""

    def __init__(self, code: Any, *ignored: Any) -> None:
        code = code.decode("latin1") if isinstance(code, bytes) else code
        if code not in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "O", "O8", "O4"):
            raise Refused(f"holds an array of type {code!r}; expected numbers")
        self.code = code
        self.order = "<"

    @property
    def is_object(self) -> bool:
        return self.code.startswith("O")

    def __setstate__(self, state: Any) -> None:
        order = state[1].decode("latin1") if isinstance(state[1], bytes) else state[1]
        self.order = order if order in ("<", ">") else "<"

    def dtype(self) -> np.dtype:
        return np.dtype(self.order + self.code)


def _encode(text: str, encoding: str) -> bytes:
    """Stands in for _codecs.encode, with which Python 3 pickles bytes at protocol 2."""
    if encoding not in ("latin1", "latin-1"):
        raise Refused(f"encodes text as {encoding!r}")
    return text.encode("latin1")


_NAMES = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encode,
    ("numpy.core.multiarray", "_reconstruct"): lambda *ignored: _Array(),
    ("numpy._core.multiarray", "_reconstruct"): lambda *ignored: _Array(),
}


def _layers(value: Any) -> dict[str, dict[int | str, ArrayLike]]:
    if isinstance(value, _Array):
        value = value.value
    if not isinstance(value, dict):
        raise Refused(f"holds a {type(value).__name__}; expected a dict of layers")
    once(map(_text, value), "layers")  # as bytes and as text
    return {_text(layer): _arrays(_text(layer), held) for layer, held in value.items()}


def _text(key: Any) -> str:
    return key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key)


def _arrays(layer: str, held: Any) -> dict[int | str, ArrayLike]:
    found: dict[int | str, Any]
    if isinstance(held, dict):
        once(map(_text, held), f"arrays of layer '{layer}'")
        found = {_text(name): array for name, array in held.items()}
    elif isinstance(held, (list, tuple)):
        found = {**dict(enumerate(held))}
    else:
        found = {0: held}
    if not all(isinstance(array, _Array) and isinstance(array.value, np.ndarray) for array in found.values()):
        raise Refused(f"layer '{layer}' holds something else than arrays")
    return {key: array.value for key, array in found.items()}


def write_npy(path: Path, parameters: Iterable[Parameter]) -> None:
    """Writes {layer: {"weights": array, ...}} in TensorFlow's layout, as ``numpy.load(path, allow_pickle=True)``
    reads it."""
    layers: dict[str, dict[str, np.ndarray]] = {}
    for parameter in parameters:
        layer, _, name = parameter.name.rpartition("/")
        layers.setdefault(layer, {})[name] = parameter.tensorflow()
    with open(path, "wb") as file:
        np.save(file, np.array(layers, dtype=object), allow_pickle=True)
