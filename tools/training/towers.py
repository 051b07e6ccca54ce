"""A batch shared out among devices: the same network on each, over the same variables, each with a part of the batch.

The loss is the mean of the parts', so that gradients are those of the whole batch. Each device computes its part's
gradients; they are summed where the variable lies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from graphs.channels_last import channels_last
from graphs.layer import Tensor
from graphs.layers.data import Input
from graphs.names import Names
from graphs.network import Network, Node, infer
from tools.training.trainable import Trainable, add_network, loss_weights
from weights import Refused


def add_towers(tf: Any, network: Network, names: Names, devices: Sequence[str], seed: Tensor, source: str) -> Trainable:
    """Adds a network once for each device, and returns them as one that is fed whole batches.

    Its values (``blobs``, ``tops``) are the parts' joined: by their mean where they have no axis of pictures. What
    layers draw differs from part to part. Raises Refused, naming ``source``, where a batch can't be shared out evenly,
    or where the mean of the parts' losses is not the loss of the whole.
    """
    count = len(devices)
    _check(network, count, source)
    shapes = infer(_part(network, count))
    with tf.device(devices[0]):
        inputs = {
            blob: tf.placeholder(tf.float32, channels_last(shape), name=f"feed/{blob}")
            for blob, shape in network.inputs.items()
        }
        parts = {blob: tf.split(tensor, count) for blob, tensor in inputs.items()}
    towers: list[Trainable] = []
    variables: dict[str, Any] = {}
    for place, device in enumerate(devices):
        with tf.device(device):
            own = {blob: tensors[place] for blob, tensors in parts.items()}
            scope = f"part_{place}" if place else ""
            drawn = tf.add(seed, [place << 32, 0])
            one = add_network(tf, network, shapes, names, inputs=own, variables=variables, seed=drawn, scope=scope)
        towers.append(one)
        variables |= one.variables
    with tf.device(devices[0]):
        return _joined(tf, network, towers, inputs)


def _joined(tf: Any, network: Network, towers: Sequence[Trainable], inputs: Mapping[str, Tensor]) -> Trainable:
    def mean(tensors: Sequence[Tensor]) -> Tensor:
        return tf.divide(tf.add_n(list(tensors)), float(len(tensors)))

    def joined(tensors: Sequence[Tensor]) -> Tensor:
        return tf.concat(list(tensors), axis=0) if tensors[0].shape.rank else mean(tensors)

    def each(of: Callable[[Trainable], Mapping[Any, Tensor]], join: Callable[[Sequence[Tensor]], Tensor]) -> dict:
        return {key: join([of(tower)[key] for tower in towers]) for key in of(towers[0])}

    return replace(
        towers[0],
        network=network,
        inputs=dict(inputs),
        blobs=each(lambda one: one.blobs, joined),
        loss=mean([one.loss for one in towers]),
        passed=each(lambda one: one.passed, mean),
    )


def _part(network: Network, count: int) -> Network:
    nodes = (
        replace(node, layer=replace(node.layer, shape=tuple(_divided(one, count) for one in _shapes(node))))
        if isinstance(node.layer, Input)
        else node
        for node in network.nodes
    )
    return replace(network, nodes=tuple(nodes))


def _shapes(node: Node) -> Sequence[tuple[int, ...]]:
    assert isinstance(node.layer, Input)
    return node.layer.shapes(len(node.tops))


def _divided(shape: tuple[int, ...], count: int) -> tuple[int, ...]:
    return (shape[0] // count, *shape[1:])


def _check(network: Network, count: int, source: str) -> None:
    problems = []
    for blob, shape in network.inputs.items():
        if not shape or shape[0] % count:
            size = shape[0] if shape else "none"
            problems.append(f"{source}: input '{blob}' has {size} pictures, which {count} devices can't share evenly; "
                            f"choose a batch that is a multiple of {count}")  # fmt: skip
    for node in network.nodes:
        why = _why_not_a_mean(node)
        if why:
            problems.append(f"{source}: {node}: {why}, so the parts' mean is not the whole's loss; train on one device")
    if problems:
        raise Refused(*problems)


def _why_not_a_mean(node: Node) -> str:
    """Returns why a layer's part of the loss is not the mean of what parts of the batch have; "" where it is."""
    if not any(loss_weights(node)):
        return ""
    if not node.layer.automatic_top:
        return "has a loss_weight and sums its values"
    if getattr(node.layer, "normalization", None) == "NONE":
        return "its normalization is NONE"
    ignores = getattr(node.layer, "ignore_label", None) is not None
    return "it divides by the labels that are not ignored" if ignores and _is_valid(node) else ""


def _is_valid(node: Node) -> bool:
    stated = getattr(node.layer, "normalization", None)
    if stated is None and getattr(node.layer, "normalize", None) is None:
        return node.layer.type != "SigmoidCrossEntropyLoss"  # which divides by the batch
    return stated == "VALID" or bool(getattr(node.layer, "normalize", False))
