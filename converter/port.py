"""The pipeline: files in, a port out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from converter.bind import Bound, bind
from converter.caffe_pb2 import NetParameter
from converter.caffemodel import parse_caffemodel
from converter.describe import Description, Request, describe, without_training
from converter.manifest import stored_manifest
from converter.mean import read_mean
from converter.prototxt import parse_prototxt
from converter.read_weights import read_weights
from converter.rules import State
from converter.sources import CAFFEMODEL, CHECKPOINT, DEFINITION, FROZEN, Source, decoded, is_mean, recognise
from converter.upgrade import upgrade
from graphs.names import Names, name_values
from graphs.network import Network, Shapes, infer
from weights import Parameter, Refused, Shape

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Port:
    """A Caffe network, read and proved, ready to be written.

    ``parameters`` is variable name -> parameter, empty where no weights were given; ``notes`` are lines that the
    user should see; ``waived`` the fields that were passed over on request; ``sources`` the files that it was made
    from; ``mean`` a mean picture (C, H, W) among them, or None; ``classes`` the names of what its scores stand for, ()
    where nobody says; ``preprocessing`` what its manifest states instead of what the definition does, None for that.
    """

    network: Network
    shapes: Shapes
    names: Names
    parameters: dict[str, Parameter]
    notes: tuple[str, ...] = ()
    waived: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    mean: np.ndarray | None = field(default=None, repr=False)
    classes: tuple[str, ...] = ()
    preprocessing: Mapping[str, Any] | None = None

    def save(self, path: str | Path) -> list[Path]:
        """Writes the port in the form that the path's ending says, whole or not at all; returns the files written.

        Raises Refused for an unknown ending, a missing folder, a full disk, or weights that are needed and absent.
        """
        from converter.outputs import save

        return save(self, path)

    def arrays(self) -> list[list[np.ndarray]]:
        """Returns each layer's arrays in Caffe's layout, as ``graphs.run_reference`` takes them."""
        return [
            [self.parameters[name].caffe.reshape(spec.layout.caffe) for name, spec in zip(variables, layer.parameters)]
            for layer, variables in zip(self.shapes, self.names.variables)
        ]


def convert(
    *paths: str | Path,
    phase: str = "TEST",
    level: int = 0,
    stages: Iterable[str] = (),
    input_shapes: Mapping[str, Shape] | None = None,
    skip_layers: Collection[str] = (),
    weights_layout: str | None = None,
    allow: Iterable[str] = (),
) -> Port:
    """Returns the port of a definition and, where they are among the ``paths``, its weights and its mean picture; in
    any order. A .caffemodel alone brings the definition that it was trained with; a frozen graph or a checkpoint that
    this project wrote has its own in the manifest beside it.

    ``phase`` is TEST or TRAIN, and with ``level`` and ``stages`` says which layers run; ``input_shapes`` is blob ->
    shape in Caffe's layout; layers in ``skip_layers`` are left to their fillers; ``weights_layout`` is "caffe" or
    "tensorflow" where shapes can't tell; ``allow`` has fields to pass over though they can't be honoured. Raises
    Refused with every reason found, each naming its file.
    """
    request = Request(State(phase, level, tuple(stages)), dict(input_shapes or {}), frozenset(allow))
    sources = tuple(recognise(path) for path in paths)
    definition, weights, mean = _sort(sources)
    described, shapes = _read_network(definition, request)
    names = name_values(shapes)
    bound = Bound({}, ())
    if weights is not None:
        bound = _placed(
            weights, lambda: bind(shapes, names, read_weights(weights, shapes), weights_layout, skip_layers)
        )
    notes = [f"{definition.path}: {note}" for note in (*described.notes, *shapes.notes())]
    notes += [f"{weights.path}: {note}" for note in bound.notes] if weights is not None else []
    picture = _placed(mean, lambda: read_mean(mean)) if mean is not None else None
    classes = tuple(stored_manifest(definition).get("classes", ())) if definition.kind in _WITH_MANIFEST else ()
    return Port(
        described.network, shapes, names, bound.parameters, tuple(notes), described.waived, sources, picture, classes
    )


_WITH_MANIFEST = (FROZEN, CHECKPOINT)


def _sort(sources: tuple[Source, ...]) -> tuple[Source, Source | None, Source | None]:
    """Returns (definition, weights, mean). Raises Refused where there are two of a kind, or no definition."""
    means = [source for source in sources if is_mean(source)]
    definitions = [source for source in sources if source.kind == DEFINITION]
    weights = [source for source in sources if source not in means and source not in definitions]
    for what, found in (("definitions", definitions), ("weights", weights), ("mean pictures", means)):
        if len(found) > 1:
            raise Refused(f"{' and '.join(str(source.path) for source in found)}: both are {what}; give one")
    if not definitions and weights and weights[0].kind == CAFFEMODEL:
        definitions = weights
    if not definitions and weights and weights[0].kind in _WITH_MANIFEST and stored_manifest(weights[0]):
        definitions = weights
    if not definitions:
        named = f"{sources[0].path}: " if sources else ""
        raise Refused(f"{named}no definition among the sources; give the net's .prototxt too")
    return definitions[0], weights[0] if weights else None, means[0] if means else None


def _read_network(source: Source, request: Request) -> tuple[Description, Shapes]:
    def read() -> tuple[Description, Shapes]:
        described = describe(_definition(source, request), request)
        return described, infer(described.network)

    return _placed(source, read)


def _definition(source: Source, request: Request) -> NetParameter:
    if source.kind == DEFINITION:
        return upgrade(parse_prototxt(decoded(source.data)))
    if source.kind in _WITH_MANIFEST:
        text = stored_manifest(source).get("definition")
        if not isinstance(text, str):
            raise Refused("its manifest holds no definition; give the net's .prototxt too")
        return upgrade(parse_prototxt(text))
    carried = parse_caffemodel(source.data).definition
    if not any(layer.bottom for layer in (*carried.layer, *carried.layers)):
        raise Refused("holds weights without a definition; give the net's .prototxt too")
    return without_training(upgrade(carried), request.inputs)


def _placed(source: Source, read: Callable[[], T]) -> T:
    """Returns what ``read`` returns; what it refuses names the file."""
    try:
        return read()
    except Refused as refused:
        raise refused.within(str(source.path)) from refused
