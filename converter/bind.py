"""Network and blobs -> parameters: every shape proved before anything is moved."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from converter.caffemodel import Blobs
from graphs.layer import spell
from graphs.names import Names
from graphs.network import Inferred, Shapes
from weights import Parameter, Refused, Shape


@dataclass(frozen=True)
class Bound:
    """A network's parameters by variable name, in the network's order, and what there is to say of them."""

    parameters: dict[str, Parameter]
    notes: tuple[str, ...]


def bind(shapes: Shapes, names: Names, blobs: Blobs) -> Bound:
    """Returns each layer's arrays under their variables' names, float32.

    Raises Refused with every layer whose weights are missing, too many or too few, or of another shape. Layers of
    ``blobs`` that the network does not have are left out, and noted.
    """
    parameters: dict[str, Parameter] = {}
    problems: list[str] = []
    notes: list[str] = []
    for layer, variables in zip(shapes, names.variables):
        if not layer.parameters:
            continue
        node = layer.node
        arrays = blobs.get(node.name)
        if arrays is None and all(name in parameters for name in variables):
            continue  # shared, and its owner has them
        reason = _misfit(layer, arrays)
        if reason:
            problems.append(f"{node}: {reason}")
            continue
        for spec, name, array in zip(layer.parameters, variables, arrays or ()):
            caffe = array.reshape(spec.layout.caffe)
            if caffe.dtype != np.float32:
                notes.append(f"{node}: its {spec.name} are stored as {caffe.dtype}; the graph holds float32")
                caffe = caffe.astype(np.float32)
            if name in parameters and not np.array_equal(parameters[name].caffe, caffe):
                notes.append(f"{node}: shares {name}, but stores other values; Caffe takes the last ones, and so do we")
            parameters[name] = Parameter(name, spec.layout, caffe)
    if problems:
        raise Refused(*problems)
    notes += _left_over(shapes, blobs)
    return Bound(parameters, tuple(notes))


def _misfit(layer: Inferred, arrays: tuple[np.ndarray, ...] | None) -> str:
    """Returns what is wrong with a layer's arrays, "" where they fit."""
    expected = [spec.layout.caffe for spec in layer.parameters]
    spelled = " and ".join(map(spell, expected))
    if arrays is None:
        return f"has no weights there; expected {spelled}"
    if len(arrays) != len(expected):
        found = " and ".join(spell(array.shape) for array in arrays)
        return f"has {len(arrays)} blobs there ({found}); expected {len(expected)} ({spelled})"
    for spec, array in zip(layer.parameters, arrays):
        if not same_shape(array.shape, spec.layout.caffe):
            return f"its {spec.name} have the shape {spell(array.shape)} there; expected {spell(spec.layout.caffe)}"
    return ""


def same_shape(stored: Shape, expected: Shape) -> bool:
    """Returns whether a stored shape is the expected one, but for axes of size 1 in front: old Caffe stored all
    blobs with four axes, fully connected weights as 1x1xNxK."""
    return _without_leading_ones(stored) == _without_leading_ones(expected)


def _without_leading_ones(shape: Shape) -> Shape:
    first = next((axis for axis, size in enumerate(shape) if size != 1), len(shape))
    return tuple(shape[first:])


def _left_over(shapes: Shapes, blobs: Blobs) -> list[str]:
    known = {layer.node.name: layer for layer in shapes}
    surplus = [name for name in blobs if name not in known]
    if not surplus:
        return []
    shown = ", ".join(f"'{name}'" for name in surplus[:8]) + (" ..." if len(surplus) > 8 else "")
    return [f"weights of {len(surplus)} layers that the definition does not have are left out: {shown}"]
