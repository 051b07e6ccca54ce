"""Which layer first had a value or a gradient that is no finite number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from graphs.layer import Tensor
from graphs.layers.data import Input
from graphs.network import Node
from tools.training.trainable import Trainable


@dataclass(frozen=True)
class NotFinite:
    """A layer and what of it is no finite number: an input, weights, a value, a gradient. ``parameter`` is the name of
    the variable where it is one's value, else ""."""

    node: Node
    what: str
    parameter: str = ""

    def __str__(self) -> str:
        return f"first at {self.node}: {self.what}"


def first_not_finite(
    tf: Any,
    session: Any,
    trained: Trainable,
    feeds: Mapping[Tensor, Any],
) -> NotFinite | None:
    """Returns the first that is not finite in the order in which a step computes: inputs and weights, values layer by
    layer, then gradients from the loss down; None where all are finite.

    ``feeds`` is what the step was fed. It adds operations to the graph, so call it once a training has failed.
    """
    layers = list(zip(trained.shapes, trained.names.variables))
    stages: list[tuple[NotFinite, Tensor]] = []
    for layer, variables in layers:
        node = layer.node
        for top in node.tops if isinstance(node.layer, Input) else ():
            stages.append((NotFinite(node, f"the input '{top}'"), trained.tops[node.name, top]))
        stages += ((NotFinite(node, f"its parameter '{name}'", name), trained.variables[name]) for name in variables)
    for layer, _ in layers:
        node = layer.node
        if not isinstance(node.layer, Input):
            stages += ((NotFinite(node, f"its value '{top}'"), trained.tops[node.name, top]) for top in node.tops)
    if trained.loss is not None:
        for layer, variables in reversed(layers):
            node = layer.node
            of = [(f"the gradient of its value '{top}'", trained.tops[node.name, top]) for top in node.tops]
            of += [(f"the gradient of its parameter '{name}'", trained.variables[name]) for name in variables]
            gradients = tf.gradients(trained.loss, [tensor for _, tensor in of])
            stages += ((NotFinite(node, what), slope) for (what, _), slope in zip(of, gradients) if slope is not None)
    checks = [tf.reduce_all(tf.math.is_finite(tf.convert_to_tensor(tensor))) for _, tensor in stages]
    found = (one for (one, _), is_finite in zip(stages, session.run(checks, dict(feeds))) if not is_finite)
    return next(found, None)
