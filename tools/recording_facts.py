"""A recording's facts as JSON, and back."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from tools.recording import Facts, Key, Preprocessing, RecordedLayer, RecordedTop, SourceFile


def facts_as_json(facts: Facts) -> dict[str, Any]:
    """Returns the facts as values for JSON, but for the mean."""
    preprocessing = facts.preprocessing
    return {
        "network": facts.network,
        "phase": facts.phase,
        "layers": [
            {"name": one.name, "type": one.type, "bottoms": one.bottoms, "tops": [[t.blob, t.shape] for t in one.tops]}
            for one in facts.layers
        ],
        "inputs": dict(facts.inputs),
        "outputs": dict(facts.outputs),
        "classes": dict(facts.classes),
        "labels": facts.labels,
        "preprocessing": {
            "channel_order": preprocessing.channel_order,
            "scale": preprocessing.scale,
            "resize": preprocessing.resize,
            "mean_file": preprocessing.mean_file,
            "stated_by": preprocessing.stated_by,
            "interpolation": preprocessing.interpolation,
        },
        "sources": [[source.name, source.sha256] for source in facts.sources],
        "engine": facts.engine,
        "versions": dict(facts.versions),
        "notes": facts.notes,
        "definition": facts.definition,
    }


def identity_of(facts: Facts) -> dict[str, Any]:
    """Returns all that the facts say as values for JSON, the mean in short."""
    mean = np.ascontiguousarray(facts.preprocessing.mean, np.float32)
    return {**facts_as_json(facts), "mean": [mean.shape, hashlib.sha256(mean.tobytes()).hexdigest()]}


def facts_from_json(stated: dict[str, Any], mean: np.ndarray) -> Facts:
    """Returns the facts that ``facts_as_json`` spelled. Raises KeyError, TypeError or ValueError for anything else."""
    preprocessing = stated["preprocessing"]
    return Facts(
        str(stated["network"]),
        str(stated["phase"]),
        tuple(
            RecordedLayer(
                str(one["name"]),
                str(one["type"]),
                tuple(_key(key) for key in one["bottoms"]),
                tuple(RecordedTop(str(blob), _shape(shape)) for blob, shape in one["tops"]),
            )
            for one in stated["layers"]
        ),
        {str(blob): _shape(shape) for blob, shape in stated["inputs"].items()},
        {str(blob): _key(key) for blob, key in stated["outputs"].items()},
        {str(blob): int(count) for blob, count in stated["classes"].items()},
        tuple(map(str, stated["labels"])),
        Preprocessing(
            str(preprocessing["channel_order"]),
            np.asarray(mean, np.float32),
            float(preprocessing["scale"]),
            _pair(preprocessing["resize"]),
            str(preprocessing["mean_file"]),
            str(preprocessing["stated_by"]),
            str(preprocessing["interpolation"]),
        ),
        tuple(SourceFile(str(name), str(digest)) for name, digest in stated["sources"]),
        str(stated["engine"]),
        {str(name): str(version) for name, version in stated["versions"].items()},
        tuple(map(str, stated["notes"])),
        str(stated.get("definition", "")),
    )


def _shape(sizes: Any) -> tuple[int, ...]:
    return tuple(int(size) for size in sizes)


def _key(parts: Any) -> Key:
    layer, blob = parts
    return str(layer), str(blob)


def _pair(sizes: Any) -> tuple[int, int] | None:
    if sizes is None:
        return None
    height, width = sizes
    return int(height), int(width)
