"""The network in a graph, with its loss and what judges it: once, or once on each of several devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from converter.port import Port
from tools.finetune.head import Head
from tools.training.trainable import Trainable, add_network

TOP = 5
"""The best so many classes count as right beside the best one, where there are more."""


@dataclass(frozen=True, eq=False)
class Tower:
    """The network once in the graph. ``network.loss`` is the mean over the batch; ``losses``, ``right`` and
    ``among_top`` are of each picture, the last one None where there are not more than ``TOP`` classes."""

    network: Trainable
    losses: Any
    right: Any
    among_top: Any


def tower(
    tf: Any,
    port: Port,
    head: Head,
    blob: str,
    images: Any,
    labels: Any,
    scope: str,
    seed: Any,
    variables: Mapping[str, Any] | None = None,
) -> Tower:
    """Adds the network to the graph, with what judges its scores. It shares ``variables``, where there are any."""
    network = add_network(
        tf,
        port.network,
        port.shapes,
        port.names,
        inputs={blob: images},
        variables=variables,
        seed=seed,
        scope=scope,
    )
    with tf.name_scope(f"{scope or 'testing'}/loss/"):
        ((scores),) = (tensor for (layer, _), tensor in network.tops.items() if layer == head.scores)
        scores = tf.reshape(scores, [-1, len(port.classes)])
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=scores)
        right = tf.equal(tf.argmax(scores, axis=1), labels)
        among = tf.math.in_top_k(predictions=scores, targets=labels, k=TOP) if len(port.classes) > TOP else None
        return Tower(replace(network, loss=tf.reduce_mean(losses)), losses, right, among)


def towers_on(
    tf: Any, port: Port, head: Head, blob: str, images: Any, labels: Any, seed: Any, devices: Sequence[str]
) -> list[Tower]:
    """Returns the network as it trains, once on each device, with a part of the batch; what they draw differs."""
    total = tf.shape(labels)[0]
    towers: list[Tower] = []
    for place, device in enumerate(devices):
        first, end = total * place // len(devices), total * (place + 1) // len(devices)
        # Kernels want a picture: where there are fewer than devices, one is computed again and left out.
        at = slice(tf.minimum(first, total - 1), tf.maximum(first + 1, end))
        part = (images, labels) if len(devices) == 1 else (images[at], labels[at])
        with tf.device(device) if device else nullcontext():
            drawn = tf.add(seed, [place << 20, 0]) if place else seed
            variables = towers[0].network.variables if towers else None
            scope = f"training_{place}" if place else "training"
            one = tower(tf, port, head, blob, *part, scope, drawn, variables)
        towers.append(one if len(devices) == 1 else _first(one, end - first))
    return towers


def _first(one: Tower, count: Any) -> Tower:
    """Returns a tower of which the first ``count`` pictures count."""
    among = None if one.among_top is None else one.among_top[:count]
    return replace(one, losses=one.losses[:count], right=one.right[:count], among_top=among)


def joined(tf: Any, towers: Sequence[Tower]) -> Tower:
    """Returns towers as one: its loss is the mean over the whole batch, and so is what a pass leaves in variables."""
    losses = tf.concat([one.losses for one in towers], axis=0)
    shares = [tf.divide(tf.size(one.losses), tf.size(losses)) for one in towers]

    def mean(values: Sequence[Any]) -> Any:
        parts = zip(values, shares)  # a part without pictures has no statistics
        return tf.add_n([tf.where(share > 0, value * tf.cast(share, tf.float32), tf.zeros_like(value))
                         for value, share in parts])  # fmt: skip

    first = towers[0].network
    passed = {name: mean([one.network.passed[name] for one in towers]) for name in first.passed}
    among = None if towers[0].among_top is None else tf.concat([one.among_top for one in towers], axis=0)
    right = tf.concat([one.right for one in towers], axis=0)
    return Tower(replace(first, loss=tf.reduce_mean(losses), passed=passed), losses, right, among)
