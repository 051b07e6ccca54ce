"""Reports on ports that have a fault, with what the diagnosis says of it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

from converter import convert
from tools.recording_file import read_recording
from tools.validate.device import open_device
from tools.validate.explaining import explain
from tools.validate.knowledge import known_of
from tools.validate.opening import digest, open_port
from tools.validate.report import Report
from tools.validate.running import Tolerances, validate
from tools.validate.subject import Words, match


def drifted_demo(demo: Path, folder: Path) -> Report:
    """Returns the report on the demo with norm1's alpha five times too large: alpha for alpha/n."""
    text = (demo / "digits.prototxt").read_text()
    before, after = text[: text.index('name: "norm1"')], text[text.index('name: "norm1"') :]
    assert "alpha: 0.0001" in after
    (folder / "digits.prototxt").write_text(before + after.replace("alpha: 0.0001", "alpha: 0.0005", 1))
    convert(folder / "digits.prototxt", demo / "digits.caffemodel").save(folder / "digits.pb")
    right = convert(demo / "digits.prototxt", demo / "digits.caffemodel")
    truth, device = read_recording(demo / "reference.h5"), open_device("cpu")
    with closing(open_port(folder / "digits.pb", device)) as port:
        subject = match(port, truth.facts, Words(), "the test")
        source = {"file": "reference.h5", "sha256": digest([demo / "reference.h5"])}
        report = validate(subject, truth, Tolerances(), device, source=source)
        run = truth.run(0)
        found = explain(report, subject, truth.facts, run, run.whole, known_of(truth.facts, subject, right))
    return replace(report, diagnosis=found)
