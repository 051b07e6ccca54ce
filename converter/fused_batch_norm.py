"""Batch normalization that a file has in one, where Caffe has BatchNorm (mean and variance) and Scale (gamma, beta)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from converter.roles import Key, meaning
from graphs.layer import ParameterSpec
from graphs.layers.normalization import BatchNorm, Scale
from graphs.network import Inferred, Shapes


@dataclass(frozen=True)
class Unit:
    """The names of a BatchNorm, of the Scale behind it and of the layer before it, "" where there is none."""

    batch_norm: str
    scale: str = ""
    before: str = ""


def units(shapes: Shapes) -> tuple[Unit, ...]:
    """Returns every BatchNorm with what stands directly around it."""
    made_by: dict[str, Inferred] = {}
    found: dict[str, Unit] = {}
    for layer in shapes:
        below = made_by.get(layer.node.bottoms[0]) if layer.node.bottoms else None
        before = below.node.name if below else ""
        if isinstance(layer.node.layer, BatchNorm):
            found[layer.node.name] = Unit(layer.node.name, before=before)
        elif isinstance(layer.node.layer, Scale) and before in found:
            found[before] = replace(found[before], scale=layer.node.name)
        made_by.update(dict.fromkeys(layer.node.tops, layer))
    return tuple(found.values())


def stands_for(key: Key, spec: ParameterSpec, is_before: bool) -> bool:
    """Returns whether an array that no layer has taken is that parameter of a batch normalization. Under the name of
    the layer before it, weights and biases are that layer's."""
    wanted = {
        "mean": ("mean",),
        "variance": ("variance",),
        "weights": ("gamma",) if is_before else ("gamma", "weights"),
        "biases": ("beta",) if is_before else ("beta", "biases"),
    }
    return isinstance(key, str) and meaning(key) in wanted.get(spec.name, ())


def is_within(group: str, layers: Collection[str]) -> bool:
    """Returns whether a file's layer is the batch normalization in another's scope: ``conv1/BatchNorm``."""
    for layer in layers:
        rest = group.removeprefix(layer)
        if rest != group and rest[:1] in ("/", "_", "."):
            word = "".join(character for character in rest.lower() if character.isalpha())
            return word in ("bn", "batchnorm", "batchnormalization")
    return False
