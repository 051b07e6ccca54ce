"""Where things stand in the chart of errors."""

from __future__ import annotations

import itertools
import math

import pytest

from tools.validate.charts import ABSENT, GAP, LANE, NO_NUMBER, ZERO, chart, labels, lane, scale_of, shortened
from tools.validate.comparison import Difference
from tools.validate.report import LayerResult


def off(relative: float) -> Difference:
    """A difference of so much of a largest magnitude of 2."""
    return Difference(compared=5, largest=2 * relative, magnitude=2.0)


def layer(name: str, computed: Difference | None, isolated: Difference | None = None, allowed: float = 1e-4, top=""):
    return LayerResult(name, "ReLU", top or name, f"{name}:0", "name", allowed, computed, isolated)


def test_decades_are_evenly_apart_and_hold_every_error_and_the_tolerance():
    layers = [layer("a", off(3e-8), off(2e-2)), layer("b", off(5e-6))]
    scale = scale_of(layers, 200.0)
    assert (scale.low, scale.high, scale.below, scale.above) == (-8, -1, (), ())
    assert scale.of(1e-8) == 0
    assert scale.of(1e-1) == 200
    assert scale.of(1e-4) == pytest.approx(200 * 4 / 7)
    assert scale.at(layers[0].computed) == pytest.approx(200 * (math.log10(3e-8) + 8) / 7)


def test_what_a_logarithm_can_not_show_has_a_lane_of_its_own():
    nan = Difference(compared=5, largest=math.nan, magnitude=2.0, not_finite=3)
    against_zeros = Difference(compared=5, largest=1.0, magnitude=0.0)
    found = [off(0.0), None, nan, Difference(problem="has the shape (2, 3), the reference (2, 5)"), against_zeros]
    assert [lane(one) for one in found] == [ZERO, ABSENT, NO_NUMBER, NO_NUMBER, NO_NUMBER]
    scale = scale_of([layer(f"l{number}", one) for number, one in enumerate([*found, off(1e-5)])], 200.0)
    places = [scale.at(one) for one in found]
    assert places == [1.5 * LANE, 0.5 * LANE, *[200 - 0.5 * LANE] * 3]
    axis = [scale.of(10.0**power) for power in (scale.low, scale.high)]
    assert axis == [2 * LANE + GAP, 200 - LANE - GAP]
    assert {one.text for one in scale.lanes} == {ZERO, ABSENT, NO_NUMBER}


@pytest.mark.parametrize(("count", "panels"), [(1, 1), (23, 1), (66, 2), (141, 3), (228, 4), (700, 12)])
def test_every_layer_stands_in_one_panel_in_the_network_s_order(count, panels):
    layers = [layer(f"conv{number}", off(1e-6)) for number in range(count)]
    made = chart(layers, 60, 0.0, 200.0, 1040.0)
    assert len(made.panels) == panels
    shown = [one for panel in made.panels for one in panel.columns]
    assert [one.result for one in shown] == layers
    for panel in made.panels:
        places = [one.at for one in panel.columns]
        assert places == sorted(places)
        assert places[-1] < panel.length <= 1040.001
        assert panel.columns[0].wide >= 1040 / 60  # a name at 45 degrees needs some 16


def test_the_line_stops_where_there_is_no_number():
    layers = [layer("a", off(1e-6)), layer("b", off(1e-5)), layer("c", None), layer("d", off(1e-3))]
    (panel,) = chart(layers, 60, 20.0, 200.0).panels
    assert [[round(at) for at, _ in run] for run in panel.line] == [[10, 30], [70]]
    assert [one.computed_is_beyond for one in panel.columns] == [False, False, False, True]


def test_each_tolerance_has_its_own_step():
    layers = [layer("a", off(1e-6)), layer("b", off(1e-6), allowed=1e-2), layer("c", off(1e-6), allowed=1e-2)]
    made = chart(layers, 60, 20.0, 200.0)
    steps = made.panels[0].steps
    assert [(one.start, one.stop) for one in steps] == [(0, 20), (20, 60)]
    assert [one.at for one in steps] == [made.scale.of(1e-4), made.scale.of(1e-2)]


@pytest.mark.parametrize("largest", [1e-30, 1e-7, 1.0, 1e30])
def test_labels_of_decades_keep_apart(largest):
    scale = scale_of([layer("a", off(largest)), layer("b", off(0.0))], 172.0)
    places = [one.at for one in scale.decades]
    assert all(after - before >= 29.9 for before, after in itertools.pairwise(places))
    assert len(places) >= 2


def test_names():
    layers = [layer("slice", off(0), top="left"), layer("slice", off(0), top="right"), layer("relu1", off(0), top="c")]
    assert labels(layers) == ("slice/left", "slice/right", "relu1")
    assert shortened("inception_4a/3x3_reduce") == "inception_4a/3x3_reduce"
    assert shortened("a" * 20 + "b" * 20) == "a" * 13 + "…" + "b" * 12
