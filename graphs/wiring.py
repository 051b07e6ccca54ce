"""How layers are wired by the names of their blobs, and what Caffe does not accept of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from weights import Shape

if TYPE_CHECKING:
    from graphs.network import Inferred, Node


def doubled_names(layers: Iterable[Inferred]) -> Iterator[str]:
    """Yields what is wrong with names that several layers have: Caffe finds weights by them."""
    layers = list(layers)
    counts = Counter(layer.node.name for layer in layers)
    for name in dict.fromkeys(layer.node.name for layer in layers if layer.parameters):
        if counts[name] > 1:
            yield f"layer '{name}': the name is used {counts[name]} times, so its weights can't be told apart"


def blob_problems(node: Node, made: Collection[str], made_by: Mapping[str, Node]) -> Iterator[str]:
    """Yields what is wrong with a layer's blobs, those in ``made`` being there; ``made_by`` says who makes a blob."""
    for bottom in node.bottoms:
        if bottom in made:
            continue
        if bottom not in made_by:
            yield (
                f"{node}: bottom '{bottom}' is made by no layer; where it is an input, say its shape: "
                f"--input-shape {bottom}=1,3,227,227"
            )
        elif made_by[bottom] is node:
            yield f"{node}: bottom '{bottom}' is its own top, and no layer before it makes it"
        else:
            yield (
                f"{node}: bottom '{bottom}' is made further down, by layer '{made_by[bottom].name}'; "
                "Caffe runs layers in file order, so this is a cycle or the layers are out of order"
            )
    for place, top in enumerate(node.tops):
        if top in made and top not in node.bottoms[place : place + 1]:
            yield f"{node}: top '{top}' was made before, by layer '{made_by[top].name}', and is not changed in place"


def in_place_problems(node: Node, readers: Mapping[str, Node], bottoms: tuple[Shape, ...]) -> Iterator[str]:
    """Yields why a layer can't change blobs in place, of which ``readers`` have read the value that it would change;
    ``bottoms`` are its bottoms' shapes, () where they are not known."""
    for top in in_place(node):
        if not node.layer.works_in_place(*bottoms):
            yield (
                f"{node}: changes '{top}' in place, but Caffe's layer reads what it has overwritten there; give its "
                "top a name of its own"
            )
        elif top in readers:
            yield (
                f"{node}: changes '{top}' in place, which {readers[top]} reads too; Caffe refuses that (top produced "
                "by multiple sources): give its top a name of its own"
            )


def in_place(node: Node) -> list[str]:
    """Returns the blobs that a layer changes in place: tops that stand where the bottom of that name does."""
    return [top for top, bottom in zip(node.tops, node.bottoms) if top == bottom]


def free_name(wanted: str, taken: Collection[str]) -> str:
    """Returns a name that is not taken: ``wanted``, else that with a number from 2 on."""
    name, count = wanted, 1
    while name in taken:
        count += 1
        name = f"{wanted}_{count}"
    return name
