"""Graphs and the NumPy reference held against what Caffe itself computed, layer by layer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from converter import convert
from converter.prototxt import parse_prototxt
from converter.upgrade import upgrade
from graphs import LAYERS, run_reference
from weights import Refused

CASES = sorted(path.name for path in (Path(__file__).parent.parent / "golden").iterdir())
TOLERANCE = 2e-5
"""Of a blob's largest magnitude: what two float32 orders of summation may differ by."""
IN_TRAIN = {"batchnorm_train_reference"}
"""Cases that Caffe ran in phase TRAIN; all others in TEST."""
WITH_EXTREMES = {"pool_last_window_outside_max"}
"""Cases in which Caffe computed numbers like -FLT_MAX, that must be met exactly."""


def sources(folder: Path) -> list[Path]:
    return [path for path in (folder / "net.prototxt", folder / "weights.caffemodel") if path.exists()]


def unsupported(folder: Path, recorded: dict[str, np.ndarray]) -> set[str]:
    """Returns the types of the layers that Caffe ran and that no definition is registered for."""
    ran = {name.split("/")[1] for name in recorded if name.startswith("layer/")}
    layers = upgrade(parse_prototxt((folder / "net.prototxt").read_text())).layer
    return {layer.type for layer in layers if layer.name in ran} - set(LAYERS)


def recording(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "reference.npz") as arrays:
        return dict(arrays)


def of_kind(recorded: dict[str, np.ndarray], kind: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(kind): array for name, array in recorded.items() if name.startswith(kind)}


def test_all_recordings_are_here():
    assert len(CASES) == 151


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_caffe(case, golden, graph_values, agree, record_property):
    folder = golden / case
    recorded = recording(folder)
    missing = unsupported(folder, recorded)
    record_property("golden", (case, not missing))
    if missing:
        with pytest.raises(Refused) as refusal:
            convert(*sources(folder))
        assert any(f"type {name} is not supported" in str(refusal.value) for name in missing)
        return
    port = convert(*sources(folder), phase="TRAIN" if case in IN_TRAIN else "TEST")
    inputs, layers, outputs = (of_kind(recorded, kind) for kind in ("input/", "layer/", "output/"))
    runs = {
        "TensorFlow": graph_values(port, inputs),
        **{
            f"reference in {dtype.__name__}": run_reference(port.shapes, port.arrays(), inputs, dtype)
            for dtype in (np.float64, np.float32)
        },
    }
    assert layers, "Caffe recorded no layer"
    judging = [node for node in port.network.nodes if node.layer.judges]
    judged = {node.bottoms[0] for node in judging} - set(outputs)  # a net that ends in a loss gives its scores too
    softened = {"prob", *(f"{node.name}/prob" for node in judging)} - set(outputs)  # and their probabilities
    assert set(port.network.outputs) - judged - softened == set(outputs)
    for run, values in runs.items():
        assert {str(value.dtype) for value in values.values()} == {run.split()[-1].replace("TensorFlow", "float32")}
        made = {f"{layer}/{top}": value for (layer, top), value in values.items()}
        last = {top: value for (_, top), value in values.items()}
        for name, expected in layers.items():
            agree(made[name], expected, TOLERANCE, f"{run}, layer/{name}", case in WITH_EXTREMES)
        for name, expected in outputs.items():
            agree(last[name], expected, TOLERANCE, f"{run}, output/{name}", case in WITH_EXTREMES)
