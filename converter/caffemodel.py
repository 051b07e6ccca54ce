"""Caffe's binary format: .caffemodel <-> NetParameter, and the arrays within."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from google.protobuf.message import DecodeError

from converter.caffe_pb2 import BlobProto, NetParameter, UnpackedBlobProto
from weights import Refused, Shape

Blobs = dict[str, tuple[np.ndarray, ...]]
"""Layer -> its arrays in Caffe's order and layout, with the shapes that the file gives them."""

LARGEST = 2**31 - 1
"""Bytes that a protobuf message can have."""


def parse_caffemodel(data: bytes) -> NetParameter:
    """Returns the message that a .caffemodel holds. Raises Refused where it is none, or not whole."""
    if len(data) > LARGEST:
        raise Refused(f"has {len(data) / 2**30:.1f} GiB; protobuf, and so Caffe, ends at 2 GiB")
    try:
        message = NetParameter.FromString(data)
    except DecodeError as error:
        raise Refused(
            f"is no whole .caffemodel: its {len(data):,} bytes do not decode as Caffe's NetParameter "
            "(cut short while downloading, or another format)"
        ) from error
    if not (message.layer or message.layers):
        raise Refused("holds no layers; expected a .caffemodel with trained weights")
    return message


def read_blobs(message: NetParameter) -> Blobs:
    """Returns the arrays of all layers that have any. Raises Refused naming each layer whose blob is broken."""
    blobs: Blobs = {}
    problems: list[str] = []
    for name, protos in _layers(message):
        try:
            arrays = tuple(array_of(proto) for proto in protos)
        except ValueError as error:
            problems.append(f"layer '{name}': {error}")
            continue
        if arrays:
            blobs[name] = arrays
    if problems:
        raise Refused(*problems)
    return blobs


def _layers(message: NetParameter) -> Iterator[tuple[str, Iterable[BlobProto]]]:
    for layer in message.layer:
        yield layer.name, layer.blobs
    for old in message.layers:  # V1, with V0 inside where it is older still
        inner = old.layer if old.HasField("layer") else old
        yield inner.name, inner.blobs


def array_of(proto: BlobProto) -> np.ndarray:
    """Returns a blob as float32 (or float64 where it is stored so), a view on the message's bytes.

    Raises ValueError where the declared shape and the number of stored values differ.
    """
    shape = _shape(proto)
    values = _stored(proto.data, "<f4") if proto.data else _stored(proto.double_data, "<f8")
    if values.size == 0:
        unpacked = UnpackedBlobProto.FromString(proto.SerializeToString())
        values = np.array(unpacked.data, "<f4") if unpacked.data else np.array(unpacked.double_data, "<f8")
    count = 1
    for size in shape:
        count *= size
    if values.size != count:
        spelled = "x".join(map(str, shape)) or "scalar"
        raise ValueError(f"a blob of shape {spelled} needs {count:,} values, but {values.size:,} are stored")
    return values.reshape(shape)


def _shape(proto: BlobProto) -> Shape:
    if proto.HasField("shape"):
        shape = tuple(proto.shape.dim)
    else:
        shape = (proto.num, proto.channels, proto.height, proto.width)
    if any(size < 0 for size in shape):
        raise ValueError(f"a blob has the shape {'x'.join(map(str, shape))}; sizes below 0 mean nothing")
    return shape


def _stored(runs: Iterable[bytes], dtype: str) -> np.ndarray:
    pieces = list(runs)
    data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    if len(data) % np.dtype(dtype).itemsize:
        raise ValueError(f"{len(data)} bytes of numbers are no whole number of {np.dtype(dtype).name} values")
    return np.frombuffer(data, dtype)


def blob_of(array: np.ndarray) -> BlobProto:
    """Returns an array as today's Caffe writes it: shape, packed float32."""
    proto = BlobProto(data=[np.ascontiguousarray(array, "<f4").tobytes()])
    proto.shape.dim.extend(array.shape)
    return proto
