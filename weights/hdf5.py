"""HDF5: Caffe's snapshots (.caffemodel.h5), in Caffe's layout, and what others keep weights in.

Caffe's has data/LAYER/0, data/LAYER/1, ...: an array's number is its position among the layer's blobs, and a blob that
belongs to another layer, which shares it, is left out. Keras' has its layers in ``layer_names``, at the root or in
``model_weights``, and the arrays of each in its group's ``weight_names``. In others an array's path is its name.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from weights.refused import Refused
from weights.stored import CAFFE, TENSORFLOW, ArrayLike, Lazy, Stored, by_variable, once

_KERAS_3 = (
    "is Keras 3's own form, which numbers a layer's arrays and names none; save the model once more as "
    "model.save('NAME.h5'), which names them"
)


def read_hdf5(path: Path) -> Stored:
    """Returns the file's arrays, each left there until it is used.

    Raises Refused where the file is broken, links to other files, or holds no weights that can be told apart.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            arrays = dict(_arrays(path, file, ""))
            keras = next((file[name] for name in ("/", "model_weights") if _is_keras(file.get(name))), None)
            if keras is not None:
                return _keras(keras, arrays)
            if any("/vars/" in f"/{name}" for name in arrays):
                raise Refused(_KERAS_3)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        if isinstance(error, Refused):
            raise
        raise Refused(f"is no whole HDF5 file: {' '.join(str(error).split())[:200]}") from error
    snapshot = {name.removeprefix("data/"): array for name, array in arrays.items() if name.startswith("data/")}
    if snapshot:
        return _snapshot(snapshot)
    if not arrays:
        raise Refused("holds no arrays; expected a snapshot of Caffe's weights (NAME.caffemodel.h5)")
    return by_variable(arrays, None)


def _snapshot(arrays: dict[str, ArrayLike]) -> Stored:
    layers: dict[str, dict[int | str, ArrayLike]] = {}
    for name, array in arrays.items():
        layer, _, number = name.rpartition("/")
        if not number.isdecimal():
            raise Refused(f"'{name}' is no numbered array; expected a snapshot of Caffe's weights")
        layers.setdefault(layer, {})[int(number)] = array
    nested = [layer for layer in layers if "/" in layer]
    note = (
        f"layers of {len(nested)} names with a slash ('{nested[0]}') are nested groups there, as an older version of "
        "this project wrote them; Caffe itself passes over such layers without a word: write a .caffemodel for it"
        if nested
        else ""
    )
    in_order = {name: dict(sorted(held.items())) for name, held in layers.items()}
    return Stored(in_order, CAFFE, is_caffes=True, notes=(note,) if note else ())


def _is_keras(group: Any) -> bool:
    return group is not None and ("layer_names" in group.attrs or "layer_names0" in group.attrs)


def _keras(group: Any, arrays: dict[str, ArrayLike]) -> Stored:
    """Returns a Keras model's layers. Of a model within the model, each scope of its arrays is a layer."""
    layers: dict[str, dict[int | str, ArrayLike]] = {}
    for layer in _listed(group, "layer_names"):
        names = _listed(group[layer], "weight_names")
        once(names, f"arrays of layer '{layer}'")
        is_one = len({name.rpartition("/")[2] for name in names}) == len(names)
        for name in names:
            scope, _, part = name.rpartition("/")
            held = arrays.get(f"{group.name}/{layer}/{name}".strip("/"))
            if held is None:
                raise Refused(f"layer '{layer}': its array '{name}' is missing")
            into = layers.setdefault(layer if is_one else scope, {})
            if part in into:
                raise Refused(f"holds two arrays named '{scope}/{part}'")
            into[part] = held
    if not layers:
        raise Refused("holds a Keras model without weights")
    return Stored(layers, TENSORFLOW)


def _listed(group: Any, name: str) -> list[str]:
    """Returns a list of names, which Keras cuts into pieces where it is long."""
    pieces = [name] if name in group.attrs else sorted((a for a in group.attrs if a[: len(name)] == name), key=len)
    found = [one for piece in pieces for one in group.attrs[piece]]
    return [one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one) for one in found]


def _arrays(path: Path, group: Any, prefix: str, depth: int = 0) -> Iterator[tuple[str, ArrayLike]]:
    """Yields the path and the array of every dataset below ``group``."""
    import h5py

    if depth > 32:
        raise Refused(f"group '{prefix}' is nested too deep")
    for name in group:
        inner_path = f"{prefix}/{name}" if prefix else name
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise Refused(f"'{inner_path}' is a link to somewhere else; only arrays of the file itself are read")
        inner = group[name]
        if isinstance(inner, h5py.Group):
            yield from _arrays(path, inner, inner_path, depth + 1)
            continue
        if not isinstance(inner, h5py.Dataset) or inner.dtype.kind not in "fiu" or inner.shape is None:
            raise Refused(f"'{inner_path}' is no array of numbers")
        if inner.external or inner.is_virtual:
            raise Refused(f"'{inner_path}' keeps its numbers in another file")
        yield inner_path, Lazy(inner.shape, inner.dtype, partial(_read, path, inner.name))


def _read(path: Path, name: str) -> np.ndarray:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return file[name][()]
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise Refused(f"{path}: '{name}': {' '.join(str(error).split())[:200]}") from error


NO_GROUP = (
    "HDF5 takes a slash in a name for a group within a group, so Caffe writes no such file and passes over these "
    "layers where it reads one; write a .caffemodel"
)


def is_group(name: str) -> bool:
    """Returns whether a layer's name can be that of one group."""
    return "/" not in name and "\0" not in name and name not in ("", ".")


def write_hdf5(path: Path, layers: Iterable[tuple[str, Iterable[np.ndarray | None]]]) -> None:
    """Writes Caffe's snapshot: ``layers`` has each layer's name and arrays, in Caffe's layout; None leaves out one that
    it has from another layer, and those after it keep their numbers. Raises Refused for a name that is no group's."""
    import h5py

    held = io.BytesIO()  # where the disk is full, HDF5's own writing ends the process
    with h5py.File(held, "w", track_order=False) as file:
        data = file.create_group("data")
        for name, arrays in layers:
            if not is_group(name):
                raise Refused(f"layer '{name}': {NO_GROUP}")
            group = data.require_group(name)
            for index, array in enumerate(arrays):
                if array is not None:
                    group.create_dataset(str(index), data=np.asarray(array, "<f4", order="C"))
    path.write_bytes(held.getbuffer())
