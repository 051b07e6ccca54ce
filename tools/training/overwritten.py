"""Where Caffe's backward pass is not the derivative of its forward pass, so that a training here would silently be
another one: where it reads values that a layer in place has overwritten since, where it loses what it should read,
and where it stops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from graphs.memory import is_view
from graphs.network import Inferred, Node, Shapes
from tools.training.trainable import learns, loss_weights

VIEWS = {"Concat", "Flatten", "Reshape", "Slice", "Split"}
_NOTHING = {
    "Accuracy", "ArgMax", "BatchNorm", "BatchReindex", "Bias", "ContrastiveLoss", "Crop", "Dropout", "EuclideanLoss",
    "Filter", "HingeLoss", "Im2col", "InfogainLoss", "Input", "Interp", "Parameter", "Permute", "Pooling",
    "ROIPooling", "ShuffleChannel", "SigmoidCrossEntropyLoss", "Silence", "SoftmaxWithLoss", "SPP", "Threshold", "Tile",
    "Upsample",
    *VIEWS,
}  # fmt: skip
"""Layers whose backward pass reads neither bottoms nor tops, or copies that they keep."""
_TOP_ONLY = {"Exp", "MVN", "Sigmoid", "Softmax", "Swish", "TanH"}
_COPYING = {"PReLU", "Scale"}
"""Layers that keep a copy of their bottom where they work in place."""


@dataclass(frozen=True)
class Overwritten:
    """A layer, the blob of its own that Caffe's backward pass reads, and the layer that has overwritten that."""

    node: Node
    blob: str
    writer: Node

    def __str__(self) -> str:
        who = "it has itself" if self.writer is self.node else f"{self.writer} has"
        return (
            f"{self.node}: Caffe's gradient reads '{self.blob}', which {who} overwritten in place by then, and so is "
            f"not the derivative; that is not repeated here: give the top of '{self.writer.name}' a name of its own"
        )


def overwritten(shapes: Shapes) -> Iterator[Overwritten]:
    """Yields the layers whose backward pass training runs and whose values are overwritten before, each once."""
    memory: dict[str, str] = {}
    learning: set[str] = set()
    reads: list[tuple[int, Node, str, str]] = []
    writes: list[tuple[int, Node, str]] = []
    for place, layer in enumerate(shapes):
        node = layer.node
        is_asked = learns(layer) or not learning.isdisjoint(node.bottoms)
        if is_asked:
            by_top, by_bottom = _reads(node)
            reads += [(place, node, blob, memory[blob]) for blob in node.bottoms if by_bottom and blob in memory]
        for top in node.tops:
            is_same = top in node.bottoms or is_view(node)
            memory[top] = memory[top if top in node.bottoms else node.bottoms[0]] if is_same else f"{top} of {place}"
            if top in node.bottoms and not is_view(node):
                writes.append((place, node, memory[top]))
        if is_asked:
            learning.update(node.tops)
            kept = node.tops if by_top else _states(layer)
            reads += [(place + 1, node, blob, memory[blob]) for blob in kept]
    told: set[str] = set()
    for place, node, blob, of in reads:
        for at, writer, to in writes:
            if at >= place and to == of and node.name not in told and not _is_harmless(node, blob, writer):
                told.add(node.name)
                yield Overwritten(node, blob, writer)


def losing_gradient(shapes: Shapes) -> Iterator[str]:
    """Yields where Caffe loses a gradient: in layers that, working in place, write their bottom's over their top's
    before they have read that, and between a Parameter and a Flatten, which gives its bottom other memory for it."""
    learning: set[str] = set()
    parameters: dict[str, Node] = {}
    readers = Counter(bottom for layer in shapes for bottom in layer.node.bottoms)
    for layer in shapes:
        node = layer.node
        if not learning.isdisjoint(node.bottoms):
            learning.update(node.tops)
            if node.tops[:1] == node.bottoms[:1] and _writes_first(node):
                yield (
                    f"{node}: works in place, where Caffe writes the gradient of its bottom over that of its top "
                    "before it has read it; that is not repeated here: give its top a name of its own"
                )
            if node.layer.type == "Flatten" and node.bottoms[0] in parameters and readers[node.bottoms[0]] == 1:
                yield (
                    f"{node}: reads {parameters[node.bottoms[0]]}, which so gets no gradient in Caffe; that is not "
                    "repeated here: let a Reshape read it, or say lr_mult: 0 in its param"
                )
        if learns(layer):
            learning.update(node.tops)
            if node.layer.type == "Parameter":
                parameters[node.tops[0]] = node
                if any(loss_weights(node)) and not readers[node.tops[0]]:
                    yield f"{node}: has a loss_weight and no reader; Caffe makes a loss of 0 of it; take it out"


def _writes_first(node: Node) -> bool:
    layer: Any = node.layer
    if layer.type == "Power":
        return layer.power * layer.scale != 0
    return layer.type in ("Crop", "Filter", "Im2col") or (layer.type == "MVN" and layer.normalize_variance)


def without_gradient(shapes: Shapes) -> list[Node]:
    """Returns the layers that Caffe has no backward pass for, with something to learn below them and a loss above."""
    learning: set[str] = set()
    stopped = []
    for layer in shapes:
        node = layer.node
        followed = node.propagate_down or (True,) * len(node.bottoms)
        below = any(is_followed and bottom in learning for bottom, is_followed in zip(node.bottoms, followed))
        if node.layer.type in ("ArgMax", "Threshold") and below:
            stopped.append(node)
        if below or learns(layer):
            learning.update(node.tops)
    counting: set[str] = set()
    for layer in reversed(list(shapes)):
        if any(loss_weights(layer.node)) or not counting.isdisjoint(layer.node.tops):
            counting.update(layer.node.bottoms)
    return [node for node in stopped if any(loss_weights(node)) or not counting.isdisjoint(node.tops)]


def _reads(node: Node) -> tuple[bool, bool]:
    """Returns whether a layer's backward pass reads its top, and whether its bottoms, as they lie in memory."""
    kind: str = node.layer.type
    layer: Any = node.layer
    if kind in _NOTHING or (kind == "Eltwise" and layer.operation != "PROD"):
        return False, False
    if kind in _TOP_ONLY:
        return kind != "MVN" or layer.normalize_variance, False
    if kind == "Power":
        return layer.power not in (0, 1, 2), layer.power not in (0, 1)
    if kind == "Reduction":
        return False, layer.operation in ("ASUM", "SUMSQ")
    return kind in ("ELU", "LRN", "Normalize"), not (kind in _COPYING and node.tops[0] == node.bottoms[0])


def _states(layer: Inferred) -> tuple[str, ...]:
    """Returns the tops that are a recurrent layer's own memory, which its backward pass reads."""
    node = layer.node
    if node.layer.type == "RNN":
        return node.tops if layer.bottoms[0][0] == 1 else node.tops[1:]  # more steps are copied into one blob
    return node.tops[2:] if node.layer.type == "LSTM" else ()


def _is_harmless(node: Node, blob: str, writer: Node) -> bool:
    """Returns whether what ``writer`` leaves gives ``node`` the same gradient. A ReLU zeroes values whose gradient it
    stops as well; where only signs are read, what keeps them counts the same."""
    layer: Any = node.layer
    if node.layer.type in ("LSTM", "RNN") and blob in node.tops[1:]:
        return False
    if node.layer.type in ("ReLU", "PReLU"):
        return getattr(layer, "negative_slope", 0) >= 0 and _keeps_signs(writer)
    if node.layer.type == "ELU" and writer is node:
        return layer.alpha >= 0
    return writer is not node and node.layer.type != "MVN" and _is_plain_relu(writer)


def _is_plain_relu(node: Node) -> bool:
    layer: Any = node.layer
    return node.layer.type == "ReLU" and layer.negative_slope == 0


def _keeps_signs(node: Node) -> bool:
    layer: Any = node.layer
    stated = {"ReLU": "negative_slope", "ELU": "alpha"}.get(node.layer.type)
    return getattr(layer, stated) >= 0 if stated else node.layer.type in ("Dropout", "TanH")
