"""Layers in every form that they have, the reference, the graph and the source that builds the graph; gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from graphs import run_reference
from graphs.emit import build
from graphs.layer import Layer
from graphs.layers.data import Input
from graphs.names import Names, name_values
from graphs.network import Network, Node, Shapes, infer
from graphs.source import network_source
from graphs.tensorflow1 import tensorflow1

Case = Sequence[Any]
"""(layer, bottoms, the top or list of tops that Caffe makes of them, the layer's parameters)."""
Plan = tuple[Network, Shapes, Names]


@pytest.fixture
def agree_everywhere(agree: Callable[..., None]) -> Callable[..., None]:
    """Returns a check of many layers at once, all of one TensorFlow graph, by their names in the report.

    Each layer's reference (float64), graph and printed source must make what the case expects. ``free`` says whether
    their batch is free; it is then fed another one than the definition has. ``exact`` and ``tolerance`` are shares of
    the largest magnitude, for the reference and for the graph; ``extremes`` says that some expected values have none.
    """
    tf = tensorflow1("the tests")

    def check(
        cases: Mapping[str, Case],
        free: bool = True,
        tolerance: float = 2e-6,
        exact: float = 1e-12,
        extremes: bool = False,
    ) -> None:
        assert cases
        plans = []
        for index, (what, (layer, bottoms, expected, *arrays)) in enumerate(cases.items()):
            tops = len(expected) if isinstance(expected, list) else 1
            plan = _plan(layer, list(map(np.shape, bottoms)), tops, suffix=str(index))
            assert plan[1].free_batch is free, f"{what}: the batch is {'fixed' if free else 'free'}"
            assert len(plan[1].layers[-1].parameters) == len(arrays)
            plans.append(_plan_of(plan[0].with_batch(1)) if free else plan)
        given = [(bottoms, arrays) for _, bottoms, _, *arrays in cases.values()]
        by_graph, by_source = (_run(tf, plans, given, add) for add in (_built, _printed))
        for index, (what, (_, bottoms, expected, *arrays)) in enumerate(cases.items()):
            reference = _referred(plans[index], bottoms, arrays)
            for place, value in enumerate(expected if isinstance(expected, list) else [expected]):
                agree(reference[place], value, exact, f"{what}, reference, top {place}", extremes)
                agree(by_graph[index][place], value, tolerance, f"{what}, graph, top {place}", extremes)
                agree(by_source[index][place], value, tolerance, f"{what}, printed source, top {place}", extremes)

    return check


@pytest.fixture
def three_ways() -> Callable[..., dict[str, list[np.ndarray]]]:
    """Returns a function that runs one layer as reference, graph and printed source: way -> tops.

    ``arrays`` are the layer's parameters; ``defined`` has other shapes of the bottoms for the definition.
    """
    tf = tensorflow1("the tests")

    def run(
        layer: Layer,
        bottoms: list[np.ndarray],
        arrays: Sequence[np.ndarray] = (),
        tops: int = 1,
        defined: list[tuple[int, ...]] | None = None,
    ) -> dict[str, list[np.ndarray]]:
        plan = _plan(layer, defined or list(map(np.shape, bottoms)), tops)
        return {
            "reference": _referred(plan, bottoms, arrays),
            "graph": _run(tf, [plan], [(bottoms, arrays)], _built)[0],
            "printed source": _run(tf, [plan], [(bottoms, arrays)], _printed)[0],
        }

    return run


@pytest.fixture
def agree_three_ways(three_ways: Callable[..., Any], agree: Callable[..., None]) -> Callable[..., None]:
    """Returns a check that a layer makes the expected tops as reference, graph and printed source."""

    def check(
        layer: Layer,
        bottoms: list[np.ndarray],
        expected: list[np.ndarray],
        arrays: Sequence[np.ndarray] = (),
        defined: list[tuple[int, ...]] | None = None,
        tolerance: float = 1e-5,
    ) -> None:
        for way, tops in three_ways(layer, bottoms, arrays, len(expected), defined).items():
            assert len(tops) == len(expected)
            for place, (top, value) in enumerate(zip(tops, expected)):
                agree(top, value, tolerance, f"{way}, top {place}")

    return check


@pytest.fixture
def gradient() -> Callable[..., np.ndarray]:
    """Returns a function: the gradient of the sum of a layer's first top, each value times its ``weight``, with respect
    to one of its bottoms."""
    tf = tensorflow1("the tests")

    def run(
        layer: Layer,
        bottoms: list[np.ndarray],
        arrays: Sequence[np.ndarray] = (),
        bottom: int = 0,
        weight: np.ndarray | float = 1.0,
        phase: str = "TEST",
    ) -> np.ndarray:
        plan = _plan(layer, list(map(np.shape, bottoms)), 1, phase=phase)
        with tf.Graph().as_default(), tf.Session() as session:
            feeds, (top,) = _add(tf, session, plan, bottoms, arrays, _built)
            weighed = top * tf.constant(_moved(np.asarray(weight, np.float32), 1, -1))
            (slope,) = tf.gradients(tf.reduce_sum(weighed), [list(feeds)[bottom]])
            return _moved(session.run(slope, feeds), -1, 1)

    return run


@pytest.fixture
def central_differences() -> Callable[..., np.ndarray]:
    """Returns a function: the same gradient by differences of the reference's first top."""

    def run(layer: Layer, bottoms: list[np.ndarray], bottom: int = 0, step: float = 1e-5) -> np.ndarray:
        plan = _plan(layer, list(map(np.shape, bottoms)), 1)
        exact = [np.array(array, np.float64) for array in bottoms]
        slope = np.empty_like(exact[bottom])
        for place in np.ndindex(*slope.shape):
            ends = []
            for sign in (1, -1):
                moved = [array.copy() for array in exact]
                moved[bottom][place] += sign * step
                ends.append(_referred(plan, moved, ())[0].sum())
            slope[place] = (ends[0] - ends[1]) / (2 * step)
        return slope

    return run


def _plan(layer: Layer, bottoms: Sequence[tuple[int, ...]], tops: int, suffix: str = "", phase: str = "TEST") -> Plan:
    """Returns a network of that one layer over inputs of those shapes; ``suffix`` tells its names from others'."""
    blobs = [f"x{suffix}_{place}" for place in range(len(bottoms))]
    inputs = [Node(blob, Input((shape,)), (), (blob,)) for blob, shape in zip(blobs, bottoms)]
    names = tuple(f"top{place}" for place in range(tops))
    return _plan_of(Network("one layer", (*inputs, Node(f"y{suffix}", layer, tuple(blobs), names)), phase))


def _plan_of(network: Network) -> Plan:
    shapes = infer(network)
    return network, shapes, name_values(shapes)


def _referred(plan: Plan, bottoms: Sequence[np.ndarray], arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Returns the layer's tops by its reference."""
    network, shapes, _ = plan
    parameters = [[] for _ in network.inputs] + [list(map(np.asarray, arrays))]
    values = run_reference(shapes, parameters, dict(zip(network.inputs, bottoms)))
    return [values[network.nodes[-1].name, top] for top in network.nodes[-1].tops]


def _run(tf: Any, plans: Sequence[Plan], given: Sequence[tuple], add: Callable[..., Any]) -> list[list[np.ndarray]]:
    """Returns the tops of each network, in Caffe's layout, run in one graph to which ``add`` adds them all."""
    feeds, fetches = {}, []
    with tf.Graph().as_default(), tf.Session() as session:
        for plan, (bottoms, arrays) in zip(plans, given):
            fed, tops = _add(tf, session, plan, bottoms, arrays, add)
            feeds |= fed
            fetches.append(tops)
        return [[_moved(top, -1, 1) for top in tops] for tops in session.run(fetches, feeds)]


def _add(
    tf: Any,
    session: Any,
    plan: Plan,
    bottoms: Sequence[np.ndarray],
    arrays: Sequence[np.ndarray],
    add: Callable[..., dict[str, Any]],
) -> tuple[dict[Any, np.ndarray], list[Any]]:
    """Returns placeholder -> value of a network that ``add`` adds to the default graph, and its layer's tops."""
    _, shapes, names = plan
    parameters = {
        name: spec.layout.to_tensorflow(np.asarray(array, np.float32))
        for spec, name, array in zip(shapes.layers[-1].parameters, names.variables[-1], arrays)
    }
    tensors = add(tf, session, plan, parameters)
    feeds = {
        tensors[name]: _moved(np.asarray(bottom, np.float32), 1, -1) for (name,), bottom in zip(names.tops, bottoms)
    }
    return feeds, [tensors[name] for name in names.tops[-1]]


def _moved(array: np.ndarray, source: int, target: int) -> np.ndarray:
    return np.moveaxis(array, source, target) if array.ndim >= 4 else array


def _built(tf: Any, session: Any, plan: Plan, parameters: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns the tensors of a network by name, built by its definitions."""
    network, shapes, names = plan
    emitted = build(
        network, shapes, names, tf, lambda name, spec: tf.constant(parameters[name], tf.float32, spec.layout.tensorflow)
    )
    return {name: tensor for one, planned in zip(emitted, names.tops) for tensor, name in zip(one.tops, planned)}


def _printed(tf: Any, session: Any, plan: Plan, parameters: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Returns the tensors of a network by name, built by the source that its definitions print."""
    module: dict[str, Any] = {"__name__": "printed"}
    exec(network_source(*plan, "the tests"), module)
    tensors = module["build"]()
    for variable in tf.global_variables():
        if variable.op.name in parameters:
            variable.load(parameters[variable.op.name], session)
    return tensors
