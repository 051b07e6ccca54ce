"""Safetensors: variable name -> array, in TensorFlow's layout, through the safetensors library."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np

from weights.parameter import Parameter
from weights.refused import Refused
from weights.stored import TENSORFLOW, ArrayLike, Lazy, Stored, by_variable

_TYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I8": "i1", "U8": "u1", "I32": "<i4", "I64": "<i8"}


def read_safetensors(path: Path) -> Stored:
    """Returns the arrays of a file, each left there until it is used.

    The layout is TensorFlow's where the file says so (ours do), else for shapes to tell. Raises Refused where the file
    is broken or a tensor is of a type that is not read.
    """
    open_file = _library().safe_open
    try:
        with open_file(path, framework="numpy") as file:
            arrays: dict[str, ArrayLike] = {}
            for name in file.keys():  # noqa: SIM118  not a dict
                piece = file.get_slice(name)
                if piece.get_dtype() not in _TYPES:
                    raise Refused(f"tensor '{name}' is of type {piece.get_dtype()}; expected numbers that NumPy has")
                dtype = np.dtype(_TYPES[piece.get_dtype()])
                arrays[name] = Lazy(tuple(piece.get_shape()), dtype, partial(_read, path, name))
            layout = (file.metadata() or {}).get("layout")
    except Refused:
        raise
    except Exception as error:  # the library's error type is not exported by all its versions
        raise Refused(f"is no whole safetensors file: {' '.join(str(error).split())[:200]}") from error
    return by_variable(arrays, layout if layout == TENSORFLOW else None)


def _read(path: Path, name: str) -> np.ndarray:
    with _library().safe_open(path, framework="numpy") as file:
        return file.get_tensor(name)


def write_safetensors(path: Path, parameters: Iterable[Parameter]) -> None:
    """Writes all parameters in TensorFlow's layout, and that they are in it."""
    _library()
    from safetensors.numpy import save_file

    arrays = {p.name: p.tensorflow() for p in parameters}
    try:
        save_file(arrays, path, metadata={"layout": TENSORFLOW})
    except Exception as error:  # as above; to write what is well formed fails for the disk alone
        raise OSError(str(error)) from error


def _library():
    try:
        import safetensors
    except ModuleNotFoundError as error:
        raise Refused("needs the safetensors library: pip install 'caffeport[safetensors]'") from error
    return safetensors
