"""Protobuf's wire format, byte by byte."""

from __future__ import annotations

import pytest

from weights import Refused, wire


def parsed(data: bytes) -> list[tuple[int, int, bytes]]:
    """Returns (number, wire type, payload) of each field."""
    return [
        (field.number, field.wire_type, data[field.payload : field.end])
        for field in wire.fields(memoryview(data), 0, len(data))
    ]


def test_one_field_of_each_kind():
    data = (
        b"\x08\x96\x01"  # field 1, varint 150 (the example of protobuf's own documentation)
        b"\x12\x07testing"  # field 2, seven bytes
        b"\x1d\x00\x00\x80\x3f"  # field 3, 32 bits
        b"\x21\x00\x00\x00\x00\x00\x00\xf0\x3f"  # field 4, 64 bits
    )
    assert parsed(data) == [
        (1, wire.VARINT, b"\x96\x01"),
        (2, wire.LENGTH_DELIMITED, b"testing"),
        (3, wire.FIXED32, b"\x00\x00\x80\x3f"),
        (4, wire.FIXED64, b"\x00\x00\x00\x00\x00\x00\xf0\x3f"),
    ]


def test_a_number_of_two_bytes_names_a_field_above_15():
    assert parsed(b"\xa2\x06\x01x") == [(100, wire.LENGTH_DELIMITED, b"x")]


def test_only_the_given_part_is_read():
    data = memoryview(b"junk\x0a\x01xjunk")
    assert [(field.start, field.payload, field.end) for field in wire.fields(data, 4, 7)] == [(4, 6, 7)]


def test_nothing_holds_no_fields():
    assert parsed(b"") == []


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x0a\x05abc", r"byte 0: a field of 5 bytes starts where 3 are left \(cut short\?\)"),
        (b"\x0a\x01a\x0a\x02b", r"byte 3: a field of 2 bytes starts where 1 are left"),
        (b"\x0a\xff\xff\xff\xff\x0fabc", "byte 0: a field of 4,294,967,295 bytes starts where 3 are left"),
        (b"\x1d\x00\x00", "byte 0: a field of 4 bytes starts where 2 are left"),
        (b"\x21\x00\x00", "byte 0: a field of 8 bytes starts where 2 are left"),
        (b"\x08\x96", "byte 1: the message ends within a number"),
        (b"\x8a", "byte 0: the message ends within a number"),
        (b"\x0a", "byte 1: the message ends within a number"),
        (b"\x08" + b"\xff" * 10 + b"\x01", "byte 1: a number has more than 10 bytes"),
        (b"\x0b", "byte 0: no protobuf field starts so"),  # a group, which protobuf gave up before Caffe was written
        (b"\x0e", "byte 0: no protobuf field starts so"),
        (b"\x02\x00", "byte 0: no protobuf field has the number 0"),
    ],
)
def test_what_is_broken_is_refused_with_its_byte(data, reason):
    with pytest.raises(Refused, match=reason):
        parsed(data)


@pytest.mark.parametrize(
    ("value", "data"),
    [(0, b"\0"), (1, b"\1"), (127, b"\x7f"), (128, b"\x80\1"), (300, b"\xac\2"), (2**31 - 1, b"\xff\xff\xff\xff\7")],
)
def test_varint(value, data):
    assert wire.varint(value) == data


def test_head():
    assert wire.head(2, 7) == b"\x12\x07"
    assert wire.head(100, 300) == b"\xa2\x06\xac\x02"


def test_around_writes_the_lengths_of_all_that_follows():
    # message { 1: message { 9: varint 1, 5: the array of 200 bytes } }, and a name before it in the outer one
    before = wire.around(200, (5, b"\x48\x01"), (1, b"\x12\x01n"))
    assert before == b"\x12\x01n" + b"\x0a\xcd\x01" + b"\x48\x01" + b"\x2a\xc8\x01"
    assert parsed(before + bytes(200)) == [
        (2, wire.LENGTH_DELIMITED, b"n"),
        (1, wire.LENGTH_DELIMITED, b"\x48\x01\x2a\xc8\x01" + bytes(200)),
    ]
