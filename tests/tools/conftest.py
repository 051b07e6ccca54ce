"""What the tests of recordings and of the validator share: Caffe's own numbers as recordings, and the demo's port."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converter import Port, convert
from tools.record.engines import Reference
from tools.record.live import facts_of
from tools.recording import Key, Picture, Preprocessing, RecordedLayer, RecordedTop, Run, Statistics, Value, whole
from tools.recording_file import Recording, read_recording, write_recording

CAFFE = "BVLC Caffe (CPU, float32)"


@pytest.fixture(scope="session")
def demo(root: Path) -> Path:
    """The demo's folder."""
    return root / "tools" / "demo"


@pytest.fixture(scope="session")
def demo_port(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo as a frozen graph with its manifest."""
    path = tmp_path_factory.mktemp("demo") / "digits.pb"
    convert(demo / "digits.prototxt", demo / "digits.caffemodel").save(path)
    return path


@pytest.fixture(scope="session")
def drifted(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo with another alpha in norm2."""
    folder = tmp_path_factory.mktemp("drifted")
    text = (demo / "digits.prototxt").read_text()
    before, after = text[: text.index('name: "norm2"')], text[text.index('name: "norm2"') :]
    (folder / "digits.prototxt").write_text(before + after.replace("alpha: ", "alpha: 1", 1))
    convert(folder / "digits.prototxt", demo / "digits.caffemodel").save(folder / "digits.pb")
    return folder / "digits.pb"


@pytest.fixture(scope="session")
def caffe_recording() -> Callable[[Port, Any, Mapping[str, np.ndarray], Path], Recording]:
    """Returns a function that makes a recording of what Caffe itself computed: an .npz with each layer's whole value
    (``layer/LAYER/TOP``), or with samples of it (``0000/index``, ``/value``, ``/shape``, ``/absmax``)."""

    def make(port: Port, numbers: Any, inputs: Mapping[str, np.ndarray], path: Path) -> Recording:
        facts = facts_of(port, Reference(port), Preprocessing(stated_by="the recording it was imported from"))
        facts = replace(facts, engine=CAFFE, versions={"caffe": "1.0"})
        values = _sampled(numbers) if "layers" in numbers else _whole(numbers)
        layers = (replace(one, tops=_recorded(one, values)) for one in facts.layers)
        known = {blob: key for blob, key in facts.outputs.items() if key in values}
        classes = {blob: count for blob, count in facts.classes.items() if blob in known}
        facts = replace(facts, layers=tuple(one for one in layers if one.tops), outputs=known, classes=classes)
        ends = {
            blob: np.asarray(numbers[f"output/{blob}" if f"output/{blob}" in numbers else "/".join(("layer", *key))])
            for blob, key in facts.outputs.items()
            if blob in facts.classes
        }
        outputs = {blob: scores.reshape(-1, facts.classes[blob]) for blob, scores in ends.items()}
        rows = len(next(iter(inputs.values())))
        pictures = tuple(Picture(f"picture {row}", "0" * 64) for row in range(rows))
        fed = {blob: np.asarray(array, np.float32) for blob, array in inputs.items()}
        write_recording(path, facts, [Run(0, pictures, fed, values, outputs)])
        return read_recording(path)

    return make


def _recorded(layer: RecordedLayer, values: Mapping[Key, Value]) -> tuple[RecordedTop, ...]:
    return tuple(top for top, key in zip(layer.tops, layer.keys) if key in values)


def _whole(numbers: Any) -> dict[Key, Value]:
    found = (name.split("/", 1)[1] for name in numbers.files if name.startswith("layer/"))
    return {tuple(name.rsplit("/", 1)): whole(numbers[f"layer/{name}"]) for name in found}  # type: ignore[misc]


def _sampled(numbers: Any) -> dict[Key, Value]:
    values: dict[Key, Value] = {}
    for place, name in enumerate(numbers["layers"]):
        layer, top = str(name).split("\t")
        index, value, shape, absmax = (numbers[f"{place:04}/{part}"] for part in ("index", "value", "shape", "absmax"))
        order = np.argsort(index, kind="stable")
        known = Statistics(float(absmax))
        values[layer, top] = Value(tuple(map(int, shape)), value[order], index[order].astype(np.int64), known)
    return values
