"""ReLU, Softmax and Dropout: one too few, one too many, of another kind, or left in training."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from graphs.layers.data import Input
from graphs.layers.elementwise import Dropout, ReLU
from graphs.layers.softmax import Softmax
from tools.validate.mistakes.scene import Scene, Step, Variant


def relu(x: np.ndarray) -> np.ndarray:
    """Returns max(x, 0)."""
    return np.maximum(x, 0)


def relu_mistakes(scene: Scene, step: Step) -> Iterator[Variant]:
    """Yields a ReLU that is missing, of another slope, or where none belongs."""
    if isinstance(step.layer, ReLU):
        yield Variant(
            "ReLU missing", f"the port does not apply {step.name}; add tf.nn.relu", (step.computing(lambda x: x),)
        )
        for slope in (0.0, 0.01, 0.1, 0.2):
            if slope != step.layer.negative_slope:
                yield Variant(
                    "ReLU's slope",
                    f"the port multiplies values below zero by {slope:g}; Caffe by {step.layer.negative_slope:g}",
                    (step.having(negative_slope=slope),),
                )
        yield Variant(
            "ReLU6 for ReLU", "the port cuts off at 6; Caffe's ReLU has no upper end", (step.computing(relu6),)
        )  # fmt: skip
    elif not isinstance(step.layer, Input):
        follows = [one.name for one in scene.readers(step) if isinstance(one.layer, ReLU)]
        also = f"; harmless where the tensor stands for {follows[0]} too, which follows" if follows else ""
        yield Variant(
            "ReLU doubled",
            f"the port applies one ReLU too many, to what {step.name} makes; take it out{also}",
            (step.followed_by(relu),),
        )


def relu6(x: np.ndarray) -> np.ndarray:
    """Returns x, at least 0 and at most 6."""
    return np.clip(x, 0, 6)


def softmax_mistakes(scene: Scene, step: Step) -> Iterator[Variant]:
    """Yields Softmax doubled, missing, over another axis, or of which the logarithm was taken."""
    if not isinstance(step.layer, Softmax):
        return
    layer = step.layer
    yield Variant(
        "softmax doubled",
        "the port applies softmax to probabilities; fetch them as they are, or feed the loss with what comes before",
        (step.followed_by(layer.reference),),
    )
    yield Variant("softmax missing", "the port gives scores; apply tf.nn.softmax", (step.computing(lambda x: x),))
    yield Variant(
        "logarithm of softmax",
        "the port gives logarithms of probabilities; use tf.nn.softmax for tf.nn.log_softmax",
        (step.followed_by(lambda x: np.log(np.maximum(x, 1e-300))),),
    )
    rank = scene.bottom(step).ndim
    for axis in range(rank):
        if axis != layer.axis % rank:
            yield Variant(
                "softmax axis", f"the port sums over axis {axis}; Caffe over {layer.axis}", (step.having(axis=axis),)
            )
    if rank == 4:
        yield Variant(
            "softmax axis",
            "the port sums over everything; Caffe over the channels",
            (step.computing(_softmax_over_all),),
        )


def _softmax_over_all(x: np.ndarray) -> np.ndarray:
    y = np.exp(x - x.max(axis=(1, 2, 3), keepdims=True))
    return y / y.sum(axis=(1, 2, 3), keepdims=True)


def softmax_added(scene: Scene, step: Step) -> Iterator[Variant]:
    """Yields a softmax where the network has none, at the end of a network or right before its own."""
    readers = list(scene.readers(step))
    ends = not readers or any(isinstance(one.layer, Softmax) for one in readers)
    if ends and scene.is_target(step) and scene.got.ndim == 2 and not isinstance(step.layer, Softmax):
        yield Variant(
            "softmax doubled",
            f"the port applies a softmax to what {step.name} makes already; take it out",
            (step.followed_by(Softmax(axis=-1).reference),),
        )


def dropout_mistakes(scene: Scene, step: Step) -> Iterator[Variant]:
    """Yields Dropout in TEST that drops after all, told by what values it left, or that scales without dropping."""
    if not isinstance(step.layer, Dropout):
        return
    keep = 1 - step.layer.dropout_ratio
    for what, factor in ((f"1 / {keep:g}", 1 / keep), (f"{keep:g}", keep), (f"{1 - keep:g}", 1 - keep)):
        yield Variant(
            "dropout's scale",
            f"the port multiplies by {what} though nothing is dropped; in TEST Caffe passes values on",
            (step.computing(lambda x, factor=factor: factor * x),),
        )
    if not scene.is_target(step):
        return
    x, y = scene.bottom(step), np.asarray(scene.got, np.float64)
    there = np.abs(x) > 1e-3 * np.abs(x).max() if x.size and x.shape == y.shape else np.zeros(1, bool)
    kept = there & (y != 0) if there.any() and x.shape == y.shape else np.zeros(1, bool)
    share = kept.sum() / max(there.sum(), 1)
    if not 0 < share < 1:
        return
    factor = float(np.median(y[kept] / x[kept]))
    mistake, explanation = _dropout(keep, share, factor)
    yield Variant(mistake, explanation, (step.computing(lambda x: np.where(y != 0, factor * x, 0)),))


def _dropout(keep: float, share: float, factor: float) -> tuple[str, str]:
    seems = 1 / factor if factor > 1 else share
    what = f"keeps {share:.0%} of the values and multiplies them by {factor:.3g}"
    if abs(seems - (1 - keep)) < abs(seems - keep) and abs(seems - (1 - keep)) < 0.05:
        return (
            "dropout's ratio inverted",
            f"the port {what}: it is left on, and takes Caffe's dropout_ratio {1 - keep:g}, what is dropped, for what "
            f"is kept, {keep:g}; switch it off for TEST",
        )
    return (
        "dropout left on",
        f"the port {what}, as dropout with keep probability {seems:.2g} does in training; switch it off for TEST "
        "(keep_prob 1, rate 0)",
    )
