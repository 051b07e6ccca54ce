"""Caffe's binary format: the arrays in a .caffemodel, its definition, and back."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from google.protobuf.message import DecodeError, Message

from converter.caffe_pb2 import (
    BlobProto,
    LayerParameter,
    NetParameter,
    UnpackedBlobProto,
    V0LayerParameter,
    V1LayerParameter,
)
from weights import Refused, wire
from weights.wire import Field

Blobs = dict[str, tuple[np.ndarray, ...]]
"""Layer -> its arrays in Caffe's order and layout, with the shapes that the file gives them."""

LARGEST = 2**31 - 1
"""Bytes that a protobuf message can have."""

_LAYER = NetParameter.LAYER_FIELD_NUMBER
_V1_LAYERS = NetParameter.LAYERS_FIELD_NUMBER
_V0_LAYER = V1LayerParameter.LAYER_FIELD_NUMBER
_BLOBS = {
    LayerParameter: LayerParameter.BLOBS_FIELD_NUMBER,
    V1LayerParameter: V1LayerParameter.BLOBS_FIELD_NUMBER,
    V0LayerParameter: V0LayerParameter.BLOBS_FIELD_NUMBER,
}
_NUMBERS = {BlobProto.DATA_FIELD_NUMBER: "<f4", BlobProto.DOUBLE_DATA_FIELD_NUMBER: "<f8"}
_GRADIENTS = {BlobProto.DIFF_FIELD_NUMBER, BlobProto.DOUBLE_DIFF_FIELD_NUMBER}


@dataclass(frozen=True, eq=False)
class Caffemodel:
    """What a .caffemodel holds: the definition that it was trained with, without numbers, and each layer's arrays.

    The arrays are read-only views on the file's bytes, float32, or float64 where they are stored so. ``repeated`` are
    names that several of its layers bear, of which ``blobs`` has the last with arrays: Caffe loads them in turn.
    """

    definition: NetParameter
    blobs: Blobs
    repeated: tuple[str, ...] = ()


def parse_caffemodel(data: bytes | memoryview) -> Caffemodel:
    """Returns what a .caffemodel of any vintage holds, its arrays not copied.

    Raises Refused where the bytes are no .caffemodel, are cut short, or a blob does not have as many numbers as its
    shape says.
    """
    if len(data) > LARGEST:
        raise Refused(f"has {len(data) / 2**30:.1f} GiB; protobuf, and so Caffe, ends at 2 GiB")
    try:
        model = _net(memoryview(data))
    except (Refused, DecodeError) as error:
        reasons = error.reasons if isinstance(error, Refused) else ("its fields do not decode",)
        if isinstance(error, _BrokenBlob):
            raise
        raise Refused(f"is no whole .caffemodel: {reasons[0]}") from error
    if not (model.definition.layer or model.definition.layers):
        raise Refused("is no .caffemodel: it holds no layers")
    return model


class _BrokenBlob(Refused):
    """A blob that decodes but contradicts itself."""


def _net(data: memoryview) -> Caffemodel:
    rest, definition = bytearray(), NetParameter()
    blobs: Blobs = {}
    names: Counter[str] = Counter()
    for field in wire.fields(data, 0, len(data)):
        if field.wire_type == wire.LENGTH_DELIMITED and field.number in (_LAYER, _V1_LAYERS):
            kind = LayerParameter if field.number == _LAYER else V1LayerParameter
            layer, name, arrays = _layer(kind, data, field)
            (definition.layer if kind is LayerParameter else definition.layers).append(layer)
            names[name] += 1
            if arrays:
                blobs.pop(name, None)  # so that ``blobs`` is in the order of what counts
                blobs[name] = arrays
        else:
            rest += data[field.start : field.end]
    definition.MergeFromString(bytes(rest))
    return Caffemodel(definition, blobs, tuple(name for name in blobs if names[name] > 1))


def _layer(kind: type[Message], data: memoryview, whole: Field) -> tuple[Message, str, tuple[np.ndarray, ...]]:
    """Returns a layer without its arrays, its name, and its arrays."""
    rest, protos, inner = bytearray(), [], None
    for field in wire.fields(data, whole.payload, whole.end):
        if field.number == _BLOBS[kind] and field.wire_type == wire.LENGTH_DELIMITED:
            protos.append(field)
        elif kind is V1LayerParameter and field.number == _V0_LAYER and field.wire_type == wire.LENGTH_DELIMITED:
            inner = _layer(V0LayerParameter, data, field)
        else:
            rest += data[field.start : field.end]
    layer: Any = kind.FromString(bytes(rest))
    if inner is not None:
        layer.layer.CopyFrom(inner[0])
        return layer, inner[1], inner[2]
    try:
        arrays = tuple(_array(data, proto) for proto in protos)
    except ValueError as error:
        raise _BrokenBlob(f"layer '{layer.name}': {error}") from error
    return layer, layer.name, arrays


def _array(data: memoryview, whole: Field) -> np.ndarray:
    """Returns the array of a BlobProto. Raises ValueError where it contradicts itself."""
    rest, runs = bytearray(), []
    for field in wire.fields(data, whole.payload, whole.end):
        if field.wire_type == wire.LENGTH_DELIMITED and field.number in _NUMBERS:
            runs.append((_NUMBERS[field.number], data[field.payload : field.end]))
        elif field.number not in _GRADIENTS:
            rest += data[field.start : field.end]
    shape = _shape(BlobProto.FromString(bytes(rest)))
    if any(len(run) % np.dtype(dtype).itemsize for dtype, run in runs):
        raise ValueError("a blob's bytes are no whole number of floats")
    arrays = [np.frombuffer(run, dtype) for dtype, run in runs] or [_unpacked(bytes(rest))]
    values = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    if values.size != math.prod(shape):
        spelled = "x".join(map(str, shape)) or "scalar"
        raise ValueError(f"a blob of shape {spelled} needs {math.prod(shape):,} values; {values.size:,} are stored")
    return values.reshape(shape)


def _unpacked(rest: bytes) -> np.ndarray:
    """Returns the numbers of a blob whose writer gave each a tag of its own."""
    unpacked = UnpackedBlobProto.FromString(rest)
    return np.array(unpacked.double_data, "<f8") if unpacked.double_data else np.array(unpacked.data, "<f4")


def _shape(proto: BlobProto) -> tuple[int, ...]:
    """Returns a blob's shape by Caffe's rule: the four old fields where one of them is there, else ``shape``, else none
    at all, as Caffe writes a blob of no axes, which has one value."""
    if any(map(proto.HasField, ("num", "channels", "height", "width"))):
        shape: tuple[int, ...] = (proto.num, proto.channels, proto.height, proto.width)
    else:
        shape = tuple(proto.shape.dim)
    if any(size < 0 for size in shape):
        raise ValueError(f"a blob has the shape {'x'.join(map(str, shape))}; no axis is below 0")
    return shape


def parse_blob(data: bytes | memoryview) -> np.ndarray:
    """Returns the array of a serialized BlobProto. Raises ValueError where it is none, or contradicts itself."""
    return _array(memoryview(data), Field(0, wire.LENGTH_DELIMITED, 0, 0, len(data)))


def write_blob(file: BinaryIO, array: np.ndarray) -> None:
    """Writes an array of four axes as a BlobProto in the old form of a mean: num, channels, height, width."""
    array = np.ascontiguousarray(array, "<f4")
    proto = BlobProto()
    proto.num, proto.channels, proto.height, proto.width = array.shape
    file.write(wire.around(array.nbytes, (BlobProto.DATA_FIELD_NUMBER, proto.SerializeToString())))
    file.write(wire.flat(array))


def write_caffemodel(file: BinaryIO, definition: NetParameter, arrays: Iterable[Iterable[np.ndarray]]) -> None:
    """Writes today's .caffemodel: the definition, with ``arrays`` (float32, Caffe's layout) of each of its layers.

    Layers go to the file one by one, arrays from where they lie.
    """
    file.write(NetParameter(name=definition.name).SerializeToString())
    for layer, blobs in zip(definition.layer, arrays, strict=True):
        head = layer.SerializeToString(deterministic=True)
        pieces = [piece for blob in blobs for piece in _blob_pieces(np.asarray(blob, "<f4", order="C"))]
        file.write(wire.head(_LAYER, len(head) + sum(map(len, pieces))))
        file.write(head)
        for piece in pieces:
            file.write(piece)


def _blob_pieces(array: np.ndarray) -> tuple[bytes, memoryview]:
    shape = BlobProto()
    if array.shape:  # else without any, as Caffe writes it
        shape.shape.dim.extend(array.shape)
    data = (BlobProto.DATA_FIELD_NUMBER, shape.SerializeToString())
    return wire.around(array.nbytes, data, (LayerParameter.BLOBS_FIELD_NUMBER, b"")), wire.flat(array)
