"""Caffe's HDF5 snapshots (.caffemodel.h5): data/LAYER/0, data/LAYER/1, ... in Caffe's layout."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from weights.refused import Refused
from weights.stored import CAFFE, ArrayLike, Lazy, Stored


def read_hdf5(path: Path) -> Stored:
    """Returns the arrays under ``data``, each left in the file until it is used.

    Raises Refused where the file is broken, is another kind of HDF5, links to other files, or holds something else
    than numbered arrays of numbers.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            if "data" not in file or not isinstance(file.get("data", getlink=True), h5py.HardLink):
                raise Refused("holds no group 'data'; expected a snapshot of Caffe's weights (NAME.caffemodel.h5)")
            layers: dict[str, dict[int | str, ArrayLike]] = {}
            _collect(path, file["data"], "", layers)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        if isinstance(error, Refused):
            raise
        raise Refused(f"is no whole HDF5 file: {' '.join(str(error).split())[:200]}") from error
    if not layers:
        raise Refused("holds no weights under 'data'")
    return Stored({name: dict(sorted(arrays.items())) for name, arrays in layers.items()}, CAFFE)


def _collect(path: Path, group: Any, layer: str, layers: dict[str, dict[int | str, ArrayLike]], depth: int = 0) -> None:
    """Adds the arrays of ``group``, which is ``layer``; a layer's name may hold slashes, which nest."""
    import h5py

    if depth > 32:
        raise Refused(f"group '{layer}' is nested too deep")
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise Refused(f"'{layer}/{name}' is a link to somewhere else; only arrays of the file itself are read")
        inner = group[name]
        if isinstance(inner, h5py.Group):
            _collect(path, inner, f"{layer}/{name}" if layer else name, layers, depth + 1)
            continue
        if not isinstance(inner, h5py.Dataset) or inner.dtype.kind not in "fiu" or not name.isdigit():
            raise Refused(f"'{layer}/{name}' is no numbered array of numbers")
        if inner.external or inner.is_virtual:
            raise Refused(f"'{layer}/{name}' keeps its numbers in another file")
        layers.setdefault(layer, {})[int(name)] = Lazy(inner.shape, inner.dtype, _reader(path, inner.name))


def _reader(path: Path, name: str) -> Any:
    def read() -> np.ndarray:
        import h5py

        try:
            with h5py.File(path, "r") as file:
                return file[name][()]
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            raise Refused(f"{path}: '{name}': {' '.join(str(error).split())[:200]}") from error

    return read


def write_hdf5(path: Path, layers: Iterable[tuple[str, Iterable[np.ndarray]]]) -> None:
    """Writes Caffe's snapshot: ``layers`` has each layer's name and arrays, float32, in Caffe's layout."""
    import h5py

    held = io.BytesIO()  # where the disk is full, HDF5's own writing ends the process
    with h5py.File(held, "w", track_order=False) as file:
        data = file.create_group("data")
        for name, arrays in layers:
            group = data.require_group(name)
            for index, array in enumerate(arrays):
                group.create_dataset(str(index), data=np.ascontiguousarray(array, "<f4"))
    path.write_bytes(held.getbuffer())
