"""What is known of a network when a port of it differs: its layers' definitions and parameters, as steps."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from graphs.network import Inferred, infer
from tools.recording import Facts
from tools.validate.mistakes.scene import Step, steps_of
from tools.validate.subject import Subject
from weights import Refused

if TYPE_CHECKING:
    from converter.port import Port

HOLDERS = frozenset({"Const", "VariableV2", "Variable", "ReadVariableOp"})
"""Operations whose value is a parameter."""


@dataclass(frozen=True, eq=False)
class Knowledge:
    """A network's steps; empty where there is no definition. ``has_own`` says that their parameters are the port's own,
    as the network's are not at hand; ``note`` is a line on what is missing, for people."""

    steps: Mapping[str, Step] = field(default_factory=dict)
    has_own: bool = False
    note: str = ""


def known_of(facts: Facts, subject: Subject, network: Port | None) -> Knowledge:
    """Returns what is known: all of it where the ``network`` was given; else its definition from the recording, with
    the parameters that the port itself holds."""
    if network is not None:
        return Knowledge(steps_of(network.shapes, network.arrays()))
    if subject.port.graph is None:
        return Knowledge(note="what is wrong is told from the port's graph, which a program in a file does not have")
    if not facts.definition:
        return Knowledge(note="the recording holds no definition, so what is wrong can't be told; give DEFINITION and "
                         "WEIGHTS too, or record again")  # fmt: skip
    from converter.describe import Request, describe
    from converter.prototxt import parse_prototxt
    from converter.rules import State
    from converter.upgrade import upgrade

    try:
        message = upgrade(parse_prototxt(facts.definition))
        shapes = infer(describe(message, Request(State(facts.phase))).network)
    except Refused as refused:
        return Knowledge(note=f"the recording's definition can't be read, so what is wrong can't be told: "
                         f"{refused.reasons[0]}")  # fmt: skip
    return Knowledge(steps_of(shapes, [_own_parameters(subject, layer) for layer in shapes]), True)


def _own_parameters(subject: Subject, layer: Inferred) -> list[np.ndarray] | None:
    """Returns a layer's arrays in Caffe's layout as the port has them: what its tensor is made from, beside other
    layers' tensors, that has the parameter's shape. None where that is not one array for each."""
    key = (layer.node.name, layer.node.tops[0]) if layer.node.tops else ("", "")
    if not layer.parameters or key not in subject.places:
        return None
    others = {place.tensor for other, place in subject.places.items() if other != key}
    graph = subject.port.graph
    held = list(_held(graph.get_tensor_by_name(subject.places[key].tensor), others))
    arrays: list[np.ndarray] = []
    for spec in layer.parameters:
        fitting = [tensor for tensor in held if tensor.shape.as_list() == list(spec.layout.tensorflow)]
        if len(fitting) != 1:
            return None
        name = fitting[0].name
        arrays.append(spec.layout.to_caffe(np.asarray(subject.port.session.run({name: name}, {})[name])))
    return arrays


def _held(tensor: Any, others: Container[str]) -> Iterator[Any]:
    """Yields the constants and variables that a tensor is made from, without those behind the tensors ``others``."""
    left, seen = [tensor], {tensor.name}
    while left:
        operation = left.pop().op
        if operation.type in HOLDERS and operation.outputs[0].dtype.base_dtype.name == "float32":
            yield operation.outputs[0]
            continue
        below = [one for one in operation.inputs if one.name not in others and one.name not in seen]
        seen.update(one.name for one in below)
        left += below
