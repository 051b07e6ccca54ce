"""From a port in a file to what is wrong with it."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

from converter import convert
from tools.record.engines import Reference
from tools.record.live import computed, facts_of
from tools.recording import Picture, Preprocessing
from tools.validate.device import open_device
from tools.validate.explaining import explain
from tools.validate.knowledge import known_of
from tools.validate.opening import open_port
from tools.validate.running import Tolerances, compare_run, gathered
from tools.validate.subject import Words, match


@pytest.fixture(scope="module")
def case(golden):
    return golden / "mini_alexnet"


def explained(case, tmp_path, definition: str, with_manifest: bool = True):
    """Converts another definition with the same weights, and holds it against the right one."""
    right = convert(case / "net.prototxt", case / "weights.caffemodel")
    (tmp_path / "net.prototxt").write_text(definition)
    path = tmp_path / "port.pb"
    convert(tmp_path / "net.prototxt", case / "weights.caffemodel").save(path)
    if not with_manifest:
        (tmp_path / "port.pb.json").unlink()
    with np.load(case / "reference.npz") as recorded:
        fed = {"data": recorded["input/data"]}
    engine = Reference(right)
    facts = facts_of(right, engine, Preprocessing())
    run = computed(facts, engine, 0, fed, (Picture("a", ""), Picture("b", "")))
    device = open_device("cpu", False)
    with closing(open_port(path, device)) as port:
        subject = match(port, facts, Words(), "the test")
        report = gathered(subject, facts, [compare_run(subject, facts, run)], Tolerances(), device)
        return report, explain(report, subject, facts, run, run.whole, known_of(facts, subject, right))


@pytest.mark.parametrize("with_manifest", [True, False])
def test_alpha(case, tmp_path, with_manifest):
    definition = (case / "net.prototxt").read_text().replace("alpha: 0.0001", "alpha: 0.0005")
    report, found = explained(case, tmp_path, definition, with_manifest)
    assert report.verdict.first == "norm1 (LRN)"
    assert [(one.layer, one.mistake) for one in found] == [
        ("norm1 (LRN)", "alpha for alpha/n"),
        ("norm2 (LRN)", "alpha for alpha/n"),
    ]


def test_two_faults_far_apart(case, tmp_path):
    definition = (case / "net.prototxt").read_text()
    definition = definition.replace("pad: 2 group: 2", "pad: 2 group: 2 ").replace("beta: 0.75", "beta: 0.5", 1)
    definition = definition.replace('"relu_fc7" type: "ReLU"', '"relu_fc7" type: "TanH"')
    _, found = explained(case, tmp_path, definition, with_manifest=False)
    assert [(one.layer, one.mistake) for one in found] == [("norm1 (LRN)", "beta"), ("relu_fc7 (ReLU)", "")]
    assert "worst is channel" in found[1].explanation


def test_a_right_port_has_nothing_to_explain(case, tmp_path):
    report, found = explained(case, tmp_path, (case / "net.prototxt").read_text())
    assert (report.verdict.answer, found) == ("agrees", ())
