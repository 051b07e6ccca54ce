"""NetParameter <-> Network: which layers run, and every field accounted for."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from converter.caffe_pb2 import LayerParameter, NetParameter, NetStateRule, ParamSpec, Phase
from graphs import LAYERS, Filler, Layer, Network, Node
from graphs.layers.data import Input, Transform
from weights import Refused

DATA_LAYERS = ("Data", "ImageData", "HDF5Data", "MemoryData", "WindowData", "DummyData")

# Fields of a layer that are read here, or that only training reads.
COMMON = {"name", "type", "bottom", "top", "param", "include", "exclude", "phase", "loss_weight", "propagate_down"}


@dataclass(frozen=True)
class State:
    """Caffe's NetState: what ``include`` and ``exclude`` rules are held against."""

    phase: str = "TEST"
    level: int = 0
    stages: tuple[str, ...] = ()


def describe(message: NetParameter, state: State = State(), allow: Iterable[str] = ()) -> Network:
    """Returns the network that today's definition describes in ``state``.

    Raises Refused with every layer type that is unknown and every field that can't be honoured. ``allow`` has the
    fields to pass over all the same, each as ``field`` or ``LAYER.field``.
    """
    running = [layer for layer in message.layer if runs(layer, state)]
    problems = _unknown_types(running) + _doubled_names(running)
    nodes = []
    for layer in running:
        if layer.type in LAYERS:
            try:
                nodes.append(_node(layer, state, frozenset(allow)))
            except Refused as refused:
                problems += refused.within(f"layer '{layer.name}' ({layer.type})").reasons
    if problems:
        raise Refused(*problems)
    if not nodes:
        raise Refused(f"no layer runs in phase {state.phase}; all are ruled out by include or exclude")
    return Network(message.name, tuple(nodes), state.phase)


def runs(layer: LayerParameter, state: State) -> bool:
    """Returns whether a layer runs in ``state`` by its ``include`` and ``exclude`` rules (Caffe's FilterNet)."""
    if layer.include and layer.exclude:
        raise Refused(f"layer '{layer.name}': has both include and exclude rules; Caffe accepts one kind")
    if layer.include:
        return any(_holds(rule, state) for rule in layer.include)
    return not any(_holds(rule, state) for rule in layer.exclude)


def _holds(rule: NetStateRule, state: State) -> bool:
    if rule.HasField("phase") and Phase.Name(rule.phase) != state.phase:
        return False
    if rule.HasField("min_level") and state.level < rule.min_level:
        return False
    if rule.HasField("max_level") and state.level > rule.max_level:
        return False
    return set(rule.stage) <= set(state.stages) and not set(rule.not_stage) & set(state.stages)


def _unknown_types(layers: list[LayerParameter]) -> list[str]:
    unknown: dict[str, list[str]] = {}
    for layer in layers:
        if layer.type not in LAYERS:
            unknown.setdefault(layer.type, []).append(f"'{layer.name}'")
    problems = []
    for type_name, names in unknown.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        hint = "; give the net's deploy definition, which has Input instead" if type_name in DATA_LAYERS else ""
        problems.append(f"layer {', '.join(names[:3])}{more}: type {type_name or '(none)'} is not supported{hint}")
    return problems


def _doubled_names(layers: list[LayerParameter]) -> list[str]:
    counts = Counter(layer.name for layer in layers)
    return [
        f"layer '{name}': the name is used {count} times, so its weights can't be told apart"
        for name, count in counts.items()
        if count > 1
    ]


def _node(layer: LayerParameter, state: State, allow: frozenset[str]) -> Node:
    definition = LAYERS[layer.type]
    problems = []

    def refuse(name: str, reason: str) -> None:
        if not {name, name.split(".")[-1], f"{layer.name}.{name}"} & allow:
            problems.append(f"{name}: {reason}")

    values: dict[str, Any] = {}
    for field, value in layer.ListFields():
        if field.name in definition.messages:
            values.update(_values(value, definition, refuse))
        elif field.name == "transform_param" and definition is Input:
            values["transform_param"] = Transform(**_values(value, Transform, refuse))
        elif field.name == "phase" and Phase.Name(value) != state.phase:
            refuse("phase", f"is {Phase.Name(value)} while the net runs in {state.phase}; use an include rule")
        elif field.name not in COMMON:
            refuse(field.name, f"has no effect on a layer of type {layer.type}; take it out")
    for index, spec in enumerate(layer.param):
        if spec.share_mode:
            refuse(f"param[{index}].share_mode", "PERMISSIVE is not supported; shapes must agree")
    if problems:
        raise Refused(*problems)
    shared = tuple(spec.name for spec in layer.param)
    tops = tuple(layer.top) or ((f"{layer.name}",) if definition.automatic_top else ())
    return Node(layer.name, definition(**values), tuple(layer.bottom), tops, shared)


def _values(message: Message, definition: type, refuse: Any) -> dict[str, Any]:
    """Returns the definition's arguments: the fields that ``message`` sets."""
    known = {field.name for field in dataclasses.fields(definition)}
    without_effect = getattr(definition, "without_effect", ())
    values = {}
    for field, value in message.ListFields():
        if field.name in known:
            values[field.name] = _value(field, value)
        elif field.name not in without_effect:
            refuse(f"{message.DESCRIPTOR.name}.{field.name}", "is not supported by this converter")
    return values


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
    if field.message_type.name == "FillerParameter":
        return Filler(**{inner.name: _value(inner, one) for inner, one in value.ListFields()})
    raise TypeError(f"{field.full_name}: no definition takes a {field.message_type.name}")


def _shortest(value: float) -> float:
    """Returns the float that people wrote: a float32 0.0001 arrives as 0.00009999999747378752."""
    return float(str(np.float32(value)))


def message_of(network: Network) -> NetParameter:
    """Returns the network as today's definition: undoes ``describe``, defaults left out."""
    message = NetParameter(name=network.name)
    for node in network.nodes:
        layer = message.layer.add(name=node.name, type=node.layer.type, bottom=node.bottoms, top=node.tops)
        if any(node.shared):
            layer.param.extend(ParamSpec(name=name) if name else ParamSpec() for name in node.shared)
        for name in node.layer.messages:
            _set(getattr(layer, name), node.layer)
        if isinstance(node.layer, Input) and node.layer.transform_param is not None:
            _set(layer.transform_param, node.layer.transform_param)
    return message


def _set(message: Message, values: Layer | Filler | Transform) -> None:
    """Sets the fields of ``message`` in which ``values`` differs from its definition's defaults."""
    for field in dataclasses.fields(values):
        value = getattr(values, field.name)
        descriptor = message.DESCRIPTOR.fields_by_name.get(field.name)
        if descriptor is None or value is None or value == field.default:
            continue
        target = getattr(message, field.name)
        if descriptor.message_type is not None and descriptor.message_type.name == "BlobShape":
            for dims in value if is_repeated(descriptor) else (value,):
                (target.add() if is_repeated(descriptor) else target).dim.extend(dims)
        elif isinstance(value, Filler):
            target.SetInParent()
            _set(target, value)
        elif is_repeated(descriptor):
            target.extend(value)
        elif descriptor.enum_type is not None:
            setattr(message, field.name, descriptor.enum_type.values_by_name[value].number)
        else:
            setattr(message, field.name, value)
