"""BatchNorm: its factor, its epsilon, whose statistics; Scale."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from graphs.layers.normalization import BatchNorm, Scale
from tools.validate.mistakes.scene import Scene, Step, Variant

EPSILONS = (1e-3, 1e-5, 1e-4, 1e-6, 1e-8, 1e-2, 2e-5, 0.0)
"""What other frameworks add to a variance; 1e-3 is Keras's, 1e-5 Caffe's and PyTorch's."""


def batch_norm(scene: Scene, step: Step) -> Iterator[Variant]:
    """Yields BatchNorm with its third blob, its epsilon or its statistics taken wrongly."""
    layer = step.layer
    if not isinstance(layer, BatchNorm):
        return
    if layer.use_global_stats is not False:
        yield Variant(
            "BatchNorm's own statistics",
            "the port normalizes by each batch's own mean and variance, as in training; use the stored ones",
            (step.having(use_global_stats=False),),
        )
    if step.arrays is not None and len(step.arrays) == 3 and layer.use_global_stats is not False:
        yield from _stored(step, layer, *step.arrays)


def _stored(
    step: Step, layer: BatchNorm, mean: np.ndarray, variance: np.ndarray, factor: np.ndarray
) -> Iterator[Variant]:
    one = np.ones_like(factor)
    stated = float(factor.ravel()[0])
    way_out = f"Caffe's stored mean and variance are sums: divide both by the third blob, {stated:g} (0 makes both 0)"
    readings = (
        ("takes the stored mean and variance as they are", (mean, variance, one)),
        ("multiplies the stored mean and variance by the factor", (mean * stated, variance * stated, one)),
        ("divides the variance alone by the factor", (mean * stated, variance, factor)),
        ("divides the mean alone by the factor", (mean, variance * stated, factor)),
    )
    for what, arrays in readings:
        yield Variant("BatchNorm's factor", f"the port {what}; {way_out}", (step.holding(*arrays),))
    for eps in EPSILONS:
        if eps != layer.eps:
            yield Variant(
                "BatchNorm's eps",
                f"the port adds {eps:g} to the variance where Caffe adds {layer.eps:g}",
                (step.having(eps=eps),),
            )
    true_mean, true_variance = (array / (stated or np.inf) for array in (mean, variance))

    def channels(array: np.ndarray, x: np.ndarray) -> np.ndarray:
        return array.reshape(-1, *(1,) * (x.ndim - 2))

    for what, spread in (
        ("adds eps to the standard deviation; add it to the variance", np.sqrt(true_variance) + layer.eps),
        ("divides by the variance; divide by its square root", true_variance + layer.eps),
    ):
        yield Variant(
            "BatchNorm's eps" if "eps" in what else "BatchNorm's variance",
            f"the port {what}",
            (step.computing(lambda x, *_, s=spread: (x - channels(true_mean, x)) / channels(s, x)),),
        )


def fitted_eps(scene: Scene, step: Step) -> Iterator[Variant]:
    """Yields the epsilon that fits the port's values."""
    layer = step.layer
    if not isinstance(layer, BatchNorm) or not step.arrays or not scene.is_target(step):
        return
    if layer.use_global_stats is False or not float(step.arrays[2].ravel()[0]):
        return
    mean, variance = (array / float(step.arrays[2].ravel()[0]) for array in step.arrays[:2])
    x, y = scene.bottom(step), np.asarray(scene.got, np.float64)
    if x.shape != y.shape or x.ndim < 2 or not np.isfinite(y).all():
        return
    others = (0, *range(2, x.ndim))
    centred = x - mean.reshape(-1, *(1,) * (x.ndim - 2))
    squares = (y * y).sum(axis=others)
    spread = (centred * y).sum(axis=others)[squares > 0] / squares[squares > 0]
    if spread.size:
        eps = max(0.0, float(np.median(spread**2 - variance[squares > 0])))
        yield Variant(
            "BatchNorm's eps",
            f"the port seems to add {eps:.3g} to the variance where Caffe adds {layer.eps:g}",
            (step.having(eps=eps),),
        )


def scale_layer(scene: Scene, step: Step) -> Iterator[Variant]:
    """Yields Scale without its factor or without its bias, or with one for the other."""
    if not isinstance(step.layer, Scale) or step.arrays is None or len(step.arrays) != 2:
        return
    factor, bias = step.arrays
    for what, arrays in (
        ("does not add the bias", (factor, 0 * bias)),
        ("does not multiply by the factor", (np.ones_like(factor), bias)),
        ("takes the factor for the bias, and the bias for the factor", (bias, factor)),
    ):
        yield Variant("Scale's factor or bias", f"the port {what} of {step.name}", (step.holding(*arrays),))
