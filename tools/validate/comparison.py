"""How far two arrays are apart: pure functions, and values that add up over batches."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from tools.recording import Value, statistics_of

TOLERANCE = 1e-4
"""What a layer's largest difference may be, over its largest magnitude, where nobody says otherwise. Two correct
engines in float32 are some 1e-6 to 1e-5 apart."""

BLOCK = 1 << 15
"""Values that are compared at once."""


@dataclass(frozen=True)
class Worst:
    """Where two arrays are furthest apart: the place in the whole set (the first axis counts all pictures), and what
    stands there in the port and in the reference."""

    index: tuple[int, ...]
    got: float
    expected: float


@dataclass(frozen=True)
class Difference:
    """What a layer's values in a port are apart from the reference's, over all pictures compared so far.

    ``largest`` is the largest absolute difference, of the values compared and of the blobs' statistics (which differ by
    no more than some value does); ``magnitude`` the largest magnitude in the reference. The four sums are over the
    values compared. ``problem`` says why nothing could be compared, or "".
    """

    compared: int = 0
    largest: float = 0.0
    magnitude: float = 0.0
    worst: Worst | None = None
    squared_got: float = 0.0
    squared_expected: float = 0.0
    product: float = 0.0
    squared_difference: float = 0.0
    not_finite: int = 0
    problem: str = ""

    @property
    def relative(self) -> float:
        """The largest difference over the largest magnitude: the tolerance that would have passed. Infinite where
        nothing was compared, or something is no number."""
        if self.problem or not self.compared or self.not_finite or not math.isfinite(self.largest):
            return math.inf
        if self.largest == 0:
            return 0.0
        return self.largest / self.magnitude if self.magnitude else math.inf

    @property
    def rms_ratio(self) -> float:
        """Root mean square of the port's values over the reference's; 1 where they agree, NaN where both are zero."""
        if not self.squared_expected:
            return math.nan if not self.squared_got else math.inf
        return math.sqrt(self.squared_got / self.squared_expected)

    @property
    def cosine(self) -> float:
        """Cosine of the angle between the two; NaN where one is all zero."""
        lengths = math.sqrt(self.squared_got) * math.sqrt(self.squared_expected)
        return self.product / lengths if lengths else math.nan

    def passes(self, tolerance: float) -> bool:
        """Whether something was compared, all of it numbers, and all within ``tolerance``."""
        return self.relative <= tolerance


def differ(got: np.ndarray, expected: Value) -> Difference:
    """Returns how far a blob of a port, in Caffe's order, is from the reference's, whole or sampled."""
    if got.shape != expected.shape:
        return Difference(problem=f"has the shape {got.shape}, the reference {expected.shape}")
    if not got.size or not expected.values.size:
        return Difference(problem="has no values")
    known = expected.statistics
    if expected.index is None:
        mine, theirs, at = got, expected.values, None
    else:
        at = np.unravel_index(expected.index, expected.shape)
        mine, theirs = got[at], expected.values
    found = _values(mine, theirs)
    if not np.isfinite(theirs).all():
        return Difference(problem="the reference has values that are no numbers (NaN or infinite)")
    place = found[0]
    if at is None:
        index = tuple(int(axis) for axis in np.unravel_index(place, got.shape))
        worst = Worst(index, float(got[index]), float(expected.values[index]))
        bad = int(got.size - np.isfinite(got).sum()) if not math.isfinite(found[1]) else 0
        largest = found[1]
    else:
        index = tuple(int(axis[place]) for axis in at)
        worst = Worst(index, float(mine[place]), float(theirs[place]))
        own = statistics_of(np.asarray(got, np.float32).ravel(order="K"))
        bad = 0 if math.isfinite(own.rms) else int(got.size - np.isfinite(got).sum())
        pairs = ((own.absmax, known.absmax), (own.rms, known.rms), (own.mean, known.mean))
        apart = [abs(one - other) for one, other in pairs if not math.isnan(other)]
        # Each statistic has a rounding of its own, some 1e-7 of the magnitude.
        largest = max(found[1], *apart) if all(map(math.isfinite, apart)) else math.inf
    return Difference(int(mine.size), largest, known.absmax, worst, *found[2:], not_finite=bad)


def _values(got: np.ndarray, expected: np.ndarray) -> tuple[int, float, float, float, float, float]:
    """Returns the flat place of the largest difference (the first that is no number, where there is one), it, and the
    sums of got², expected², got x expected, difference²."""
    place, largest = 0, -1.0
    sums = np.zeros(4)
    got, expected = np.atleast_1d(got), np.atleast_1d(expected)
    for start, where in _blocks(expected.shape):
        mine = np.ascontiguousarray(got[where], np.float32).reshape(-1)
        theirs = np.ascontiguousarray(expected[where], np.float32).reshape(-1)
        with np.errstate(invalid="ignore"):
            apart = mine - theirs
        furthest = np.maximum(apart.max(), -apart.min())  # NaN where there is one
        if not (furthest <= largest or math.isnan(largest)):
            place, largest = start + int(np.abs(apart).argmax()), float(furthest)
        with np.errstate(over="ignore", invalid="ignore"):
            own = _products(mine, theirs, apart)
            if not np.isfinite(own).all():  # squares that float32 can't hold
                own = _products(*(array.astype(np.float64) for array in (mine, theirs, apart)))
        sums += own
    return place, largest, *map(float, sums)  # type: ignore[return-value]


def _products(got: np.ndarray, expected: np.ndarray, apart: np.ndarray) -> np.ndarray:
    return np.array([got @ got, expected @ expected, got @ expected, apart @ apart], np.float64)


def _blocks(shape: tuple[int, ...]) -> Iterator[tuple[int, tuple[int | slice, ...]]]:
    """Yields the flat start and the place of parts that fit in a processor's cache, in order: the port's values lie
    with channels last, and are brought into Caffe's order part by part."""
    inner = math.prod(shape[1:])
    if inner <= BLOCK or len(shape) < 2:
        rows = max(1, BLOCK // max(1, inner))
        for row in range(0, shape[0], rows):
            yield row * inner, (slice(row, row + rows),)
        return
    innermost = math.prod(shape[2:])
    step = max(1, BLOCK // max(1, innermost))
    for row in range(shape[0]):
        for column in range(0, shape[1], step):
            yield row * inner + column * innermost, (row, slice(column, column + step))


def shifted(one: Difference, rows: int) -> Difference:
    """Returns the difference with the worst value's place moved by ``rows`` on the first axis."""
    if one.worst is None or not one.worst.index:
        return one
    row, *rest = one.worst.index
    return replace(one, worst=replace(one.worst, index=(row + rows, *rest)))


def added(one: Difference, other: Difference) -> Difference:
    """Returns the difference over what both compared; ``Difference()`` is the one that adds nothing."""
    further = other if not one.largest >= other.largest and not math.isnan(one.largest) else one
    return Difference(
        one.compared + other.compared,
        further.largest,
        max(one.magnitude, other.magnitude),
        further.worst or one.worst or other.worst,
        one.squared_got + other.squared_got,
        one.squared_expected + other.squared_expected,
        one.product + other.product,
        one.squared_difference + other.squared_difference,
        one.not_finite + other.not_finite,
        one.problem or other.problem,
    )
