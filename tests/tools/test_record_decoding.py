"""tools.record.decoding: pictures as Caffe's tools read them, held against OpenCV itself."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from tools.record.decoding import decode, resized
from weights import Refused

Image = pytest.importorskip("PIL.Image")
cv2 = pytest.importorskip("cv2")


def picture(height: int = 7, width: int = 11, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (height, width, channels)).astype(np.uint8)


def saved(image, kind: str = "PNG", **options) -> bytes:
    held = io.BytesIO()
    image.save(held, kind, **options)
    return held.getvalue()


def by_opencv(data: bytes, channels: int = 3) -> np.ndarray:
    read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR if channels == 3 else cv2.IMREAD_GRAYSCALE)
    return read.reshape(*read.shape[:2], channels)


class TestDecode:
    @pytest.mark.parametrize("mode", ["RGB", "L", "P", "1"])
    def test_plain_pictures_are_opencv_s(self, mode):
        data = saved(Image.fromarray(picture()).convert(mode))
        assert np.array_equal(decode(data, 3), by_opencv(data))

    @pytest.mark.parametrize("mode", ["RGBA", "LA"])
    def test_transparency_is_dropped_not_blended(self, mode):
        image = Image.fromarray(picture()).convert("RGBA")
        image.putalpha(Image.fromarray(picture(channels=1)[:, :, 0]))
        data = saved(image.convert(mode))
        assert np.array_equal(decode(data, 3), by_opencv(data))

    def test_sixteen_bits_lose_the_low_byte(self):
        deep = np.random.default_rng(6).integers(0, 65536, (7, 11)).astype(np.uint16)
        data = saved(Image.fromarray(deep))
        assert np.array_equal(decode(data, 1)[:, :, 0], deep >> 8)
        assert np.array_equal(decode(data, 3), by_opencv(data))

    def test_sixteen_bit_colours_lose_the_low_byte(self):
        deep = np.random.default_rng(6).integers(0, 65536, (7, 11, 3)).astype(np.uint16)
        data = cv2.imencode(".png", deep)[1].tobytes()
        assert np.array_equal(decode(data, 3), (deep >> 8).astype(np.uint8))

    def test_a_jpeg_is_opencv_s(self):
        data = saved(Image.fromarray(picture(64, 48)), "JPEG")
        assert np.abs(decode(data, 3).astype(int) - by_opencv(data)).max() <= 1
        assert np.abs(decode(data, 1).astype(int) - by_opencv(data, 1)).max() <= 1

    def test_cmyk_is_converted_as_opencv_does(self):
        data = saved(Image.fromarray(picture(64, 48)).convert("CMYK"), "JPEG")
        assert np.abs(decode(data, 3).astype(int) - by_opencv(data)).max() <= 2

    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_exif_rotation_is_followed_as_opencv_does(self, orientation):
        exif = Image.Exif()
        exif[0x0112] = orientation
        data = saved(Image.fromarray(picture(64, 48)), "JPEG", exif=exif)
        own, theirs = decode(data, 3), by_opencv(data)
        assert own.shape == theirs.shape == ((64, 48, 3) if orientation < 5 else (48, 64, 3))
        assert np.abs(own.astype(int) - theirs).max() <= 1


def refusal(data: bytes, channels: int = 3) -> str:
    with pytest.raises(Refused) as refused:
        decode(data, channels)
    assert len(refused.value.reasons) == 1
    return refused.value.reasons[0]


class TestIsRefused:
    def test_an_empty_file(self):
        assert refusal(b"") == "is empty"

    def test_text(self):
        assert refusal(b"not a picture") == "is no picture that Pillow can read"

    def test_a_truncated_picture(self):
        data = saved(Image.fromarray(picture(64, 48)), "JPEG")
        assert refusal(data[:-200]).startswith("is no whole picture: ")

    def test_an_animated_picture(self):
        frames = [Image.fromarray(picture()[:, :, 0] // (one + 1)) for one in range(3)]
        data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
        assert refusal(data) == "is animated (3 frames); Caffe reads still pictures: save the one that is meant"

    @pytest.mark.parametrize(("side", "reason"), [
        (10000, "has 100.0 million pixels; at most 64 million are read: make it smaller"),
        (20000, "has more than 64 million pixels: make it smaller"),
    ])  # fmt: skip
    def test_a_hundred_megapixels_before_they_are_unpacked(self, side, reason):
        def chunk(kind: bytes, content: bytes) -> bytes:
            return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
        assert refusal(data) == reason

    def test_fractions(self):
        assert refusal(saved(Image.fromarray(np.ones((5, 7), np.float32)), "TIFF")) == (
            "holds fractions; save it with 8 bits in a channel"
        )

    def test_more_than_sixteen_bits(self):
        assert refusal(saved(Image.fromarray(np.full((5, 7), 70000, np.int32)), "TIFF")) == (
            "has more than 16 bits in a channel; save it with 8"
        )


class TestResized:
    @pytest.mark.parametrize("old", [(31, 23), (227, 331), (454, 508), (1009, 773)])
    @pytest.mark.parametrize("size", [(5, 3), (13, 17), (227, 227), (227, 254), (3, 29), (1021, 401)])
    @pytest.mark.parametrize("channels", [1, 3])
    def test_is_opencv_s_to_the_last_bit(self, old, size, channels):
        image = picture(*old, channels)
        own = resized(image, size)
        assert own.dtype == np.uint8
        assert np.array_equal(own, cv2.resize(image, size[::-1]).reshape(*size, channels))

    def test_fractions_stay_fractions(self):
        image = np.random.default_rng(7).standard_normal((31, 23, 3)).astype(np.float32)
        assert np.abs(resized(image, (13, 17)) - cv2.resize(image, (17, 13))).max() < 1e-5

    def test_the_photographs_are_opencv_s_within_what_jpeg_decoders_differ_by(self, shared: Path):
        for path in sorted((shared / "images").iterdir()):
            own = resized(decode(path.read_bytes(), 3), (227, 227))
            theirs = cv2.resize(cv2.imread(str(path)), (227, 227))
            assert np.abs(own.astype(int) - theirs).max() <= 1, path.name
