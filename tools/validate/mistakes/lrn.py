"""LRN: alpha and what divides it, k, beta, the region, the radius."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from graphs.layers import windows
from graphs.layers.lrn import LRN
from tools.validate.mistakes.scene import Change, Scene, Step, Variant

WITHIN = "WITHIN_CHANNEL"


def lrn_mistakes(scene: Scene, step: Step) -> Iterator[Variant]:
    """Yields the classic ways to take one of LRN's numbers for another."""
    if not isinstance(step.layer, LRN):
        return
    for mistake, explanation, fields in (*_alphas(step.layer), *_others(step.layer)):
        yield Variant(mistake, explanation, (step.having(**fields),))


Named = tuple[str, str, dict[str, float | int | str]]


def _alphas(lrn: LRN) -> Iterator[Named]:
    n = lrn.local_size
    count = n * n if lrn.norm_region == WITHIN else n
    wanted = f"alpha / {count} = {lrn.alpha / count:g}"
    yield (
        "alpha for alpha/n",
        f"the port multiplies the sum of squares by Caffe's alpha {lrn.alpha:g} undivided; give tf.nn.lrn {wanted}",
        {"alpha": lrn.alpha * count},
    )
    yield (
        "alpha/n for alpha",
        f"the port divides alpha once more than Caffe does; {wanted} is what the sum of squares is multiplied by",
        {"alpha": lrn.alpha / n},
    )
    if lrn.norm_region == WITHIN:
        yield (
            "alpha for alpha/n",
            f"the port divides alpha by {n} where a window has {count} values; use {wanted}",
            {"alpha": lrn.alpha * n},
        )
        return
    radius = {"local_size": 2 * n + 1, "alpha": lrn.alpha / n * (2 * n + 1)}
    yield (
        "depth radius for size",
        f"the port takes local_size {n} for tf.nn.lrn's depth_radius, so {2 * n + 1} channels; the radius is {n // 2}",
        dict(radius),
    )
    yield (
        "depth radius for size + alpha for alpha/n",
        f"the port gives tf.nn.lrn Caffe's local_size {n} and alpha {lrn.alpha:g}; it takes radius {n // 2}, {wanted}",
        {"local_size": 2 * n + 1, "alpha": lrn.alpha * (2 * n + 1)},
    )


def _others(lrn: LRN) -> Iterator[Named]:
    if lrn.norm_region == WITHIN:
        yield (
            "LRN region",
            "the port sums squares over channels where Caffe averages over a window WITHIN_CHANNEL; build it of "
            "tf.nn.avg_pool2d over the squares",
            {"norm_region": "ACROSS_CHANNELS"},
        )
    else:
        yield (
            "LRN region",
            "the port averages squares over a window within each channel; Caffe sums ACROSS_CHANNELS: use tf.nn.lrn",
            {"norm_region": WITHIN},
        )
        for k in (1.0, 2.0):
            if k != lrn.k:
                yield (
                    "k",
                    f"the port adds k = {k:g} where Caffe adds {lrn.k:g}; give tf.nn.lrn bias={lrn.k:g}",
                    {"k": k},
                )
    for beta in (0.5, 0.75, 1.0):
        if beta != lrn.beta:
            yield ("beta", f"the port raises to beta = {beta:g}; Caffe's is {lrn.beta:g}", {"beta": beta})


def fitted_lrn(scene: Scene, step: Step) -> Iterator[Variant]:
    """Yields the k and alpha that fit the port's values best, for each radius and beta that people use."""
    if not isinstance(step.layer, LRN) or not scene.is_target(step):
        return
    lrn, x, y = step.layer, np.asarray(scene.bottom(step), np.float64), np.asarray(scene.got, np.float64)
    if x.shape != y.shape or not np.isfinite(y).all():
        return
    clear = np.abs(y) > 1e-2 * np.abs(y).max()
    clear &= x * y > 0
    if clear.sum() < 3:
        return
    for size in dict.fromkeys((lrn.local_size, 2 * lrn.local_size + 1, 11, 5, 3, 1)):
        sums = _sums(x, size, lrn.norm_region)[clear]
        for beta in dict.fromkeys((lrn.beta, 0.75, 0.5, 1.0)):
            k, by_sum = _line(sums, (x[clear] / y[clear]) ** (1 / beta))
            count = size * size if lrn.norm_region == WITHIN else size
            yield Variant(
                _named(lrn, size, beta, k, by_sum),
                f"the port has radius {size // 2}, k {k:.4g}, beta {beta:g} and multiplies the sum of squares by "
                f"{by_sum:.3g}; Caffe's are radius {lrn.local_size // 2}, k {lrn.k:g}, beta {lrn.beta:g} and alpha / "
                f"{_count(lrn)} = {lrn.alpha / _count(lrn):.3g}",
                (step.computing(_plain(LRN(size, by_sum * count, beta, lrn.norm_region), k)),),
            )


def _count(lrn: LRN) -> int:
    return lrn.local_size**2 if lrn.norm_region == WITHIN else lrn.local_size


def _named(lrn: LRN, size: int, beta: float, k: float, by_sum: float) -> str:
    names = ["depth radius"] * (size != lrn.local_size) + ["beta"] * (beta != lrn.beta)
    names += ["k"] * (abs(k - lrn.k) > 1e-3 * lrn.k)
    wanted = lrn.alpha / _count(lrn)
    names += ["alpha"] * (abs(by_sum - wanted) > 1e-2 * wanted)
    return " + ".join(names) or "alpha"


def _sums(x: np.ndarray, size: int, region: str) -> np.ndarray:
    reach = size // 2
    if region == WITHIN:
        squares = windows.pad_spatial(x * x, (reach, reach), (reach, reach))
        seen = (windows.at_offset(squares, at, (1, 1), (1, 1), x.shape[2:]) for at in windows.offsets((size, size)))
        return np.sum(list(seen), axis=0)
    squares = np.pad(x * x, ((0, 0), (reach, reach), (0, 0), (0, 0)))
    return np.sum([squares[:, offset : offset + x.shape[1]] for offset in range(size)], axis=0)


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Returns intercept and slope of the line through points, by least squares."""
    spread = x - x.mean()
    length = float(spread @ spread)
    slope = float(spread @ y) / length if length else 0.0
    return float(y.mean() - slope * x.mean()), slope


def _plain(lrn: LRN, k: float) -> Change:
    """Returns the computation of an LRN with k, which Caffe's own has only across channels."""

    def compute(x: np.ndarray) -> np.ndarray:
        count = _count(lrn)
        return x * np.maximum(k + lrn.alpha / count * _sums(x, lrn.local_size, lrn.norm_region), 1e-300) ** -lrn.beta

    return compute
