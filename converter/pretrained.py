"""Pretrained weights for the AlexNet family, from any file that the toolkit reads."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from converter.bind import Bound, bind
from converter.read_weights import read_weights
from converter.sources import DEFINITION, MEAN, recognise
from graphs.alexnet import Endpoints
from graphs.layers.convolution import Convolution
from graphs.names import Names
from weights import Refused
from weights.stored import ArrayLike, Stored

TORCHVISION = {
    "features.0": "conv1",
    "features.3": "conv2",
    "features.6": "conv3",
    "features.8": "conv4",
    "features.10": "conv5",
    "classifier.1": "fc6",
    "classifier.4": "fc7",
    "classifier.6": "fc8",
}
"""Layers of ``torchvision.models.alexnet``, which are numbered with those between them, -> endpoint."""

Layers = Mapping[str, Mapping[int | str, ArrayLike]]


def load_pretrained(
    session: Any,
    path: str | Path,
    endpoints: Endpoints,
    skip_layers: Collection[str] = (),
    weights_layout: str | None = None,
) -> tuple[str, ...]:
    """Sets the network's variables in ``session`` from a file of weights; returns notes that the user should see.

    See ``pretrained`` for the rest. A layer in ``skip_layers`` keeps its variables as they are: initialize them.
    """
    bound = pretrained(path, endpoints, skip_layers, weights_layout)
    variables = dict(zip(_flat(endpoints.names.variables), _flat(endpoints.variables.values())))
    for name, parameter in bound.parameters.items():
        initializer = variables[name].initializer
        session.run(initializer, {initializer.inputs[1]: parameter.tensorflow()})
    return bound.notes


def pretrained(
    path: str | Path, endpoints: Endpoints, skip_layers: Collection[str] = (), weights_layout: str | None = None
) -> Bound:
    """Returns the parameters of the network's variables by name, from a file of weights of any kind: .caffemodel (.h5),
    .npy, .npz, .safetensors, checkpoint, frozen graph, and torchvision's state_dict (.pth, .safetensors).

    ``skip_layers`` are not loaded, be they the network's (a new head) or the file's (an old one). ``weights_layout`` is
    "caffe" or "tensorflow" where shapes can't tell. Raises Refused with every layer that is missing, surplus or of
    another shape, all at once.
    """
    source = recognise(path)
    if source.kind in (DEFINITION, MEAN):
        raise Refused(f"{path}: is a {source.kind}; give a file of weights")
    try:
        stored = read_weights(source, endpoints.shapes)
        stored = replace(stored, layers=_by_endpoint(stored.layers, endpoints))
        return _bound(stored, endpoints, skip_layers, weights_layout)
    except Refused as refused:
        raise refused.within(str(path)) from refused


def _bound(stored: Stored, endpoints: Endpoints, skip: Collection[str], layout: str | None) -> Bound:
    names = endpoints.names.variables
    scopes = {row: {row, *(name.rpartition("/")[0] for name in names)} for row, names in _rows(endpoints)}
    known = {name for row, held in scopes.items() if row not in skip for name in held}
    skipped = {name for row in skip for name in scopes.get(row, {row})}
    problems = [
        f"layer '{name}': neither the network nor the file has it, so it can't be skipped; the network has "
        f"{', '.join(scopes)}"
        for name in skip
        if name not in scopes and name not in stored.layers
    ]
    problems += [
        f"layer '{name}': the network has no such layer; to leave it out, name it in skip_layers"
        for name in stored.layers
        if name not in known | skipped
    ]
    kept = [
        (layer, variables)
        for layer, variables in zip(endpoints.shapes, names)
        if layer.parameters and layer.node.name not in skip
    ]
    shapes = replace(endpoints.shapes, layers=tuple(layer for layer, _ in kept))
    wanted = replace(stored, layers={name: held for name, held in stored.layers.items() if name in known})
    try:
        bound = bind(shapes, Names((), tuple(variables for _, variables in kept)), wanted, layout)
    except Refused as refused:
        raise Refused(*refused.reasons, *problems) from refused
    if problems:
        raise Refused(*problems)
    return bound


def _rows(endpoints: Endpoints) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yields each endpoint that has variables, with their names."""
    for layer, variables in zip(endpoints.shapes, endpoints.names.variables):
        if variables:
            yield layer.node.name, variables


def _by_endpoint(layers: Layers, endpoints: Endpoints) -> Layers:
    """Returns a file's layers under the names of the endpoints that they belong to, where the file has its own."""
    split = _split(layers)
    if set(TORCHVISION) <= set(split):
        first = endpoints.shapes.layers[0]
        pads = first.node.layer.windows(*first.bottoms).pads if isinstance(first.node.layer, Convolution) else ()
        if "norm1" in endpoints or pads != (2, 2):
            raise Refused("is torchvision's AlexNet, without LRN and with conv1 padded by 2; build alexnet.torchvision")
        return {TORCHVISION.get(layer, layer): held for layer, held in split.items()}
    gathered = dict(layers)
    for row, variables in _rows(endpoints):
        if all("/" not in name and name in layers for name in variables):  # w_c1 and b_c1, each a layer to the reader
            gathered[row] = {name: gathered.pop(name)[0] for name in variables}
    return gathered


def _split(layers: Layers) -> dict[str, dict[int | str, ArrayLike]]:
    """Returns layers, of which those called ``features.0.weight`` are arrays of ``features.0``."""
    split: dict[str, dict[int | str, ArrayLike]] = {}
    for name, held in layers.items():
        layer, dot, part = name.rpartition(".")
        if dot and list(held) == [0]:
            split.setdefault(layer, {})[part] = held[0]
        else:
            split.setdefault(name, {}).update(held)
    return split


def _flat(groups: Iterable[tuple[Any, ...]]) -> list[Any]:
    return [one for group in groups for one in group]
