"""A port held against a truth, run by run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tools.recording import Facts, Key, RecordedLayer, Run, Truth, spelled, top, whole
from tools.validate.comparison import TOLERANCE, Difference, added, differ, shifted
from tools.validate.device import Device
from tools.validate.report import Guess, LayerResult, Prediction, Report, judge
from tools.validate.subject import Subject, as_blob
from tools.validate.xla.program import Missing
from weights import Refused


@dataclass(frozen=True)
class Tolerances:
    """What each layer may differ by: its own in ``layers``, else ``default``."""

    default: float = TOLERANCE
    layers: Mapping[str, float] = field(default_factory=dict)

    def of(self, layer: str) -> float:
        """Returns a layer's."""
        return self.layers.get(layer, self.default)


@dataclass(frozen=True)
class Compared:
    """One run, compared: what can pass between processes and into a journal, and adds up in order."""

    number: int
    computed: Mapping[Key, Difference]
    isolated: Mapping[Key, Difference]
    predictions: tuple[Prediction, ...]
    broken: tuple[Any, ...]
    pictures: int


Recompute = Callable[[Run], Mapping[Key, np.ndarray]]
"""Returns the whole values of a run of which only samples are known."""


def compare_run(subject: Subject, facts: Facts, run: Run, recompute: Recompute | None = None) -> Compared:
    """Returns how a port does on one run: as its graph computes it, and each layer fed the reference's own bottoms
    where those are whole, or ``recompute`` gives them. Places are counted from the run's own first picture."""
    if not run.pictures:
        return Compared(run.number, {}, {}, (), run.broken, 0)
    keys = [key for layer in facts.layers for key in layer.keys if key in subject.places and key in run.values]
    try:
        got = subject.run(run.inputs, keys)
    except Refused as refused:
        named = str(subject.port.path) in str(refused)
        raise refused if named else refused.within(str(subject.port.path)) from refused
    computed = {key: differ(as_blob(got[key], run.values[key].shape), run.values[key]) for key in keys}
    predictions = tuple(_predictions(facts, run, got))
    del got
    known = run.whole
    if recompute is not None and any(not value.is_whole for value in run.values.values()):
        known = {("", blob): array for blob, array in run.inputs.items()} | dict(recompute(run))
    isolated = dict(_isolated(subject, facts, run, known))
    return Compared(run.number, computed, isolated, predictions, run.broken, len(run.pictures))


def _isolated(
    subject: Subject, facts: Facts, run: Run, known: Mapping[Key, np.ndarray]
) -> Iterator[tuple[Key, Difference]]:
    for layer in facts.layers:
        keys = [key for key in layer.keys if key in subject.places and key in known]
        if not keys or why_not_isolated(subject, layer) or any(bottom not in known for bottom in layer.bottoms):
            continue
        given = {key: np.asarray(known[key], np.float32) for key in subject.alone(layer)}
        if subject.batch and subject.batch != len(next(iter(run.inputs.values()))):
            continue
        try:
            got = subject.run_from(given, keys)
        except Missing:
            raise
        except Refused as refused:
            yield from ((key, Difference(problem=refused.reasons[0])) for key in keys)
            continue
        for key in keys:
            value = run.values[key] if run.values[key].is_whole else whole(known[key])
            yield key, differ(as_blob(got[key], value.shape), value)


def why_not_isolated(subject: Subject, layer: RecordedLayer) -> str:
    """Returns why a layer can't be judged alone, "" where it can."""
    missing = [bottom for bottom in layer.bottoms if bottom not in subject.places]
    if missing:
        return f"its bottom '{missing[0][1]}' has no tensor"
    bottoms = {subject.places[bottom].tensor for bottom in layer.bottoms}
    if any(key in subject.places and subject.places[key].tensor in bottoms for key in layer.keys):
        return "hands on what it reads"
    if not layer.bottoms:
        return "reads nothing"
    tops = {subject.places[key].tensor for key in layer.keys if key in subject.places}
    if subject.port.saved is not None and not subject.port.saved.has(bottoms, tops):
        return "its program was not saved, as only samples of its bottoms were known"
    return ""


def _predictions(facts: Facts, run: Run, got: Mapping[Key, np.ndarray]) -> Iterator[Prediction]:
    for blob, classes in facts.classes.items():
        key = facts.outputs[blob]
        if key not in got or blob not in run.outputs:
            continue
        scores = np.asarray(got[key], np.float64)
        if scores.size % classes:
            continue
        scores = scores.reshape(-1, classes)
        for row, (picture, theirs) in enumerate(zip(run.pictures, run.outputs[blob])):
            if row >= len(scores):
                break
            mine, other = top(scores[row]), top(theirs)
            yield Prediction(
                picture.name,
                blob,
                tuple(Guess(index, facts.label(index), score) for index, score in mine),
                tuple(Guess(index, facts.label(index), score) for index, score in other),
                other[0][1] - other[1][1] if len(other) > 1 else other[0][1],
                float(np.abs(scores[row] - theirs).max()),
                len({index for index, _ in mine} & {index for index, _ in other}),
                run.number,
                row,
            )


def compare_runs(
    subject: Subject, truth: Truth, recompute: Recompute | None = None, start: int = 0
) -> Iterator[Compared]:
    """Yields how a port does on each run, from number ``start`` on; the next run is prepared meanwhile."""
    for run in truth.runs(start):
        yield compare_run(subject, truth.facts, run, recompute)


def validate(
    subject: Subject,
    truth: Truth,
    tolerances: Tolerances,
    device: Device,
    compared: Iterable[Compared] | None = None,
    source: Mapping[str, Any] | None = None,
    done: Sequence[Compared] = (),
    keep: Callable[[Compared], None] | None = None,
) -> Report:
    """Returns the report on a port. ``compared`` are the runs in order, as somebody else compares them (default: here,
    one by one); ``source`` is what the report says of where the truth lies. The first runs may be ``done`` already;
    ``keep`` is told of every other as soon as it is compared."""
    began = time.perf_counter()
    done = list(done)
    pictures = sum(one.pictures for one in done)
    for one in compare_runs(subject, truth) if compared is None else compared:
        done.append(_placed(one, pictures))
        pictures += one.pictures
        if keep is not None:
            keep(done[-1])
    report = gathered(subject, truth.facts, done, tolerances, device, source)
    return replace(report, seconds=time.perf_counter() - began)


def _placed(one: Compared, pictures: int) -> Compared:
    """Returns a run with its worst places counted from the first of all pictures, ``pictures`` before its own."""
    computed, isolated = (
        {key: shifted(difference, pictures) for key, difference in differences.items()}
        for differences in (one.computed, one.isolated)
    )
    return replace(one, computed=computed, isolated=isolated)


def gathered(
    subject: Subject,
    facts: Facts,
    done: Sequence[Compared],
    tolerances: Tolerances,
    device: Device,
    source: Mapping[str, Any] | None = None,
) -> Report:
    """Returns the report on runs that were compared, here or elsewhere; in the runs' order, whatever theirs is.

    Raises Refused where a tolerance names a layer that is not there.
    """
    done = sorted(done, key=lambda one: one.number)
    names = {layer.name for layer in facts.layers}
    unknown = [name for name in tolerances.layers if name not in names]
    if unknown:
        raise Refused(*(f"--tolerance {name}=...: no layer of that name was recorded" for name in unknown))
    layers = tuple(_result(subject, layer, number, done, tolerances) for layer in facts.layers
                   for number in range(len(layer.keys)))  # fmt: skip
    pictures = sum(one.pictures for one in done)
    missing = [
        f"layer {layer} has no tensor in the port; say --map {layer.name}=TENSOR"
        for layer in facts.layers
        if any(key not in subject.places for key in layer.keys)
    ]
    missing += [f"output '{blob}' is missing in the port" for blob, key in facts.outputs.items()
                if key not in subject.places]  # fmt: skip
    port = {
        "file": subject.port.path.name,
        "kind": subject.port.kind,
        "sha256": subject.port.sha256,
        "matched": "by its manifest" if subject.port.manifest is not None else "by name, shape and order",
    }
    return Report(
        port,
        {**(source or {}), **spelled(facts)},
        {**device.facts, "versions": versions(subject, device)},
        pictures,
        tuple(prediction for one in done for prediction in one.predictions),
        layers,
        judge(layers, tuple(missing), pictures),
        tuple(broken for one in done for broken in one.broken),
        (*subject.notes, *facts.notes, *_isolation_note(subject, facts, layers, pictures, done)),
    )


def _result(
    subject: Subject, layer: RecordedLayer, number: int, done: Sequence[Compared], tolerances: Tolerances
) -> LayerResult:
    key = layer.keys[number]
    place = subject.places.get(key)
    computed = _summed(one.computed.get(key) for one in done)
    isolated = _summed(one.isolated.get(key) for one in done)
    why_not = (
        "" if isolated is not None else why_not_isolated(subject, layer) or "only samples of its bottoms are known"
    )
    return LayerResult(
        layer.name,
        layer.type,
        key[1],
        place.tensor if place else "",
        place.how if place else "no match",
        tolerances.of(layer.name),
        computed,
        isolated,
        why_not,
    )


def _summed(differences: Iterable[Difference | None]) -> Difference | None:
    total: Difference | None = None
    for one in differences:
        if one is not None:
            total = one if total is None else added(total, one)
    return total


def _isolation_note(
    subject: Subject, facts: Facts, layers: Sequence[LayerResult], pictures: int, done: Sequence[Compared]
) -> list[str]:
    """Returns the line that says on how much of the truth layers were judged in isolation, where that is not all."""
    possible = sum(
        key in subject.places for layer in facts.layers if not why_not_isolated(subject, layer) for key in layer.keys
    )
    alone = sum(one.pictures for one in done if len(one.isolated) >= possible)
    if alone == pictures:
        return []
    if alone:
        return [f"layers were judged in isolation on {alone} of {pictures} pictures, those recorded whole"]
    some = sum(one.isolated is not None for one in layers)
    return [
        f"{some or 'none'} of {len(layers)} layers could be judged in isolation, as the recording holds samples only; "
        "give DEFINITION and WEIGHTS too, or record with --whole or --full"
    ]


def versions(subject: Subject, device: Device) -> dict[str, str]:
    """Returns the versions of what a report's numbers depend on."""
    from converter import __version__

    return {"caffeport": __version__, **subject.port.versions, **device.versions, "numpy": np.__version__}
