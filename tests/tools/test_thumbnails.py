"""Small pictures of what was fed."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest

from converter import convert
from tools.record.engines import Reference
from tools.record.live import live
from tools.record.pictures import PictureSource, list_pictures
from tools.record.preprocessing import Asked, fed
from tools.recording import Preprocessing
from tools.recording_file import read_recording
from tools.validate.report import Guess, Prediction
from tools.validate.thumbnails import SIDE, as_picture, thumbnails

Image = pytest.importorskip("PIL.Image")


def prediction(name: str, run: int, row: int) -> Prediction:
    return Prediction(name, "prob", (Guess(0, "a", 1.0),), (Guess(0, "a", 1.0),), 1.0, 0.0, 1, run, row)


def opened(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


@pytest.mark.parametrize("order", ["BGR", "RGB"])
@pytest.mark.parametrize("scale", [1.0, 1 / 256])
@pytest.mark.parametrize("kind", ["nothing", "channels", "picture"])
def test_the_preprocessing_is_undone(rng, order, scale, kind):
    picture = rng.integers(0, 256, (13, 17, 3)).astype(np.uint8)  # B, G, R
    means = {
        "nothing": np.zeros(1),
        "channels": np.array([104.0, 117, 123]),
        "picture": rng.uniform(90, 130, (3, 7, 11)),
    }
    preprocessing = Preprocessing(order, means[kind].astype(np.float32), scale)
    found, is_stretched = as_picture(fed([picture], preprocessing, 7, 11)[0], preprocessing)
    assert not is_stretched
    np.testing.assert_array_equal(found, picture[3:10, 3:14, ::-1])


def test_one_channel(rng):
    picture = rng.integers(0, 256, (7, 11, 1)).astype(np.uint8)
    preprocessing = Preprocessing("", np.zeros(1, np.float32), 1 / 256)
    np.testing.assert_array_equal(as_picture(fed([picture], preprocessing, 7, 11)[0], preprocessing)[0], picture)


@pytest.mark.parametrize("values", [(0.0, 1.0), (-123.0, 151.0), (0.0, 65535.0)])
def test_what_is_no_picture_of_8_bits_is_stretched_and_that_is_said(values):
    array = np.linspace(*values, 3 * 5 * 7, dtype=np.float32).reshape(3, 5, 7)
    array[1, 2, 3] = np.nan
    found, is_stretched = as_picture(array, Preprocessing("RGB"))
    assert is_stretched
    assert (found.min(), found.max(), found.dtype) == (0, 255, np.uint8)


def test_a_blank_picture_stays_blank():
    found, is_stretched = as_picture(np.zeros((1, 5, 7), np.float32), Preprocessing(""))
    assert (found.max(), is_stretched) == (0, False)


def test_of_a_recording_those_that_are_asked_for(demo):
    truth = read_recording(demo / "reference.h5")
    names = [picture.name for picture in truth.pictures]
    last = truth.heads[-1]
    asked = [prediction(last.pictures[-1].name, truth.count - 1, len(last.pictures) - 1), prediction(names[0], 0, 0)]
    found = thumbnails(truth, asked)
    assert sorted(found) == [(0, 0), (truth.count - 1, len(last.pictures) - 1)]
    for one, name in (
        (found[0, 0], names[0]),
        (found[truth.count - 1, len(last.pictures) - 1], last.pictures[-1].name),
    ):
        expected = np.asarray(Image.open(demo / "pictures" / name).convert("L"))
        np.testing.assert_array_equal(opened(one.uri), expected)  # PNG: to the last bit
        assert one.is_small


def test_a_live_truth_computes_nothing_for_them(demo):
    class Idle(Reference):
        def run(self, inputs):
            raise AssertionError("nothing is to be computed")

    port = convert(demo / "digits.prototxt", demo / "digits.caffemodel")
    pictures, _ = list_pictures([demo / "pictures"])
    truth = live(port, Idle(port), pictures, Asked(), batch=4)
    found = thumbnails(truth, [prediction("digit-6.png", 1, 2), prediction("gone.png", 1, 3)])
    assert list(found) == [(1, 2)]  # row 3 of run 1 is another picture
    expected = np.asarray(Image.open(demo / "pictures" / "digit-6.png").convert("L"))
    np.testing.assert_array_equal(opened(found[1, 2].uri), expected)


def test_photographs_look_like_the_photographs(shared):
    pictures, _ = list_pictures([shared / "images"])
    preprocessing = Preprocessing("BGR", np.array([104, 117, 123], np.float32))
    assert len(pictures) == 6

    class Photographs:
        facts = type("Facts", (), {"preprocessing": preprocessing})

        def fed(self, number):
            source: PictureSource = pictures[number]
            array, digest = source.read(3, (227, 227))
            one = type("Picture", (), {"name": source.name, "sha256": digest})
            return (one,), {"data": fed([array], preprocessing, 227, 227)}

    found = thumbnails(Photographs(), [prediction(one.name, number, 0) for number, one in enumerate(pictures)])
    for number, source in enumerate(pictures):
        one = found[number, 0]
        assert (one.width, one.height, one.is_stretched, one.is_small) == (SIDE, SIDE, False, False)
        assert len(one.uri) < 20_000
        expected = Image.open(source.path).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
        apart = np.abs(opened(one.uri).astype(int) - np.asarray(expected).astype(int)).mean()
        assert apart < 8, source.name  # a swap of channels makes 11 to 25
