"""Frozen graphs whose large constants lie in variables: a session copies its graph, constants and all, for every new
set of tensors that it is asked for, and judging layers alone asks for many."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.tensorflow1 import tensorflow1

LARGE = 1 << 18
"""Values of a constant from which on it becomes a variable."""

SCOPE = "caffeport_constants"
"""Name scope of what is added to the graph."""


@dataclass(frozen=True, eq=False)
class Pulled:
    """A constant that was taken out of a graph: its node's name, its values."""

    name: str
    values: np.ndarray


def lightened(definition: Any) -> list[Pulled]:
    """Changes a GraphDef: each large float32 constant becomes the reading of a variable, under the same name. Returns
    the constants, for ``fill``."""
    tf = tensorflow1("a frozen graph")
    float32 = tf.float32.as_datatype_enum
    pulled = []
    for node in definition.node:
        tensor = node.attr["value"].tensor if node.op == "Const" else None
        if tensor is None or tensor.dtype != float32 or any(one.startswith("^") for one in node.input):
            continue
        shape = [dim.size for dim in tensor.tensor_shape.dim]
        if math.prod(shape) < LARGE or len(tensor.tensor_content) != 4 * math.prod(shape):
            continue
        pulled.append(Pulled(node.name, np.frombuffer(tensor.tensor_content, "<f4").reshape(shape)))
        name, device = node.name, node.device
        node.Clear()
        node.name, node.op, node.device = name, "ReadVariableOp", device
        node.input.append(_handle(len(pulled) - 1))
        node.attr["dtype"].type = float32
    for place, one in enumerate(pulled):
        handle = definition.node.add(name=_handle(place), op="VarHandleOp")
        handle.attr["dtype"].type = float32
        handle.attr["shared_name"].s = handle.name.encode()
        handle.attr["shape"].shape.SetInParent()
        for size in one.values.shape:
            handle.attr["shape"].shape.dim.add(size=size)
    return pulled


def _handle(place: int) -> str:
    return f"{SCOPE}/{place}"


def fill(session: Any, pulled: list[Pulled]) -> None:
    """Sets the variables of a session whose graph was ``lightened``; each constant is let go once it is set."""
    tf = tensorflow1("a frozen graph")
    graph = session.graph
    with graph.as_default():
        sets = []
        for place, one in enumerate(pulled):
            value = tf.placeholder(tf.float32, one.values.shape, name=f"{SCOPE}/value{place}")
            handle = graph.get_tensor_by_name(f"{_handle(place)}:0")
            sets.append((tf.raw_ops.AssignVariableOp(resource=handle, value=value), value))
    for assign, value in reversed(sets):
        session.run(assign, {value: pulled.pop().values})
