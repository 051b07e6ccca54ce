"""A network as a value: named layers, in order, with the blobs that they read and make."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from graphs.layer import MANY, Layer, ParameterSpec, listed, spell, told
from graphs.layers.data import Input
from graphs.sharing import sharing_problems
from graphs.wiring import blob_problems, doubled_names, in_place_problems
from weights import Refused, Shape

LARGEST_BLOB = 2**31 - 1
"""Values of a blob: Caffe counts them in an int, and refuses more."""


@dataclass(frozen=True)
class ParamSpec:
    """Caffe's ``param { }``: the name under which a layer shares a parameter, or "", what training multiplies the
    learning rate and the weight decay by, None where it does not say, which leaves it to the layers it shares with, and
    whether it may share one of another shape (PERMISSIVE) or not (STRICT)."""

    name: str = ""
    lr_mult: float | None = None
    decay_mult: float | None = None
    share_mode: str = "STRICT"


@dataclass(frozen=True)
class Node:
    """One layer of a network. ``specs`` has an entry for each of its first parameters, ``loss_weights`` for tops;
    ``propagate_down``, where it is not empty, says for each bottom whether training follows the loss through it.
    ``shows`` names the blob that the node shows as it is by now, where no definition has the node (graphs.memory)."""

    name: str
    layer: Layer
    bottoms: tuple[str, ...] = ()
    tops: tuple[str, ...] = ()
    specs: tuple[ParamSpec, ...] = ()
    loss_weights: tuple[float, ...] = ()
    propagate_down: tuple[bool, ...] = ()
    shows: str = ""

    def __str__(self) -> str:
        return f"layer '{self.name}' ({self.layer.type})"


@dataclass(frozen=True)
class Network:
    """Layers in the order in which Caffe runs them. ``phase`` is TEST or TRAIN."""

    name: str
    nodes: tuple[Node, ...]
    phase: str = "TEST"

    @property
    def inputs(self) -> dict[str, Shape]:
        """Blob -> Caffe's shape, of the blobs that are fed."""
        return {
            top: shape
            for node in self.nodes
            if isinstance(node.layer, Input)
            for top, shape in zip(node.tops, node.layer.shapes(len(node.tops)))
        }

    @property
    def outputs(self) -> tuple[str, ...]:
        """Blobs that no layer reads after they were last made, and those that a loss or Accuracy judges; inputs are
        not among them."""
        unread: dict[str, None] = {}
        judged = {node.bottoms[0] for node in self.nodes if node.layer.judges and node.bottoms} - set(self.inputs)
        for node in self.nodes:
            for bottom in node.bottoms:
                if bottom not in judged and not node.shows:
                    unread.pop(bottom, None)
            if not isinstance(node.layer, Input):
                for top in node.tops:
                    unread[top] = None
        return tuple(unread)

    def with_batch(self, more: int) -> Network:
        """Returns the network with the first axis of every input ``more`` larger."""
        nodes = (
            replace(node, layer=node.layer.with_batch(more)) if isinstance(node.layer, Input) else node
            for node in self.nodes
        )
        return replace(self, nodes=tuple(nodes))


@dataclass(frozen=True)
class Inferred:
    """A node with the shapes around it, in Caffe's layout, and its parameters.

    ``bottoms`` and ``tops`` are as the definition has them; ``open_bottoms`` and ``open_tops`` have -1 for a first axis
    that may take any size.
    """

    node: Node
    bottoms: tuple[Shape, ...]
    tops: tuple[Shape, ...]
    parameters: tuple[ParameterSpec, ...]
    open_bottoms: tuple[Shape, ...] = ()
    open_tops: tuple[Shape, ...] = ()

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of one pass at these shapes."""
        return self.node.layer.multiply_adds(self.bottoms, self.tops)


@dataclass(frozen=True)
class Shapes:
    """Every layer's shapes in a phase; ``free_batch`` says whether the inputs' first axis may take any size."""

    layers: tuple[Inferred, ...]
    free_batch: bool
    phase: str = "TEST"

    def __iter__(self) -> Iterator[Inferred]:
        return iter(self.layers)

    def notes(self) -> Iterator[str]:
        """Yields what a user should know of each layer: what Caffe ignores in it, say."""
        for layer in self.layers:
            yield from (f"{layer.node}: {note}" for note in layer.node.layer.notes(*layer.bottoms))


def infer(network: Network) -> Shapes:
    """Returns the shapes of all layers by Caffe's rules.

    The batch is free where one picture more passes through the same layers with the same parameters and changes
    nothing but first axes; so is the number of items that a Filter lets through. Raises Refused with every layer that
    does not fit.
    """
    layers = _infer(network)
    selecting = [node for node in network.nodes if node.layer.selects]
    selected = _opened(layers, _infer_more(network, selected=1)) if selecting else None
    if selecting and selected is None:
        reason = "values decide how many items its tops have, but another layer fixes the number of items"
        raise Refused(*(f"{node}: {reason}" for node in selecting))
    opened = _opened(layers, _infer_more(network.with_batch(1)))
    if opened is not None and not any(node.layer.fixes_batch for node in network.nodes):
        return Shapes(opened, free_batch=True, phase=network.phase)
    fixed = tuple(replace(layer, open_bottoms=layer.bottoms, open_tops=layer.tops) for layer in layers)
    return Shapes(selected or fixed, free_batch=False, phase=network.phase)


def _infer_more(network: Network, selected: int = 0) -> tuple[Inferred, ...] | None:
    """Returns the layers of a network that has more items than its definition says; None where they don't fit."""
    try:
        return _infer(network, selected)
    except Refused:
        return None


def _opened(layers: tuple[Inferred, ...], more: tuple[Inferred, ...] | None) -> tuple[Inferred, ...] | None:
    """Returns the layers with those first axes free that are larger in ``more``, None where they can't be."""
    if more is None:
        return None
    free = all(
        one.parameters == other.parameters
        and all(map(_differ_in_batch_only, one.tops, other.tops))
        and (one.bottoms == other.bottoms or not one.node.layer.fixes_batch)
        for one, other in zip(layers, more)
    )
    if not free:
        return None
    return tuple(
        replace(one, open_bottoms=_open(one.bottoms, other.bottoms), open_tops=_open(one.tops, other.tops))
        for one, other in zip(layers, more)
    )


def _open(shapes: tuple[Shape, ...], others: tuple[Shape, ...]) -> tuple[Shape, ...]:
    return tuple(one if one == other else (-1, *one[1:]) for one, other in zip(shapes, others))


def _differ_in_batch_only(one: Shape, other: Shape) -> bool:
    return len(one) == len(other) and one[1:] == other[1:]


def _infer(network: Network, selected: int = 0) -> tuple[Inferred, ...]:
    """Returns the layers with their shapes; those that select let ``selected`` items more through than they get."""
    blobs: dict[str, Shape | None] = {}
    made_by = {top: node for node in reversed(network.nodes) for top in node.tops}
    readers: dict[str, Node] = {}
    layers: list[Inferred] = []
    problems: list[str] = []
    for node in network.nodes:
        problems += blob_problems(node, blobs, made_by)
        bottoms = [blobs.get(bottom) for bottom in node.bottoms]
        tops: list[Shape | None] = [None] * len(node.tops)
        known = tuple(bottom for bottom in bottoms if bottom is not None)
        problems += in_place_problems(node, readers, known if len(known) == len(bottoms) else ())
        if len(known) == len(bottoms):  # else: the reason was given where the bottom went missing
            try:
                inferred = _infer_layer(node, known, network.phase)
                if node.layer.selects:
                    inferred = replace(inferred, tops=tuple((one[0] + selected, *one[1:]) for one in inferred.tops))
                layers.append(inferred)
                tops = list(inferred.tops)
            except ValueError as error:
                problems.append(f"{node}: {error}")
        blobs.update(zip(node.tops, tops))
        readers.update(dict.fromkeys(node.bottoms, node))
        for top in node.tops:
            readers.pop(top, None)
    problems += [*doubled_names(layers), *sharing_problems(layers, network.phase)]
    if problems:
        raise Refused(*problems)
    return tuple(layers)


def _infer_layer(node: Node, bottoms: tuple[Shape, ...], phase: str) -> Inferred:
    for what, names, (fewest, most) in (
        ("bottom", node.bottoms, node.layer.bottoms),
        ("top", node.tops, node.layer.tops),
    ):
        if not fewest <= len(names) <= most:
            wanted = str(fewest) if fewest == most else f"{fewest} or more" if most > 99 else f"{fewest} to {most}"
            raise ValueError(f"has {len(names)} {what} blobs; expected {wanted}")
    for name, shape in zip(node.bottoms, bottoms):
        if any(size < 1 for size in shape):
            raise ValueError(
                f"bottom '{name}' has the shape {spell(shape)}, whose N only values decide; none can read it"
            )
    if isinstance(node.layer, Input):
        shapes = node.layer.shapes(len(node.tops))
    else:
        shapes = listed(node.layer.top_shapes(*bottoms, **told(node.layer, len(node.tops), phase)))
    if len(shapes) == 1 and node.layer.tops[1] == MANY:  # one value under several names
        shapes = shapes * len(node.tops)
    if len(shapes) < len(node.tops):
        raise ValueError(f"has {len(node.tops)} top blobs; expected {len(shapes)}")
    shapes = shapes[: len(node.tops)]  # the definition need not take all
    for shape in shapes:
        if any(size < 1 for axis, size in enumerate(shape) if axis not in node.layer.sized_by_values):
            raise ValueError(f"its top would have the shape {spell(shape)}; its bottom is {spell(bottoms[0])}")
        if math.prod(shape) > LARGEST_BLOB:
            raise ValueError(f"a blob of shape {spell(shape)} has more values than Caffe can count, {LARGEST_BLOB:,}")
    for name, made, bottom, shape in zip(node.tops, shapes, node.bottoms, bottoms):
        if name == bottom and made != shape:
            change = f"from {spell(shape)} to {spell(made)}"
            raise ValueError(f"changes '{name}' in place {change}; give its top a name of its own")
    return Inferred(node, bottoms, tuple(shapes), node.layer.parameters(*bottoms))
