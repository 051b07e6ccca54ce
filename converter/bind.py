"""Network and stored weights -> parameters: every shape proved before anything is read or moved."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from graphs.fillers import drawn, filled
from graphs.layer import ParameterSpec, spell
from graphs.names import Names
from graphs.network import Inferred, Shapes
from weights import Parameter, Refused, Shape
from weights.stored import CAFFE, TENSORFLOW, ArrayLike, Stored


@dataclass(frozen=True)
class Bound:
    """A network's parameters by variable name, in the network's order, and what there is to say of them."""

    parameters: dict[str, Parameter]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Found:
    """An array for a parameter, and the layouts in which its shape fits."""

    layer: Inferred
    variable: str
    spec: ParameterSpec
    array: ArrayLike
    fits: tuple[str, ...]


def bind(shapes: Shapes, names: Names, stored: Stored, layout: str | None = None, skip: Collection[str] = ()) -> Bound:
    """Returns each layer's arrays under their variables' names, float32, in Caffe's layout.

    ``layout`` (CAFFE or TENSORFLOW) says how the arrays lie where the file does not; without it their shapes must
    tell. Layers in ``skip`` get values from their fillers, as ``drawn`` has them. Raises Refused with every layer whose
    weights are missing, too many or too few, or of another shape, and where shapes leave the layout open. Stored layers
    that the network does not have are left out, and noted.
    """
    problems: list[str] = [
        f"--skip-layer {name}: the network has no such layer" for name in skip if not _has(shapes, name)
    ]
    found: list[_Found] = []
    for layer, variables in zip(shapes, names.variables):
        if layer.parameters and layer.node.name not in skip:
            held = _held(layer, variables, stored)
            owned = {one.variable for one in found}
            if held is None and owned.issuperset(variables):
                continue  # shared, and its owner has them
            reason = _misfit(layer, held)
            if reason or held is None:
                problems.append(f"{layer.node}: {reason}")
            else:
                found += (
                    _Found(layer, variable, spec, array, _fits(array, spec, layout or stored.layout))
                    for variable, spec, array in zip(variables, layer.parameters, held)
                )
    problems += [_wrong_shape(one, layout or stored.layout) for one in found if not one.fits]
    if problems:
        raise Refused(*problems)
    default = _layout_of(found)
    notes: list[str] = []
    bound: dict[str, Parameter] = {}
    for one in found:
        parameter = _parameter(one, default, notes)
        known = bound.get(one.variable)
        if known is not None and not np.array_equal(known.caffe, parameter.caffe):
            notes.append(
                f"{one.layer.node}: shares {one.variable}, but stores other values; Caffe takes the last ones, and so "
                "does the port"
            )
        bound[one.variable] = parameter
    notes += _fill(shapes, names, skip, bound)
    ordered = {name: bound[name] for variables in names.variables for name in variables}
    return Bound(ordered, (*notes, *_left_over(shapes, names, stored)))


def _has(shapes: Shapes, name: str) -> bool:
    return any(layer.node.name == name and layer.parameters for layer in shapes)


def _held(layer: Inferred, variables: tuple[str, ...], stored: Stored) -> list[ArrayLike] | None:
    """Returns a layer's arrays in the order of its parameters, None where the file has no such layer."""
    for name in (layer.node.name, variables[0].rpartition("/")[0]):
        if name in stored.layers:
            return list(_in_order(layer, stored.layers[name]))
    return None


def _in_order(layer: Inferred, arrays: Mapping[int | str, ArrayLike]) -> Iterator[ArrayLike]:
    by_name = [spec.name for spec in layer.parameters]
    if all(name in arrays for name in by_name):
        yield from (arrays[name] for name in by_name)
        yield from (array for key, array in arrays.items() if key not in by_name)
    else:
        yield from arrays.values()


def _misfit(layer: Inferred, held: list[ArrayLike] | None) -> str:
    """Returns what is wrong with the number of a layer's arrays, "" where it is right."""
    expected = [spec.layout.caffe for spec in layer.parameters]
    spelled = " and ".join(map(spell, expected))
    if held is None:
        return f"has no weights there; expected {spelled}"
    if len(held) != len(expected):
        found = " and ".join(spell(tuple(array.shape)) for array in held)
        return f"has {len(held)} blobs there ({found}); expected {len(expected)} ({spelled})"
    return ""


def _fits(array: ArrayLike, spec: ParameterSpec, layout: str | None) -> tuple[str, ...]:
    fits = []
    if layout != TENSORFLOW and same_shape(tuple(array.shape), spec.layout.caffe):
        fits.append(CAFFE)
    if layout != CAFFE and tuple(array.shape) == spec.layout.tensorflow:
        fits.append(TENSORFLOW)
    return tuple(fits)


def same_shape(stored: Shape, expected: Shape) -> bool:
    """Returns whether a stored shape is the expected one, but for axes of size 1 in front: old Caffe stored all
    blobs with four axes, fully connected weights as 1x1xNxK."""
    return _without_leading_ones(stored) == _without_leading_ones(expected)


def _without_leading_ones(shape: Shape) -> Shape:
    first = next((axis for axis, size in enumerate(shape) if size != 1), len(shape))
    return tuple(shape[first:])


def _wrong_shape(one: _Found, layout: str | None) -> str:
    layouts = one.spec.layout
    expected = spell(layouts.tensorflow if layout == TENSORFLOW else layouts.caffe)
    if layout is None and layouts.tensorflow != layouts.caffe:
        expected += f" (or {spell(layouts.tensorflow)} in TensorFlow's layout)"
    return (
        f"{one.layer.node}: its {one.spec.name} have the shape {spell(tuple(one.array.shape))} there; "
        f"expected {expected}"
    )


def _layout_of(found: list[_Found]) -> str:
    """Returns the layout of the arrays that fit both, told by those that fit one.

    Raises Refused where none tells, or they contradict each other, and it matters.
    """
    evidence = {one.fits[0] for one in found if len(one.fits) == 1}
    open_ones = [one for one in found if len(one.fits) > 1 and _matters(one)]
    if open_ones and len(evidence) != 1:
        names = ", ".join(f"{one.variable} ({spell(tuple(one.array.shape))})" for one in open_ones[:4])
        raise Refused(f"{names}: the shape fits both layouts; say --weights-layout caffe or tensorflow")
    return next(iter(evidence), CAFFE)


def _matters(one: _Found) -> bool:
    """Returns whether an array's two layouts differ: they don't where only axes of size 1 move."""
    layout = one.spec.layout
    moving = [axis for axis in layout.order if layout.view[axis] != 1]
    return moving != sorted(moving)


def _parameter(one: _Found, default: str, notes: list[str]) -> Parameter:
    array = np.asarray(one.array)
    layout = one.fits[0] if len(one.fits) == 1 else default
    array = array.reshape(one.spec.layout.caffe if layout == CAFFE else one.spec.layout.tensorflow)
    if array.dtype != np.dtype("<f4"):
        notes.append(f"{one.layer.node}: its {one.spec.name} are stored as {array.dtype}; the graph holds float32")
        array = array.astype(np.float32)
    return Parameter(one.variable, one.spec.layout, array, layout)


def _fill(shapes: Shapes, names: Names, skip: Collection[str], bound: dict[str, Parameter]) -> Iterator[str]:
    for layer, variables in zip(shapes, names.variables):
        if layer.node.name in skip and layer.parameters:
            left_out = {name: spec for spec, name in zip(layer.parameters, variables) if name not in bound}
            for name, spec in left_out.items():
                bound[name] = Parameter(name, spec.layout, filled(drawn(spec), seed=name))
            if left_out:
                kinds = ", ".join(map(_kind, left_out.values()))
                yield f"{layer.node}: not loaded; values come from its fillers ({kinds})"


def _kind(spec: ParameterSpec) -> str:
    """Returns what fills a parameter that is not loaded, in words."""
    used = drawn(spec)
    return f"{spec.name} {used.filler.type}{'' if used is spec else ', as none is stated'}"


def _left_over(shapes: Shapes, names: Names, stored: Stored) -> list[str]:
    known = {layer.node.name for layer in shapes}
    known |= {name.rpartition("/")[0] for variables in names.variables for name in variables}
    surplus = [name for name in stored.layers if name not in known]
    if not surplus:
        return []
    shown = ", ".join(f"'{name}'" for name in surplus[:8]) + (" ..." if len(surplus) > 8 else "")
    return [f"weights of {len(surplus)} layers that the definition does not have are left out: {shown}"]
