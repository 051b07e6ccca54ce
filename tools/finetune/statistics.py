"""Batch normalization's statistics: which layers train by a batch's own, and what they are tested by, which is measured
on training pictures.

Moving averages follow slowly (.99 of what they were stays at each step, in Caffe .999): after a short training they
still tell of the network that it began with, and a test by them says little of what was learned. (Ioffe and Szegedy
2015, algorithm 2, measures them so; Wu and Johnson 2021 call it PreciseBN.)
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from converter.port import Port
from graphs.alexnet.training_layers import BatchNormalization
from graphs.layer import Tensor
from graphs.layers.bn import BN
from graphs.layers.normalization import BatchNorm
from graphs.network import Inferred, Node
from tools.finetune.pictures import Batch
from tools.training.trainable import add_network, assign
from weights import Refused

PICTURES = 1024
"""So many training pictures tell the statistics, all of them where there are fewer: more changed no test's outcome."""


def port_as_it_learns(port: Port, layers: Collection[str]) -> Port:
    """Returns the port in phase TRAIN; batch normalization takes the batch's own statistics in ``layers`` alone. Raises
    Refused for a layer among them that can't learn."""
    unknown = [
        f"{layer.node}: how a fork's BN follows its statistics in training is not known; say frozen: true, or leave it "
        "out of --train-layers"
        for layer in port.shapes
        if layer.node.name in layers and isinstance(layer.node.layer, BN) and not layer.node.layer.frozen
    ]
    if unknown:
        raise Refused(*unknown)
    nodes = {layer.node.name: _phased(layer.node, layer.node.name in layers) for layer in port.shapes}
    shapes = tuple(replace(layer, node=nodes[layer.node.name]) for layer in port.shapes)
    network = replace(port.network, phase="TRAIN", nodes=tuple(nodes[node.name] for node in port.network.nodes))
    return replace(port, network=network, shapes=replace(port.shapes, layers=shapes))


def _phased(node: Node, learns: bool) -> Node:
    if isinstance(node.layer, BatchNorm) and not learns:
        return replace(node, layer=replace(node.layer, use_global_stats=True))
    if isinstance(node.layer, BN):
        return replace(node, layer=replace(node.layer, frozen=True))
    if isinstance(node.layer, BatchNormalization):
        return replace(node, layer=replace(node.layer, is_training=learns))
    return node


@dataclass(frozen=True, eq=False)
class Normalized:
    """A layer whose statistics are measured: its variables by their part, and a batch's own ``mean`` and ``variance``
    of each channel. The latter is of ``values`` in a picture, divided by one less where ``is_unbiased``."""

    variables: Mapping[str, str]
    mean: Tensor
    variance: Tensor
    values: int
    is_unbiased: bool

    def squares(self, mean: np.ndarray, variance: np.ndarray, pictures: int) -> np.ndarray:
        """Returns the mean of a batch's squares."""
        count = self.values * pictures
        return variance * ((count - 1) / count if self.is_unbiased else 1) + mean**2

    def stored(self, mean: np.ndarray, variance: np.ndarray) -> dict[str, np.ndarray]:
        """Returns what the variables are to hold."""
        parts = {"mean": mean, "variance": variance, "scale_factor": np.ones(1)}
        return {name: parts[part].astype(np.float32) for part, name in self.variables.items()}


def normalized(
    tf: Any, port: Port, layers: Collection[str], blob: str, images: Tensor, variables: Mapping[str, Any]
) -> tuple[Normalized, ...]:
    """Returns those of ``layers`` that normalize by the batch's own statistics. Adds the network once more, on
    ``images``, as it is tested but for those layers; nothing where there are none."""
    nodes = {layer.node.name: _measuring(layer.node, layers) for layer in port.shapes}
    if all(nodes[layer.node.name] is layer.node for layer in port.shapes):
        return ()
    shapes = replace(port.shapes, layers=tuple(replace(one, node=nodes[one.node.name]) for one in port.shapes))
    network = replace(port.network, nodes=tuple(nodes[node.name] for node in port.network.nodes))
    measuring = add_network(
        tf, network, shapes, port.names, inputs={blob: images}, variables=variables, scope="statistics"
    )
    found: dict[str, Node] = {}
    layers_found = []
    for before, after, names in zip(port.shapes, shapes, port.names.variables):
        if before.node is after.node:
            continue
        shared = next((found[name] for name in names if name in found), None)
        if shared is not None:
            raise Refused(f"{before.node}: shares its statistics with {shared.name}; leave one out of --train-layers")
        found.update(dict.fromkeys(names, before.node))
        layers_found.append(_normalized(before, names, measuring.passed))
    return tuple(layers_found)


def _measuring(node: Node, layers: Collection[str]) -> Node:
    """Returns a node that leaves a batch's own statistics behind, where training takes them."""
    layer = node.layer
    if node.name in layers and isinstance(layer, BatchNorm) and layer.use_global_stats is not True:
        return replace(node, layer=replace(layer, use_global_stats=False, moving_average_fraction=0.0))
    if node.name in layers and isinstance(layer, BatchNormalization):
        return replace(node, layer=replace(layer, is_training=True, momentum=0.0))
    return node


def _normalized(layer: Inferred, names: tuple[str, ...], passed: Mapping[str, Tensor]) -> Normalized:
    parts = {spec.name.removeprefix("moving_"): name for spec, name in zip(layer.parameters, names)}
    of = {part: name for part, name in parts.items() if part in ("mean", "variance", "scale_factor")}
    mean, variance = passed[of["mean"]], passed[of["variance"]]
    rest = layer.bottoms[0][1:]
    values = math.prod(rest) // layer.parameters[0].layout.caffe[0]
    return Normalized(of, mean, variance, values, isinstance(layer.node.layer, BatchNorm))


def measure(session: Any, graph: Any, batches: Iterable[Batch]) -> None:
    """Gives the layers that normalize by the batch the statistics that their bottoms have with the weights as they are:
    mean and variance over all pictures of ``batches``, or the first ``PICTURES`` of them.

    Each batch counts by its pictures, and below a layer that normalizes it is normalized by its own statistics, as in
    training.
    """
    layers: tuple[Normalized, ...] = graph.normalized
    if not layers:
        return
    wanted = [(one.mean, one.variance) for one in layers]
    means, squares = ([np.zeros(one.mean.shape.as_list()) for one in layers] for _ in range(2))
    count = 0
    for images, _ in batches:
        pictures = len(images)
        for place, (mean, variance) in enumerate(session.run(wanted, {graph.images: images})):
            mean, variance = mean.astype(np.float64), variance.astype(np.float64)
            means[place] += pictures * mean
            squares[place] += pictures * layers[place].squares(mean, variance, pictures)
        count += pictures
        if count >= PICTURES:
            break
    for one, total, square in zip(layers, means, squares) if count else ():
        mean = total / count
        assign(session, graph.variables, one.stored(mean, np.maximum(square / count - mean**2, 0)))
