"""What is wrong with a layer that differs: the classic mistakes, tried one by one against what the port computed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from tools.recording import whole
from tools.validate.comparison import TOLERANCE, Difference, differ
from tools.validate.mistakes import COMBINED, FITTED, MISTAKES
from tools.validate.mistakes.scene import Scene, scene_of, steps_of
from tools.validate.trials import Fit, Trial, compared, fits, pairs, singles, suspects

__all__ = ["FOLLOWS", "Diagnosis", "Fit", "WorstChannel", "diagnose", "diagnose_all", "scene_of", "steps_of"]

FOLLOWS = "follows"
"""Stands for a mistake where a layer differs only for what was found at an earlier one."""

OTHER_WEIGHTS = "other weights"
"""Stands for a mistake where the port computes rightly, with numbers of its own."""

_OWN = ("it computes what Caffe does, but with other weights than were recorded: of another training, or laid out "
        "otherwise; give DEFINITION and WEIGHTS to tell which")  # fmt: skip


@dataclass(frozen=True)
class WorstChannel:
    """The channel (place on axis 1) that is furthest off, ``apart`` how many of ``channels`` are beyond tolerance."""

    channel: int
    difference: Difference
    apart: int
    channels: int

    def __str__(self) -> str:
        worst = self.difference.worst
        values = "" if worst is None else f", {worst.got:.4g} for {worst.expected:.4g} at {worst.index}"
        ratio = f"RMS ratio {self.difference.rms_ratio:.3g}, cosine {self.difference.cosine:.4f}"
        return (
            f"worst is channel {self.channel}: differs by {self.difference.largest:.3g}{values}, {ratio}; "
            f"{self.apart} of {self.channels} channels differ"
        )


@dataclass(frozen=True)
class Diagnosis:
    """What is wrong with a layer, "LAYER (TYPE)".

    ``mistake`` is "" where none fits; ``before`` the port's difference from the truth, ``after`` from a network with
    the mistake, None where none fits. ``also`` are other mistakes that explain it as well, ``tried`` counts them all,
    and ``not_tried`` says what could not be.
    """

    layer: str
    mistake: str
    explanation: str
    before: Difference
    after: Difference | None = None
    also: tuple[Fit, ...] = ()
    tried: int = 0
    not_tried: tuple[str, ...] = ()
    worst_channel: WorstChannel | None = None

    def __str__(self) -> str:
        lines = [f"{self.layer}: {self.mistake or 'none of the classic mistakes'}: {self.explanation}"]
        if self.after is not None:
            lines.append(f"difference {figure(self.before)} before, {figure(self.after)} with that mistake made")
        if self.also:
            lines.append(f"fits as well: {', '.join(dict.fromkeys(one.mistake for one in self.also))}")
        lines += self.not_tried
        return "\n  ".join(lines)


def figure(difference: Difference) -> str:
    """Returns a difference as a share of the largest magnitude; in words where there is none."""
    return difference.problem or f"{difference.relative:.2g}"


def diagnose(scene: Scene, tolerance: float = TOLERANCE) -> Diagnosis | None:
    """Returns what is wrong with the port's value, None where it is within ``tolerance`` of the truth.

    Single mistakes are tried first, then numbers fitted to the port's values, then two mistakes at once.
    """
    return _diagnosed(scene, tolerance)[0]


def diagnose_all(scenes: Iterable[Scene], tolerance: float = TOLERANCE) -> Iterator[Diagnosis]:
    """Yields what is wrong with those of a port's values that differ, in the network's order. A layer that differs for
    what was found before, as the layers do around two that are swapped, is said to follow from it."""
    found: list[tuple[str, Scene]] = []
    for scene in scenes:
        before = _before(scene)
        if before.passes(tolerance):
            continue
        steps = {name: step for _, one in found for name, step in one.steps.items() if name in one.changed}
        as_found = replace(scene, steps={**scene.steps, **steps}, changed=frozenset(steps))
        after = compared(as_found) if found else None
        if after is not None and fits(before, after, tolerance):
            of = ", ".join(name for name, _ in found)
            explanation = f"it agrees once what was found before is put right: {of}"
            yield Diagnosis(_title(scene), FOLLOWS, explanation, before, after, (), 1)
            continue
        diagnosis, best = _diagnosed(scene, tolerance)
        assert diagnosis is not None
        if best is not None:
            found.append((f"{diagnosis.mistake} at {diagnosis.layer}", best))
        yield diagnosis


def _diagnosed(scene: Scene, tolerance: float) -> tuple[Diagnosis | None, Scene | None]:
    """Returns the diagnosis, and the scene with the mistake made, where there is one."""
    before = _before(scene)
    if before.passes(tolerance):
        return None, None
    name, not_tried = _title(scene), tuple(_not_tried(scene))
    trial = Trial(scene, before, tolerance)
    if scene.has_own and any(step.arrays for step in suspects(scene)):
        with_own = compared(scene)
        if with_own is not None and fits(before, with_own, tolerance):
            return Diagnosis(name, OTHER_WEIGHTS, _OWN, before, with_own, (), 1, not_tried), None
    for stage in (*(singles(trial.few, mistakes) for mistakes in (MISTAKES, FITTED, COMBINED)), pairs(trial.few)):
        found = trial.fitting(stage)
        if found:
            (best, made), *others = found
            also = tuple(one for one, _ in others if one.mistake != best.mistake)
            facts = (before, best.after, also, trial.count, not_tried)
            return Diagnosis(name, best.mistake, best.explanation, *facts), made
    if scene.again is not None and not np.array_equal(scene.again, scene.got, equal_nan=True):
        explanation = "the port computes something else at every run: dropout left on, or another random operation"
        return Diagnosis(name, "dropout left on", explanation, before, None, (), trial.count, not_tried), None
    truth = np.asarray(scene.truth[scene.target])
    channel = worst_channel(scene.got, truth, tolerance)
    facts_of_it = [f"none of {trial.count} mistakes makes it agree", *_hints(scene.got, truth, before)]
    facts_of_it += [str(channel)] if channel is not None else []
    return Diagnosis(name, "", "; ".join(facts_of_it), before, None, (), trial.count, not_tried, channel), None


def _before(scene: Scene) -> Difference:
    return differ(scene.got, whole(np.asarray(scene.truth[scene.target])))


def _title(scene: Scene) -> str:
    layer, blob = scene.target
    return str(scene.steps.get(layer, layer)) if layer else f"input '{blob}'"


def _not_tried(scene: Scene) -> Iterator[str]:
    for step in suspects(scene):
        if step.arrays is None:
            yield f"the parameters of {step} are not known: mistakes that take them were not tried"
    if scene.target[0] not in scene.steps:
        yield f"the definition of {scene.target[0]} is not known: no mistake could be tried"


def worst_channel(got: np.ndarray, truth: np.ndarray, tolerance: float) -> WorstChannel | None:
    """Returns the channel that is furthest off, None where the shapes differ or there are no channels."""
    if got.shape != truth.shape or got.ndim < 2 or not got.size:
        return None
    apart = np.abs(np.subtract(got, truth, dtype=np.float64)).max(axis=(0, *range(2, got.ndim)))
    channel = int(np.argmax(apart))  # NaN counts as the largest
    beyond = int(np.sum(~(apart <= tolerance * np.abs(truth).max())))
    difference = differ(got[:, [channel]], whole(truth[:, [channel]]))
    if difference.worst is not None:
        index = difference.worst.index
        difference = replace(difference, worst=replace(difference.worst, index=(index[0], channel, *index[2:])))
    return WorstChannel(channel, difference, beyond, got.shape[1])


def _hints(got: np.ndarray, truth: np.ndarray, before: Difference) -> Iterator[str]:
    if got.shape != truth.shape:
        yield f"it has the shape {got.shape}, the reference {truth.shape}"
    elif before.not_finite:
        yield f"{before.not_finite} of its values are no numbers (NaN or infinite)"
    elif np.abs(got - before.rms_ratio * truth.astype(np.float64)).max() < TOLERANCE * np.abs(got).max():
        yield f"its values are the reference's times {before.rms_ratio:.5g}"
