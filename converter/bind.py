"""Network and stored weights -> parameters: every shape proved before anything is read or moved."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from converter.match import Held, match
from graphs.fillers import drawn, filled
from graphs.layer import ParameterSpec, spell
from graphs.names import Names
from graphs.network import Shapes
from graphs.sharing import declared
from weights import Parameter, Refused, Shape
from weights.stored import CAFFE, TENSORFLOW, ArrayLike, Stored


@dataclass(frozen=True)
class Bound:
    """A network's parameters by variable name, in the network's order, and what there is to say of them."""

    parameters: dict[str, Parameter]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Found(Held):
    """An array for a parameter, and the layouts in which its shape fits."""

    fits: tuple[str, ...]


def bind(shapes: Shapes, names: Names, stored: Stored, layout: str | None = None, skip: Collection[str] = ()) -> Bound:
    """Returns each layer's arrays under their variables' names, float32, in Caffe's layout.

    ``layout`` (CAFFE or TENSORFLOW) says how the arrays lie where the file does not; without it their shapes must
    tell. Layers in ``skip`` get values from their fillers, as ``drawn`` has them. Raises Refused with every layer whose
    weights are missing, too many or too few, can't be told apart, or are of another shape, and where shapes leave the
    layout open. Stored layers that the network does not have are left out, and noted.
    """
    layout = layout or stored.layout
    matched = match(shapes, names, stored, lambda array, spec: bool(_fits(array, spec, layout)), skip)
    found = [_Found(**vars(one), fits=_fits(one.array, one.spec, layout)) for one in matched.held]
    problems = [f"--skip-layer {name}: the network has no such layer" for name in skip if not _has(shapes, name)]
    problems += matched.problems
    problems += [_wrong_shape(one, layout) for one in found if not one.fits]
    if problems:
        raise Refused(*problems)
    default = _layout_of(found)
    notes = list(matched.notes)
    bound: dict[str, Parameter] = {}
    owned = declared(shapes, names.variables)
    in_file = {name: index for index, name in enumerate(stored.layers) if stored.is_caffes}
    for one in sorted(found, key=lambda one: in_file.get(one.layer.node.name, 0)):  # the order in which Caffe loads
        parameter = _parameter(one, default, notes)
        layout_there = owned[one.variable].layout
        if layout_there != parameter.layout:  # shared, and it lies as its owner declares it
            held = parameter.caffe.reshape(layout_there.caffe)
            parameter = replace(parameter, layout=layout_there, array=held, held=CAFFE)
        known = bound.get(one.variable)
        if known is not None and not np.array_equal(known.caffe, parameter.caffe):
            notes.append(
                f"{one.layer.node}: shares {one.variable}, but stores other values; Caffe takes the last ones, and so "
                "does the port"
            )
        bound[one.variable] = parameter
    notes += _fill(shapes, names, skip, bound)
    ordered = {name: bound[name] for variables in names.variables for name in variables}
    return Bound(ordered, (*notes, *_left_over(matched.left)))


def _has(shapes: Shapes, name: str) -> bool:
    return any(layer.node.name == name and layer.parameters for layer in shapes)


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


def _left_over(surplus: Sequence[str]) -> list[str]:
    if not surplus:
        return []
    shown = ", ".join(f"'{name}'" for name in surplus[:8]) + (" ..." if len(surplus) > 8 else "")
    return [f"weights of {len(surplus)} layers that the definition does not have are left out: {shown}"]
