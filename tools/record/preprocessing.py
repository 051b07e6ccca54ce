"""From what was said about preprocessing, on the command line or in the definition, to numbers that are fed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.value_range import check_range
from tools.pictures import Preparation, prepare
from tools.recording import Preprocessing
from weights import Refused, Shape


@dataclass(frozen=True, eq=False)
class Asked:
    """What the command line says of preprocessing; None where it is silent. ``mean`` is (C,) or (C, H, W);
    ``raw_scale`` is what the floats of arrays are multiplied by before all else, as Caffe's own tools call it."""

    mean: np.ndarray | None = None
    mean_file: str = ""
    scale: float | None = None
    channel_order: str | None = None
    resize: int | None = None
    crop: int | None = None
    raw_scale: float | None = None

    @property
    def is_silent(self) -> bool:
        """Whether nothing was asked that changes values."""
        return self.mean is None and self.scale is None and self.channel_order is None


def settle(shape: Shape, stated: Mapping[str, Any], asked: Asked) -> tuple[Preprocessing, Preparation]:
    """Returns how pictures become input of ``shape`` (N, C, H, W), as a fact and ready for use.

    ``stated`` is what a manifest has as ``preprocessing``; what is ``asked`` goes before it. Raises Refused where
    something can't be honoured.
    """
    if asked.mean is None and stated.get("mean_file") and not stated.get("mean_value"):
        raise Refused(f'the definition states mean_file "{stated["mean_file"]}"; give that file with --mean-file')
    preparation = prepare(shape, stated, asked.mean, asked.scale, asked.resize)
    height, width = preparation.height, preparation.width
    if asked.crop and (asked.crop, asked.crop) != (height, width):
        raise Refused(f"--crop {asked.crop}: the network's input is {height}x{width}")
    channels = preparation.channels
    order = "" if channels == 1 else asked.channel_order or stated.get("channel_order", "BGR")
    mean = np.asarray(preparation.mean, np.float32)
    mean = np.moveaxis(mean, -1, 0) if mean.ndim == 3 else mean
    stated_by = "the definition" if stated else "nothing"
    file = asked.mean_file if asked.mean is not None else str(stated.get("mean_file", ""))
    return Preprocessing(
        order, mean, float(preparation.scale), preparation.resize, file,
        stated_by if asked.is_silent else "the command line",
    ), preparation  # fmt: skip


def check_arrays(arrays: Mapping[str, np.ndarray], asked: Asked, mean: np.ndarray, scale: float) -> tuple[str, ...]:
    """Returns notes on arrays of pictures, by their names, that ``mean`` and ``scale`` are about to be applied to.

    Raises Refused with each whose floats stay within 1 where values of 0 to 255 are expected and ``asked`` does not
    say by ``raw_scale`` what they are.
    """
    floats = {name: array for name, array in arrays.items() if array.dtype.kind == "f"}
    if asked.raw_scale is not None:
        return () if floats else ("--raw-scale has no effect: it is for arrays of floats, and there are none",)
    notes: list[str] = []
    problems: list[str] = []
    for name, array in floats.items():
        try:
            notes += check_range(name, array, mean, scale)
        except Refused as refused:
            problems += refused.reasons
    if problems:
        raise Refused(*problems)
    return tuple(notes)


def array_notes(arrays: Mapping[str, np.ndarray], asked: Asked, preprocessing: Preprocessing) -> tuple[str, ...]:
    """Returns what a recording says of how arrays are taken: nothing in them tells it."""
    notes = []
    if asked.raw_scale is not None and any(array.dtype.kind == "f" for array in arrays.values()):
        notes.append(f"floats of arrays are multiplied by {asked.raw_scale:g} first, as --raw-scale says")
    if arrays and preprocessing.channel_order:
        turned = "" if preprocessing.channel_order == "BGR" else f", and turned to {preprocessing.channel_order}"
        notes.append(f"channels of arrays are taken for BGR{turned}")
    return tuple(notes)


def fed(pictures: list[np.ndarray], preprocessing: Preprocessing, height: int, width: int) -> np.ndarray:
    """Returns pictures, (H, W, C) in B, G, R order and of the size ``preprocessing.resize``, as they are fed: the
    middle of ``height`` by ``width``, float32 (N, C, H, W)."""
    stacked = np.stack(pictures)
    top, left = (stacked.shape[1] - height) // 2, (stacked.shape[2] - width) // 2
    middle = stacked[:, top : top + height, left : left + width]
    if preprocessing.channel_order == "RGB":
        middle = middle[:, :, :, ::-1]
    mean = preprocessing.mean
    values = np.moveaxis(middle, -1, 1).astype(np.float32) - (mean if mean.ndim == 3 else mean[:, None, None])
    return np.ascontiguousarray(values * np.float32(preprocessing.scale), np.float32)
