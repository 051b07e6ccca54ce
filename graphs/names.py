"""What each value of a network is called in the graph."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from graphs.layers.data import Input
from graphs.network import Inferred, Shapes


@dataclass(frozen=True)
class Names:
    """Names of a graph's operations; a tensor is its operation's name and ``:0``.

    ``tops`` has, for each layer in order, one name per top; ``variables`` one per parameter, its owner's where layers
    share it. ``mapped`` has the names that TensorFlow forbids, or that clash, with what stands for them.
    """

    tops: tuple[tuple[str, ...], ...]
    variables: tuple[tuple[str, ...], ...]
    mapped: dict[str, str] = field(default_factory=dict)


def name_values(shapes: Shapes) -> Names:
    """Returns the names of a network's values.

    A placeholder is named after its blob; a layer's only top after the layer, also where Caffe runs it in place; of
    several tops each is LAYER/TOP. Variables are LAYER/weights, LAYER/biases. TensorFlow compares names without
    case, and so does this.
    """
    claim = _Claims()
    fed = [top for layer in shapes if _is_fed(layer) for top in layer.node.tops]
    placeholders = {top: claim(top) for top in fed}
    owners: dict[str, str] = {}
    variables = tuple(_variables(layer, owners, claim) for layer in shapes)
    tops = tuple(
        tuple(placeholders[top] for top in layer.node.tops)
        if _is_fed(layer)
        else tuple(claim(wanted) for wanted in _wanted_tops(layer))
        for layer in shapes
    )
    return Names(tops, variables, claim.mapped)


def _is_fed(layer: Inferred) -> bool:
    return isinstance(layer.node.layer, Input)


def _wanted_tops(layer: Inferred) -> list[str]:
    node = layer.node
    return [node.name] if len(node.tops) == 1 else [f"{node.name}/{top}" for top in node.tops]


def _variables(layer: Inferred, owners: dict[str, str], claim: Callable[[str], str]) -> tuple[str, ...]:
    names = []
    for index, spec in enumerate(layer.parameters):
        shared = layer.node.specs[index].name if index < len(layer.node.specs) else ""
        name = owners.get(shared) or claim(f"{layer.node.name}/{spec.name}")
        if shared:
            owners[shared] = name
        names.append(name)
    return tuple(names)


class _Claims:
    """Hands out each name once, in a form that TensorFlow allows."""

    def __init__(self) -> None:
        self.taken: set[str] = set()
        self.mapped: dict[str, str] = {}

    def __call__(self, wanted: str) -> str:
        base = allowed(wanted)
        name, count = base, 0
        while name.lower() in self.taken:
            count += 1
            name = f"{base}_{count}"
        self.taken.add(name.lower())
        if name != wanted:
            self.mapped[wanted] = name
        return name


def allowed(name: str) -> str:
    """Returns ``name`` with an underscore for each character that TensorFlow does not allow in an operation's name
    (``[A-Za-z0-9.][A-Za-z0-9_.\\\\/>-]*``, and no slash at an end or beside another)."""
    name = re.sub(r"[^A-Za-z0-9_.\\/>-]", "_", name)
    name = "/".join(part for part in name.split("/") if part) or "_"
    return name if re.match(r"[A-Za-z0-9.]", name) else "." + name
