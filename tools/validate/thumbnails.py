"""Small pictures of what a network was fed, the preprocessing undone: only those that a page shows."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tools.recording import Preprocessing, Truth
from tools.validate.report import Prediction

SIDE, SMALL = 160, 64
"""Pixels of the longer side at most; up to how many a picture is kept to the last bit, as PNG, and drawn unsmoothed."""

SLACK = 2.0
"""How far beyond 0..255 rounding may bring an undone value."""

Place = tuple[int, int]
"""(run, row): names a picture of a truth."""


@dataclass(frozen=True)
class Thumbnail:
    """A picture as a data: URI, (``width``, ``height``) pixels. ``is_stretched`` where its values were no 0..255 after
    all, and were brought there; ``sha256`` is of the picture's own bytes."""

    uri: str
    width: int
    height: int
    is_stretched: bool
    sha256: str

    @property
    def is_small(self) -> bool:
        """Whether its pixels are to be seen as squares."""
        return max(self.width, self.height) <= SMALL


def thumbnails(truth: Truth, predictions: Iterable[Prediction]) -> dict[Place, Thumbnail]:
    """Returns (run, row) -> the picture, for those of the predictions whose inputs can be shown: one or three channels.

    Runs are read one after the other, their inputs alone. Raises Refused where a recording is broken there.
    """
    wanted: dict[int, dict[int, str]] = {}
    for one in predictions:
        wanted.setdefault(one.run, {})[one.row] = one.picture
    found = {}
    for number, rows in sorted(wanted.items()):
        pictures, inputs = truth.fed(number)
        shown = next((array for array in inputs.values() if array.ndim == 4 and array.shape[1] in (1, 3)), None)
        for row, name in rows.items():
            if shown is None or row >= len(pictures) or pictures[row].name != name:
                continue  # a file that could be read before has gone since
            values, is_stretched = as_picture(shown[row], truth.facts.preprocessing)
            found[number, row] = _encoded(values, is_stretched, pictures[row].sha256)
    return found


def as_picture(fed: np.ndarray, preprocessing: Preprocessing) -> tuple[np.ndarray, bool]:
    """Returns what was fed, (C, H, W), as uint8 (H, W, C), R, G, B or grey: divided by the scale, the mean added. Where
    that is not within 0..255, or nearly nothing of it, values are stretched to it, and the second is True."""
    mean = preprocessing.mean if preprocessing.mean.ndim == 3 else preprocessing.mean.reshape(-1, 1, 1)
    fitting = all(size in (1, own) for size, own in zip(mean.shape, fed.shape))
    values = fed.astype(np.float64) / (preprocessing.scale or 1.0) + (mean if fitting else 0.0)
    values = np.nan_to_num(values, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    is_stretched = low < -SLACK or high > 255 + SLACK or (high <= SLACK and high > low)
    if is_stretched:
        values = (values - low) * (255 / (high - low))
    if len(values) == 3 and preprocessing.channel_order != "RGB":
        values = values[::-1]
    return np.moveaxis(values, 0, -1).round().clip(0, 255).astype(np.uint8), is_stretched


def _encoded(values: np.ndarray, is_stretched: bool, digest: str) -> Thumbnail:
    from PIL import Image

    image = Image.fromarray(values[:, :, 0] if values.shape[2] == 1 else values)
    is_small = max(image.size) <= SMALL
    image.thumbnail((SIDE, SIDE))
    content = io.BytesIO()
    image.save(content, **({"format": "PNG"} if is_small else {"format": "JPEG", "quality": 80}), optimize=True)
    kind = "png" if is_small else "jpeg"
    uri = f"data:image/{kind};base64,{base64.b64encode(content.getvalue()).decode()}"
    width, height = image.size
    return Thumbnail(uri, width, height, is_stretched, digest)
