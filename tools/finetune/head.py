"""A network's scores and the layer that makes them, and the same network for other classes."""

from __future__ import annotations

from dataclasses import dataclass, replace

from converter.port import Port
from graphs import Network, Node, infer
from graphs.fillers import begins_at_zero, drawn, filled
from graphs.layer import spell
from graphs.layers.data import Input
from graphs.layers.softmax import Softmax
from graphs.network import Inferred
from weights import Parameter, Refused


@dataclass(frozen=True)
class Head:
    """Where a network's scores are: ``scores`` is the layer whose only top they are (N x classes, before any softmax),
    ``layer`` the last one with a ``num_output`` on the way there."""

    scores: str
    layer: str
    classes: int


def deployed(network: Network) -> Network:
    """Returns the network without its losses and accuracies, and without inputs that only those read."""
    nodes = [node for node in network.nodes if not node.layer.judges]
    read = {bottom for node in nodes for bottom in node.bottoms}
    return replace(network, nodes=tuple(one for node in nodes for one in _fed(node, read)))


def _fed(node: Node, read: set[str]) -> list[Node]:
    """Returns a node, of an Input those tops alone that a layer reads."""
    if not isinstance(node.layer, Input):
        return [node]
    kept = [(top, shape) for top, shape in zip(node.tops, node.layer.shapes(len(node.tops))) if top in read]
    if not kept:
        return []
    layer = replace(node.layer, shape=tuple(shape for _, shape in kept))
    return [replace(node, layer=layer, tops=tuple(top for top, _ in kept))]


def head_of(port: Port, blob: str | None = None) -> Head:
    """Returns the head of a network that has one output, or of its output ``blob``.

    Raises Refused where there are several outputs, where they are no row of scores for each picture, or where no single
    layer makes them.
    """
    outputs = port.network.outputs
    if blob is None and len(outputs) != 1:
        raise Refused(f"has {len(outputs)} outputs ({', '.join(outputs)}); choose the scores with --scores BLOB")
    if blob is not None and blob not in outputs:
        raise Refused(f"--scores {blob}: is no output; there are {', '.join(outputs)}")
    layers = port.shapes.layers
    place = _maker(layers, blob or outputs[0], len(layers))
    if isinstance(layers[place].node.layer, Softmax):
        place = _maker(layers, layers[place].node.bottoms[0], place)
    scores = layers[place]
    shape = scores.tops[0]
    if len(scores.node.tops) != 1 or len(shape) < 2 or any(size != 1 for size in shape[2:]):
        raise Refused(f"{scores.node}: its top is {spell(shape)}; expected a row of scores for each picture")
    return Head(scores.node.name, _with_outputs(layers, place).node.name, shape[1])


def _maker(layers: tuple[Inferred, ...], blob: str, before: int) -> int:
    """Returns which layer made a blob last, of those in front of place ``before``."""
    return max(place for place, layer in enumerate(layers[:before]) if blob in layer.node.tops)


def _with_outputs(layers: tuple[Inferred, ...], place: int) -> Inferred:
    """Returns the last layer with a ``num_output`` on the way to the layer in ``place``."""
    while not hasattr(layers[place].node.layer, "num_output"):
        node = layers[place].node
        if len(node.bottoms) != 1:
            found = "several layers make" if node.bottoms else "no layer with weights makes"
            raise Refused(f"{node}: {found} the scores; expected one that has a num_output")
        place = _maker(layers, node.bottoms[0], place)
    return layers[place]


@dataclass(frozen=True)
class Fresh:
    """A port with the layers whose weights are first values, and what there is to say of those."""

    port: Port
    layers: tuple[str, ...]
    notes: tuple[str, ...] = ()


def with_classes(port: Port, head: Head, classes: tuple[str, ...], seed: int, keep: bool = False) -> Fresh:
    """Returns the port for other classes: its head has a score for each, and first values from its fillers, as have all
    weights that are not there or that no longer fit.

    ``keep`` leaves the head's weights as they are. Raises Refused where the network can't have that many classes, and
    for ``keep`` where it has another number of them, or the same in another order.
    """
    if keep and head.classes != len(classes):
        raise Refused(
            f"--keep-head: layer '{head.layer}' tells {head.classes} classes apart, the pictures have {len(classes)}"
        )
    notes = _kept_classes(port.classes, classes) if keep else []
    network = replace(port.network, nodes=tuple(_sized(node, head, len(classes)) for node in port.network.nodes))
    shapes = infer(network)
    names = port.names  # which are those of a published checkpoint, where it is one of the AlexNet family
    parameters: dict[str, Parameter] = {}
    fresh: dict[str, None] = {}
    for layer, variables in zip(shapes, names.variables):
        for spec, name in zip(layer.parameters, variables):
            if name in parameters:
                continue  # shared
            known = port.parameters.get(name)
            is_new = layer.node.name == head.layer and not keep
            if known is not None and known.layout == spec.layout and not is_new:
                parameters[name] = known
                continue
            fresh[layer.node.name] = None
            if known is not None and not is_new:
                notes.append(f"{layer.node}: its {spec.name} do not fit {len(classes)} classes; they are drawn anew")
            used = drawn(spec)
            if used is not spec:
                first = "xavier's" if used.filler.type == "xavier" else f"{used.filler.value:g}"
                notes.append(f"{layer.node}: states no filler for its {spec.name}; their first values are {first}")
            elif begins_at_zero(spec) and layer.node.name != head.layer:
                notes.append(f"{layer.node}: its {spec.name} begin at 0, as its filler says; behind a ReLU they stay 0")
            parameters[name] = Parameter(name, spec.layout, filled(used, seed=f"{name} {seed}"))
    changed = replace(port, network=network, shapes=shapes, parameters=parameters, classes=classes)
    made = next(layer.tops[0] for layer in shapes if layer.node.name == head.scores)
    if made[1] != len(classes):
        raise Refused(
            f"layer '{head.layer}': gives each picture {made[1]} scores where {len(classes)} classes are wanted; its "
            "outputs and the scores must be the same, one for each class"
        )
    return Fresh(changed, tuple(fresh), tuple(notes))


def _kept_classes(known: tuple[str, ...], classes: tuple[str, ...]) -> list[str]:
    """Returns what to say where a head that is kept named its scores otherwise, () where nobody named them. Raises
    Refused where it has the same names in another order."""
    if not known or known == classes:
        return []
    old, new = (", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "") for names in (known, classes))
    if sorted(known) == sorted(classes):
        raise Refused(f"--keep-head: the network's classes are {old}, in this order; the pictures' are {new}; say the "
                      "network's with --labels, and label the pictures so")  # fmt: skip
    return [f"--keep-head: scores of {old} are taken for {new}, by their order"]


SHOWN = 4
"""Classes that a line names."""


def _sized(node: Node, head: Head, classes: int) -> Node:
    return replace(node, layer=replace(node.layer, num_output=classes)) if node.name == head.layer else node  # type: ignore[call-arg]
