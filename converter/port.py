"""The pipeline: files in, a port out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from converter.bind import bind
from converter.caffemodel import parse_caffemodel
from converter.describe import State, describe
from converter.prototxt import parse_prototxt
from converter.sources import DEFINITION, WEIGHTS, Source, decoded, read_source
from converter.upgrade import upgrade
from graphs.names import Names, name_values
from graphs.network import Network, Shapes, infer
from weights import Parameter, Refused


@dataclass(frozen=True, eq=False)
class Port:
    """A Caffe network, read and proved, ready to be written.

    ``parameters`` is variable name -> parameter, empty where no weights were given; ``notes`` are lines that the
    user should see; ``sources`` the files that it was made from.
    """

    network: Network
    shapes: Shapes
    names: Names
    parameters: dict[str, Parameter]
    notes: tuple[str, ...]
    sources: tuple[Source, ...]

    def save(self, path: str | Path) -> list[Path]:
        """Writes the port in the form that the path's ending says, whole or not at all; returns the files written.

        Raises Refused for an unknown ending, a missing folder, a full disk, or weights that are needed and absent.
        """
        from converter.outputs import save

        return save(self, path)

    def arrays(self) -> list[list[np.ndarray]]:
        """Returns each layer's arrays in Caffe's layout, as ``graphs.run_reference`` takes them."""
        return [[self.parameters[name].caffe for name in variables] for variables in self.names.variables]


def convert(*paths: str | Path, phase: str = "TEST", allow: Iterable[str] = ()) -> Port:
    """Returns the port of a definition and, where it is among the ``paths``, its weights; in any order.

    ``phase`` is TEST or TRAIN; ``allow`` has fields to pass over though they can't be honoured. Raises Refused with
    every reason found, each naming its file.
    """
    sources = [read_source(path) for path in paths]
    definition, weights = _only(sources, DEFINITION), _only(sources, WEIGHTS)
    if definition is None:
        named = f"{weights.path}: " if weights else ""
        raise Refused(f"{named}no definition among the sources; give the net's .prototxt too")
    network, shapes = _read_network(definition, State(phase), allow)
    names = name_values(shapes)
    parameters, notes = _read_weights(weights, shapes, names) if weights else ({}, ())
    return Port(network, shapes, names, parameters, notes, tuple(sources))


def _only(sources: list[Source], kind: str) -> Source | None:
    found = [source for source in sources if source.kind == kind]
    if len(found) > 1:
        raise Refused(f"{' and '.join(str(source.path) for source in found)}: both are {kind}; give one")
    return found[0] if found else None


def _read_network(source: Source, state: State, allow: Iterable[str]) -> tuple[Network, Shapes]:
    try:
        network = describe(upgrade(parse_prototxt(decoded(source.data))), state, allow)
        return network, infer(network)
    except Refused as refused:
        raise refused.within(str(source.path)) from refused


def _read_weights(source: Source, shapes: Shapes, names: Names) -> tuple[dict[str, Parameter], tuple[str, ...]]:
    try:
        bound = bind(shapes, names, parse_caffemodel(source.data).blobs)
    except Refused as refused:
        raise refused.within(str(source.path)) from refused
    return bound.parameters, tuple(f"{source.path}: {note}" for note in bound.notes)
