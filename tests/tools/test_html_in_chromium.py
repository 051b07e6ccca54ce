"""The report as a page, in headless Chromium: what a person sees of it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from html import escape
from pathlib import Path

import numpy as np
import pytest

from tests.tools.reports import drifted_demo
from tools.recording_file import read_recording
from tools.validate.html import html
from tools.validate.report import EngineTiming, Report, Timings

pytest.importorskip("jinja2")
Image = pytest.importorskip("PIL.Image")

RED, BLUE, GREY, INK = (191, 31, 40), (10, 92, 184), (107, 118, 131), (26, 30, 35)
"""What differs, the port, the reference, text; on a light page."""

DARK_RED, DARK_PAPER = (255, 128, 120), (18, 22, 27)

Shot = Callable[..., np.ndarray]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Returns a function that runs Chromium on a page, and returns what it prints."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("needs Chromium")
    profile = tmp_path_factory.mktemp("chromium")
    alone = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]

    def run(page: Path, *options: str) -> str:
        command = [program, "--headless", "--no-sandbox", "--disable-gpu", *alone, "--hide-scrollbars",
                   f"--user-data-dir={profile}", *options, page.as_uri()]  # fmt: skip
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout

    return run


@pytest.fixture(scope="module")
def failed(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    report = drifted_demo(demo, tmp_path_factory.mktemp("drifted"))
    engines = tuple(
        EngineTiming(engine, "1.2.3", "Some Processor of 2 Cores", batch, 50, 0.002 * batch, 0.003 * batch)
        for engine in ("TensorFlow", "OpenCV") for batch in (1, 16)
    )  # fmt: skip
    return replace(report, timings=Timings(engines))


@pytest.fixture(scope="module")
def page(failed: Report, demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_bytes(html(failed, read_recording(demo / "reference.h5")))
    return path


@pytest.fixture(scope="module")
def shot(chromium: Callable[..., str], page: Path, tmp_path_factory: pytest.TempPathFactory) -> Shot:
    folder = tmp_path_factory.mktemp("shots")

    def take(width: int, height: int, *options: str) -> np.ndarray:
        path = folder / f"{width} {height} {len(options)}.png"
        chromium(page, f"--screenshot={path}", f"--window-size={width},{height}", *options)
        return np.asarray(Image.open(path).convert("RGB")).astype(int)

    return take


def near(pixels: np.ndarray, colour: tuple[int, int, int], within: int = 3) -> np.ndarray:
    """Returns which pixels (H, W) have a colour."""
    return (np.abs(pixels - colour) <= within).all(axis=2)


def reddish(pixels: np.ndarray) -> np.ndarray:
    """Returns which pixels are red, also where an edge is smoothed, but no tint."""
    return pixels[:, :, 0] - pixels[:, :, 1:].max(axis=2) > 60


def box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Returns left, top, right, bottom of what is set."""
    (rows,), (columns,) = np.nonzero(mask.any(axis=1)), np.nonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def test_what_is_wrong_stands_on_the_first_screen(shot):
    pixels = shot(1440, 900)
    red = near(pixels, RED)
    rows = red[:, 100:300].sum(axis=1) > 60  # the sign's rows are red for their whole width
    top, bottom = int(np.argmax(rows)), int(len(rows) - np.argmax(rows[::-1]))
    assert 20 < top < 120
    assert 150 < bottom - top < 400
    left, _, right, _ = box(red[top + 5 : bottom - 5, :280])  # between the frame's lines
    assert 90 < left < 150
    assert 125 < right - left < 145
    sign = red[top + 5 : bottom - 5, left + 5 : right - 5]
    assert sign.mean() > 0.85  # but for the cross and the word on it
    said = pixels[top:bottom, right + 10 : 1300]
    assert near(said, INK, 12).sum() > 3000  # black text: the title and the cause
    assert near(said, RED, 12).sum() > 300  # the layer's name, and the difference as it stands
    assert near(said, (26, 112, 49), 12).sum() > 50  # the difference once the mistake is made
    line, _ = tolerance_line(pixels, bottom)
    assert line < 900  # so that the chart's jump is seen without scrolling


def tolerance_line(pixels: np.ndarray, below: int) -> tuple[int, int]:
    """Returns the row of the dashed line, and how many pixels of it are red."""
    counts = reddish(pixels).sum(axis=1)
    counts[:below] = 0
    row = int(np.argmax(counts))
    return row, int(counts[row])


def test_the_chart_shows_the_jump_at_the_guilty_layer(shot, failed):
    pixels = shot(1440, 2400)
    line, dashes = tolerance_line(pixels, 420)
    assert 0.5 * 1000 < dashes < 1100  # across the whole chart, with gaps
    guilty = near(pixels, (245, 219, 221), 2)
    guilty[: line + 4] = False
    guilty[line + 220 :] = False
    guilty &= guilty.sum(axis=0) > 100  # a band down to the axis, not an edge that is smoothed
    left, _, right, _ = box(guilty)
    chart = box(reddish(pixels[line - 2 : line + 3])[:, :1240])
    room = (chart[2] - chart[0]) / 23
    number = [one.layer for one in failed.layers].index("norm1")
    assert right - left == pytest.approx(room, abs=3)
    assert left - chart[0] == pytest.approx(number * room, abs=4)
    before, after = pixels[:, chart[0] : left], pixels[:, right : chart[2]]
    marks = [(near(part[line + 5 : line + 200], BLUE).sum(), near(part[line - 40 : line - 4], RED).sum())
             for part in (before, after)]  # fmt: skip
    assert marks[0][0] > 50  # blue dots of two layers below the line
    assert marks[0][1] == 0  # none of them red above it
    assert marks[1][1] > 19 * 25  # the later ones' red dots above it


def test_bars_stand_side_by_side(shot):
    pixels = shot(1440, 2400)
    cards = pixels[900:, 120:1320]
    reference, port = near(cards, GREY), near(cards, BLUE)
    rows = np.nonzero((reference.sum(axis=1) > 60) & (port.sum(axis=1) > 60))[0]
    groups = np.split(rows, np.nonzero(np.diff(rows) > 20)[0] + 1)
    assert len(groups) >= 3  # ten pictures, three in a row, each with one long bar on both sides
    for group in groups[:3]:
        found = [int(mask[group[len(group) // 2]].sum()) for mask in (reference, port)]
        assert found[0] == pytest.approx(found[1], rel=0.05)  # the scores are the same to three digits
        assert found[0] > 3 * 25


def test_a_dark_page(shot):
    pixels = shot(1440, 900, "--blink-settings=preferredColorScheme=0")
    assert near(pixels, DARK_PAPER).mean() > 0.5
    sign = near(pixels[70:200, 130:240], DARK_RED)
    assert sign.mean() > 0.8
    said = pixels[60:300, 260:1300]
    assert near(said, (231, 234, 238), 12).sum() > 2000  # light text
    assert near(said, (255, 255, 255), 12).sum() < 200


def test_a_page_as_wide_as_a_telephone(shot):
    pixels = shot(375, 1000)
    red = near(pixels, RED)
    rows = np.nonzero(red.mean(axis=1) > 0.6)[0]
    assert len(rows) > 20  # the sign, across the page
    assert rows[0] < 120
    assert near(pixels[rows[-1] + 5 :], INK, 12).sum() > 2000
    assert near(pixels[:, -10:], (255, 255, 255)).all()  # nothing runs over the edge


@pytest.mark.parametrize("width", [375, 820, 1440])
def test_nothing_is_wider_than_the_page(chromium, page, tmp_path, width):
    # In a frame, as a window can't be narrower than 500.
    framed = f'<iframe width="{width}" height="900" style="border:0" srcdoc="{escape(page.read_text())}"></iframe>'
    measure = """onload = () => {
        const inside = document.querySelector("iframe").contentWindow
        const parts = [...inside.document.querySelectorAll("main *")].filter(one => !one.closest(".scroll"))
        const over = parts.filter(one => one.getBoundingClientRect().right > inside.innerWidth + 0.5)
        const found = [parts.length, inside.innerWidth, inside.document.documentElement.scrollWidth, over.length]
        document.title = found.join(" ")
    }"""
    probe = tmp_path / "probe.html"
    probe.write_text(f"<title></title><script>{measure}</script>{framed}")
    found = re.search(r"<title>([^<]*)</title>", chromium(probe, "--dump-dom", "--window-size=1600,1000"))
    assert found is not None
    parts, inner, scrolled, over = map(int, found[1].split())
    assert parts > 500
    assert (inner, scrolled, over) == (width, width, 0)


def test_a_browser_runs_and_loads_nothing_of_it(chromium, failed, demo, tmp_path):
    hostile = "<img src=x onerror=\"document.title='run'\"><script>document.title='run'</script>"
    layers = tuple(replace(one, layer=hostile + one.layer) for one in failed.layers)
    verdict = replace(failed.verdict, first=hostile)
    content = html(replace(failed, layers=layers, verdict=verdict), read_recording(demo / "reference.h5"))
    (tmp_path / "hostile.html").write_bytes(content)
    found = chromium(tmp_path / "hostile.html", "--dump-dom")
    assert "<title>✗ digits.pb differs" in found
    assert found.count("<img ") == 10  # the digits
    assert "<script" not in found
    assert "norm1 (LRN)" in found
