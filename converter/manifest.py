"""The manifest beside each graph: which tensor is which blob, and where it all came from."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

from converter import __version__
from converter.describe import foreign_layers, message_of
from converter.prototxt import print_prototxt
from converter.sources import Source, is_mean
from graphs.layers.data import Input, Transform
from graphs.network import Inferred
from weights import Refused, Shape

if TYPE_CHECKING:
    from converter.port import Port


def manifest(port: Port, versions: dict[str, str]) -> dict[str, Any]:
    """Returns the manifest as values for JSON. Shapes are in Caffe's layout, null for a free batch."""
    last = {
        top: f"{name}:0"
        for layer, names in zip(port.shapes, port.names.tops)
        for top, name in zip(layer.node.tops, names)
    }
    content: dict[str, Any] = {
        "network": port.network.name,
        "phase": port.network.phase,
        "inputs": [
            {"blob": top, "tensor": f"{name}:0", "shape": _shape(shape), "dtype": "float32"}
            for layer, names in zip(port.shapes, port.names.tops)
            if isinstance(layer.node.layer, Input)
            for top, name, shape in zip(layer.node.tops, names, layer.open_tops)
        ],
        "outputs": [{"blob": blob, "tensor": last[blob]} for blob in port.network.outputs],
        "layers": [
            {
                "name": layer.node.name,
                "type": layer.node.layer.type,
                "tops": [
                    {"blob": top, "tensor": f"{name}:0", "shape": _shape(shape)}
                    for top, name, shape in zip(layer.node.tops, names, layer.open_tops)
                ],
                **_variables(layer, variables),
            }
            for layer, names, variables in zip(port.shapes, port.names.tops, port.names.variables)
        ],
        "sources": [{"name": source.name, "sha256": source.sha256} for source in port.sources],
        "versions": {"caffeport": __version__, **versions},
    }
    if not foreign_layers(port.network):
        content["definition"] = print_prototxt(message_of(port.network))
    preprocessing = {**_preprocessing(port), **_mean(port)} if port.preprocessing is None else port.preprocessing
    if preprocessing:
        content["preprocessing"] = dict(preprocessing)
    if port.classes:
        content["classes"] = list(port.classes)
    if port.waived:
        content["waived"] = list(port.waived)
    if port.names.mapped:
        content["renamed"] = port.names.mapped
    return content


def manifest_text(port: Port, versions: dict[str, str]) -> str:
    """Returns the manifest as indented JSON."""
    return json.dumps(manifest(port, versions), indent=1, ensure_ascii=False) + "\n"


def stored_manifest(source: Source) -> dict[str, Any]:
    """Returns the manifest beside a graph's file, {} where there is none. Raises Refused where it is no JSON object."""
    path = source.path.with_name(source.path.name + ".json")
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Refused(f"{path}: is no manifest of a port: {error}") from error
    if not isinstance(content, dict):
        raise Refused(f"{path}: is no manifest of a port: it holds no object")
    return content


def _variables(layer: Inferred, names: tuple[str, ...]) -> dict[str, Any]:
    """Returns which variable each of a layer's parameters is, {} where it has none."""
    found = {spec.name: name for spec, name in zip(layer.parameters, names)}
    return {"variables": found} if found else {}


def _shape(shape: Shape) -> list[int | None]:
    return [None if size < 0 else size for size in shape]


def _preprocessing(port: Port) -> dict[str, Any]:
    """Returns what the definition states of how pictures become input; {} where it states nothing."""
    for node in port.network.nodes:
        if isinstance(node.layer, Input) and node.layer.transform_param is not None:
            transform = node.layer.transform_param
            stated = {
                field.name: getattr(transform, field.name)
                for field in dataclasses.fields(Transform)
                if getattr(transform, field.name) != field.default
            }
            color = node.layer.shapes(len(node.tops))[0][1:2] == (3,)
            return {**stated, **({"channel_order": "BGR"} if color else {})}
    return {}


def _mean(port: Port) -> dict[str, Any]:
    """Returns the mean picture that was given, and its average for each channel, as ``mean_value`` states it."""
    if port.mean is None:
        return {}
    names = [source.name for source in port.sources if is_mean(source)]
    averages = port.mean.reshape(port.mean.shape[0], -1).mean(axis=1, dtype="float64")
    return {"mean_file": names[0], "mean_value": [round(float(value), 6) for value in averages]}
