"""Caffe's messages <-> frozen dataclasses of the same field names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from graphs import Filler
from graphs.layer import Zeros
from graphs.layers.detection_output import NonMaximumSuppression

NESTED: dict[str, type] = {"FillerParameter": Filler, "NonMaximumSuppressionParameter": NonMaximumSuppression}
"""Messages within a layer's message -> the dataclass that holds them."""


def arguments(message: Message, definition: type, refuse: Callable[[str, str], None]) -> dict[str, Any]:
    """Returns the arguments for a dataclass: those of its fields that ``message`` sets.

    ``refuse(field, reason)`` is called for each field that is set and that neither the dataclass has nor its
    ``without_effect`` or ``unread`` names, unknown ones included.
    """
    known = {field.name for field in dataclasses.fields(definition)}
    passed_over = {*getattr(definition, "without_effect", ()), *getattr(definition, "unread", ())}
    values = {}
    for field, value in message.ListFields():
        if field.name in known:
            values[field.name] = _value(field, value)
        elif field.name not in passed_over:
            refuse(f"{message.DESCRIPTOR.name}.{field.name}", "is not supported by this converter")
    for number in unknown_fields(message):
        refuse(f"{message.DESCRIPTOR.name}.{number}", "field of that number is unknown (a fork's?)")
    return values


def unknown_fields(message: Message) -> list[int]:
    """Returns the numbers of the fields that a binary message has beside those of the schema."""
    found: Any = UnknownFieldSet(message)
    return [field.field_number for field in found]


def _value(field: FieldDescriptor, value: Any) -> Any:
    if is_repeated(field):
        return tuple(_single(field, one) for one in value)
    return _single(field, value)


def is_repeated(field: Any) -> bool:
    """Returns whether a field may be given several times, on old protobuf runtimes as on new ones."""
    if hasattr(field, "is_repeated"):
        return field.is_repeated
    return field.label == field.LABEL_REPEATED


def _single(field: FieldDescriptor, value: Any) -> Any:
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    if field.message_type is None:
        return _shortest(value) if field.cpp_type == FieldDescriptor.CPPTYPE_FLOAT else value
    if field.message_type.name == "BlobShape":
        return tuple(value.dim)
    nested = NESTED[field.message_type.name]
    made = nested(**{inner.name: _value(inner, one) for inner, one in value.ListFields()})
    return Zeros() if made == Filler() else made


def _shortest(value: float) -> float:
    """Returns the float that people wrote: a float32 0.0001 arrives as 0.00009999999747378752."""
    return float(str(np.float32(value)))


def set_fields(message: Message, values: Any) -> None:
    """Sets the fields of ``message`` in which the dataclass ``values`` differs from its own defaults: undoes
    ``arguments``."""
    for field in dataclasses.fields(values):
        value = getattr(values, field.name)
        descriptor = message.DESCRIPTOR.fields_by_name.get(field.name)
        if descriptor is None or value is None or value == field.default:
            continue
        for one in value if is_repeated(descriptor) else (value,):
            _set(message, descriptor, one)


def _set(message: Message, descriptor: Any, value: Any) -> None:
    target = getattr(message, descriptor.name)
    repeated = is_repeated(descriptor)
    if descriptor.message_type is not None:
        inner = target.add() if repeated else target
        inner.SetInParent()
        if descriptor.message_type.name == "BlobShape":
            inner.dim.extend(value)
        else:
            set_fields(inner, value)
        if isinstance(value, Zeros):
            inner.type = value.type
        return
    if descriptor.enum_type is not None:
        value = descriptor.enum_type.values_by_name[value].number
    if repeated:
        target.append(value)
    else:
        setattr(message, descriptor.name, value)
