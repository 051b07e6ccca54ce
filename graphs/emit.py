"""One walk over a network that makes its graph, of TensorFlow's operations or of source that names them."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from graphs.channels_last import channels_last
from graphs.layer import ParameterSpec, Site, Tensor, listed
from graphs.layers.data import Input
from graphs.names import Names
from graphs.network import Inferred, Network, Shapes
from graphs.sharing import declared, relaid


@dataclass(frozen=True)
class Emitted:
    """A layer and the tensors that stand for its tops. ``passed`` are the values that the pass leaves in its
    parameters, in their order; empty where it leaves them alone."""

    layer: Inferred
    tops: tuple[Tensor, ...]
    passed: tuple[Tensor, ...] = ()


def emit(
    network: Network,
    shapes: Shapes,
    names: Names,
    tf: Any,
    parameter: Callable[[str], Tensor],
    top_name: Callable[[str], str] = str,
    inputs: Mapping[str, Tensor] | None = None,
    seed: Tensor | None = None,
    training: bool = False,
) -> list[Emitted]:
    """Returns every layer's tops, made with ``tf``.

    ``parameter`` returns the tensor of a variable by its name; ``top_name`` spells an operation's name for ``tf``.
    ``inputs`` has tensors for blobs that are not to be placeholders; ``seed``, two whole numbers, decides what layers
    draw in TRAIN; ``training`` asks for what a pass leaves in parameters too.
    """
    blobs: dict[str, Tensor] = {}
    hidden = _hidden(network)
    owned = declared(shapes, names.variables)
    emitted = []
    for place, (layer, top_names, variables) in enumerate(zip(shapes, names.tops, names.variables)):
        node = layer.node
        spelled = [top_name(name) for name in top_names]
        passed: list[Tensor] = []
        if isinstance(node.layer, Input):
            tops = [
                tf.placeholder(tf.float32, placeholder_shape(shape), name=name)
                if inputs is None or blob not in inputs
                else tf.identity(inputs[blob], name=name)
                for blob, shape, name in zip(node.tops, layer.open_tops, spelled)
            ]
        else:
            own = None if seed is None or not node.layer.draws else tf.add(seed, [zlib.crc32(node.name.encode()), 0])
            free = tuple(None if (place, index) in hidden else name for index, name in enumerate(spelled))
            site = Site(free, layer.open_bottoms, layer.open_tops, network.phase, own)
            bottoms = [blobs[bottom] for bottom in node.bottoms]
            if network.phase == "TRAIN" and not all(node.propagate_down):
                bottoms = [
                    bottom if followed else tf.stop_gradient(bottom)
                    for bottom, followed in zip(bottoms, node.propagate_down)
                ]
            arrays = [
                relaid(tf, parameter(name), owned[name].layout, spec.layout)
                for name, spec in zip(variables, layer.parameters)
            ]
            made = listed(node.layer.emit(tf, site, *bottoms, *arrays))
            tops = [
                top if site.names[index] else tf.identity(top, name=name)
                for index, (top, name) in enumerate(zip(made, spelled))
            ]
            passed = node.layer.passed(tf, site, *bottoms, *arrays) if training else []
        blobs.update(zip(node.tops, tops))
        emitted.append(Emitted(layer, tuple(tops), tuple(passed)))
    return emitted


def _hidden(network: Network) -> set[tuple[int, int]]:
    """Returns (layer, top), by place, of the tops whose tensors TensorFlow's optimizer may lose in what reads them.

    A copy bears such a top's name, and stands between it and its readers: while it is fetched the optimizer keeps it,
    and does not see through it; otherwise it takes it out first.
    """
    made: dict[str, tuple[int, int]] = {}
    hidden: set[tuple[int, int]] = set()
    for place, node in enumerate(network.nodes):
        if node.layer.hides(len(node.bottoms)):
            hidden |= {made[bottom] for bottom in node.bottoms}
        made |= {top: (place, index) for index, top in enumerate(node.tops)}
    fed = {place for place, node in enumerate(network.nodes) if isinstance(node.layer, Input)}
    return {top for top in hidden if top[0] not in fed}


def placeholder_shape(shape: tuple[int, ...]) -> list[int | None]:
    """Returns a placeholder's shape in the graph's layout, None for a free batch."""
    return [None if size < 0 else size for size in channels_last(shape)]


def build(
    network: Network,
    shapes: Shapes,
    names: Names,
    tf: Any,
    variable: Callable[[str, ParameterSpec], Tensor],
    inputs: Mapping[str, Tensor] | None = None,
    seed: Tensor | None = None,
    training: bool = False,
) -> list[Emitted]:
    """Adds the network to ``tf``'s default graph and returns every layer's tops.

    ``variable`` makes the tensor of a parameter, in TensorFlow's layout, from its name and its declaration; each is
    made once. Every operation that ``names`` plans bears exactly that name. ``inputs`` and ``seed`` are as ``emit``
    takes them; ``training`` asks for what a pass leaves in parameters too.
    """
    graph = tf.get_default_graph()
    tensors: dict[str, Tensor] = {}
    for layer, variables in zip(shapes, names.variables):
        for spec, name in zip(layer.parameters, variables):
            if name not in tensors:
                tensors[name] = variable(name, spec)
    for name in (name for tops in names.tops for name in tops):
        graph.unique_name(name)  # no operation within a layer may take it first
    # A name that ends in a slash is taken as it stands.
    emitted = emit(network, shapes, names, tf, tensors.__getitem__, lambda name: name + "/", inputs, seed, training)
    for one, planned in zip(emitted, names.tops):
        for tensor, name in zip(one.tops, planned):
            if tensor.op.name != name:
                raise AssertionError(f"{one.layer.node}: its operation is named {tensor.op.name}, planned was {name}")
    return emitted
