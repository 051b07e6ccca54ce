"""The report as a page: what stands on it, in HTML."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from tests.tools.reports import drifted_demo
from tools.recording import Broken, Facts, Picture
from tools.recording_file import read_recording
from tools.validate import __main__ as validate
from tools.validate import report_on
from tools.validate.comparison import Difference
from tools.validate.diagnosis import FOLLOWS
from tools.validate.html import PAGE, bars, html, power, rows, share, shown_first
from tools.validate.report import EngineTiming, Guess, LayerTiming, Prediction, Report, Timings, Verdict

pytest.importorskip("jinja2")
pytest.importorskip("PIL")

HOSTILE = "<script>alert('x')</script>\"'&{{ 7*7 }}\u202e</style>"


class Page(HTMLParser):
    """A page's elements, its text in one line, and what it would load."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.pieces: list[str] = []
        self.open: list[str] = []
        self.feed(content.decode())
        self.text = " ".join(" ".join(self.pieces).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [value for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.pieces.append(data)


@pytest.fixture(scope="module")
def passed(demo: Path, demo_port: Path) -> Report:
    return report_on(demo_port, demo / "reference.h5")


@pytest.fixture(scope="module")
def failed(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    return drifted_demo(demo, tmp_path_factory.mktemp("drifted"))


@pytest.fixture
def page(demo: Path) -> Callable[..., Page]:
    def render(report: Report, command: tuple[str, ...] = ()) -> Page:
        return Page(html(report, read_recording(demo / "reference.h5"), command))

    return render


class TestTheCommand:
    def test_writes_it_whole_and_alone(self, demo_port, demo, tmp_path, capsys):
        out = tmp_path / "report.html"
        arguments = [str(demo_port), "--against", str(demo / "reference.h5"), "--html", str(out)]
        assert validate.main([*arguments, "--quiet"]) == 0
        assert capsys.readouterr().out == "verdict: agrees\n"
        assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
        assert out.stat().st_size < 200_000
        page = Page(out.read_bytes())
        assert not page.open
        assert len(page.loads) == 10
        assert all(one.startswith("data:image/png;base64,") for one in page.loads)
        assert not {"script", "link", "iframe", "object", "embed", "base"} & set(page.tags)
        assert not re.search(r"url\(|@import|https?:", out.read_text())
        assert "python -m tools.validate " in page.text
        assert "--html" in page.text

    def test_of_pictures_that_are_computed_here(self, demo_port, demo, tmp_path):
        out = tmp_path / "report.html"
        sources = [str(demo / "digits.prototxt"), str(demo / "digits.caffemodel")]
        given = ["--images", str(demo / "pictures"), "--html", str(out), "--quiet"]
        assert validate.main([str(demo_port), *sources, *given]) == 0
        assert len(Page(out.read_bytes()).loads) == 10

    @pytest.mark.parametrize("package", ["jinja2", "PIL"])
    def test_is_refused_before_any_work_where_a_package_is_missing(self, package, tmp_path, capsys, monkeypatch):
        monkeypatch.setitem(sys.modules, package, None)
        assert validate.main(["no-such.pb", "--against", "none.h5", "--html", str(tmp_path / "report.html")]) == 2
        assert capsys.readouterr().err == f"--html needs {package}: pip install 'caffeport[html]'\n"
        assert not list(tmp_path.iterdir())


class TestThatDiffers:
    def test_says_first_what_is_wrong(self, failed, page):
        text = page(failed).text
        said = text[text.index("The port differs from the reference") :]
        first, cause, figures, layers = (
            said.index("First layer that differs: norm1 (LRN)"), said.index("What is wrong: alpha for alpha/n"),
            said.index("off a network that makes this mistake"), said.index("Error, layer by layer"),
        )  # fmt: skip
        assert first < cause < figures < layers
        assert "give tf.nn.lrn alpha / 5 = 2e-05" in said[cause:figures]
        before, after = (share(found) for found in (failed.diagnosis[0].before, failed.diagnosis[0].after))
        assert said[cause:figures].rstrip().endswith(f"{before} off the reference, in isolation → {after}")

    def test_says_what_top_1_alone_would_have_said(self, failed, page):
        assert (
            "The best class is the same on 10 of 10: looking at it alone would have passed this port"
            in page(failed).text
        )

    def test_marks_the_guilty_layer(self, failed, page):
        found = {row.label: row.state for row in rows(failed.layers)}
        assert (found["relu1"], found["norm1"], found["pool1"], found["prob"]) == ("ok", "guilty", "differs", "ok")
        text = page(failed).text
        assert text.count("✗ norm1") == 2  # in the chart for wide pages and in the one for narrow ones
        assert text.count("✗ guilty") == 2  # in the legend and in the table

    def test_says_the_other_faults_after_the_first(self, failed, page):
        (first,) = failed.diagnosis
        none = replace(
            first, layer="relu6 (ReLU)", mistake="", explanation="none of 46 mistakes makes it agree", after=None
        )
        later = replace(first, layer="norm2 (LRN)", mistake=FOLLOWS, explanation="it agrees once norm1 is put right")
        text = page(replace(failed, diagnosis=(first, none, later))).text
        assert text.count("What is wrong: ") == 1
        of_others = text[text.index("this mistake") : text.index("Error, layer by layer")]
        assert "relu6 (ReLU) : none of the classic mistakes fits ; none of 46 mistakes makes it agree" in of_others
        assert "norm2 (LRN) : differs for the same reason; it agrees once norm1 is put right" in of_others

    def test_without_a_diagnosis_it_says_what_the_verdict_says(self, failed, page):
        text = page(replace(failed, diagnosis=())).text
        assert "What is wrong" not in text
        assert "fed the reference's own input, these differ: norm1 (LRN)" in text


def test_that_agrees_names_the_worst_layer(passed, page):
    text = page(passed).text
    worst = max(
        (found.relative, str(one)) for one in passed.layers for found in (one.computed, one.isolated) if found
    )  # fmt: skip
    assert "The port agrees with the reference The worst layer is " + worst[1] in text
    times = re.search(r"([\d,]+) times below the tolerance of 1e-4", text)
    assert times is not None
    assert float(times[1].replace(",", "")) == pytest.approx(1e-4 / worst[0], abs=1)
    assert "differs" not in page(passed).text.split("Error, layer by layer")[0].replace("it differs by", "")


def test_what_could_not_be_told(passed, page):
    reasons = ("output 'prob' is missing in the port",)
    text = page(replace(passed, verdict=Verdict("incomplete", reasons=reasons))).text
    assert f"Incomplete: it can't be told whether the port agrees {reasons[0]}" in text


def test_what_is_no_number_or_was_not_compared_is_shown(failed, page):
    layers = list(failed.layers)
    computed = layers[3].computed
    assert computed is not None
    layers[3] = replace(layers[3], computed=replace(computed, not_finite=7, largest=float("nan")))
    layers[5] = replace(layers[5], computed=Difference(problem="has the shape (2, 3), the reference (2, 5)"))
    layers[7] = replace(layers[7], computed=None, isolated=None, tensor="", how="no match", why_not="why it was not")
    text = page(replace(failed, layers=tuple(layers))).text
    assert "22 of 23 compared" in text
    assert "4 pool1 Pooling ✗ differs 7 NaN or inf" in text
    assert "has the shape (2, 3), the reference (2, 5)" in text
    assert "8 pool2 Pooling no tensor in the port ? not compared not compared not judged" in text
    assert "1 of 23 values were not judged in isolation" in text
    assert "why it was not" in text
    assert text.count("NaN or shape") == 2  # the lane, and what the narrow chart's mark means


def test_names_are_anyone_s(failed, page):
    layers = tuple(replace(one, layer=HOSTILE + one.layer, tensor=HOSTILE, how=HOSTILE) for one in failed.layers)
    predictions = tuple(
        replace(one, output=HOSTILE, port=tuple(replace(guess, label=HOSTILE) for guess in one.port), picture=HOSTILE)
        for one in failed.predictions
    )
    plain = page(failed)
    found = page(
        replace(
            failed, layers=layers, predictions=predictions, notes=(HOSTILE,),
            broken=(Broken("\udcff" + HOSTILE, HOSTILE),),
            port={**failed.port, "file": HOSTILE, "kind": HOSTILE},
            reference={**failed.reference, "network": HOSTILE, "engine": HOSTILE, "preprocessing": HOSTILE},
            verdict=replace(failed.verdict, first=HOSTILE, reasons=(HOSTILE,) * 3),
            diagnosis=tuple(replace(one, layer=HOSTILE, explanation=HOSTILE) for one in failed.diagnosis),
        ),
        (HOSTILE,),
    )  # fmt: skip
    assert "script" not in found.tags
    assert found.tags.count("style") == plain.tags.count("style") == 1
    assert not found.open
    assert HOSTILE in found.text
    assert "49" not in found.text.split("Error, layer by layer")[0]  # no template within


class Noise:
    """Pictures of AlexNet's size, sixteen a run, made when they are asked for; remembers which runs were."""

    def __init__(self, facts: Facts) -> None:
        self.facts, self.asked = facts, []

    def fed(self, number: int) -> tuple[tuple[Picture, ...], Mapping[str, np.ndarray]]:
        self.asked.append(number)
        rng = np.random.default_rng(number)
        pictures = tuple(Picture(f"picture-{16 * number + row}", "0" * 64) for row in range(16))
        return pictures, {"data": rng.uniform(0, 255, (16, 3, 227, 227)).astype(np.float32)}


def test_of_many_pictures_those_worth_a_look(failed, demo, rng):
    labels = [f"class number {number}" for number in range(1000)]
    predictions = []
    for number in range(100):
        best = [int(one) for one in rng.permutation(1000)[:5]]
        guesses = tuple(Guess(one, labels[one], 0.5 / (place + 1)) for place, one in enumerate(best))
        port = guesses[::-1] if number in (17, 71) else guesses
        predictions.append(Prediction(f"picture-{number}", "prob", port, guesses, 0.01 * (100 - number), 1e-6, 5,
                                      number // 16, number % 16))  # fmt: skip
    facts = read_recording(demo / "reference.h5").facts
    truth = Noise(replace(facts, preprocessing=replace(facts.preprocessing, channel_order="BGR", scale=1.0)))
    content = html(replace(failed, predictions=tuple(predictions)), truth)
    assert len(content) < 1_000_000
    found = Page(content)
    assert "Shown are 24 of 100: " in found.text
    order = re.findall(r"picture-(\d+) [✓✗]", found.text)
    assert order == [*map(str, (71, 17)), *map(str, range(99, 77, -1))]
    assert truth.asked == [1, 4, 5, 6]  # each once, and no other
    assert len(found.loads) == 24


def test_bars():
    reference = (Guess(3, "a", 0.5), Guess(1, "b", 0.25))
    port = (Guess(7, "c", 0.8), Guess(3, "a", float("nan")))
    found = list(bars(Prediction("x", "prob", port, reference, 0.25, 0.3, 1)))
    assert [one.index for one in found] == [3, 1, 7]
    assert [one.reference_length for one in found] == [50, 25, 0]
    assert [one.port_length for one in found] == [0, 0, 80]
    assert (found[1].port, found[2].reference) == (None, None)
    scores = (Guess(0, "a", 30.0), Guess(1, "b", 15.0), Guess(2, "c", -6.0))
    assert [one.port_length for one in bars(Prediction("x", "fc8", scores, scores, 15.0, 0.0, 3))] == [100, 50, 0]


def test_disagreements_come_first_then_what_is_no_number_then_small_margins():
    a, b = Guess(0, "a", 1.0), Guess(1, "b", 1.0)
    of = {"far": (a, 0.9), "near": (a, 0.1), "nan": (a, float("nan")), "wrong": (b, 0.5), "wrong, near": (b, 0.2)}
    given = [Prediction(name, "prob", (port,), (a,), margin, 0.0, 1) for name, (port, margin) in of.items()]
    assert [one.picture for one in shown_first(given)] == ["wrong, near", "wrong", "nan", "near", "far"]


def test_timings(passed, page, demo):
    engines = [
        EngineTiming(name, "1.2", "a device", batch, 50, seconds * batch, 1.25 * seconds * batch)
        for batch in (1, 16)
        for name, seconds in (("our graph", 0.002), ("OpenCV", 0.004))
    ]
    layers = (
        LayerTiming("conv1", "Convolution", 0.003, 0.75, 6e9), LayerTiming("relu1", "ReLU", 0.001, 0.25),
        LayerTiming("drop6", "Dropout", 0.0, 0.0),
    )  # fmt: skip
    timings = Timings(tuple(engines), layers, 16, {"threads": 2, "tf32": False}, {"Caffe": "import caffe fails"})
    found = page(replace(passed, timings=timings)).text
    found = found[found.index("Timings") :]
    assert "Batch 1 Engine" in found
    assert "our graph 1.2 a device 2 ms 2.5 ms 500.0 /s 1.00 0 50" in found
    assert "OpenCV 1.2 a device 64 ms 80 ms 250.0 /s 1.00 0 50" in found
    assert "The port's layers at batch 16" in found
    assert "conv1 Convolution 75.0 % 3 ms 2,000.0 relu1 ReLU 25.0 % 1 ms " in found
    assert "drop6 Dropout 0.0 % none of its own " in found
    assert "Threads 2 TF32 off Caffe not timed: import caffe fails" in found
    content = html(
        replace(passed, timings=timings), read_recording(Path(__file__).parents[2] / "tools/demo/reference.h5")
    )
    widths = re.findall(r'<i style="width:([\d.]+)%"></i><i class="tail" style="width:([\d.]+)%">', content.decode())
    assert widths == [("40.0", "10.0"), ("80.0", "20.0")] * 2
    assert "Timings" not in page(passed).text


def test_what_it_takes_to_do_it_again(passed, page):
    text = page(passed, ("python", "-m", "tools.validate", "a port.pb")).text
    text = text[text.index("To do it again") :]
    assert "python -m tools.validate 'a port.pb'" in text
    for digest in (
        passed.port["sha256"],
        passed.reference["sha256"],
        *(s["sha256"] for s in passed.reference["sources"]),
    ):
        assert digest in text
    for version in (*passed.device["versions"].values(), *passed.reference["versions"].values()):
        assert version in text
    assert passed.reference["preprocessing"] in text
    assert "Tolerance 1e-4 of a layer's largest magnitude" in text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.234e-5, "1.2e-5"),
        (1e-4, "1e-4"),
        (0.0, "0"),
        (31.24, "31"),
        (640.2, "640"),
        (float("inf"), "inf"),
        (2e9, "2e9"),
    ],
)
def test_numbers(value, expected):
    assert power(value) == expected


def test_every_text_stands_out_from_what_is_behind_it():
    """WCAG 2.1, 1.4.3: a contrast of 4.5 at least, on the light page and on the dark one."""
    sheet = (PAGE / "report.css").read_text()
    for theme in (sheet[: sheet.index("@media")], sheet[sheet.index("@media") :]):
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", theme.split("}")[0]))
        states = ("agrees", "differs", "incomplete")
        behind = dict.fromkeys(("ink", "soft"), ("paper", "panel", *(f"{state}-tint" for state in states)))
        behind |= {state: ("paper", f"{state}-tint") for state in states} | {"on": states}
        for name, others in behind.items():
            for other in others:
                light, dark = sorted((luminance(colours[name]), luminance(colours[other])), reverse=True)
                assert (light + 0.05) / (dark + 0.05) >= 4.5, (name, other)


def luminance(colour: str) -> float:
    """Returns the relative luminance of #rrggbb, as WCAG defines it."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(("value", "expected"), [(1.25, "125 %"), (0.0123, "1.2 %"), (3e-4, "3e-4"), (1e5, "1e5")])
def test_shares(value, expected):
    assert share(Difference(compared=1, largest=value, magnitude=1.0)) == expected
