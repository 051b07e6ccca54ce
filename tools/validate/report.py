"""What a validation found, as one value: the terminal, JSON, JUnit, HTML and certificates all render this."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tools.recording import Broken
from tools.validate.comparison import Difference
from tools.validate.diagnosis import Diagnosis

AGREES, DIFFERS, INCOMPLETE = "agrees", "differs", "incomplete"
"""What a verdict may say; only the first is a pass."""


@dataclass(frozen=True)
class Guess:
    """A class, its label and its score."""

    index: int
    label: str
    score: float


@dataclass(frozen=True)
class Prediction:
    """A picture end to end, by one output: top-5 of port and reference, the best first.

    ``margin`` is how far the reference's first is ahead of its second; ``difference`` the largest difference of any
    class's score; ``overlap`` how many of the reference's top-5 are in the port's. The picture is number ``row`` of the
    truth's ``run``.
    """

    picture: str
    output: str
    port: tuple[Guess, ...]
    reference: tuple[Guess, ...]
    margin: float
    difference: float
    overlap: int
    run: int = 0
    row: int = 0

    @property
    def agrees(self) -> bool:
        """Whether both name the same class first."""
        return self.port[0].index == self.reference[0].index


@dataclass(frozen=True)
class LayerResult:
    """One top of one layer. ``tensor`` is what stands for it in the port, "" where nothing does.

    ``computed`` compares what the port's graph made of the pictures, ``isolated`` what that layer alone made of the
    reference's own bottoms, None where that was not done, and ``why_not`` says why; ``allowed`` is the tolerance.
    """

    layer: str
    type: str
    top: str
    tensor: str
    how: str
    allowed: float
    computed: Difference | None = None
    isolated: Difference | None = None
    why_not: str = ""

    @property
    def passes(self) -> bool:
        """Whether something was compared, and all that was is within tolerance."""
        done = [one for one in (self.computed, self.isolated) if one is not None]
        return self.computed is not None and all(one.passes(self.allowed) for one in done)

    @property
    def is_guilty(self) -> bool:
        """Whether the layer itself computes differently, whatever came before it."""
        return self.isolated is not None and not self.isolated.passes(self.allowed)

    def __str__(self) -> str:
        return f"{self.layer} ({self.type})"


@dataclass(frozen=True)
class Verdict:
    """The answer. ``first`` is the first layer that differs, "LAYER (TYPE)"; ``guilty`` those that differ in isolation;
    ``reasons`` are lines for people."""

    answer: str
    first: str = ""
    guilty: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 all within tolerance, 1 it differs, 2 it could not be told."""
        return {AGREES: 0, DIFFERS: 1}.get(self.answer, 2)


@dataclass(frozen=True)
class EngineTiming:
    """An engine's forward passes at one batch: seconds a pass, after a warm-up, taken in turns with the others.

    ``ratio`` is its time over the port's own (the median over the turns); ``difference`` the largest one between its
    outputs and the port's, as a share of the output's largest magnitude.
    """

    engine: str
    version: str
    device: str
    batch: int
    runs: int
    median: float
    p95: float
    ratio: float = 1.0
    difference: float = 0.0

    @property
    def pictures_per_second(self) -> float:
        """Pictures in a second, at the median."""
        return self.batch / self.median


@dataclass(frozen=True)
class LayerTiming:
    """What a layer of the port's graph takes, in seconds a pass; ``share`` of all layers' time; ``flops`` are the
    floating point operations of a pass that multiply by weights or add such products, 0 where there are none. A layer
    that TensorFlow fuses into the one before it takes 0 seconds."""

    layer: str
    type: str
    seconds: float
    share: float
    flops: float = 0.0

    @property
    def gflops_per_second(self) -> float:
        """Thousand millions of operations in a second."""
        return self.flops / self.seconds / 1e9 if self.seconds else 0.0


@dataclass(frozen=True)
class Timings:
    """How long forward passes take. ``settings`` are facts for people: device, threads, TF32, XLA; ``layers`` are the
    port's own at ``layers_batch``, their shares add up to one; ``absent`` is engine -> why it was not timed."""

    engines: tuple[EngineTiming, ...]
    layers: tuple[LayerTiming, ...] = ()
    layers_batch: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """Everything that a validation found.

    ``port``, ``reference`` and ``device`` are facts for people and for certificates; ``broken`` are pictures that could
    not be read. ``diagnosis`` says what is wrong, layer by layer; ``timings`` are there where they were asked for.
    """

    port: Mapping[str, Any]
    reference: Mapping[str, Any]
    device: Mapping[str, Any]
    pictures: int
    predictions: tuple[Prediction, ...]
    layers: tuple[LayerResult, ...]
    verdict: Verdict
    broken: tuple[Broken, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    diagnosis: tuple[Diagnosis, ...] = ()
    timings: Timings | None = None

    @property
    def first(self) -> LayerResult | None:
        """The first layer that differs."""
        return next((one for one in self.layers if not one.passes), None)


def judge(layers: tuple[LayerResult, ...], missing: tuple[str, ...] = (), pictures: int = 1) -> Verdict:
    """Returns the verdict on layers in the network's order. ``missing`` are lines about what the port lacks: outputs,
    layers without a tensor. Nothing compared, something missing, or something that is no number is never a pass."""
    compared = [one for one in layers if one.computed is not None or one.isolated is not None]
    wrong = [one for one in compared if not one.passes]
    guilty = tuple(str(one) for one in layers if one.is_guilty)
    if wrong:
        first = wrong[0]
        return Verdict(DIFFERS, str(first), guilty, (_why(first), *_blame(first, guilty, wrong), *missing))
    if not compared or not pictures or not any(one.computed and one.computed.compared for one in compared):
        return Verdict(INCOMPLETE, reasons=("nothing was compared", *missing))
    if missing:
        return Verdict(INCOMPLETE, reasons=missing)
    worst = max(compared, key=lambda one: one.computed.relative if one.computed else 0.0)
    assert worst.computed is not None
    return Verdict(AGREES, reasons=(f"largest difference {worst.computed.relative:.2g} of the magnitude, at {worst}",))


def _why(one: LayerResult) -> str:
    found = one.computed if one.computed is not None and not one.computed.passes(one.allowed) else one.isolated
    assert found is not None
    how = "" if found is one.computed else " in isolation"
    if found.problem:
        return f"{one}: {found.problem}"
    if found.not_finite or not math.isfinite(found.largest):
        return f"{one}: {found.not_finite or 'some'} of its values are no numbers (NaN or infinite)"
    if math.isinf(found.relative):
        return f"{one}: the reference has nothing but zeros, the port {found.largest:.3g}"
    return f"{one}: differs{how} by {found.relative:.2g} of its largest magnitude, allowed is {one.allowed:.2g}"


def _blame(first: LayerResult, guilty: tuple[str, ...], wrong: list[LayerResult]) -> tuple[str, ...]:
    later = f"; {len(wrong) - 1} later ones differ too" if len(wrong) > 2 else ""
    if guilty:
        return (f"fed the reference's own input, these differ: {', '.join(guilty[:8])}{later}",)
    if first.isolated is not None and not any(one.is_guilty for one in wrong):
        return ("in isolation every layer agrees: small differences have added up",)
    return (f"{first} is the first that differs{later}",)


def as_json(report: Report) -> dict[str, Any]:
    """Returns the report as values for JSON: the dataclasses' fields, and for each difference what follows from it.
    A number that is NaN or infinite is spelled "nan", "inf"."""
    return _spelled(report)


def _spelled(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        found = {one.name: _spelled(getattr(value, one.name)) for one in dataclasses.fields(value)}
        if isinstance(value, Difference):
            found |= {"relative": value.relative, "rms_ratio": value.rms_ratio, "cosine": value.cosine}
            return {name: _spelled(one) for name, one in found.items() if not name.startswith(("squared", "product"))}
        if isinstance(value, LayerResult):
            found |= {"passes": value.passes, "is_guilty": value.is_guilty}
        if isinstance(value, Prediction):
            found |= {"agrees": value.agrees}
        if isinstance(value, EngineTiming):
            found |= {"pictures_per_second": value.pictures_per_second}
        if isinstance(value, LayerTiming):
            found |= {"gflops_per_second": value.gflops_per_second}
        return found
    if isinstance(value, Mapping):
        return {str(name): _spelled(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_spelled(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
