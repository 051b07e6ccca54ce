"""Mistakes held against what a port computed: which of them make it agree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from graphs.layers.elementwise import Dropout
from graphs.layers.normalization import BatchNorm
from tools.recording import whole
from tools.validate.comparison import Difference, differ
from tools.validate.mistakes import FITTED, MISTAKES, Mistake
from tools.validate.mistakes.scene import INPUTS, Scene, Step, Unknown, Variant

AS_GOOD = 10.0
"""How many times further off than the best another fit may be and still be as good: rounding decides among those."""

FINEST = 2e-6
"""What rounding alone may come to in float32."""

CLEARLY = 4.0
"""How many times closer than the truth a mistake must come to the port's values, to be believed."""

CLOSEST = 5
"""Of how many single mistakes, those that come closest, a second one is tried on top."""

MANY_VALUES, MANY_WEIGHTS = 200_000, 1 << 20
"""From how many values of a layer, or weights, on mistakes are told on one picture, in float32."""


@dataclass(frozen=True)
class Fit:
    """A mistake that makes the layer agree; ``after`` is the port's difference from a network that makes it."""

    mistake: str
    explanation: str
    after: Difference


def fits(before: Difference, after: Difference, tolerance: float) -> bool:
    """Returns whether a network that makes a mistake explains what a port computed."""
    return after.passes(tolerance) and after.relative * CLEARLY < before.relative


class Trial:
    """Mistakes held against the port's values; counts them. They are told on a few pictures where a layer is large, and
    confirmed on all."""

    def __init__(self, scene: Scene, before: Difference, tolerance: float) -> None:
        self.scene, self.few, self.before, self.tolerance = scene, narrowed(scene), before, tolerance
        self.count = 0

    def fitting(self, variants: Iterator[tuple[Variant, Scene]]) -> list[tuple[Fit, Scene]]:
        """Returns those that make it agree, the likeliest of the closest first, with the scene where each was made."""
        found = []
        for variant, scene in variants:
            self.count += 1
            after = compared(scene)
            if after is None or not fits(self.before, after, self.tolerance):
                continue
            if self.few is not self.scene:
                scene = replace(self.scene, steps=scene.steps, changed=scene.changed, precision=self.few.precision)
                after = compared(scene)
            if after is not None and fits(self.before, after, self.tolerance):
                found.append((Fit(variant.mistake, variant.explanation, after), scene))
        allowed = max(FINEST, AS_GOOD * min((one.after.relative for one, _ in found), default=0.0))
        return [one for one in found if one[0].after.relative <= allowed]


def compared(scene: Scene) -> Difference | None:
    """Returns how far the port's value is from what the network, as it was rewritten, makes; None where it makes
    nothing that can be compared."""
    try:
        with np.errstate(all="ignore"):
            value = scene.value()
    except (Unknown, ValueError, KeyError, IndexError, RecursionError):
        return None
    if value.shape != scene.got.shape or not np.isfinite(value).all():
        return None
    return differ(scene.got, whole(value))


def singles(
    scene: Scene, mistakes: Sequence[Mistake], names: Iterable[str] | None = None
) -> Iterator[tuple[Variant, Scene]]:
    """Yields each mistake at each step that may be guilty, or is named, and the scene where it was made."""
    steps = suspects(scene) if names is None else [scene.steps[name] for name in names]
    for mistake in mistakes:
        for step in steps:
            for variant in _of(mistake, scene, step):
                yield variant, scene.with_mistake(variant)


def _of(mistake: Mistake, scene: Scene, step: Step) -> list[Variant]:
    try:
        with np.errstate(all="ignore"):
            return list(mistake(scene, step))
    except (Unknown, ValueError, KeyError, IndexError, ZeroDivisionError):
        return []  # what the mistake looks at is not known, or has another shape than it should


def suspects(scene: Scene) -> list[Step]:
    """Returns the steps that may be guilty; of an input, the one that stands for what is fed."""
    if scene.target[0]:
        return scene.suspects()
    return [scene.steps[INPUTS]]


def pairs(scene: Scene) -> Iterator[tuple[Variant, Scene]]:
    """Yields two mistakes at once, of different names; the first is one that comes close, with the inputs right."""
    firsts, names = [], [step.name for step in suspects(scene)]
    for place, (first, rewritten) in enumerate(singles(scene, MISTAKES)):
        after = None if INPUTS in rewritten.changed else compared(rewritten)
        if after is not None:
            firsts.append((after.squared_difference, place, first, rewritten))
    for _, _, first, rewritten in sorted(firsts, key=lambda one: one[:2])[:CLOSEST]:
        for second, both in singles(rewritten, (*MISTAKES, *FITTED), names):
            if second.mistake != first.mistake:
                explanation = f"{first.explanation}; and {second.explanation}"
                yield replace(second, mistake=f"{first.mistake} + {second.mistake}", explanation=explanation), both


def narrowed(scene: Scene) -> Scene:
    """Returns the scene with what mistakes are told on: where a layer is large, in float32 and on one picture, the one
    that differs most. All pictures stay where a layer mixes them, or draws numbers for each."""
    steps = suspects(scene)
    has_many_weights = any(array.size > MANY_WEIGHTS for step in steps for array in step.arrays or ())
    truth = scene.truth[scene.target]
    if max(scene.got.size, np.size(truth)) <= MANY_VALUES and not has_many_weights:
        return scene
    scene = replace(scene, precision=np.float32)
    rows = {len(array) if np.ndim(array) else 0 for array in (scene.got, *scene.truth.values())}
    if len(rows) != 1 or any(isinstance(step.layer, (BatchNorm, Dropout)) for step in steps):
        return scene
    is_alike = np.shape(truth) == scene.got.shape
    worst = int(np.abs(scene.got - truth).reshape(len(truth), -1).max(axis=1).argmax()) if is_alike else 0
    kept = slice(worst, worst + 1)
    return replace(scene, got=scene.got[kept], truth={key: array[kept] for key, array in scene.truth.items()})
