"""Floats of 0 to 1 are no pictures of 0 to 255, and nobody takes a mean of those off them unasked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from graphs import value_range
from graphs.value_range import check_range, is_for_bytes
from weights import Refused

MEAN = np.array([104, 117, 123], np.float32)


def floats(low: float, high: float, *more: float) -> np.ndarray:
    """Returns five pictures that hold these values and some between."""
    values = np.linspace(low, high, 5 * 3 * 7 * 11, dtype=np.float32).reshape(5, 3, 7, 11)
    values.flat[100 : 100 + len(more)] = more
    return values


@pytest.mark.parametrize(
    ("mean", "scale", "is_so"),
    [
        (MEAN, 1.0, True),
        (MEAN, 0.017, True),
        ([0], 1 / 255, True),
        ([0], 0.00390625, True),
        ([0, 0, 0], 1.0, False),
        ([0.485, 0.456, 0.406], 4.4, False),
        ([0.5], 2.0, False),
        (np.full((2, 3, 3), 33.0), 1.0, True),
        ([127.5], [1 / 58, 1 / 57, 1 / 56], True),
    ],
)
def test_what_mean_and_scale_are_for(mean, scale, is_so):
    assert is_for_bytes(mean, scale) == is_so


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    ("low", "high", "way"),
    [
        (0, 1, "say --raw-scale 255 where 1 stands for 255, --raw-scale 1 where they are meant as they are"),
        (0, 0, "say --raw-scale 255 where 1 stands for 255, --raw-scale 1 where they are meant as they are"),
        (-1, 1, "save them as 0 to 255, or say --raw-scale 1 where they are meant as they are"),
    ],
)
def test_floats_that_stay_within_1_are_refused(low, high, way, dtype):
    with pytest.raises(Refused) as refused:
        check_range("x.npy", floats(low, high).astype(dtype), MEAN, 0.5)
    found = f"holds floats of {low} to {high}, but mean 104, 117, 123 and scale 0.5 are for values of 0 to 255"
    assert str(refused.value) == f"x.npy: {found}; {way}"


def test_a_mean_picture_is_told_by_its_shape():
    with pytest.raises(Refused, match=r"but the mean picture \(7x11x3\) and scale 1 are for values of 0 to 255; "):
        check_range("x.npy", floats(0, 1), np.full((7, 11, 3), 99.0), 1.0)


@pytest.mark.parametrize(
    "pictures",
    [
        floats(0, 255),
        floats(0, 1, 1.5),
        floats(-20, 270),
        floats(0, 255).astype(np.uint8),
        np.zeros((5, 3, 7, 11), np.uint8),
        np.ones((5, 3, 7, 11), np.int64),
    ],
)
def test_values_of_0_to_255_and_whole_numbers_pass(pictures):
    assert check_range("x.npy", pictures, MEAN, 1.0) == ()


def test_without_a_mean_and_a_scale_anything_passes():
    assert check_range("x.npy", floats(-1, 1), [0, 0, 0], 1.0) == ()


@pytest.mark.parametrize(("low", "high"), [(-123, 151), (0, 4000)])
def test_values_that_are_hardly_a_picture_s_are_said(low, high):
    (note,) = check_range("x.npy", floats(low, high), MEAN, 1.0)
    assert note == (
        f"x.npy: holds floats of {low} to {high}; mean 104, 117, 123 and scale 1 are for values of 0 to 255"
    )


def test_what_is_no_number_is_left_to_who_reads_it():
    assert check_range("x.npy", floats(0, 255, np.nan), MEAN, 1.0) == ()
    with pytest.raises(Refused, match="holds floats of 0 to 1, but"):
        check_range("x.npy", floats(0, 1, np.nan), MEAN, 1.0)


def test_an_array_on_the_disk_is_read_up_to_the_first_value_above_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    taken = []

    class Watched(np.memmap):
        def __getitem__(self, rows):
            taken.append(rows)
            return super().__getitem__(rows)

    monkeypatch.setattr(value_range, "BLOCK", 2 * floats(0, 1)[0].nbytes)
    np.save(tmp_path / "x.npy", floats(0, 1))
    array = np.load(tmp_path / "x.npy", mmap_mode="r+")
    with pytest.raises(Refused):
        check_range("x.npy", array.view(Watched), MEAN, 1.0)
    assert [rows.start for rows in taken if rows.start is not None] == [0, 2, 4]
    taken.clear()
    array[2, 0, 0, 0] = 200
    assert check_range("x.npy", array.view(Watched), MEAN, 1.0) == ()
    assert [rows.start for rows in taken if rows.start is not None] == [0, 2]
