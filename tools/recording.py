"""What a network computed on pictures, as values: the truth that a port is held against.

A ``Recording`` (in a file) and a live engine both are a ``Truth``: facts that hold for all of it, and runs, each a
batch of pictures with the value of every layer right after that layer. Shapes and values are in Caffe's order, N, C,
H, W.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from weights import Shape

Key = tuple[str, str]
"""(layer, top): names one value of a network. An input that is fed has the layer "": ("", blob)."""

Values = Mapping[Key, np.ndarray]

SAMPLE, SEED = 256, 0
"""Values of a picture and layer that a sampled recording holds, and what draws them."""


@dataclass(frozen=True)
class Picture:
    """A picture that was fed: what it is called, and the digest of its bytes."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Broken:
    """A picture that could not be read, and why: one line."""

    name: str
    reason: str


@dataclass(frozen=True)
class SourceFile:
    """A file that the network was made from: its name without a folder, and its digest."""

    name: str
    sha256: str


@dataclass(frozen=True)
class RecordedTop:
    """A blob that a layer makes. ``shape`` is in Caffe's order, -1 for a first axis that takes any size."""

    blob: str
    shape: Shape


@dataclass(frozen=True)
class RecordedLayer:
    """A layer with what it reads, as keys of the values at that point, and what it makes."""

    name: str
    type: str
    bottoms: tuple[Key, ...]
    tops: tuple[RecordedTop, ...]

    @property
    def keys(self) -> tuple[Key, ...]:
        """The layer's own values."""
        return tuple((self.name, top.blob) for top in self.tops)

    def __str__(self) -> str:
        return f"{self.name} ({self.type})"


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """How pictures became input: read as B, G, R (or one channel) of 0 to 255, brought to ``resize`` (height, width),
    the middle cut out, channels put into ``channel_order``, ``mean`` subtracted, multiplied by ``scale``.

    ``mean`` has the shape (C,) or (C, H, W), in the network's channel order; ``stated_by`` says who knew all this:
    "the command line", "the definition", "the recording it was imported from", or "nothing" for the defaults.
    """

    channel_order: str = "BGR"
    mean: np.ndarray = field(default_factory=lambda: np.zeros(1, np.float32))
    scale: float = 1.0
    resize: tuple[int, int] | None = None
    mean_file: str = ""
    stated_by: str = "nothing"
    interpolation: str = "bilinear as cv::resize, without smoothing first"

    def __str__(self) -> str:
        one = self.mean.ndim == 1
        mean = ", ".join(f"{value:g}" for value in self.mean) if one else f"the picture {self.mean_file or 'given'}"
        order = self.channel_order or "one channel"
        return f"{order}, mean {mean}, scale {self.scale:g}"


@dataclass(frozen=True, eq=False)
class Facts:
    """What holds for every run. ``inputs`` is blob -> shape, -1 for a free batch; ``outputs`` blob -> the value that it
    has at the end; ``classes`` blob -> number of classes, for those outputs that are a row of scores for each picture;
    ``labels`` names the classes; ``engine`` says what computed, in which precision. ``layers`` has no inputs.
    ``definition`` is the network's prototxt, "" where it is not known: what a diagnosis reads the layers' fields
    from."""

    network: str
    phase: str
    layers: tuple[RecordedLayer, ...]
    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Key]
    classes: Mapping[str, int]
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    sources: tuple[SourceFile, ...]
    engine: str
    versions: Mapping[str, str]
    notes: tuple[str, ...] = ()
    definition: str = ""

    def label(self, index: int) -> str:
        """Returns the name of a class, its number where there are no labels."""
        return self.labels[index] if index < len(self.labels) else str(index)


@dataclass(frozen=True)
class Statistics:
    """Of a whole blob: largest magnitude, root of the mean square, mean. NaN where it is not known."""

    absmax: float
    rms: float = math.nan
    mean: float = math.nan


@dataclass(frozen=True, eq=False)
class Value:
    """A blob of one run, whole or sampled.

    ``shape`` is the blob's; ``values`` float32: the blob itself where ``index`` is None, else those of its values that
    stand at the flat places ``index`` (int64, ascending). ``statistics`` are of the whole blob either way.
    """

    shape: Shape
    values: np.ndarray
    index: np.ndarray | None
    statistics: Statistics

    @property
    def is_whole(self) -> bool:
        """Whether it holds all of the blob's values."""
        return self.index is None


@dataclass(frozen=True, eq=False)
class Run:
    """One batch. ``inputs`` is blob -> float32 as fed; ``outputs`` blob -> (pictures, classes), for those in
    ``Facts.classes``; where the network wants more pictures at once than there are, the first stand for the rest in
    ``inputs`` and ``values``. ``broken`` names pictures that were to be in it and could not be read."""

    number: int
    pictures: tuple[Picture, ...]
    inputs: Mapping[str, np.ndarray]
    values: Mapping[Key, Value]
    outputs: Mapping[str, np.ndarray]
    broken: tuple[Broken, ...] = ()

    @property
    def whole(self) -> dict[Key, np.ndarray]:
        """Those values that are whole, the inputs among them: what layers can be fed with."""
        found = {("", blob): array for blob, array in self.inputs.items()}
        return found | {key: value.values for key, value in self.values.items() if value.is_whole}


class Truth(Protocol):
    """What a port is held against."""

    @property
    def facts(self) -> Facts:
        """What holds for every run."""

    @property
    def count(self) -> int:
        """Number of runs."""

    def run(self, number: int) -> Run:
        """Returns a run, computed or read when it is asked for: runs are taken one by one, in any order."""

    def fed(self, number: int) -> tuple[tuple[Picture, ...], Mapping[str, np.ndarray]]:
        """Returns a run's pictures and inputs alone, blob -> float32 as fed: nothing is computed for them."""

    def runs(self, start: int = 0) -> Iterator[Run]:
        """Yields the runs from number ``start`` on, the next one prepared meanwhile."""


def statistics_of(array: np.ndarray) -> Statistics:
    """Returns a blob's statistics; NaN and infinity in it show in each of them. An empty blob has zeros."""
    if not array.size:
        return Statistics(0.0, 0.0, 0.0)
    flat = array.reshape(-1)
    absmax = max(float(flat.max()), -float(flat.min()))  # either is NaN where any value is
    with np.errstate(invalid="ignore", over="ignore"):
        square = float(np.einsum("i,i->", flat, flat, dtype=np.float64))
        return Statistics(absmax, math.sqrt(square / flat.size), float(flat.mean(dtype=np.float64)))


def whole(array: np.ndarray) -> Value:
    """Returns a blob, whole, as float32."""
    kept = np.ascontiguousarray(array, np.float32).reshape(np.shape(array))  # else a scalar grows an axis
    return Value(kept.shape, kept, None, statistics_of(kept))


def sampled(array: np.ndarray, key: Key, rows: int, run: int, count: int = SAMPLE, seed: int = SEED) -> Value:
    """Returns ``count`` values of each of the blob's ``rows`` equal parts (its pictures; 1 where it has none), drawn by
    ``seed``, the layer and the run; whole where that is all there is."""
    size = array.size // max(rows, 1)
    if size <= count or rows * size != array.size:
        return whole(array)
    numbers = np.random.default_rng([seed, run, zlib.crc32("\t".join(key).encode())])
    parts = [np.unique(numbers.integers(0, size, count)) + row * size for row in range(rows)]
    index = np.concatenate(parts)
    flat = np.ascontiguousarray(array, np.float32).reshape(-1)
    return Value(array.shape, flat[index], index, statistics_of(flat))


def top(scores: np.ndarray, count: int = 5) -> list[tuple[int, float]]:
    """Returns the best classes of one picture, at most ``count``, as (class, score), the best first."""
    best = np.argsort(-scores, kind="stable")[:count]
    return [(int(index), float(scores[index])) for index in best]


def spelled(facts: Facts) -> dict[str, Any]:
    """Returns what a report says of a truth: values for JSON."""
    return {
        "network": facts.network,
        "engine": facts.engine,
        "preprocessing": str(facts.preprocessing),
        "sources": [{"name": source.name, "sha256": source.sha256} for source in facts.sources],
        "versions": dict(facts.versions),
    }
