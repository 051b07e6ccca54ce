"""A truth that is computed while it is asked for: pictures through an engine."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from converter import __version__
from converter.sources import is_mean
from graphs.layer import spell
from graphs.layers.data import Input
from tools.prefetch import prefetched
from tools.record.engines import Engine
from tools.record.pictures import PictureSource
from tools.record.preprocessing import Asked, array_notes, check_arrays, fed, settle
from tools.recording import (
    SAMPLE,
    Broken,
    Facts,
    Key,
    Picture,
    Preprocessing,
    RecordedLayer,
    RecordedTop,
    Run,
    SourceFile,
    Value,
    sampled,
    whole,
)
from weights import Refused, Shape

if TYPE_CHECKING:
    from converter.port import Port

BATCH, MOST_BYTES = 16, 1 << 28
"""Pictures of a run where the network takes any number; fewer where their values, as float64, take more than that."""


@dataclass(frozen=True)
class Span:
    """The pictures of one run, as places in the list of all, and whether its values are kept whole."""

    start: int
    stop: int
    is_whole: bool


@dataclass(frozen=True, eq=False)
class Live:
    """Pictures, and the engine that is run on them. ``spans`` says which pictures make which run; ``sample`` how many
    values of a layer and picture are kept of a run that is not whole."""

    facts: Facts
    engine: Engine
    pictures: tuple[PictureSource, ...]
    spans: tuple[Span, ...]
    size: tuple[int, int, int]
    rows: int
    sample: int = SAMPLE

    @property
    def count(self) -> int:
        """Number of runs."""
        return len(self.spans)

    def run(self, number: int) -> Run:
        """Returns a run, computed now. A picture that can't be read is left out and named in ``broken``."""
        return self._computed(number, *self._read(number))

    def fed(self, number: int) -> tuple[tuple[Picture, ...], dict[str, np.ndarray]]:
        """Returns a run's pictures and inputs alone, read again from their files."""
        array, pictures, _ = self._read(number)
        return pictures, {} if array is None else dict.fromkeys(self.facts.inputs, array)

    def runs(self, start: int = 0) -> Iterator[Run]:
        """Yields the runs from number ``start`` on; pictures are read while the engine computes."""
        for number, read in enumerate(prefetched(self._read, start, self.count), start):
            yield self._computed(number, *read)

    def _read(self, number: int) -> tuple[np.ndarray | None, tuple[Picture, ...], tuple[Broken, ...]]:
        channels, height, width = self.size
        preprocessing = self.facts.preprocessing
        span = self.spans[number]
        arrays, pictures, broken = [], [], []
        for source in self.pictures[span.start : span.stop]:
            try:
                array, digest = source.read(channels, preprocessing.resize or (height, width))
                arrays.append(array)
                pictures.append(Picture(source.name, digest))
            except Refused as refused:
                broken.append(Broken(source.name, "; ".join(refused.reasons)))
        if not arrays:
            return None, (), tuple(broken)
        return fed(arrays, preprocessing, height, width), tuple(pictures), tuple(broken)

    def _computed(
        self, number: int, array: np.ndarray | None, pictures: tuple[Picture, ...], broken: tuple[Broken, ...]
    ) -> Run:
        if array is None:
            return Run(number, (), {}, {}, {}, broken)
        if self.rows > 0:  # the network wants as many at once; the first stand for those that are not there
            array = np.resize(array, (self.rows, *array.shape[1:]))
        inputs = dict.fromkeys(self.facts.inputs, array)
        return computed(
            self.facts, self.engine, number, inputs, pictures, self.sample if not self.spans[number].is_whole else 0,
            broken,
        )  # fmt: skip


def computed(
    facts: Facts,
    engine: Engine,
    number: int,
    inputs: Mapping[str, np.ndarray],
    pictures: tuple[Picture, ...],
    sample: int = 0,
    broken: tuple[Broken, ...] = (),
) -> Run:
    """Returns the run of these inputs through an engine; ``sample`` values of each layer and picture are kept, all of
    them for 0."""
    results = engine.run(inputs)
    rows = len(next(iter(inputs.values())))
    values: dict[Key, Value] = {}
    outputs: dict[str, np.ndarray] = {}
    for layer in facts.layers:
        for top, key in zip(layer.tops, layer.keys):
            array = np.asarray(results[key])
            per_picture = rows if top.shape[:1] == (-1,) and len(array) == rows else 1
            values[key] = sampled(array, key, per_picture, number, sample) if sample else whole(array)
    for blob, classes in facts.classes.items():
        array = np.asarray(results[facts.outputs[blob]], np.float32)
        outputs[blob] = array.reshape(-1, classes)[: len(pictures)]
    return Run(number, pictures, dict(inputs), values, outputs, broken)


def facts_of(port: Port, engine: Engine, preprocessing: Preprocessing, labels: Sequence[str] = ()) -> Facts:
    """Returns what is known of a network before it is run."""
    made: dict[str, Key] = {}
    layers = []
    for layer in port.shapes:
        node = layer.node
        if isinstance(node.layer, Input):
            made.update({top: ("", top) for top in node.tops})
            continue
        bottoms = tuple(made[bottom] for bottom in node.bottoms)
        made.update({top: (node.name, top) for top in node.tops})
        tops = tuple(RecordedTop(top, shape) for top, shape in zip(node.tops, layer.open_tops))
        layers.append(RecordedLayer(node.name, node.layer.type, bottoms, tops))
    notes = []
    if engine.keys is not None:
        absent = [layer.name for layer in layers if not set(layer.keys) <= engine.keys]
        layers = [layer for layer in layers if layer.name not in absent]
        if absent:
            notes.append(f"{engine.name} gives no values for {', '.join(absent)}: not recorded")
    known = {key for layer in layers for key in layer.keys}
    outputs = {blob: made[blob] for blob in port.network.outputs if made[blob] in known}
    if not outputs:
        raise Refused(f"{engine.name} gives none of the network's outputs ({', '.join(port.network.outputs)})")
    shapes = {key: top.shape for layer in layers for key, top in zip(layer.keys, layer.tops)}
    classes = {blob: count for blob in outputs if (count := classes_of(shapes[outputs[blob]]))}
    if labels and len(labels) not in classes.values():
        counts = " and ".join(map(str, classes.values())) or "no"
        raise Refused(f"there are {len(labels)} labels; the network tells {counts} classes apart")
    from converter.describe import message_of  # after all: what only reads recordings does without protobuf
    from converter.prototxt import print_prototxt

    return Facts(
        port.network.name,
        port.network.phase,
        tuple(layers),
        open_inputs(port),
        outputs,
        classes,
        tuple(labels),
        preprocessing,
        tuple(SourceFile(source.name, source.sha256) for source in port.sources),
        engine.name,
        {"caffeport": __version__, **engine.versions},
        tuple(notes),
        print_prototxt(message_of(port.network)),
    )


def classes_of(shape: Shape) -> int:
    """Returns how many scores a blob of that shape has for each picture, 0 where it is no row of scores."""
    row = [size for size in shape[1:] if size != 1]
    return row[0] if len(row) == 1 and row[0] > 1 else 0


def live(
    port: Port,
    engine: Engine,
    pictures: tuple[PictureSource, ...],
    asked: Asked,
    labels: Sequence[str] = (),
    batch: int | None = None,
    whole_pictures: int | None = None,
    sample: int = SAMPLE,
) -> Live:
    """Returns the truth of a network and pictures. The first ``whole_pictures`` are kept whole, all for None; ``batch``
    pictures are run at once, as many as fit for None.

    Raises Refused where the network does not read pictures, its preprocessing can't be honoured, or arrays can't be
    what it is for.
    """
    from converter.manifest import manifest

    shape = picture_shape(open_inputs(port))
    preprocessing, preparation = settle(shape, manifest(port, {}).get("preprocessing", {}), _with_mean(asked, port))
    arrays = {str(one.path): one.array for one in pictures if one.array is not None}
    remarks = check_arrays(arrays, asked, preprocessing.mean, preprocessing.scale)
    remarks += array_notes(arrays, asked, preprocessing)
    pictures = tuple(replace(one, raw_scale=asked.raw_scale or 1.0) for one in pictures)
    facts = facts_of(port, engine, preprocessing, labels)
    facts = replace(facts, notes=(*facts.notes, *remarks))
    fixed = max(shape[0], 0)
    batch = fixed or batch or max(1, min(BATCH, MOST_BYTES // (8 * values_per_picture(port))))
    spans = spans_of(len(pictures), batch, len(pictures) if whole_pictures is None else whole_pictures)
    size = (preparation.channels, preparation.height, preparation.width)
    return Live(facts, engine, pictures, spans, size, fixed, sample)


def open_inputs(port: Port) -> dict[str, Shape]:
    """Returns blob -> shape of what is fed, -1 for a free batch."""
    return {
        top: shape
        for layer in port.shapes
        if isinstance(layer.node.layer, Input)
        for top, shape in zip(layer.node.tops, layer.open_tops)
    }


def _with_mean(asked: Asked, port: Port) -> Asked:
    """Returns what is asked, the mean picture among the sources taken for the mean where none is asked."""
    if asked.mean is not None or port.mean is None:
        return asked
    (name,) = (source.name for source in port.sources if is_mean(source))
    return replace(asked, mean=port.mean, mean_file=name)


def values_per_picture(port: Port) -> int:
    """Returns how many values all layers have for one picture."""
    return sum(math.prod(top) // max(top[0] if top else 1, 1) for layer in port.shapes for top in layer.tops)


def picture_shape(inputs: Mapping[str, Shape]) -> Shape:
    """Returns the shape of the one input, (N, C, H, W). Raises Refused where pictures can't be fed to it."""
    if len(inputs) != 1:
        raise Refused(f"the network has {len(inputs)} inputs ({', '.join(inputs)}); expected one, for pictures")
    ((blob, shape),) = inputs.items()
    if len(shape) != 4 or shape[1] not in (1, 3) or min(shape[2:]) < 1:
        raise Refused(f"input '{blob}' has the shape {spell(shape)}; expected pictures, N x (1 or 3) x H x W")
    return shape


def spans_of(pictures: int, batch: int, whole_pictures: int) -> tuple[Span, ...]:
    """Returns the runs: of at most ``batch`` pictures, whole ones first and apart from the others."""
    whole_pictures = min(whole_pictures, pictures)
    starts = [*range(0, whole_pictures, batch), *range(whole_pictures, pictures, batch)]
    stops = [*starts[1:], pictures]
    return tuple(Span(start, stop, start < whole_pictures) for start, stop in zip(starts, stops))
