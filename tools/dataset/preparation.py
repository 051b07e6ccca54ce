"""How a picture becomes what a network reads in training: Caffe's DataTransformer, and cv::resize before it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.layer import spell
from tools.record.decoding import decode, resized
from tools.record.preprocessing import Asked, settle
from weights import Refused, Shape


@dataclass(frozen=True, eq=False)
class Preparation:
    """How a picture becomes input of ``height``, ``width`` and ``channels``, float32 (H, W, C).

    A file is read as Caffe reads it (B, G, R, 8 bits), brought to ``resize`` (height, width; None: left as it is), and
    a window of the input's size is taken: anywhere in training, else the middle. ``mean`` is taken off, (C,) or
    (H, W, C) of the size that is cropped, then all is multiplied by ``scale``. In training, where ``mirror``, every
    other picture is mirrored. An array's channels stay in their order, and its floats are multiplied by ``raw_scale``
    before all; a file's channels become ``channel_order``.
    """

    height: int
    width: int
    channels: int
    channel_order: str
    mean: np.ndarray
    scale: float = 1.0
    resize: tuple[int, int] | None = None
    mirror: bool = False
    raw_scale: float = 1.0

    def pixels(self, picture: bytes | np.ndarray) -> np.ndarray:
        """Returns what is cropped: the picture in the size ``resize``, (H, W, C), a file's channels in order.

        Raises Refused with the reason where it is none, or does not fit.
        """
        values = decode(picture, self.channels) if isinstance(picture, bytes) else picture
        if values.shape[2] != self.channels:
            raise Refused(f"has {values.shape[2]} channels, the network's input {self.channels}")
        values = resized(values, self.resize) if self.resize else values
        if values.shape[0] < self.height or values.shape[1] < self.width:
            wanted = spell((self.height, self.width))
            raise Refused(f"is {spell(values.shape[:2])}, smaller than the input, {wanted}; --resize SIZE enlarges it")
        if self.mean.ndim == 3 and self.mean.shape[:2] != values.shape[:2]:
            raise Refused(f"is {spell(values.shape[:2])}, but the mean is {spell(self.mean.shape[:2])}")
        return values[:, :, ::-1] if isinstance(picture, bytes) and self.channel_order == "RGB" else values

    def window(self, size: tuple[int, ...], rng: np.random.Generator | None) -> tuple[int, int, bool]:
        """Returns where the crop of a picture of ``size`` begins, from the top and from the left, and whether it is
        mirrored: drawn from ``rng``, or the middle, and not mirrored, without."""
        down, right = size[0] - self.height, size[1] - self.width
        if rng is None:
            return down // 2, right // 2, False
        top, left = int(rng.integers(down + 1)), int(rng.integers(right + 1))
        return top, left, self.mirror and bool(rng.integers(2))

    def input(self, picture: bytes | np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        """Returns a picture as the network reads it, float32 (H, W, C); in training with ``rng``, which draws crop and
        mirror. Raises Refused with the reason where it is none, or does not fit."""
        pixels = self.pixels(picture)
        top, left, mirrored = self.window(pixels.shape, rng)
        rows, columns = slice(top, top + self.height), slice(left, left + self.width)
        values = pixels[rows, columns].astype(np.float32, order="C")
        if self.raw_scale != 1 and pixels.dtype.kind == "f":
            values *= np.float32(self.raw_scale)
        values -= self.mean[rows, columns] if self.mean.ndim == 3 else np.tile(self.mean, (self.width, 1))
        values *= np.float32(self.scale)
        return values[:, ::-1] if mirrored else values


def order_notes(arrays: Iterable[str], preparation: Preparation) -> list[str]:
    """Returns what to say of arrays of coloured pictures, by their names: nothing tells in which order colours lie."""
    read = ", ".join(preparation.channel_order)
    return [f"{name}: its channels are fed as they lie; the network reads {read}" for name in arrays if read]


def prepare(shape: Shape, stated: Mapping[str, Any], asked: Asked, mirror: bool | None = None) -> Preparation:
    """Returns how pictures become input of ``shape`` (N, C, H, W).

    ``stated`` is what a manifest has as ``preprocessing`` (what a prototxt's ``transform_param`` said); what is
    ``asked`` and ``mirror`` go before it. Pictures are brought to the size that was asked for, else to the mean
    picture's, else to the input's. Raises Refused where something can't be honoured.
    """
    fact, settled = settle(shape, stated, asked)
    mean = fact.mean
    if asked.mean is not None and asked.mean.ndim == 3:
        mean = np.moveaxis(asked.mean, 0, -1)  # whole: it is cropped where the picture is
    return Preparation(
        settled.height,
        settled.width,
        settled.channels,
        fact.channel_order,
        np.ascontiguousarray(mean, np.float32),
        float(settled.scale),
        settled.resize,
        bool(stated.get("mirror", False)) if mirror is None else mirror,
        1.0 if asked.raw_scale is None else asked.raw_scale,
    )
