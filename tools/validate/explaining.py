"""From a report to what is wrong: the layers that differ, run again by themselves and diagnosed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tools.recording import Facts, Key, Run, Truth, Values
from tools.validate.diagnosis import Diagnosis, diagnose_all
from tools.validate.knowledge import Knowledge, known_of
from tools.validate.mistakes.scene import INPUTS, Scene, scene_of
from tools.validate.report import LayerResult, Report
from tools.validate.running import Recompute
from tools.validate.subject import Subject, as_blob

if TYPE_CHECKING:
    from converter.port import Port

MOST = 6
"""Layers that are diagnosed; where more differ, one fault stands behind most of them."""


def diagnosed(
    report: Report, subject: Subject, truth: Truth, network: Port | None = None, recompute: Recompute | None = None
) -> Report:
    """Returns the report with what is wrong, where the port differs.

    ``network`` is the Caffe network where its files are at hand, ``recompute`` what gives a run's whole values. The
    first run whose values are whole is looked at; where there is none, the report says so.
    """
    if report.verdict.exit_code != 1:
        return report
    knowledge = known_of(truth.facts, subject, network)
    if knowledge.note:
        return replace(report, notes=(*report.notes, knowledge.note))
    for run in truth.runs():
        if not run.pictures:
            continue
        sampled = any(not value.is_whole for value in run.values.values())
        if sampled and recompute is None:
            note = ("what is wrong can't be told from samples; give DEFINITION and WEIGHTS too, or record with --whole "
                    "or --full")  # fmt: skip
            return replace(report, notes=(*report.notes, note))
        known = run.whole
        if sampled and recompute is not None:
            known |= dict(recompute(run))
        return replace(report, diagnosis=explain(report, subject, truth.facts, run, known, knowledge))
    return report


def explain(
    report: Report, subject: Subject, facts: Facts, run: Run, known: Values, knowledge: Knowledge
) -> tuple[Diagnosis, ...]:
    """Returns what is wrong with the layers that differ by themselves, in the network's order; where none can be judged
    alone, with the first that differs.

    ``known`` has the run's true values, whole, the inputs among them (``Run.whole``, or the engine's). A layer whose
    value can't be computed or is not known is left out.
    """
    wrong = [one for one in report.layers if one.is_guilty or (one.isolated is None and not one.passes)]
    scenes = []
    for one in [one for one in wrong if (one.layer, one.top) in subject.places][:MOST]:
        scene = _scene(one, subject, facts, run, known, knowledge)
        if scene is not None:
            scenes.append((one, scene))
    allowed = min((one.allowed for one, _ in scenes), default=0.0)
    return tuple(diagnose_all((scene for _, scene in scenes), allowed))


def _scene(
    one: LayerResult, subject: Subject, facts: Facts, run: Run, known: Values, knowledge: Knowledge
) -> Scene | None:
    key = (one.layer, one.top)
    bottoms = {layer.name: layer.bottoms for layer in facts.layers}
    fed = frozenset(_nearest(bottoms.get(one.layer, ()), subject.places[key].tensor, bottoms, subject, known))
    rows = len(next(iter(run.inputs.values())))
    if key not in known or (subject.batch and subject.batch != rows):
        return None
    # The inputs too: a port may read elsewhere than the network does.
    at_inputs = {at for at in known if at[0] == INPUTS and at in subject.places}
    given = {at: np.asarray(known[at], np.float32) for at in fed | at_inputs}
    try:
        got, again = (subject.run_from(given, [key])[key] for _ in range(2))
    except Exception:  # whatever TensorFlow says of a stranger's graph that can't be fed so
        return None
    shape = np.shape(known[key])
    blobs = as_blob(got, shape), as_blob(again, shape)
    scene = scene_of(knowledge.steps, known, key, blobs[0], fed, facts.preprocessing, blobs[1])
    return replace(scene, has_own=knowledge.has_own)


def _nearest(
    reads: Iterable[Key], tensor: str, bottoms: Mapping[str, tuple[Key, ...]], subject: Subject, known: Values
) -> Iterator[Key]:
    """Yields the values that can be fed, and lie nearest before what a layer reads; not the layer's own tensor."""
    for key in reads:
        if key in known and key in subject.places and subject.places[key].tensor != tensor:
            yield key
        else:
            yield from _nearest(bottoms.get(key[0], ()), tensor, bottoms, subject, known)
