"""A network in a graph that can be trained: variables, its loss, and what a pass leaves behind."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphs.emit import Emitted, build
from graphs.layer import ParameterSpec, Tensor, canonical_axis, spell
from graphs.layers.data import Input
from graphs.names import Names
from graphs.network import Inferred, Network, Node, ParamSpec, Shapes
from weights import Refused


@dataclass(frozen=True, eq=False)
class Trainable:
    """A network that was added to a graph.

    ``inputs`` is blob -> the tensor that is fed, ``blobs`` blob -> its last value, ``tops`` (layer, top) -> the value
    right after that layer; all in TensorFlow's layout, channels last from rank 4 on. ``variables`` is name -> variable.
    ``loss``, a scalar, is the sum of all tops times their loss weights, None where no layer has one. ``passed`` is
    variable -> the value that a pass leaves in it (BatchNorm's moving averages).
    """

    network: Network
    shapes: Shapes
    names: Names
    inputs: dict[str, Tensor]
    blobs: dict[str, Tensor]
    tops: dict[tuple[str, str], Tensor]
    variables: dict[str, Any]
    loss: Tensor | None
    passed: dict[str, Tensor]

    def keep(self, tf: Any) -> Any:
        """Returns the operation that leaves in variables what a pass leaves in them."""
        return tf.group(*(self.variables[name].assign(value) for name, value in self.passed.items()))


def add_network(
    tf: Any,
    network: Network,
    shapes: Shapes,
    names: Names,
    *,
    inputs: Mapping[str, Tensor] | None = None,
    variables: Mapping[str, Any] | None = None,
    seed: Tensor | None = None,
    scope: str = "",
) -> Trainable:
    """Adds a network, in the phase that it has, to ``tf``'s default graph.

    ``inputs`` has tensors for blobs that are not to be placeholders, in TensorFlow's layout; ``variables`` those of a
    network that it shares parameters with, by name; ``seed``, two whole numbers, alone decides what dropout drops;
    ``scope`` is put before the names of its operations, for a graph that holds several networks. Raises Refused where
    a parameter is shared that has another shape, and where loss weights don't fit the tops.
    """
    shared = dict(variables or {})
    own: dict[str, Any] = {}

    def variable(name: str, spec: ParameterSpec) -> Any:
        if name not in shared:
            zeros = tf.zeros_initializer()
            shared[name] = tf.get_variable(name, spec.layout.tensorflow, tf.float32, zeros, use_resource=True)
        elif tuple(shared[name].shape.as_list()) != spec.layout.tensorflow:
            there = spell(tuple(shared[name].shape.as_list()))
            raise Refused(f"'{name}' has the shape {there} in training, but {spell(spec.layout.tensorflow)} here")
        own[name] = shared[name]
        return shared[name]

    emitted = build(network, shapes, _scoped(names, scope), tf, variable, inputs, seed, training=True)
    return Trainable(
        network,
        shapes,
        names,
        inputs={blob: one.tops[at] for one in emitted if _is_fed(one) for at, blob in enumerate(one.layer.node.tops)},
        blobs={blob: top for one in emitted for blob, top in zip(one.layer.node.tops, one.tops)},
        tops={(one.layer.node.name, blob): top for one in emitted for blob, top in zip(one.layer.node.tops, one.tops)},
        variables=own,
        loss=_total_loss(tf, emitted),
        passed={name: value for one, of in zip(emitted, names.variables) for name, value in zip(of, one.passed)},
    )


def _is_fed(one: Emitted) -> bool:
    return isinstance(one.layer.node.layer, Input)


def _scoped(names: Names, scope: str) -> Names:
    if not scope:
        return names
    return replace(names, tops=tuple(tuple(f"{scope}/{name}" for name in tops) for tops in names.tops))


def loss_weights(node: Node) -> tuple[float, ...]:
    """Returns what each of a layer's tops counts in the total loss: what ``loss_weight`` says, else 1 for the first top
    of a loss and 0 for all others. Raises Refused where it has not as many as tops."""
    if not node.loss_weights:
        return tuple(float(node.layer.automatic_top and top == 0) for top in range(len(node.tops)))
    if len(node.loss_weights) != len(node.tops):
        counts = f"{len(node.loss_weights)} values for {len(node.tops)} tops"
        raise Refused(f"{node}: loss_weight has {counts}; Caffe wants one for each, or none")
    return node.loss_weights


def learns(layer: Inferred) -> bool:
    """Returns whether training changes a parameter of a layer by its gradient."""
    specs = layer.node.specs
    rates = [specs[at].lr_mult if at < len(specs) else None for at in range(len(layer.parameters))]
    return layer.node.layer.type != "BatchNorm" and any(rate != 0 for rate in rates)


def _total_loss(tf: Any, emitted: list[Emitted]) -> Tensor | None:
    parts = [
        tf.multiply(tf.reduce_sum(top), weight) if weight != 1 else tf.reduce_sum(top)
        for one in emitted
        for top, weight in zip(one.tops, loss_weights(one.layer.node))
        if weight
    ]
    # Not tf.add_n, whose order follows which of them is ready first.
    return tf.reduce_sum(tf.stack(parts)) if len(parts) > 1 else parts[0] if parts else None


@dataclass(frozen=True)
class Rate:
    """What a parameter's learning rate and weight decay are multiplied by; one with ``lr_mult`` 0 is frozen."""

    lr_mult: float = 1.0
    decay_mult: float = 1.0


def rates(shapes: Shapes, names: Names) -> dict[str, Rate]:
    """Returns variable -> its multipliers. Statistics that layers keep themselves (BatchNorm's) are frozen; of layers
    that share a parameter those count that say something, as in Caffe's AppendParam.

    Raises Refused where layers that share a parameter contradict each other, or where statistics are to be learned.
    """
    found: dict[str, dict[str, float]] = {}
    problems = []
    for layer, variables in zip(shapes, names.variables):
        node = layer.node
        is_statistics = node.layer.type == "BatchNorm"
        for index, name in enumerate(variables):
            spec = node.specs[index] if index < len(node.specs) else ParamSpec(lr_mult=0.0 if is_statistics else None)
            own = {"lr_mult": spec.lr_mult, "decay_mult": spec.decay_mult}
            if is_statistics and own["lr_mult"] != 0:
                stated = 1.0 if own["lr_mult"] is None else own["lr_mult"]
                problems.append(f"{node}: lr_mult of its statistics is {stated:g}; Caffe accepts 0 only")
            known = found.setdefault(name, {})
            for what, value in own.items():
                if value is not None and known.setdefault(what, value) != value:
                    other = f"another layer gives it {what} {known[what]:g}"
                    problems.append(f"{node}: shares {name}, and gives it {what} {value:g}; {other}")
    if problems:
        raise Refused(*problems)
    return {name: Rate(**stated) for name, stated in found.items()}


def frozen_in_part(shapes: Shapes, names: Names) -> dict[str, str]:
    """Returns variable -> what to say of it, of shared parameters that one layer freezes while another says nothing,
    and of those that a recurrent layer freezes: Caffe computes a gradient then, which counts where gradients are
    clipped, though it changes nothing."""
    silent: dict[str, Node] = {}
    freezes: dict[str, Node] = {}
    for layer, variables in zip(shapes, names.variables):
        for index, name in enumerate(variables):
            stated = layer.node.specs[index].lr_mult if index < len(layer.node.specs) else None
            if stated is None:
                silent.setdefault(name, layer.node)
            elif stated == 0:
                freezes.setdefault(name, layer.node)
    told = {
        name: f"{node}: freezes {name}, which it shares with {silent[name]}; clip_gradients counts a gradient of it in "
        "Caffe, and not here: say lr_mult: 0 in both"
        for name, node in freezes.items()
        if name in silent
    }
    is_asked = False
    for layer, variables in zip(shapes, names.variables):
        is_asked = is_asked or learns(layer)
        if layer.node.layer.type in ("LSTM", "RNN") and is_asked:
            told |= {
                name: f"{layer.node}: freezes {name}; clip_gradients counts a gradient of it in Caffe, and not here: "
                "take clip_gradients out, or let it learn"
                for name, spec in zip(variables, layer.node.specs)
                if spec.lr_mult == 0 and name not in told
            }
    return told


def of_last_pass(shapes: Shapes, names: Names) -> list[str]:
    """Returns the variables whose gradient each pass writes anew in Caffe, so that of the passes of one iteration only
    the last counts.

    Raises Refused where another layer shares one: what it adds to the gradient is lost, or not, by their order."""
    owners: dict[str, list[Inferred]] = {}
    for layer, variables in zip(shapes, names.variables):
        for name in variables:
            owners.setdefault(name, []).append(layer)
    writers = {variables[0]: layer for layer, variables in zip(shapes, names.variables) if _writes_gradient(layer)}
    problems = [
        f"{owners[name][1].node}: shares {name} with {owners[name][0].node}, and in Caffe {writer.node} writes its "
        "gradient over what the other adds to it; that is not repeated here: let it have a parameter of its own"
        for name, writer in writers.items()
        if len(owners[name]) > 1
    ]
    if problems:
        raise Refused(*problems)
    return list(writers)


def _writes_gradient(layer: Inferred) -> bool:
    """Returns whether Caffe's layer writes the gradient of its first parameter instead of adding to it: that of a
    Parameter is its top's own, and Scale sums over one axis or the other alone."""
    definition: Any = layer.node.layer
    if definition.type != "Scale" or len(layer.bottoms) == 2:
        return definition.type == "Parameter"
    (x,), span = layer.bottoms, layer.parameters[0].layout.caffe
    before = math.prod(x[: canonical_axis(definition.axis, x)]) if span else 1
    size = math.prod(span)
    return before == 1 and (size > 1 or math.prod(x) == 1)


def assign(session: Any, variables: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Gives variables the values of ``arrays``, by name, in TensorFlow's layout; one at a time is copied.

    It is also the thrifty way to initialize them: a session keeps the zeros that running their initializers folds."""
    for name, array in arrays.items():
        initializer = variables[name].initializer
        session.run(initializer, {initializer.inputs[1]: array})


def clear(session: Any, variables: Mapping[str, Any]) -> None:
    """Sets variables to 0."""
    for name, variable in variables.items():
        assign(session, variables, {name: np.zeros(variable.shape.as_list(), variable.dtype.as_numpy_dtype)})
