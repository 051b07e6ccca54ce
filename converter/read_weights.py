"""Any file of weights -> the one in-memory form."""

from __future__ import annotations

from converter.caffemodel import parse_caffemodel
from converter.sources import CHECKPOINT, FROZEN, HDF5, NPY, NPZ, SAFETENSORS, TORCH, Source
from graphs.checkpoint import read_checkpoint
from graphs.frozen import read_frozen
from graphs.network import Shapes
from weights import Refused
from weights.deep_compression import Expected, is_deep_compression, read_deep_compression
from weights.hdf5 import read_hdf5
from weights.npy import read_npy
from weights.npz import read_npz
from weights.safetensors_file import read_safetensors
from weights.stored import CAFFE, Stored
from weights.torch_file import read_torch


def read_weights(source: Source, shapes: Shapes) -> Stored:
    """Returns what a file of weights holds, for a network of these shapes (which a .net file does not know).

    Raises Refused where the file is broken or is not what its first bytes say.
    """
    if source.kind in _READERS:
        return _READERS[source.kind](source.path)
    if source.kind == NPY:
        stored = read_npy(source.data)
        if not isinstance(stored, Stored):
            raise Refused(f"holds one array of shape {stored.shape}; expected a dict of layers")
        return stored
    expected = [
        Expected(layer.node.name, layer.parameters[0].layout.caffe, sum(p.layout.size for p in layer.parameters[1:]))
        for layer in shapes
        if layer.parameters
    ]
    if is_deep_compression(source.data, expected):
        return read_deep_compression(source.data, expected)
    blobs = parse_caffemodel(source.data).blobs
    return Stored({name: {**dict(enumerate(arrays))} for name, arrays in blobs.items()}, CAFFE)


_READERS = {
    HDF5: read_hdf5,
    NPZ: read_npz,
    SAFETENSORS: read_safetensors,
    CHECKPOINT: read_checkpoint,
    FROZEN: read_frozen,
    TORCH: read_torch,
}
