"""Blobs that share memory in Caffe: what a layer that works in place does to those that read the same memory."""

from __future__ import annotations

from dataclasses import replace

from graphs.layers.shaping import Reshape
from graphs.network import Network, Node, infer
from graphs.wiring import free_name, in_place
from weights import Refused, Shape


def unshared(network: Network) -> tuple[Network, tuple[str, ...]]:
    """Returns the network as one whose blobs are values of their own, and what was changed for it.

    Flatten, Reshape, Split, Concat of one bottom and Slice into one top give their bottom's memory another name
    (Caffe's ``ShareData``). Where a later layer works in place on one of the names, those who read another one after it
    find what it left there: they are given a Reshape of it, which ``as_defined`` takes out. Raises Refused where that
    blob is an output of the network, which can't have two values, and in TRAIN, where Caffe's gradients take other ways
    than its values. So does Parameter with its parameter, which a layer in place changes for the passes to come: that
    is noted, and refused in TRAIN or where the parameter has a name, by which others may share it.
    """
    last_read = {bottom: place for place, node in enumerate(network.nodes) for bottom in node.bottoms}
    taken = {name for node in network.nodes for name in (node.name, *node.tops)}
    sharing: dict[str, list[str]] = {}  # blob -> the names of its memory that are still of use
    parameters: dict[str, Node] = {}  # blob -> the Parameter layer whose parameter's memory it is
    current: dict[str, str] = {}  # blob -> what it is called by now
    stated: dict[str, str] = {}  # and back
    shapes: dict[str, Shape] = {}
    outputs: set[str] = set()
    nodes: list[Node] = []
    notes: list[str] = []
    problems: list[str] = []
    for place, defined in enumerate(network.nodes):
        node = _renamed(defined, current)
        nodes.append(node)
        for top in node.tops:
            if top not in node.bottoms:
                sharing[top] = sharing.setdefault(node.bottoms[0], [node.bottoms[0]]) if is_view(node) else []
                sharing[top].append(top)
                if node.layer.type == "Parameter":
                    parameters[top] = node
        for changed in in_place(node):
            names = sharing.setdefault(changed, [changed])
            others = [stated.get(blob, blob) for blob in names if blob != changed]
            owner = next((parameters[blob] for blob in names if blob in parameters), None)
            if owner is not None:
                is_shared = any(spec.name for spec in owner.specs)
                told = _changing(node, changed, owner, is_shared or network.phase == "TRAIN")
                (problems if is_shared or network.phase == "TRAIN" else notes).append(told)
            names[:] = [changed]
            if others and not shapes:
                shapes, outputs = _shapes(network), set(network.outputs)
            for alias in others:
                is_read = last_read.get(alias, -1) > place
                if alias in outputs or (is_read and network.phase == "TRAIN"):
                    problems.append(_problem(node, changed, alias, network.phase))
                elif is_read:
                    fresh = free_name(f"{alias}_{node.name}", taken)
                    taken.add(fresh)
                    shown = Reshape(shape=(-1, *shapes[alias][1:]) if shapes[alias] else ())
                    nodes.append(Node(fresh, shown, (changed,), (fresh,), shows=alias))
                    names.append(fresh)
                    sharing[fresh] = names
                    current[alias], stated[fresh] = fresh, alias
                    notes.append(
                        f"{node}: changes '{changed}' in place, whose memory Caffe shares with '{alias}'; layers after "
                        f"it read what it leaves there, as '{fresh}'"
                    )
    if problems:
        raise Refused(*problems)
    return (replace(network, nodes=tuple(nodes)), tuple(notes)) if notes else (network, ())


def as_defined(network: Network) -> Network:
    """Returns the network as its definition has it: undoes ``unshared``."""
    stated = {node.tops[0]: node.shows for node in network.nodes if node.shows}
    if not stated:
        return network
    return replace(network, nodes=tuple(_renamed(node, stated) for node in network.nodes if not node.shows))


def is_view(node: Node) -> bool:
    """Returns whether a layer's tops are its bottom's memory."""
    one_each = node.layer.type in ("Concat", "Slice") and len(node.bottoms) == len(node.tops) == 1
    return node.layer.is_view or one_each


def _renamed(node: Node, current: dict[str, str]) -> Node:
    bottoms = tuple(current.get(bottom, bottom) for bottom in node.bottoms)
    tops = tuple(current.get(top, top) if top in node.bottoms else top for top in node.tops)
    return replace(node, bottoms=bottoms, tops=tops) if (bottoms, tops) != (node.bottoms, node.tops) else node


def _shapes(network: Network) -> dict[str, Shape]:
    return {top: shape for layer in infer(network) for top, shape in zip(layer.node.tops, layer.tops)}


def _changing(node: Node, changed: str, owner: Node, is_refused: bool) -> str:
    what = f"{node}: changes '{changed}' in place, which is the parameter of {owner} itself in Caffe"
    if is_refused:
        return f"{what}, and so changed by every pass, for all that read it; give the top another name"
    return f"{what}; what is computed here is Caffe's first pass, from which each later one there goes on"


def _problem(node: Node, changed: str, alias: str, phase: str) -> str:
    what = f"{node}: changes '{changed}' in place, whose memory Caffe shares with '{alias}'"
    if phase == "TRAIN":
        return f"{what}, which is read later; what Caffe learns then is not its derivative: give the top another name"
    return f"{what}, an output of the network, which would change after it was made; give the top another name"
