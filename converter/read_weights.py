"""Any file of weights -> the one in-memory form."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from converter.caffemodel import parse_caffemodel
from converter.manifest import stored_manifest
from converter.sources import CHECKPOINT, FROZEN, HDF5, NPY, NPZ, PICKLE, SAFETENSORS, TORCH, Source
from graphs.checkpoint import read_checkpoint
from graphs.frozen import read_frozen
from graphs.network import Shapes
from weights import Refused
from weights.deep_compression import Expected, is_deep_compression, read_deep_compression
from weights.hdf5 import read_hdf5
from weights.npy import read_npy, read_pickle
from weights.npz import read_npz
from weights.safetensors_file import read_safetensors
from weights.stored import CAFFE, ArrayLike, Arrays, Stored
from weights.torch_file import read_torch


def read_weights(source: Source, shapes: Shapes) -> Stored:
    """Returns what a file of weights holds, for a network of these shapes (which a .net file does not know).

    Raises Refused where the file is broken or is not what its first bytes say.
    """
    if source.kind in _READERS:
        stored = _READERS[source.kind](source.path)
        return _by_manifest(stored, stored_manifest(source)) if source.kind in (CHECKPOINT, FROZEN) else stored
    if source.kind == NPY:
        held = read_npy(source.data)
        if not isinstance(held, Stored):
            raise Refused(f"holds one array of shape {held.shape}; expected a dict of layers")
        return held
    if source.kind == PICKLE:
        return read_pickle(source.data)
    expected = [
        Expected(layer.node.name, layer.parameters[0].layout.caffe, sum(p.layout.size for p in layer.parameters[1:]))
        for layer in shapes
        if layer.parameters
    ]
    if is_deep_compression(source.data, expected):
        return read_deep_compression(source.data, expected)
    model = parse_caffemodel(source.data)
    layers: dict[str, Arrays] = {name: {**dict(enumerate(arrays))} for name, arrays in model.blobs.items()}
    notes = [
        f"layer '{name}': several layers there bear that name; Caffe takes the last, and so does the port"
        for name in model.repeated
    ]
    return Stored(layers, CAFFE, is_caffes=True, notes=tuple(notes))


def _by_manifest(stored: Stored, manifest: dict[str, Any]) -> Stored:
    """Returns a port's weights by layer and parameter as its manifest says where they are: ``variables`` of each layer,
    or, before there was that, ``renamed``."""
    wanted: dict[str, str] = dict(_pairs(manifest.get("renamed")))
    said = manifest.get("layers")
    for layer in said if isinstance(said, list) else ():
        for role, variable in _pairs(layer.get("variables") if isinstance(layer, dict) else None):
            wanted[f"{layer.get('name')}/{role}"] = variable
    layers: dict[str, dict[int | str, ArrayLike]] = {name: dict(held) for name, held in stored.layers.items()}
    found: dict[str, ArrayLike] = {}
    for name, variable in wanted.items():
        scope, _, part = variable.rpartition("/")
        if part in layers.get(scope, {}):
            found[name] = layers[scope].pop(part)
    for name, array in found.items():
        layer, _, role = name.rpartition("/")
        layers.setdefault(layer, {})[role] = array
    return replace(stored, layers={name: held for name, held in layers.items() if held})


def _pairs(value: Any) -> list[tuple[str, str]]:
    """Returns the pairs of a JSON object of texts, none where it is something else."""
    return [(str(key), one) for key, one in value.items() if isinstance(one, str)] if isinstance(value, dict) else []


_READERS = {
    HDF5: read_hdf5,
    NPZ: read_npz,
    SAFETENSORS: read_safetensors,
    CHECKPOINT: read_checkpoint,
    FROZEN: read_frozen,
    TORCH: read_torch,
}
