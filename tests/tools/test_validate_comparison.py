"""tools.validate.comparison and .report: differences and verdicts, held against literal loops."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from tools.recording import Statistics, Value, sampled, whole
from tools.validate.comparison import BLOCK, Difference, added, differ, shifted
from tools.validate.report import AGREES, DIFFERS, INCOMPLETE, LayerResult, Report, as_json, judge


def pair(shape: tuple[int, ...], seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    numbers = np.random.default_rng(seed)
    expected = numbers.standard_normal(shape).astype(np.float32)
    return (expected + 1e-3 * numbers.standard_normal(shape)).astype(np.float32), expected


SHAPES = [(), (1,), (17,), (3, 5), (2, 3, 5, 7), (2, 3, 211, 223), (1, BLOCK + 3), (0, 4)]


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if math.prod(shape)], ids=str)
def test_a_difference_is_that_of_a_literal_loop(shape):
    got, expected = pair(shape)
    found = differ(got, whole(expected))
    largest = magnitude = mine = theirs = product = 0.0
    worst: tuple[int, ...] = ()
    for index in np.ndindex(*shape):
        one, other = float(got[index]), float(expected[index])
        if abs(one - other) > largest:
            largest, worst = abs(one - other), index
        magnitude = max(magnitude, abs(other))
        mine, theirs, product = mine + one * one, theirs + other * other, product + one * other
    assert found.compared == math.prod(shape)
    assert found.largest == pytest.approx(largest, rel=1e-4)
    assert found.magnitude == magnitude
    assert found.relative == pytest.approx(largest / magnitude, rel=1e-4)
    assert found.worst is not None
    assert found.worst.index == worst
    assert (found.worst.got, found.worst.expected) == (got[worst], expected[worst])
    assert found.rms_ratio == pytest.approx(math.sqrt(mine / theirs), rel=1e-5)
    assert found.cosine == pytest.approx(product / math.sqrt(mine * theirs), rel=1e-5)


def test_channels_that_lie_last_are_the_same_values():
    got, expected = pair((2, 3, 211, 223))
    last = np.moveaxis(np.ascontiguousarray(np.moveaxis(got, 1, -1)), -1, 1)
    assert differ(last, whole(expected)) == differ(got, whole(expected))


def test_a_sample_is_compared_at_its_places():
    got, expected = pair((2, 3, 31, 37))
    value = sampled(expected, ("a", "b"), 2, 0, 50)
    found = differ(np.moveaxis(np.ascontiguousarray(np.moveaxis(got, 1, -1)), -1, 1), value)
    assert value.index is not None
    apart = np.abs(got.reshape(-1)[value.index] - value.values)
    assert found.compared == len(value.index)
    assert found.largest == pytest.approx(apart.max(), rel=1e-6)
    assert found.worst is not None
    assert found.worst.index == tuple(np.unravel_index(value.index[apart.argmax()], expected.shape))
    assert found.magnitude == np.abs(expected).max()


def test_what_a_sample_misses_its_statistics_see():
    _, expected = pair((1, 3, 31, 37))
    value = sampled(expected, ("a", "b"), 1, 0, 50)
    got = expected.copy()
    missed = np.setdiff1d(np.arange(got.size), value.index)[5]
    got.reshape(-1)[missed] = 99.0
    found = differ(got, value)
    assert found.largest == pytest.approx(99 - np.abs(expected).max())
    got.reshape(-1)[missed] = np.nan
    assert not differ(got, value).passes(1e9)
    assert differ(got, value).not_finite == 1


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_never_passes(wrong):
    got, expected = pair((2, 3, 211, 223))
    got[1, 2, 100, 5] = wrong
    found = differ(got, whole(expected))
    assert found.not_finite == 1
    assert found.relative == math.inf
    assert not found.passes(math.inf) or found.relative == math.inf
    assert not found.passes(1e30)
    assert found.worst is not None
    assert found.worst.index == (1, 2, 100, 5)
    reference = whole(got)
    assert differ(got, reference).problem == "the reference has values that are no numbers (NaN or infinite)"


def test_another_shape_and_nothing_at_all_never_pass():
    _, expected = pair((2, 3))
    other = differ(expected.reshape(3, 2), whole(expected))
    assert other.problem == "has the shape (3, 2), the reference (2, 3)"
    empty = differ(np.zeros((0, 4), np.float32), whole(np.zeros((0, 4))))
    assert empty.problem == "has no values"
    for found in (other, empty, Difference()):
        assert not found.passes(1e30)


def test_zeros_pass_only_with_zeros():
    zeros = np.zeros((2, 3), np.float32)
    assert differ(zeros, whole(zeros)).passes(0)
    assert math.isnan(differ(zeros, whole(zeros)).cosine)
    assert differ(zeros + 1e-9, whole(zeros)).relative == math.inf


def test_values_whose_squares_float32_can_t_hold():
    large = np.full((2, 3), 1e30, np.float32)
    found = differ(large, whole(large))
    assert found.passes(0)
    assert found.rms_ratio == pytest.approx(1)
    assert found.cosine == pytest.approx(1)


def test_batches_add_up_to_the_whole():
    got, expected = pair((7, 3, 5))
    together = differ(got, whole(expected))
    parts = [shifted(differ(got[a:b], whole(expected[a:b])), a) for a, b in ((0, 2), (2, 3), (3, 7))]
    total = Difference()
    for part in parts:
        total = added(total, part)
    assert total.worst == together.worst
    assert (total.compared, total.largest, total.magnitude) == (
        together.compared, together.largest, together.magnitude,
    )  # fmt: skip
    assert total.rms_ratio == pytest.approx(together.rms_ratio, rel=1e-6)
    broken = Difference(problem="has the shape (3, 2), the reference (2, 3)")
    for order in ((total, broken), (broken, total)):
        assert not added(*order).passes(1e30)
    nan = differ(np.full((1, 3), np.nan, np.float32), whole(np.ones((1, 3))))
    for order in ((together, nan), (nan, together)):
        assert not added(*order).passes(1e30)


GOOD, BAD = Difference(5, 1e-6, 1.0), Difference(5, 0.5, 1.0)


def layer(name: str, computed: Difference | None, isolated: Difference | None = None) -> LayerResult:
    return LayerResult(name, "Pooling", name, f"{name}:0", "manifest", 1e-4, computed, isolated)


class TestVerdict:
    def test_all_within_tolerance(self):
        verdict = judge((layer("a", GOOD), layer("b", GOOD, GOOD)))
        assert (verdict.answer, verdict.exit_code) == (AGREES, 0)
        assert verdict.reasons == ("largest difference 1e-06 of the magnitude, at a (Pooling)",)

    def test_names_the_first_that_differs_and_the_guilty(self):
        verdict = judge((layer("a", GOOD, GOOD), layer("b", BAD, BAD), layer("c", BAD, GOOD), layer("d", BAD, GOOD)))
        assert (verdict.answer, verdict.exit_code, verdict.first) == (DIFFERS, 1, "b (Pooling)")
        assert verdict.guilty == ("b (Pooling)",)
        assert verdict.reasons == (
            "b (Pooling): differs by 0.5 of its largest magnitude, allowed is 0.0001",
            "fed the reference's own input, these differ: b (Pooling); 2 later ones differ too",
        )

    def test_a_layer_that_differs_in_isolation_alone_is_no_pass(self):
        verdict = judge((layer("a", GOOD, BAD),))
        assert (verdict.answer, verdict.first) == (DIFFERS, "a (Pooling)")
        assert verdict.reasons[0] == (
            "a (Pooling): differs in isolation by 0.5 of its largest magnitude, allowed is 0.0001"
        )

    def test_small_differences_that_add_up(self):
        verdict = judge((layer("a", GOOD, GOOD), layer("b", BAD, GOOD)))
        assert verdict.reasons[1] == "in isolation every layer agrees: small differences have added up"

    @pytest.mark.parametrize(("layers", "missing", "pictures", "reason"), [
        ((), (), 1, "nothing was compared"),
        ((layer("a", None),), (), 1, "nothing was compared"),
        ((layer("a", GOOD),), (), 0, "nothing was compared"),
        ((layer("a", GOOD),), ("output 'x' is missing in the port",), 1, "output 'x' is missing in the port"),
    ])  # fmt: skip
    def test_what_was_not_compared_is_no_pass(self, layers, missing, pictures, reason):
        verdict = judge(layers, missing, pictures)
        assert (verdict.answer, verdict.exit_code) == (INCOMPLETE, 2)
        assert verdict.reasons[0] == reason

    @pytest.mark.parametrize(("found", "reason"), [
        (Difference(problem="has no values"), "a (Pooling): has no values"),
        (Difference(5, math.nan, 1.0, not_finite=2),
         "a (Pooling): 2 of its values are no numbers (NaN or infinite)"),
        (Difference(5, 0.25, 0.0), "a (Pooling): the reference has nothing but zeros, the port 0.25"),
    ])  # fmt: skip
    def test_why(self, found, reason):
        assert judge((layer("a", found),)).reasons[0] == reason


def test_a_report_is_json():
    layers = (layer("a", Difference(5, math.nan, 1.0, not_finite=2)), layer("b", GOOD, GOOD))
    report = Report({"file": "x.pb"}, {}, {}, 1, (), layers, judge(layers))
    found = json.loads(json.dumps(as_json(report), allow_nan=False))
    assert found["verdict"]["answer"] == "differs"
    assert found["layers"][0]["computed"]["relative"] == "inf"
    assert found["layers"][1]["computed"]["relative"] == 1e-6
    assert found["layers"][1]["passes"]


def test_statistics_that_are_not_known_are_not_compared():
    value = Value((4,), np.ones(1, np.float32), np.array([2]), Statistics(1.0))
    assert differ(np.array([0.5, 0.5, 1, 0.5], np.float32), value).passes(0)
