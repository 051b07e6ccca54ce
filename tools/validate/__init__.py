"""Proves a port, or names what is wrong with it.

python -m tools.validate alexnet.pb --against reference.h5

In a test that must fail when a port drifts:

    from tools.validate import assert_port

    def test_port():
        assert_port("alexnet.pb", "reference.h5", tolerance=1e-4)
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tools.validate.report import Report


def assert_port(
    port: str | Path,
    against: str | Path,
    tolerance: float | None = None,
    layers: Mapping[str, float] | None = None,
    device: str = "auto",
    trust: bool = False,
    engine: str = "tensorflow",
) -> Report:
    """Returns the report on a port that agrees with a recording.

    ``port`` and ``against`` are files as on the command line; ``tolerance`` holds for all layers (default: 1e-4),
    ``layers`` is layer -> its own; ``engine`` may be "xla", and ``port`` a saved program then. Raises AssertionError
    with the verdict where the port differs or something could not be compared, and Refused where it could not be done
    at all.
    """
    report = report_on(port, against, tolerance, layers, device, trust, engine)
    if report.verdict.exit_code:
        first = f", first at {report.verdict.first}" if report.verdict.first else ""
        lines = [f"{port}: {report.verdict.answer}{first}", *report.verdict.reasons, *map(str, report.diagnosis)]
        raise AssertionError("\n".join(lines))
    return report


def report_on(
    port: str | Path,
    against: str | Path,
    tolerance: float | None = None,
    layers: Mapping[str, float] | None = None,
    device: str = "auto",
    trust: bool = False,
    engine: str = "tensorflow",
) -> Report:
    """Returns the report on a port, whatever its verdict; the arguments are ``assert_port``'s. Raises Refused where it
    could not be done."""
    from contextlib import closing

    from tools.recording_file import read_recording
    from tools.validate.comparison import TOLERANCE
    from tools.validate.device import open_device
    from tools.validate.explaining import diagnosed
    from tools.validate.opening import digest, open_port
    from tools.validate.running import Tolerances, validate
    from tools.validate.subject import Words, match

    against = Path(against)
    truth = read_recording(against)
    chosen = open_device(device, engine=engine)
    with closing(open_port(port, chosen, trust=trust)) as opened:
        subject = match(opened, truth.facts, Words(), against.name)
        tolerances = Tolerances(TOLERANCE if tolerance is None else tolerance, layers or {})
        source = {"file": against.name, "sha256": digest([against])}
        return diagnosed(validate(subject, truth, tolerances, chosen, source=source), subject, truth)
