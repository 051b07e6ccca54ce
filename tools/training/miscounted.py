"""What Caffe counts twice or not at all: losses that other layers read, loss weights that a backward pass overwrites,
and gradients that layers leave in a blob that several read though none is asked of them there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from graphs.memory import is_view
from graphs.network import Inferred, Node, Shapes
from tools.training.trainable import learns, loss_weights


@dataclass
class _Made:
    """A value of a blob: the layer that makes it and its place in the network, the place among its tops, whether
    something below it learns, the value whose memory it takes over, if any, and the places of who reads it."""

    node: Node
    place: int
    top: int
    learns: bool
    before: _Made | None
    readers: list[int] = field(default_factory=list)

    def is_overwritten(self) -> bool:
        """Returns whether a layer in place writes its gradient over that of this value."""
        if self.before is None:
            return False
        if is_view(self.node):
            return self.node.layer.type != "Split" and len(self.before.readers) == 1 and self.before.is_overwritten()
        return self.before.learns and self.node.layer.type != "Bias"


def miscounted(shapes: Shapes) -> Iterator[str]:
    """Yields where training would be another one than Caffe's for such a reason."""
    current: dict[str, _Made] = {}
    read: list[tuple[Inferred, list[_Made]]] = []
    made: dict[int, list[_Made]] = defaultdict(list)
    for place, layer in enumerate(shapes):
        bottoms = [current[blob] for blob in layer.node.bottoms]
        read.append((layer, bottoms))
        for one in bottoms:
            one.readers.append(place)
        followed = layer.node.propagate_down or (True,) * len(bottoms)
        below = learns(layer) or any(one.learns and is_followed for one, is_followed in zip(bottoms, followed))
        made[place] = [
            _Made(layer.node, place, top, below, _taken_over(layer.node, top, bottoms))
            for top in range(len(layer.node.tops))
        ]
        current |= zip(layer.node.tops, made[place])
    counting = _counting(read, made)
    for place, (layer, bottoms) in enumerate(read):
        yield from _losses(layer.node, made[place], read)
        for one in _left(layer, bottoms):
            siblings = [other for other in made[one.place] if other is not one]
            others = [reader for reader in one.readers if reader != place]
            others += [reader for other in siblings for reader in other.readers]
            if one.learns and (any(loss_weights(one.node)) or not counting.isdisjoint(others)):
                blob = one.node.tops[one.top]
                yield (
                    f"{layer.node}: leaves numbers of its own in Caffe where the gradient of '{blob}' is summed up, of "
                    "which it is not to be a part; that is not repeated here: give it a copy of that blob made by "
                    "another layer (Power), or take it out"
                )


def _counting(read: Sequence[tuple[Inferred, list[_Made]]], made: Mapping[int, list[_Made]]) -> set[int]:
    """Returns the places of the layers that a loss depends on."""
    found: set[int] = set()
    for place in range(len(read) - 1, -1, -1):
        is_read = any(not found.isdisjoint(one.readers) for one in made[place])
        if is_read or any(loss_weights(read[place][0].node)):
            found.add(place)
    return found


def _losses(node: Node, tops: Sequence[_Made], read: Sequence[tuple[Inferred, list[_Made]]]) -> Iterator[str]:
    weights = loss_weights(node)
    if node.layer.automatic_top and weights[0] and tops[0].readers:
        reader = read[tops[0].readers[0]][0].node
        yield (
            f"{node}: {reader} reads its loss, which Caffe then counts twice, or does not learn from; take out what "
            "reads it, or say loss_weight: 0"
        )
        return
    for one, weight in zip(tops, weights):
        if weight and one.is_overwritten() and not one.readers:
            yield (
                f"{node}: the loss_weight of '{node.tops[one.top]}', which is made in place, is overwritten by Caffe's "
                "first backward pass; give it a top of its own, or a layer after it (Power) the loss_weight"
            )
    counting = [one for one, weight in zip(tops, weights) if weight]
    lost = [node.tops[one.top] for one in counting if not one.readers]
    if lost and len(lost) < len(counting):
        names = ", ".join(f"'{blob}'" for blob in lost)
        yield (
            f"{node}: of its tops with a loss_weight others are read, and Caffe drops the loss_weight of {names} then; "
            "take it out, or give it to a layer of its own"
        )


def _taken_over(node: Node, top: int, bottoms: Sequence[_Made]) -> _Made | None:
    if is_view(node):
        return bottoms[0]
    return bottoms[top] if node.tops[top] in node.bottoms[top : top + 1] else None


def _left(layer: Inferred, bottoms: Sequence[_Made]) -> list[_Made]:
    """Returns the bottoms whose gradient a layer writes, as scratch memory or because it does not look, though it does
    not count for them."""
    node = layer.node
    followed = node.propagate_down or (True,) * len(bottoms)
    kind = node.layer.type
    if kind == "HingeLoss":
        return [] if followed[0] and any(loss_weights(node)) else [bottoms[0]]
    is_asked = learns(layer) or any(one.learns and is_followed for one, is_followed in zip(bottoms, followed))
    places = {"Scale": (0,), "LSTM": (0, 2), "RNN": (0, 2)}.get(kind, ()) if is_asked else ()
    return [bottoms[at] for at in places if at < len(bottoms) and not followed[at]]
