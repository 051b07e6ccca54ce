"""Labels whose probability is so small that a loss cuts it off: a training that diverges stands still there."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from graphs.layer import Tensor, canonical_axis
from graphs.layers.loss import SMALLEST, SMALLEST_LOGGED, label_vector, rows, score_rows
from graphs.network import Node
from tools.training.trainable import Trainable, loss_weights

_CUTS = {
    "SoftmaxWithLoss": SMALLEST,
    "InfogainLoss": SMALLEST_LOGGED,
    "MultinomialLogisticLoss": SMALLEST_LOGGED,
}
"""Losses that take the logarithm of a probability -> the least that they tell from smaller ones."""


@dataclass(frozen=True, eq=False)
class Cut:
    """A loss, the least probability that it tells from smaller ones, and how many labels of a pass are below."""

    node: Node
    smallest: float
    count: Tensor

    def told(self, count: int) -> str:
        """Returns what to say of a pass in which ``count`` labels were below."""
        labels = f"{count} label{'s' * (count != 1)}"
        return (
            f"{self.node}: its softmax gives {labels} a probability below {self.smallest:.2g}; each counts "
            f"{-math.log(self.smallest):.6g}, however wrong. A loss that stays there does not show how far training "
            "diverges: try a lower base_lr or clip_gradients, or look at the data's scale"
        )


def cut_labels(tf: Any, trained: Trainable) -> list[Cut]:
    """Returns what the losses of a network cut off, of those that count and take the logarithm of a probability. It
    adds operations to the graph; those of a network on several devices are the first one's."""
    found = []
    values: dict[str, Tensor] = {}
    for layer in trained.shapes:
        node = layer.node
        smallest = SMALLEST if node.layer.type == "SoftmaxWithLoss" else SMALLEST_LOGGED
        if node.layer.type in ("SoftmaxWithLoss", "InfogainLoss", "MultinomialLogisticLoss") and any(
            loss_weights(node)
        ):
            x, labels = values[node.bottoms[0]], label_vector(tf, values[node.bottoms[1]], layer.bottoms[1])
            if node.layer.type == "MultinomialLogisticLoss":
                is_below = tf.less(_of_label(tf, rows(tf, x, layer.bottoms[0]), labels), smallest)
            else:
                axis = canonical_axis(getattr(node.layer, "axis", 1), layer.bottoms[0])
                scores = score_rows(tf, x, layer.bottoms[0], axis)
                lead = tf.subtract(tf.reduce_max(scores, axis=1), _of_label(tf, scores, labels))
                is_below = tf.greater(lead, -math.log(smallest))
            ignored = getattr(node.layer, "ignore_label", None)
            if ignored is not None:
                is_below = tf.logical_and(is_below, tf.not_equal(labels, ignored))
            found.append(Cut(node, smallest, tf.reduce_sum(tf.cast(is_below, tf.int32))))
        values.update((top, trained.tops[node.name, top]) for top in node.tops)
    return found


def _of_label(tf: Any, scores: Tensor, labels: Tensor) -> Tensor:
    """Returns each row's score of its label; of one that is no class, some score of its row."""
    within = tf.clip_by_value(labels, 0, scores.shape[1] - 1)
    return tf.gather(scores, within, batch_dims=1)
