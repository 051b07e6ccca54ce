"""tools.recording and tools.recording_file: what a recording holds, and that only a whole one is believed."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest

from tools.journal import packed, unpacked
from tools.recording import (
    Broken,
    Facts,
    Picture,
    Preprocessing,
    RecordedLayer,
    RecordedTop,
    Run,
    SourceFile,
    sampled,
    statistics_of,
    top,
    whole,
)
from tools.recording_file import read_recording, write_recording
from weights import Refused

FACTS = Facts(
    "tiny",
    "TEST",
    (
        RecordedLayer("conv", "Convolution", (("", "data"),), (RecordedTop("conv", (-1, 5, 3, 2)),)),
        RecordedLayer("fc", "InnerProduct", (("conv", "conv"),), (RecordedTop("fc", (-1, 7)),)),
    ),
    {"data": (-1, 3, 5, 4)},
    {"fc": ("fc", "fc")},
    {"fc": 7},
    ("a", "b", "c", "d", "e", "f", "g"),
    Preprocessing("BGR", np.array([1, 2, 3], np.float32), 0.5, (5, 4), "", "the command line"),
    (SourceFile("net.prototxt", "ab" * 32),),
    "an engine",
    {"caffeport": "0"},
    ("a note",),
)


def run_of(number: int, pictures: int, sample: int) -> Run:
    numbers = np.random.default_rng(number)
    conv, fc = numbers.standard_normal((pictures, 5, 3, 2)), numbers.standard_normal((pictures, 7))
    arrays = {("conv", "conv"): conv, ("fc", "fc"): fc}
    values = {
        key: sampled(array, key, pictures, number, sample) if sample else whole(array) for key, array in arrays.items()
    }
    return Run(
        number,
        tuple(Picture(f"{number}-{place}.png", f"{place:064}") for place in range(pictures)),
        {"data": numbers.standard_normal((pictures, 3, 5, 4)).astype(np.float32)},
        values,
        {"fc": fc.astype(np.float32)},
        (Broken(f"{number}.gif", "is empty"),),
    )


@pytest.fixture
def runs() -> list[Run]:
    """One run that is whole, one that has no picture, two that are sampled."""
    empty = Run(1, (), {}, {}, {}, (Broken("x.png", "is empty"),))
    return [run_of(0, 2, 0), empty, run_of(2, 4, 11), run_of(3, 1, 11)]


@pytest.fixture
def recorded(tmp_path: Path, runs: list[Run]) -> Path:
    path = tmp_path / "reference.h5"
    write_recording(path, FACTS, runs)
    return path


def same(one: Run, other: Run) -> None:
    assert (one.number, one.pictures, one.broken) == (other.number, other.pictures, other.broken)
    for mine, theirs in ((one.inputs, other.inputs), (one.outputs, other.outputs)):
        assert mine.keys() == theirs.keys()
        assert all(np.array_equal(mine[name], theirs[name]) for name in mine)
    assert one.values.keys() == other.values.keys()
    for key in one.values:
        mine, theirs = one.values[key], other.values[key]
        assert (mine.shape, mine.is_whole, mine.statistics) == (theirs.shape, theirs.is_whole, theirs.statistics)
        assert np.array_equal(mine.values, theirs.values)
        assert mine.values.dtype == theirs.values.dtype == np.float32
        if mine.index is not None:
            assert np.array_equal(mine.index, theirs.index)


def test_what_is_written_is_read(recorded, runs):
    recording = read_recording(recorded)
    assert recording.count == 4
    for run, read in zip(runs, recording.runs(), strict=True):
        same(run, read)
    same(runs[2], recording.run(2))  # in any order
    assert [picture.name for picture in recording.pictures] == [p.name for run in runs for p in run.pictures]
    facts = recording.facts
    assert str(facts.preprocessing) == "BGR, mean 1, 2, 3, scale 0.5"
    assert (facts.preprocessing.resize, facts.preprocessing.stated_by) == ((5, 4), "the command line")
    for name in ("network", "phase", "layers", "inputs", "outputs", "classes", "labels", "sources", "engine", "notes"):
        assert getattr(facts, name) == getattr(FACTS, name), name


def test_a_run_passes_through_bytes(runs):
    for run in runs:
        same(run, unpacked(packed(run, FACTS), FACTS, run.number))


def test_a_whole_run_can_feed_layers_and_a_sampled_one_cannot(runs):
    assert set(runs[0].whole) == {("", "data"), ("conv", "conv"), ("fc", "fc")}
    # fc has 7 values a picture, fewer than a sample takes: it is whole all the same.
    assert set(runs[2].whole) == {("", "data"), ("fc", "fc")}


class TestSample:
    def test_holds_as_many_values_of_each_picture_at_their_places(self):
        array = np.random.default_rng(1).standard_normal((3, 5, 7, 11))
        value = sampled(array, ("a", "b"), 3, 0, 50)
        assert value.index is not None
        assert list(value.index) == sorted(set(value.index))
        for place, number in zip(value.index, value.values):
            n, rest = divmod(int(place), 5 * 7 * 11)
            c, rest = divmod(rest, 7 * 11)
            h, w = divmod(rest, 11)
            assert number == np.float32(array[n, c, h, w])
        counts = np.bincount(value.index // (5 * 7 * 11))
        assert all(40 <= count <= 50 for count in counts)  # of 50 draws, a few hit the same place

    def test_is_the_same_at_every_call_and_another_for_another_layer(self):
        array = np.arange(3000.0).reshape(3, 1000)
        one, again, other = (sampled(array, (name, "t"), 3, 0, 50).index for name in ("a", "a", "b"))
        assert np.array_equal(one, again)
        assert not np.array_equal(one, other)

    def test_a_blob_that_small_is_whole(self):
        assert sampled(np.zeros((3, 50)), ("a", "b"), 3, 0, 50).is_whole


def test_statistics_are_those_of_a_literal_loop():
    array = np.random.default_rng(2).standard_normal((2, 3, 5)).astype(np.float32)
    largest = squares = total = 0.0
    for number in array.reshape(-1).tolist():
        largest, squares, total = max(largest, abs(number)), squares + number * number, total + number
    found = statistics_of(array)
    assert found.absmax == largest
    assert found.rms == pytest.approx(math.sqrt(squares / 30), rel=1e-12)
    assert found.mean == pytest.approx(total / 30, rel=1e-9)
    assert math.isnan(statistics_of(np.array([1, np.nan], np.float32)).rms)
    assert math.isinf(statistics_of(np.array([1, -np.inf], np.float32)).absmax)


def test_top_has_the_best_first_and_ties_in_order():
    assert top(np.array([0.1, 0.4, 0.1, 0.4]), 3) == [(1, 0.4), (3, 0.4), (0, 0.1)]


class TestIsRefused:
    def refusal(self, path: Path) -> str:
        with pytest.raises(Refused) as refused:
            list(read_recording(path).runs())
        assert len(refused.value.reasons) == 1
        return refused.value.reasons[0]

    def test_a_file_that_is_missing(self, tmp_path):
        path = tmp_path / "none.h5"
        assert self.refusal(path) == f"{path}: No such file or directory"

    def test_a_file_of_another_kind(self, tmp_path):
        path = tmp_path / "picture.h5"
        path.write_bytes(b"\x89PNG\r\n\x1a\n")
        assert self.refusal(path) == f"{path}: is no recording; make one with python -m tools.record"

    def test_hdf5_that_is_no_recording(self, tmp_path):
        path = tmp_path / "weights.h5"
        with h5py.File(path, "w") as file:
            file["data/conv1/0"] = np.zeros(3)
        assert self.refusal(path) == f"{path}: is HDF5, but no recording; make one with python -m tools.record"

    def test_another_version(self, recorded):
        with h5py.File(recorded, "a") as file:
            file.attrs["format"] = 7
        expected = f"{recorded}: is of recording format 7, this reads format 1; record it again"
        assert self.refusal(recorded) == expected

    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
    def test_a_truncated_file(self, recorded, share):
        data = recorded.read_bytes()
        recorded.write_bytes(data[: int(len(data) * share)])
        assert self.refusal(recorded).startswith(f"{recorded}: is no whole recording: ")

    def test_a_number_that_changed(self, recorded):
        with h5py.File(recorded) as file:
            offset = file["values"].id.get_chunk_info(0).byte_offset
        data = bytearray(recorded.read_bytes())
        data[offset + 20] ^= 1
        recorded.write_bytes(data)
        assert self.refusal(recorded).startswith(f"{recorded}: is no whole recording: ")

    @pytest.mark.parametrize("name", ["facts", "mean", "values", "index", "shapes", "inputs/0", "outputs/0", "counts"])
    def test_an_array_that_is_not_there(self, recorded, name):
        with h5py.File(recorded, "a") as file:
            del file[name]
        assert self.refusal(recorded) == f"{recorded}: is no whole recording: '{name}' is missing or a link"

    def test_an_array_in_another_file(self, recorded):
        with h5py.File(recorded, "a") as file:
            del file["values"]
            file["values"] = h5py.ExternalLink("/etc/hostname", "values")
        assert self.refusal(recorded) == f"{recorded}: is no whole recording: 'values' is missing or a link"

    def test_an_array_that_claims_more_than_the_file_holds(self, recorded):
        with h5py.File(recorded, "a") as file:
            del file["values"]
            file.create_dataset("values", (1 << 40,), "f4", chunks=(1 << 16,), compression="gzip")
        assert self.refusal(recorded) == f"{recorded}: is no whole recording: 'values' does not hold its numbers"

    def test_an_array_with_other_rows(self, recorded):
        with h5py.File(recorded, "a") as file:
            file["inputs/0"].resize(3, axis=0)
        assert self.refusal(recorded) == f"{recorded}: is no whole recording: 'inputs/0' has 3 rows, not 7"

    def test_places_outside_of_a_blob(self, recorded):
        with h5py.File(recorded, "a") as file:
            file["index"][3] = 10**6
        expected = f"{recorded}: is no whole recording: 'conv' has places outside of its blob"
        assert self.refusal(recorded) == expected

    @pytest.mark.parametrize("text", ["{", "[]", "{}", '{"runs": 3}'])
    def test_facts_that_are_none(self, recorded, text):
        with h5py.File(recorded, "a") as file:
            del file["facts"]
            file["facts"] = np.frombuffer(text.encode(), np.uint8)
        assert self.refusal(recorded).startswith(f"{recorded}: is no whole recording: ")

    def test_every_fact_that_is_missing_or_of_another_type(self, recorded):
        with h5py.File(recorded) as file:
            stated = json.loads(file["facts"][()].tobytes())
        for name in stated:
            for wrong in (None, 3, "x", [3], {"x": 3}):
                if (name in ("network", "phase", "engine")) or (wrong == "x" and name in ("labels", "notes")):
                    continue
                with h5py.File(recorded, "a") as file:
                    del file["facts"]
                    file["facts"] = np.frombuffer(json.dumps({**stated, name: wrong}).encode(), np.uint8)
                with suppress(Refused):  # anything else that is raised would be a traceback for the user
                    list(read_recording(recorded).runs())


def test_a_recording_without_a_picture_is_not_written(tmp_path):
    broken = (Broken("a.png", "is empty"), Broken("b.png", "is empty"))
    with pytest.raises(Refused) as refused:
        write_recording(tmp_path / "reference.h5", FACTS, [Run(0, (), {}, {}, {}, broken)])
    expected = ("a.png: is empty", "b.png: is empty", "none of the 2 pictures can be read")
    assert refused.value.reasons == expected
    assert not list(tmp_path.iterdir())
