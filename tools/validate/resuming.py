"""Runs that were compared, as JSON: what a journal keeps of them, so that an interrupted validation goes on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from tools.recording import Broken, Key
from tools.validate.comparison import Difference, Worst
from tools.validate.report import Guess, Prediction
from tools.validate.running import Compared


def as_bytes(one: Compared) -> bytes:
    """Returns a compared run as JSON; every number comes back as the very same."""
    content = {
        "number": one.number,
        "computed": _listed(one.computed),
        "isolated": _listed(one.isolated),
        "predictions": [dataclasses.asdict(prediction) for prediction in one.predictions],
        "broken": [[broken.name, broken.reason] for broken in one.broken],
        "pictures": one.pictures,
    }
    return json.dumps(content).encode()


def from_bytes(content: bytes) -> Compared:
    """Returns the compared run that ``as_bytes`` spelled."""
    found = json.loads(content)
    return Compared(
        found["number"],
        _differences(found["computed"]),
        _differences(found["isolated"]),
        tuple(_prediction(one) for one in found["predictions"]),
        tuple(Broken(*one) for one in found["broken"]),
        found["pictures"],
    )


def _listed(differences: Mapping[Key, Difference]) -> list[Any]:
    return [[*key, dataclasses.asdict(one)] for key, one in differences.items()]


def _differences(found: list[Any]) -> dict[Key, Difference]:
    differences = {}
    for layer, top, fields in found:
        worst = fields["worst"]
        place = None if worst is None else Worst(tuple(worst["index"]), worst["got"], worst["expected"])
        differences[layer, top] = Difference(**{**fields, "worst": place})
    return differences


def _prediction(fields: dict[str, Any]) -> Prediction:
    guesses = {who: tuple(Guess(**one) for one in fields[who]) for who in ("port", "reference")}
    return Prediction(**{**fields, **guesses})
