"""Where things stand in the chart of errors layer by layer: pure geometry, which the page's template draws.

Every layer has a place along the network, every error one along a logarithmic axis. What a logarithm can't show has a
lane of its own beside the axis: exactly zero, not compared, no number.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from tools.validate.comparison import Difference
from tools.validate.report import LayerResult

ZERO, ABSENT, NO_NUMBER = "exactly 0", "not compared", "NaN or shape"
"""The lanes: the first two lie below the axis, the last one above."""

LANE, GAP, APART, LEAST_DECADES = 22.0, 14.0, 30.0, 3
"""Width of a lane, its distance from the axis, and the least distance of two labels, in the chart's units; how many
decades there are at least."""

LONGEST = 26
"""Characters of a layer's name that are shown; the middle of a longer one is left out."""


@dataclass(frozen=True)
class Tick:
    """A decade or a lane, and where it stands."""

    at: float
    text: str


@dataclass(frozen=True)
class Scale:
    """The axis of errors: 10**``low`` to 10**``high`` over ``length`` units, of which lanes take their part."""

    low: int
    high: int
    below: tuple[str, ...]
    above: tuple[str, ...]
    length: float

    def of(self, value: float) -> float:
        """Returns where a positive error stands, from the low end of the axis; beyond either end, at that end."""
        start, stop = self._ends
        share = (math.log10(value) - self.low) / (self.high - self.low) if value > 0 else 0.0
        return start + min(max(share, 0.0), 1.0) * (stop - start)

    def at(self, found: Difference | None) -> float:
        """Returns where a difference stands: on the axis, or in the lane that it belongs to."""
        name = lane(found)
        return self._lane(name) if found is None or name else self.of(found.relative)

    def _lane(self, name: str) -> float:
        if name in self.below:
            return (self.below.index(name) + 0.5) * LANE
        return self.length - (self.above.index(name) + 0.5) * LANE

    @property
    def _ends(self) -> tuple[float, float]:
        below, above = (len(lanes) * LANE + (GAP if lanes else 0.0) for lanes in (self.below, self.above))
        return below, self.length - above

    @property
    def decades(self) -> tuple[Tick, ...]:
        """The decades that are labelled."""
        start, stop = self._ends
        step = math.ceil((self.high - self.low) * APART / (stop - start))
        powers = range(self.low, self.high + 1, step)
        return tuple(Tick(self.of(10.0**power), "1" if power == 0 else f"1e{power}") for power in powers)

    @property
    def lanes(self) -> tuple[Tick, ...]:
        """The lanes."""
        return tuple(Tick(self._lane(name), name) for name in (*self.below, *self.above))


@dataclass(frozen=True)
class Column:
    """A layer in the chart. ``at`` is where it stands along the network, ``wide`` the room that it has; ``computed``
    and ``isolated`` stand along the axis of errors, ``isolated`` None where there is none."""

    result: LayerResult
    label: str
    at: float
    wide: float
    computed: float
    isolated: float | None
    computed_is_beyond: bool


@dataclass(frozen=True)
class Step:
    """Neighbours with one tolerance: from where to where along the network, and where it stands among the errors."""

    start: float
    stop: float
    at: float


@dataclass(frozen=True)
class Panel:
    """Some layers that follow each other, ``length`` units along the network, the longest name ``longest`` characters;
    ``line`` are the runs of neighbours whose error as computed is a number: places (along, error) to be joined."""

    columns: tuple[Column, ...]
    length: float
    longest: int
    line: tuple[tuple[tuple[float, float], ...], ...]
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Chart:
    """Panels, one after the other, on one scale."""

    scale: Scale
    panels: tuple[Panel, ...]

    @property
    def along(self) -> float:
        """Units along the network that the longest panel takes."""
        return max((one.length for one in self.panels), default=0.0)


def lane(found: Difference | None) -> str:
    """Returns the lane of what has no place on a logarithmic axis, "" for what has one."""
    if found is None:
        return ABSENT
    if not math.isfinite(found.relative):
        return NO_NUMBER
    return "" if found.relative > 0 else ZERO


def scale_of(layers: Sequence[LayerResult], length: float) -> Scale:
    """Returns the scale on which every error and every tolerance has its place."""
    shown = [one.computed for one in layers] + [one.isolated for one in layers if one.isolated is not None]
    lanes = {lane(one) for one in shown}
    numbers = [one.relative for one in shown if one is not None and not lane(one)]
    numbers += [one.allowed for one in layers if one.allowed > 0]
    low = math.floor(math.log10(min(numbers, default=1e-6)))
    high = math.ceil(math.log10(max(numbers, default=1.0)) + 0.05)  # so that no mark stands on the edge
    low = min(low, high - LEAST_DECADES)
    below = tuple(name for name in (ABSENT, ZERO) if name in lanes)
    return Scale(low, high, below, (NO_NUMBER,) if NO_NUMBER in lanes else (), length)


def chart(layers: Sequence[LayerResult], most: int, room: float, length: float, along: float = 0.0) -> Chart:
    """Returns the chart of ``layers`` in the network's order: panels of at most ``most``, as even as they come. Errors
    take ``length`` units; layers share ``along`` units, or have ``room`` each where that is 0."""
    scale = scale_of(layers, length)
    count = max(1, math.ceil(len(layers) / most))
    size = max(1, math.ceil(len(layers) / count))
    named = list(zip(layers, labels(layers)))
    parts = [named[start : start + size] for start in range(0, len(named), size)]
    return Chart(scale, tuple(_panel(part, scale, along / size if along else room) for part in parts))


def _panel(layers: Sequence[tuple[LayerResult, str]], scale: Scale, wide: float) -> Panel:
    columns = tuple(
        Column(
            one,
            shortened(name),
            (place + 0.5) * wide,
            wide,
            scale.at(one.computed),
            None if one.isolated is None else scale.at(one.isolated),
            one.computed is not None and not one.computed.passes(one.allowed),
        )
        for place, (one, name) in enumerate(layers)
    )
    longest = max((len(one.label) for one in columns), default=0)
    steps = []
    for allowed, group in groupby(columns, key=lambda one: one.result.allowed):
        same = list(group)
        steps.append(Step(same[0].at - wide / 2, same[-1].at + wide / 2, scale.of(allowed)))
    return Panel(columns, len(columns) * wide, longest, tuple(_line(columns)), tuple(steps))


def _line(columns: Iterable[Column]) -> Iterable[tuple[tuple[float, float], ...]]:
    run: list[tuple[float, float]] = []
    for one in columns:
        if lane(one.result.computed):
            yield tuple(run)
            run = []
        else:
            run.append((one.at, one.computed))
    yield tuple(run)


def labels(layers: Sequence[LayerResult]) -> tuple[str, ...]:
    """Returns what each is called: its layer, LAYER/TOP where a layer has several tops."""
    tops = Counter(one.layer for one in layers)
    return tuple(one.layer if tops[one.layer] == 1 else f"{one.layer}/{one.top}" for one in layers)


def shortened(name: str) -> str:
    """Returns a name of at most ``LONGEST`` characters, the middle of a longer one left out."""
    if len(name) <= LONGEST:
        return name
    half = (LONGEST - 1) // 2
    return f"{name[: LONGEST - 1 - half]}…{name[-half:]}"
