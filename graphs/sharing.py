"""Parameters that several layers share: what Caffe asks of them, and how each layer sees them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphs.layer import ParameterSpec, Tensor, spell
from weights import Layout

if TYPE_CHECKING:
    from graphs.network import Inferred


def sharing_problems(layers: Iterable[Inferred], phase: str) -> Iterator[str]:
    """Yields why layers can't share what their ``param { name }`` says, by Caffe's rule: the same shape or, where the
    later layer's ``share_mode`` is PERMISSIVE, as many values."""
    owners: dict[str, tuple[Inferred, ParameterSpec]] = {}
    for layer in layers:
        for stated, spec in zip(layer.node.specs, layer.parameters):
            if not stated.name:
                continue
            owner, first = owners.setdefault(stated.name, (layer, spec))
            is_own = phase == "TRAIN" and spec.name in layer.node.layer.stepwise and layer.bottoms[0][0] > 1
            if is_own and spec is not first:
                yield (
                    f"{layer.node}: shares its {spec.name} as '{stated.name}' with {owner.node}, but from its second "
                    "step on Caffe's layer reads its own in TRAIN, as its filler made it; let it have one of its own"
                )
                continue
            is_permissive = stated.share_mode == "PERMISSIVE"
            fits = first.layout.size == spec.layout.size if is_permissive else first.layout.caffe == spec.layout.caffe
            if not fits:
                yield (
                    f"{layer.node}: shares its {spec.name} ({spell(spec.layout.caffe)}) as '{stated.name}' with "
                    f"{owner.node}, where they are {spell(first.layout.caffe)}; Caffe wants "
                    + ("as many values" if is_permissive else "the same shape")
                )


def declared(layers: Iterable[Inferred], variables: Iterable[Sequence[str]]) -> dict[str, ParameterSpec]:
    """Returns variable -> what its owner declares: the first layer that has it, by whose layout it lies in the graph.
    ``variables`` has, for each layer, the names of its parameters' variables."""
    found: dict[str, ParameterSpec] = {}
    for layer, names in zip(layers, variables):
        for spec, name in zip(layer.parameters, names):
            found.setdefault(name, spec)
    return found


def relaid(tf: Any, x: Tensor, held: Layout, wanted: Layout) -> Tensor:
    """Returns a parameter that lies in the graph as ``held`` says, as its owner declared it, in the way that another
    layer wants it. Both hold the same values in Caffe's order."""
    if (held.tensorflow, _moving(held)) == (wanted.tensorflow, _moving(wanted)):
        return x
    if _moving(held):
        moved = [held.view[axis] for axis in held.order]
        x = tf.transpose(tf.reshape(x, moved), np.argsort(held.order).tolist())
    if _moving(wanted):
        x = tf.transpose(tf.reshape(x, list(wanted.view)), list(wanted.order))
    return tf.reshape(x, list(wanted.tensorflow))


def _moving(layout: Layout) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Returns how values change places between Caffe and the graph, None where they don't."""
    moving = [axis for axis in layout.order if layout.view[axis] != 1]
    return None if moving == sorted(moving) else (layout.view, layout.order)
