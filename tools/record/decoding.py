"""Picture files and arrays as Caffe's own tools read and resize them.

Caffe's tools (convert_imageset, ImageData, the C++ classification example) use OpenCV's cv::imread and cv::resize. The
same here, without OpenCV: B, G, R of 8 bits; of 16 bits the high byte; grey spread over three channels; transparency
dropped, not blended; CMYK converted; rotated as EXIF says (OpenCV does so since 3.1); resized bilinearly between the
pixels' centres, without smoothing first.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from weights import Refused

LARGEST = 64_000_000
"""Pixels of a picture: a larger one takes memory for nothing, as networks read far fewer."""


def decode(data: bytes, channels: int) -> np.ndarray:
    """Returns a picture file's values, uint8 (H, W, C), B, G, R or grey. Raises Refused where it is none, is broken,
    animated, too large, or holds fractions."""
    if not data:
        raise Refused("is empty")
    with _refusing():
        from PIL import Image, ImageOps

        with Image.open(io.BytesIO(data)) as image:
            _check(image)
            image.verify()  # checksums, which decoding passes over
        with Image.open(io.BytesIO(data)) as image:
            if channels == 1:
                image.draft("L", image.size)  # a JPEG's brightness as it is stored
            upright = _eight_bits(ImageOps.exif_transpose(image), "L" if channels == 1 else "RGB")
            values = upright.tobytes("raw", "L" if channels == 1 else "BGR")
    return np.frombuffer(values, np.uint8).reshape(upright.height, upright.width, channels)


def check(file: BinaryIO) -> None:
    """Reads a picture file's beginning. Raises Refused where it is no picture's, or the picture's is animated or too
    large."""
    with _refusing():
        from PIL import Image

        with Image.open(file) as image:
            _check(image)


@contextmanager
def _refusing() -> Iterator[None]:
    """Raises Refused for what Pillow raises inside, and where it is not installed."""
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise Refused("reading pictures needs Pillow: pip install 'caffeport[pictures]'") from error
    # Of metadata, and of sizes, which are checked here. By module, as catch_warnings is for programs of one thread.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    try:
        yield
    except Refused:
        raise
    except Image.UnidentifiedImageError as error:
        raise Refused("is no picture that Pillow can read") from error
    except Image.DecompressionBombError as error:
        raise Refused(f"has more than {LARGEST / 1e6:.0f} million pixels") from error
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error and others
        raise Refused(f"is no whole picture: {error}") from error


def _check(image: Any) -> None:
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise Refused(f"is animated ({frames} frames); Caffe reads still pictures")
    if image.width * image.height > LARGEST:
        millions = image.width * image.height / 1e6
        raise Refused(f"has {millions:.1f} million pixels; at most {LARGEST / 1e6:.0f} million are read")


def _eight_bits(image: Any, mode: str) -> Any:
    """Returns the picture in ``mode``, 8 bits a channel: of deeper ones the high byte, as OpenCV has it."""
    from PIL import Image

    if image.mode == "F":
        raise Refused("holds fractions; save it with 8 bits in a channel")
    if image.mode.startswith("I"):
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 65535:
            raise Refused("has more than 16 bits in a channel; save it with 8")
        image = Image.fromarray((values >> 8).astype(np.uint8))
    return image.convert(mode)


def resized(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns (H, W, C) brought to ``size`` (height, width) as cv::resize does (INTER_LINEAR); whole numbers stay
    whole, rounded as there to within one."""
    if picture.shape[:2] == size:
        return picture
    height, width, channels = picture.shape
    above, below, down = _neighbours(height, size[0])
    left, right, across = _neighbours(width, size[1])
    lines = picture.reshape(height, width * channels)  # NumPy is fast along long axes, and three channels are short
    rows = lines[above] * (1 - down)[:, None]
    rows += lines[below] * down[:, None]
    rows = rows.reshape(size[0], width, channels)
    values = rows.take(left, axis=1).reshape(size[0], -1) * np.repeat(1 - across, channels)
    values += rows.take(right, axis=1).reshape(size[0], -1) * np.repeat(across, channels)
    if picture.dtype.kind != "f":
        values += np.float32(0.5)
        np.floor(values, out=values)
    return values.reshape(*size, channels).astype(picture.dtype)


def _neighbours(old: int, new: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns, for each place of the new axis, the old places on both sides and the share of the second."""
    centre = (np.arange(new) + 0.5) * (old / new) - 0.5
    first = np.floor(centre).astype(int)
    share = (centre - first).astype(np.float32)
    share[(first < 0) | (first >= old - 1)] = 0  # beyond the outermost centres: the border itself
    first = first.clip(0, old - 1)
    return first, (first + 1).clip(0, old - 1), share
