"""A network's parameters and the loss, the same for every engine, also where no weights are given."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from graphs.fillers import filled
from graphs.layer import Filler, ParameterSpec
from graphs.layers.softmax import Softmax
from weights import Layout

if TYPE_CHECKING:
    from converter.port import Port


STATISTICS = frozenset({"mean", "variance", "scale_factor"})
"""Parameters of batch normalization that training measures and does not learn."""


def is_trained(name: str) -> bool:
    """Returns whether training learns a variable, by its name."""
    return name.rpartition("/")[2] not in STATISTICS


def parameters_of(port: Port) -> dict[str, tuple[Layout, np.ndarray]]:
    """Returns variable name -> (layout, first values in Caffe's layout): the port's own weights; where it has none what
    the definition's fillers draw, and for weights without a filler numbers of variance 2 / fan_in, so that no layer is
    zero. The same at every call."""
    found: dict[str, tuple[Layout, np.ndarray]] = {}
    for layer, names in zip(port.shapes, port.names.variables):
        for name, spec in zip(names, layer.parameters):
            if name not in found:
                given = port.parameters.get(name)
                found[name] = (spec.layout, _first_values(spec, name) if given is None else given.caffe)
    return found


def judged(port: Port) -> list[tuple[str, str]]:
    """Returns the (layer, top) that a loss is taken of: each output, or where Softmax makes it what Softmax reads, as
    every classifier's loss does. Of probabilities near 1 the gradient would be rounding."""
    made: dict[str, tuple[str, str]] = {}
    source: dict[tuple[str, str], tuple[str, str]] = {}
    for layer in port.shapes:
        node = layer.node
        read = made[node.bottoms[0]] if isinstance(node.layer, Softmax) else None
        for top in node.tops:
            made[top] = (node.name, top)
            source[made[top]] = read or made[top]
    return [source[made[blob]] for blob in port.network.outputs]


def _first_values(spec: ParameterSpec, name: str) -> np.ndarray:
    if spec.name in ("variance", "scale_factor"):
        return np.ones(spec.layout.caffe, np.float32)
    if spec.filler == Filler() and len(spec.layout.caffe) > 1:
        spec = replace(spec, filler=Filler("msra"))
    return filled(spec, seed=name)
