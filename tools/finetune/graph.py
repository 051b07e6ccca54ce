"""The graph of a fine-tuning: a network as it trains and as it is tested, over the same variables."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from converter.port import Port
from graphs.tensorflow1 import tensorflow1
from tools.finetune.head import Head
from tools.finetune.statistics import Normalized, normalized, port_as_it_learns
from tools.finetune.towers import Tower, joined, tower, towers_on
from tools.training.cluster import first_of
from tools.training.trainable import assign, rates
from weights import Parameter, Refused
from weights.stored import TENSORFLOW

NOT_FINITE = "what training follows is no finite number"


@dataclass(frozen=True)
class Learning:
    """How weights follow their gradients.

    ``optimizer`` is sgd (with ``momentum``) or adam. Weights of two axes and more are drawn to zero: ``weight_decay``
    times the weight joins its gradient, so that the learning rate multiplies it once. Layers in ``multipliers`` learn
    so many times as fast.
    """

    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 0.0
    multipliers: Mapping[str, float] | None = None


@dataclass(frozen=True, eq=False)
class Trained:
    """A variable that learns: its layer, how many times as fast, and how strongly it is drawn to zero."""

    variable: Any
    layer: str
    rate: float
    decay: float


@dataclass(frozen=True, eq=False)
class Graph:
    """All that a session runs. ``images`` (N, H, W, C) and ``labels`` (N,) are fed; for a training step also ``rate``
    and ``seed``, two whole numbers that alone decide what dropout drops.

    ``gradients`` are of the mean loss alone, without weight decay, by variable name. ``update`` changes weights, unless
    the loss or a gradient is not finite: then it fails, and nothing is changed. ``norm`` is the length of all gradients
    together. ``normalized`` are the layers whose statistics ``measure`` takes.
    """

    graph: Any
    images: Any
    labels: Any
    rate: Any
    seed: Any
    training: Tower
    testing: Tower
    variables: Mapping[str, Any]
    trained: tuple[Trained, ...]
    gradients: Mapping[str, Any]
    norm: Any
    update: Any
    normalized: tuple[Normalized, ...] = ()

    def arrays(self, session: Any) -> dict[str, np.ndarray]:
        """Returns the network's variables as they are, in TensorFlow's layout."""
        return session.run(dict(self.variables))


def build_graph(
    port: Port,
    head: Head,
    layers: Collection[str],
    learning: Learning,
    graph: Any = None,
    devices: Sequence[str] = (),
) -> Graph:
    """Returns the graph that trains ``layers`` of a port, and leaves the others alone; built into ``graph``, where one
    is given. Each batch is shared out among ``devices``, where there are any.

    Batch normalization of a layer among ``layers`` uses the batch's own statistics and moves its averages, which
    ``measure`` replaces before a test; elsewhere it uses the averages. Dropout is active wherever the definition has
    it, in training only. Raises Refused where the network does not read one blob of pictures, is made for one size of
    batch, or has a layer that can't learn.
    """
    tf = tensorflow1("fine-tuning")
    blob = pictures_blob(port)
    graph = graph or tf.Graph()
    with graph.as_default(), first_of(tf, devices):
        with tf.name_scope("feed"):
            images = _placeholder(tf, port, blob)
            labels = tf.placeholder(tf.int64, [None], name="labels")
            # A reader of checkpoints need not feed it.
            rate = tf.placeholder_with_default(0.0, [], name="learning_rate")
            seed = tf.placeholder(tf.int32, [2], name="seed")
        towers = towers_on(tf, port_as_it_learns(port, layers), head, blob, images, labels, seed, devices or ("",))
        training = towers[0] if len(towers) == 1 else joined(tf, towers)
        variables = training.network.variables
        testing = tower(tf, port, head, blob, images, labels, "", None, variables)  # named as in a port
        trained = tuple(_trained(port, layers, learning, variables))
        gradients = _gradients(tf, training.network.loss, trained)
        with tf.name_scope("update"):
            norm = tf.linalg.global_norm(list(gradients.values()), name="norm")
            proofs = [tf.debugging.check_numerics(value, NOT_FINITE) for value in (training.network.loss, norm)]
            with tf.control_dependencies(proofs):
                moved = [
                    variables[name].assign(tf.identity(value))
                    for name, value in training.network.passed.items()
                    if name not in gradients
                ]
                proved = {name: tf.identity(gradient) for name, gradient in gradients.items()}
            update = tf.group(*_updates(tf, trained, proved, rate, learning), *moved)
        measured = normalized(tf, port, layers, blob, images, variables)
    return Graph(
        graph, images, labels, rate, seed, training, testing, variables, trained, gradients, norm, update, measured
    )


def pictures_blob(port: Port) -> str:
    """Returns the one blob that is fed. Raises Refused where it is not one, no pictures, or made for one batch size."""
    inputs = port.network.inputs
    if len(inputs) != 1:
        raise Refused(f"has {len(inputs)} inputs ({', '.join(inputs)}); expected one, for pictures")
    ((blob, shape),) = inputs.items()
    if len(shape) != 4 or shape[1] not in (1, 3):
        raise Refused(f"input '{blob}' is {'x'.join(map(str, shape))}; expected pictures, N x (1 or 3) x H x W")
    if not port.shapes.free_batch:
        raise Refused(f"is made for batches of {shape[0]} by one of its layers; training needs a batch of any size")
    return blob


def _placeholder(tf: Any, port: Port, blob: str) -> Any:
    _, channels, height, width = port.network.inputs[blob]
    return tf.placeholder(tf.float32, [None, height, width, channels], name="images")


def _trained(
    port: Port, layers: Collection[str], learning: Learning, variables: Mapping[str, Any]
) -> Iterable[Trained]:
    """Yields the variables that learn, each once."""
    stated = rates(port.shapes, port.names)
    found: dict[str, Trained] = {}
    for layer, names in zip(port.shapes, port.names.variables):
        if layer.node.name not in layers:
            continue
        factor = (learning.multipliers or {}).get(layer.node.name, 1.0)
        for name, spec in zip(names, layer.parameters):
            if name not in found and stated[name].lr_mult * factor and spec.name not in AVERAGES:
                decay = learning.weight_decay * stated[name].decay_mult if len(spec.layout.caffe) > 1 else 0.0
                found[name] = Trained(variables[name], layer.node.name, stated[name].lr_mult * factor, decay)
    return found.values()


AVERAGES = ("mean", "variance", "moving_mean", "moving_variance")
"""What Caffe's forks and ``tf.layers`` call the statistics of batch normalization, which no gradient moves."""


def _gradients(tf: Any, loss: Any, trained: tuple[Trained, ...]) -> dict[str, Any]:
    """Returns variable name -> the loss's gradient. Raises Refused for a layer that the scores do not depend on."""
    found = tf.gradients(
        loss, [one.variable for one in trained], name="gradients", colocate_gradients_with_ops=True
    )  # each device computes those of its part
    unused = [one.layer for one, gradient in zip(trained, found) if gradient is None]
    if unused:
        raise Refused(f"--train-layers: the scores do not depend on {', '.join(dict.fromkeys(unused))}")
    return {one.variable.op.name: tf.convert_to_tensor(gradient) for one, gradient in zip(trained, found)}


def _updates(
    tf: Any, trained: tuple[Trained, ...], gradients: Mapping[str, Any], rate: Any, learning: Learning
) -> Iterable[Any]:
    """Yields operations that change the weights."""
    if learning.optimizer == "sgd" and learning.momentum:
        yield from (_momentum(tf, one, gradients[one.variable.op.name], rate, learning.momentum) for one in trained)
        return
    decayed = _decayed(tf, trained, gradients)
    for factor in sorted({one.rate for one in trained}):
        kind = tf.train.AdamOptimizer if learning.optimizer == "adam" else tf.train.GradientDescentOptimizer
        own = [one.variable for one in trained if one.rate == factor]
        yield kind(rate * factor).apply_gradients([(decayed[variable.op.name], variable) for variable in own])


def _momentum(tf: Any, one: Trained, gradient: Any, rate: Any, momentum: float) -> Any:
    """Returns the operation v = momentum * v + gradient + decay * w; w = w - rate * v.

    The decay joins v where it lies, divided by the momentum that is about to multiply it: a sum with the gradient would
    take memory for a copy of the weights.
    """
    zeros = tf.zeros_initializer()
    slot = tf.get_variable(f"{one.variable.op.name}/Momentum", one.variable.shape, initializer=zeros, trainable=False)
    before = [gradient]
    if one.decay:
        with tf.control_dependencies(before):
            alpha = -one.decay / momentum
            before = [
                tf.raw_ops.ResourceApplyGradientDescent(var=slot.handle, alpha=alpha, delta=one.variable.read_value())
            ]
    with tf.control_dependencies(before):
        return tf.raw_ops.ResourceApplyMomentum(
            var=one.variable.handle, accum=slot.handle, lr=rate * one.rate, grad=gradient, momentum=momentum
        )


def _decayed(tf: Any, trained: tuple[Trained, ...], gradients: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the gradients with what draws weights to zero, one after the other: each takes memory for a copy of its
    weights, and all at once would take as much as the network."""
    found: dict[str, Any] = {}
    before: list[Any] = []
    for one in trained:
        name = one.variable.op.name
        found[name] = gradients[name]
        if one.decay:
            with tf.control_dependencies([*before, gradients[name]]):
                found[name] = gradients[name] + one.decay * one.variable
            before = [found[name]]
    return found


def load(session: Any, graph: Graph, parameters: Iterable[Parameter]) -> None:
    """Gives every variable of the graph its first value: the network's from ``parameters``, the optimizer's own."""
    tf = tensorflow1("fine-tuning")
    with graph.graph.as_default():
        own = {id(variable) for variable in graph.variables.values()}
        session.run([one.initializer for one in tf.global_variables() if id(one) not in own])
    for parameter in parameters:
        assign(session, graph.variables, {parameter.name: parameter.tensorflow()})


def with_arrays(port: Port, arrays: Mapping[str, np.ndarray]) -> Port:
    """Returns the port with other numbers, which lie in TensorFlow's layout."""
    parameters = {
        name: Parameter(name, known.layout, arrays[name], TENSORFLOW) for name, known in port.parameters.items()
    }
    return replace(port, parameters=parameters)


def trainable_layers(port: Port) -> list[str]:
    """Returns the layers that have weights, in the network's order."""
    return [layer.node.name for layer in port.shapes if layer.parameters]
