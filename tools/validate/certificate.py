"""The port certificate: what was proved of which files, so that it can be checked again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.validate.opening import OpenPort
from tools.validate.report import AGREES, LayerResult, Report
from weights import Refused

KIND, FORMAT = "caffeport certificate", 1


def certificate(report: Report) -> dict[str, Any]:
    """Returns what a certificate holds: hashes, versions, device, each layer's error. Raises Refused for a report that
    is no pass."""
    if report.verdict.answer != AGREES:
        raise Refused(f"no certificate is written: the port {report.verdict.answer}")
    return {
        "kind": KIND,
        "format": FORMAT,
        "port": dict(report.port),
        "reference": dict(report.reference),
        "device": dict(report.device),
        "pictures": report.pictures,
        "layers": [
            {
                "layer": one.layer,
                "top": one.top,
                "type": one.type,
                "tensor": one.tensor,
                "relative": _relative(one),
                "isolated": None if one.isolated is None else one.isolated.relative,
                "allowed": one.allowed,
            }
            for one in report.layers
        ],
        "top-1 agreement": [sum(one.agrees for one in report.predictions), len(report.predictions)],
    }


def _relative(one: LayerResult) -> float:
    assert one.computed is not None  # a pass has compared every layer
    return one.computed.relative


def read_certificate(path: Path) -> dict[str, Any]:
    """Returns the certificate in a file. Raises Refused where it is none, or of another version."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Refused(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise Refused(f"{path}: is no certificate: it is no JSON") from error
    if not isinstance(found, dict) or found.get("kind") != KIND:
        raise Refused(f"{path}: is no certificate; write one with --certificate")
    if found.get("format") != FORMAT:
        raise Refused(f"{path}: is a certificate of format {found.get('format')}; this reads format {FORMAT}")
    if not _is_whole(found):
        raise Refused(f"{path}: is no whole certificate")
    return found


def _is_whole(found: Mapping[str, Any]) -> bool:
    try:
        digests = [found["port"]["sha256"], *(one["sha256"] for one in found["reference"]["sources"])]
        figures = [float(one[name]) for one in found["layers"] for name in ("relative", "allowed")]
        return bool(figures) and all(isinstance(one, str) for one in digests) and all(map(math.isfinite, figures))
    except (KeyError, TypeError, ValueError):
        return False


def verify(stated: Mapping[str, Any], port: OpenPort, sources: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Returns what a certificate says that is true of these files, and what is not: lines for people.

    ``sources`` is name -> digest of the recording and of the Caffe files that were given, as far as they are there.
    """
    true: list[str] = []
    false: list[str] = []

    def check(is_true: bool, what: str, otherwise: str) -> None:
        (true if is_true else false).append(what if is_true else otherwise)

    own = stated["port"]["sha256"]
    check(port.sha256 == own, f"{port.path}: is the very port that was certified (SHA-256 {own[:12]}...)",
          f"{port.path}: is not the port that was certified: its SHA-256 is {port.sha256[:12]}..., certified was "
          f"{own[:12]}...")  # fmt: skip
    certified = {one["name"]: one["sha256"] for one in stated["reference"]["sources"]}
    if stated["reference"].get("file"):
        certified[stated["reference"]["file"]] = stated["reference"].get("sha256", "")
    for name, digest in sources.items():
        if name not in certified:
            false.append(f"{name}: is not among the files of the certificate ({', '.join(certified)})")
            continue
        check(certified[name] == digest, f"{name}: is as it was certified", f"{name}: has changed since")
    beyond = [one["layer"] for one in stated["layers"] if not one["relative"] <= one["allowed"]]
    check(not beyond, f"all {len(stated['layers'])} values were within tolerance",
          f"layer '{beyond[0] if beyond else ''}' was beyond its tolerance")  # fmt: skip
    return true, false
