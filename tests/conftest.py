"""What every test may ask for: Caffe's recordings, the real models, and how values are held against each other."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

import graphs
from converter.port import Port
from graphs.emit import build
from graphs.layer import Layer
from graphs.layers.data import Input
from graphs.names import name_values
from graphs.network import Network, Node, infer
from graphs.tensorflow1 import tensorflow1
from weights import Parameter

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
"""As graphs.tensorflow1 has it: JAX sets another on import, which the processes that tests start would inherit."""

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent

Values = dict[tuple[str, str], np.ndarray]
"""(layer, top) -> value, N, C, H, W."""


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder, from which `python -m converter` runs."""
    return ROOT


@pytest.fixture(scope="session")
def golden() -> Path:
    """The nets that Caffe itself ran, with what it computed."""
    return TESTS / "golden"


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real models, which lie beside the project and are not part of it."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("needs the real models in ../shared, which are not here")
    return folder


@pytest.fixture(scope="session")
def agree() -> Callable[..., None]:
    """Returns a check that two arrays are the same: shape, and within a share of the largest magnitude.

    Values that tell nothing of the others' magnitude (Caffe's -FLT_MAX, infinities, NaN) must be met exactly, and only
    where the check is told that there are some.
    """

    def check(
        got: np.ndarray, expected: np.ndarray, tolerance: float, what: str = "value", extremes: bool = False
    ) -> None:
        got, expected = np.asarray(got), np.asarray(expected)
        assert got.shape == expected.shape, f"{what}: has the shape {got.shape}, expected {expected.shape}"
        assert expected.size, f"{what}: there is nothing to compare"
        is_extreme = ~(np.abs(expected) < 1e30)
        assert extremes or not is_extreme.any(), f"{what}: the expected values are not all finite"
        np.testing.assert_array_equal(np.float32(got[is_extreme]), np.float32(expected[is_extreme]), what)
        if is_extreme.all():
            return
        got, expected = got[~is_extreme], expected[~is_extreme]
        error = np.abs(got.astype(np.float64) - expected).max()
        allowed = tolerance * np.abs(expected).max()
        assert error <= allowed, f"{what}: differs by {error:.3g}, allowed is {allowed:.3g}"  # NaN is not <= anything

    return check


@pytest.fixture
def graph_values(tmp_path: Path) -> Callable[[Port, Mapping[str, np.ndarray]], Values]:
    """Returns a function that runs a port's frozen graph: every layer's value, in Caffe's layout."""

    def run(port: Port, inputs: Mapping[str, np.ndarray]) -> Values:
        path = tmp_path / "graph_values.pb"
        port.save(path)
        graph = graphs.load(path)
        path.unlink()  # a full-size AlexNet has 233 MiB, and pytest keeps folders
        feeds = {
            graph.inputs[blob]: np.moveaxis(array, 1, -1) if array.ndim >= 4 else array
            for blob, array in inputs.items()
        }
        fetched = graph.session.run(graph.layers, feeds)
        graph.close()
        return {key: np.moveaxis(value, -1, 1) if value.ndim >= 4 else value for key, value in fetched.items()}

    return run


@pytest.fixture
def run_layer() -> Iterator[Callable[..., np.ndarray]]:
    """Returns a function that runs one layer as a graph: its only top, in Caffe's layout.

    ``bottoms`` and ``arrays`` (the layer's parameters) are in Caffe's layout. ``defined`` has other shapes of the
    bottoms for the definition, to run a graph at a batch that it was not made for.
    """
    tf = tensorflow1("the tests")

    def run(
        layer: Layer,
        bottoms: list[np.ndarray],
        arrays: tuple[np.ndarray, ...] = (),
        phase: str = "TEST",
        defined: list[tuple[int, ...]] | None = None,
    ) -> np.ndarray:
        blobs = [f"x{index}" for index in range(len(bottoms))]
        shapes_in = defined or [bottom.shape for bottom in bottoms]
        nodes = [Node(blob, Input(shape=(shape,)), (), (blob,)) for blob, shape in zip(blobs, shapes_in)]
        network = Network("one layer", (*nodes, Node("y", layer, tuple(blobs), ("y",))), phase)
        shapes = infer(network)
        names = name_values(shapes)
        specs = shapes.layers[-1].parameters
        parameters = {
            name: Parameter(name, spec.layout, array.astype(np.float32))
            for name, spec, array in zip(names.variables[-1], specs, arrays)
        }
        with tf.Graph().as_default(), tf.Session() as session:
            emitted = build(
                network, shapes, names, tf, lambda name, spec: tf.constant(parameters[name].tensorflow(), name=name)
            )
            feeds = {
                one.tops[0]: np.moveaxis(bottom, 1, -1) if bottom.ndim >= 4 else bottom
                for one, bottom in zip(emitted, bottoms)
            }
            value = session.run(emitted[-1].tops[0], feeds)
        return np.moveaxis(value, -1, 1) if value.ndim >= 4 else value

    return run


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers, the same at every run."""
    return np.random.default_rng(20130927)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says how many of Caffe's recordings this project agrees with, as the tests found it."""
    found = {
        value[0]: (value[1] and outcome == "passed", value[1])
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
        for name, value in getattr(report, "user_properties", [])
        if name == "golden"
    }
    if found:
        agreeing = sum(agrees for agrees, _ in found.values())
        terminalreporter.write_line(f"{agreeing} of {len(found)} recordings of Caffe agree")
        refused = sorted(case for case, (_, supported) in found.items() if not supported)
        if refused:
            terminalreporter.write_line(f"refused, for a layer type that is not supported yet: {', '.join(refused)}")
