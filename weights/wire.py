"""Protobuf's wire format, for the one thing that its library can't do: leave large arrays where they lie.

A message is a row of fields, each a tag (number and wire type), for most a length, and a payload; a message inside a
message is such a payload. Parsing a 244 MB .caffemodel through the library copies its numbers three times; walking
its fields copies none. Everything but the arrays still goes through the library.

Format: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from weights.refused import Refused

VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Field:
    """One field: the whole of it is ``data[start:end]``, its payload ``data[payload:end]``."""

    number: int
    wire_type: int
    start: int
    payload: int
    end: int


def fields(data: memoryview, start: int, end: int) -> Iterator[Field]:
    """Yields the fields of the message in ``data[start:end]``.

    Raises Refused, naming the byte, where a field does not end within the message or is no field.
    """
    position = start
    while position < end:
        tag, payload = _varint(data, position, end)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == LENGTH_DELIMITED:
            length, payload = _varint(data, payload, end)
            stop = payload + length
        elif wire_type == VARINT:
            _, stop = _varint(data, payload, end)
        elif wire_type in (FIXED32, FIXED64):
            stop = payload + (4 if wire_type == FIXED32 else 8)
        else:
            raise Refused(f"byte {position:,}: no protobuf field starts so")
        if not number:
            raise Refused(f"byte {position:,}: no protobuf field has the number 0")
        if stop > end:
            raise Refused(
                f"byte {position:,}: a field of {stop - payload:,} bytes starts where {end - payload:,} are left "
                "(cut short?)"
            )
        yield Field(number, wire_type, position, payload, stop)
        position = stop


def _varint(data: memoryview, position: int, end: int) -> tuple[int, int]:
    """Returns the number that starts at ``position`` and the position after it."""
    value = 0
    for index in range(10):
        if position + index >= end:
            raise Refused(f"byte {position:,}: the message ends within a number (cut short?)")
        byte = data[position + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, position + index + 1
    raise Refused(f"byte {position:,}: a number has more than 10 bytes")


def varint(value: int) -> bytes:
    """Returns a number (0 or more) as the wire has it."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def head(number: int, length: int) -> bytes:
    """Returns what stands before a payload of ``length`` bytes in field ``number``."""
    return varint(number << 3 | LENGTH_DELIMITED) + varint(length)


def flat(array: np.ndarray) -> memoryview:
    """Returns the bytes of a contiguous array, not copied."""
    return array.reshape(-1).view(np.uint8).data


def around(array_bytes: int, *layers: tuple[int, bytes]) -> bytes:
    """Returns all that stands before an array that is the last thing in messages within messages.

    ``layers`` has, from the innermost out, the number of a field and the bytes that come before that field in the
    message around it.
    """
    before = b""
    for number, siblings in layers:
        before = siblings + head(number, len(before) + array_bytes) + before
    return before
