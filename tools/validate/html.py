"""A report as one page of HTML that holds all it shows: styles, charts and pictures; it loads nothing and runs nothing.

What stands where is in ``page/``; here is what it is told. Names of layers, labels and pictures may be anyone's:
the template escapes them, and the page's own policy forbids scripts and the network.
"""

from __future__ import annotations

import math
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.recording import Truth
from tools.validate.charts import ABSENT, NO_NUMBER, ZERO, chart, labels, lane
from tools.validate.comparison import Difference
from tools.validate.diagnosis import FOLLOWS
from tools.validate.report import AGREES, DIFFERS, Guess, LayerResult, Prediction, Report
from tools.validate.terminal import rounded_up
from tools.validate.thumbnails import Thumbnail, thumbnails
from weights import Refused

PAGE = Path(__file__).parent / "page"

SHOWN = 24
"""Pictures that are shown at most."""

WIDE, NARROW = (60, 1040.0, 210.0), (40, 19.0, 172.0)
"""Layers of a panel, room along the network (of all, of one), length of the axis of errors: on a wide page layers stand
side by side, on a narrow one below each other."""


@dataclass(frozen=True)
class Headline:
    """What is to be seen first. ``state`` is the verdict's answer, ``sentences`` are for people."""

    state: str
    symbol: str
    title: str
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Bar:
    """A class in a picture's top-5: scores of reference and port with the lengths of their bars, 0 to 100; a score that
    is not among the engine's five best is None."""

    label: str
    index: int
    reference: float | None
    port: float | None
    reference_length: float
    port_length: float


@dataclass(frozen=True)
class Card:
    """A picture as it is shown."""

    prediction: Prediction
    thumbnail: Thumbnail | None
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Row:
    """A line of the table of layers; ``passing`` is the tolerance that would have passed, "" where none would."""

    number: int
    result: LayerResult
    label: str
    state: str
    passing: str


def environment() -> Any:
    """Returns what renders the page. Raises Refused where a package that it needs is missing."""
    try:
        import jinja2
        import PIL  # noqa: F401  for the pictures, later
    except ModuleNotFoundError as error:
        raise Refused(f"--html needs {error.name}: pip install 'caffeport[html]'") from error
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGE), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.filters.update(share=share, power=power, milliseconds=milliseconds, score=score, kept=kept)
    return made


def html(report: Report, truth: Truth, command: Sequence[str] = ()) -> bytes:
    """Returns the page. ``truth`` is what the port was held against: its inputs are read again for the pictures shown;
    ``command`` is the command line that asked.

    Raises Refused where Jinja2 or Pillow is missing, or a recording is broken.
    """
    template = environment().get_template("report.html")
    chosen = shown_first(report.predictions)[:SHOWN]
    pictures = thumbnails(truth, chosen)
    cards = [Card(one, pictures.get((one.run, one.row)), tuple(bars(one))) for one in chosen]
    allowed = Counter(one.allowed for one in report.layers).most_common()
    most, along, length = WIDE
    least, room, short = NARROW
    text = template.render(
        report=report,
        follows=FOLLOWS,
        tiny={ZERO: "0", ABSENT: "?", NO_NUMBER: "NaN"},
        headline=headline(report),
        wide=chart(report.layers, most, 0.0, length, along),
        narrow=chart(report.layers, least, room, short),
        rows=tuple(rows(report.layers)),
        cards=cards,
        several=len({one.output for one in report.predictions}) > 1,
        same=sum(one.agrees for one in report.predictions),
        tolerance=allowed[0][0] if allowed else 0.0,
        alone=[one for one in report.layers if one.isolated is None],
        batches=sorted({one.batch for one in report.timings.engines}) if report.timings else [],
        command=shlex.join(command),
    )
    return text.encode("utf-8", "replace")  # a file's name may hold bytes that are no text


def headline(report: Report) -> Headline:
    """Returns what the report comes to."""
    answer = report.verdict.answer
    if answer == AGREES:
        return Headline(answer, "✓", "The port agrees with the reference", tuple(_pass(report)))
    if answer == DIFFERS:
        return Headline(answer, "✗", "The port differs from the reference", tuple(_fail(report)))
    return Headline(answer, "?", "Incomplete: it can't be told whether the port agrees", report.verdict.reasons[:6])


def _pass(report: Report) -> Iterator[str]:
    compared = [(one, found) for one in report.layers for found in (one.computed, one.isolated) if found is not None]
    worst, found = max(compared, key=lambda pair: pair[1].relative / (pair[0].allowed or 1.0))
    if not found.relative:
        yield f"All {len(report.layers)} values are the reference's to the last bit."
        return
    times = worst.allowed / found.relative
    below = f", {times:,.0f} times below" if times >= 2 else ", within"
    how = " in isolation" if found is worst.isolated else ""
    yield (f"The worst layer is {worst}: it differs{how} by {share(found.relative)} of its largest magnitude{below} "
           f"the tolerance of {power(worst.allowed)}.")  # fmt: skip


def _fail(report: Report) -> Iterator[str]:
    first = report.first
    if first is not None:
        found = first.computed if first.computed is not None and not first.computed.passes(first.allowed) \
            else first.isolated  # fmt: skip
        if found is not None and not lane(found) and first.allowed:
            how = " in isolation" if found is first.isolated else ""
            times = found.relative / first.allowed
            yield (f"It differs{how} by {share(found.relative)} of its largest magnitude, {times:,.{times < 10:d}f} "
                   f"times the tolerance of {power(first.allowed)}.")  # fmt: skip
        elif report.verdict.reasons:
            yield report.verdict.reasons[0]
    yield from report.verdict.reasons[1:6]


def shown_first(predictions: Sequence[Prediction]) -> list[Prediction]:
    """Returns the predictions in the order in which they are worth a look: disagreements, then small margins."""
    return sorted(predictions, key=lambda one: (one.agrees, -math.inf if math.isnan(one.margin) else one.margin))


def bars(one: Prediction) -> Iterator[Bar]:
    """Yields a picture's classes: the reference's top-5, then those that only the port has among its own. Bars of
    scores that are no probabilities are as long as their share of the picture's largest."""
    reference, port = ({guess.index: guess.score for guess in guesses} for guesses in (one.reference, one.port))
    scores = [score for score in (*reference.values(), *port.values()) if math.isfinite(score)]
    full = 1.0 if scores and min(scores) >= 0 and max(scores) <= 1.001 else max(scores, default=1.0)

    def length(score: float | None) -> float:
        if score is None or not math.isfinite(score) or full <= 0:
            return 0.0
        return round(100 * min(max(score / full, 0.0), 1.0), 1)

    guesses: dict[int, Guess] = {guess.index: guess for guess in (*one.reference, *one.port)}
    for index, guess in guesses.items():
        theirs, own = reference.get(index), port.get(index)
        yield Bar(guess.label, index, theirs, own, length(theirs), length(own))


def rows(layers: Sequence[LayerResult]) -> Iterator[Row]:
    """Yields the lines of the table of layers."""
    for number, (one, name) in enumerate(zip(layers, labels(layers)), 1):
        if one.computed is None and one.isolated is None:
            state = "not compared"
        else:
            state = "ok" if one.passes else "guilty" if one.is_guilty else "differs"
        found = [found.relative for found in (one.computed, one.isolated) if found is not None]
        needed = max(found, default=math.inf)
        yield Row(number, one, name, state, "" if math.isinf(needed) else power(rounded_up(needed) if needed else 0))


def power(value: float | str) -> str:
    """Returns a number with two digits, as 1.2e-5 or 0.31."""
    value = float(value)
    if not math.isfinite(value) or not value or 0.1 <= value < 1000:
        return f"{value:.3g}" if value >= 100 else f"{value:.2g}"
    digits, _, exponent = f"{value:.1e}".partition("e")
    return f"{digits.removesuffix('.0')}e{int(exponent)}"


def share(found: float | Difference) -> str:
    """Returns a share of the largest magnitude: a percentage where that is easier to grasp. A difference that is no
    number is said in words."""
    if isinstance(found, Difference):
        if found.problem or found.not_finite:
            return found.problem or f"{found.not_finite:,} NaN or inf"
        found = found.relative
    if math.isinf(found):
        return "∞, reference all 0"
    if 1e-3 <= found < 100:
        percent = 100 * found
        return f"{percent:,.0f} %" if percent >= 10 else f"{percent:.2g} %"
    return power(found)


def score(value: float) -> str:
    """Returns a class's score."""
    return f"{value:.4f}" if abs(value) <= 1.001 else f"{value:,.2f}"


def milliseconds(seconds: float) -> str:
    """Returns a time in milliseconds, three digits of it."""
    value = 1000 * seconds
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def kept(text: str) -> Any:
    """Returns a sentence, escaped, in which no line breaks within a number: browsers do so after a minus."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"[\d.]+e-\d+", r'<span class="kept">\g<0></span>', str(escape(text))))
