"""From picture files to what a network reads: decoded and resized as Caffe's own tools do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from graphs.layer import spell
from graphs.layers.data import Transform
from tools.record.decoding import decode, resized
from weights import Refused, Shape


@dataclass(frozen=True, eq=False)
class Preparation:
    """How a picture becomes input of ``channels`` (1: grey; 3: in ``channel_order``), ``height`` and ``width``.

    It is brought to ``resize`` (height, width), and the middle of that is used. From its values, 0 to 255, ``mean`` is
    subtracted (C, or H, W, C of the input's size), and the rest is multiplied by ``scale``.
    """

    channels: int
    height: int
    width: int
    resize: tuple[int, int]
    mean: np.ndarray
    scale: float
    channel_order: str = "BGR"

    def read(self, path: Path) -> np.ndarray:
        """Returns the picture in ``path`` in the input's size, uint8 (H, W, C). Raises Refused where it is none."""
        try:
            picture = decode(path.read_bytes(), self.channels)
        except OSError as error:
            raise Refused(f"{path}: {error.strerror or error}") from error
        except Refused as refused:
            raise refused if "needs Pillow" in str(refused) else refused.within(str(path)) from refused
        middle = _middle(resized(picture, self.resize), self.height, self.width)
        return middle[:, :, ::-1] if self.channel_order == "RGB" else middle

    def fed(self, pictures: np.ndarray) -> np.ndarray:
        """Returns uint8 (N, H, W, C) as the network's graph reads it, float32."""
        return (pictures - self.mean) * np.float32(self.scale)


def _middle(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns the middle of H, W, C, as Caffe crops it in phase TEST."""
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return picture[top : top + height, left : left + width]


def prepare(
    shape: Shape,
    stated: Mapping[str, Any],
    mean: np.ndarray | None = None,
    scale: float | None = None,
    resize: int | None = None,
) -> Preparation:
    """Returns how pictures become input of ``shape`` (N, C, H, W) by what a manifest states as ``preprocessing``.

    ``mean`` (C, or C, H, W) and ``scale`` replace what is stated. Pictures are brought to ``resize`` in height and
    width, else to the size of a mean of three axes, else to the input's. ``mirror`` is left to training. Raises Refused
    where something can't be honoured.
    """
    channels, height, width = shape[1:]
    _check(stated, channels, (height, width))
    if mean is None:
        if stated.get("mean_file") and not stated.get("mean_value"):  # beside a mean picture: its averages
            raise Refused(f'the definition states mean_file "{stated["mean_file"]}"; give that file with --mean')
        mean = np.array(stated.get("mean_value") or (0,), np.float32)
    if len(mean) not in (1, channels):
        raise Refused(f"the mean has {len(mean)} channels, the input {channels}")
    size = (resize, resize) if resize else (height, width) if mean.ndim == 1 else (mean.shape[1], mean.shape[2])
    if size[0] < height or size[1] < width:
        raise Refused(f"pictures of {spell(size)} are too small for the input, {spell((height, width))}")
    if mean.ndim == 3:
        if mean.shape[1:] != size:
            raise Refused(f"pictures are brought to {spell(size)}, but the mean is {spell(mean.shape[1:])}")
        mean = _middle(np.moveaxis(mean, 0, -1), height, width)
    order = stated.get("channel_order", "BGR")
    return Preparation(channels, height, width, size, mean, stated.get("scale", 1.0) if scale is None else scale, order)


def _check(stated: Mapping[str, Any], channels: int, size: tuple[int, int]) -> None:
    """Raises Refused where what is stated is unknown, or contradicts the input."""
    unknown = stated.keys() - {field.name for field in fields(Transform)} - {"channel_order"}
    if unknown:
        raise Refused(f"preprocessing that is unknown here: {', '.join(sorted(unknown))}")
    crop = stated.get("crop_size")
    if crop and (crop, crop) != size:
        raise Refused(f"the definition states crop_size {crop}, but the input is {spell(size)}")
    for force, wanted in (("force_color", 3), ("force_gray", 1)):
        if stated.get(force) and channels != wanted:
            raise Refused(f"the definition states {force}, but the input's channels are {channels}")


def read_all(paths: Sequence[Path], preparation: Preparation) -> np.ndarray:
    """Returns the pictures, uint8 (N, H, W, C). Raises Refused with all that are missing or broken."""
    pictures: list[np.ndarray] = []
    problems: list[str] = []
    for path in paths:
        try:
            pictures.append(preparation.read(path))
        except Refused as refused:
            problems += refused.reasons
    if problems:
        raise Refused(*dict.fromkeys(problems))  # that Pillow is missing is said once
    return np.stack(pictures)
