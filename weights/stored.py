"""The one in-memory form of weights that every file format is read into."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from weights.layout import Shape
from weights.refused import Refused

CAFFE, TENSORFLOW = "caffe", "tensorflow"


@dataclass(frozen=True)
class Lazy:
    """An array whose shape is known and whose values are read by ``read`` when they are needed."""

    shape: Shape
    dtype: np.dtype
    read: Callable[[], np.ndarray]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = np.asarray(self.read())  # libraries return a number where an array has no axes
        return array if dtype is None else array.astype(dtype, copy=False)


ArrayLike = np.ndarray | Lazy
"""An array, or one that still lies in its file: ``numpy.asarray`` reads it; shape and type are known before."""

Arrays = Mapping[int | str, ArrayLike]
"""A layer's arrays by position or by name."""


@dataclass(frozen=True)
class Stored:
    """What a file of weights holds: layer -> {position or parameter name -> array}.

    ``layout`` is CAFFE or TENSORFLOW where the format says how its arrays lie, None where only their shapes can tell.
    ``is_caffes`` says that the format is Caffe's own: its layers bear the net's very names, its arrays are in the order
    of Caffe's blobs. ``notes`` are lines that the user should see.
    """

    layers: Mapping[str, Arrays]
    layout: str | None
    is_caffes: bool = False
    notes: tuple[str, ...] = ()


def by_variable(arrays: Mapping[str, ArrayLike], layout: str | None) -> Stored:
    """Returns arrays that are named ``LAYER/PARAMETER`` as layers; a name without a slash is a layer of one array."""
    layers: dict[str, dict[int | str, ArrayLike]] = {}
    for variable, array in arrays.items():
        layer, slash, parameter = variable.rpartition("/")
        if slash:
            layers.setdefault(layer, {})[parameter] = array
        else:
            layers.setdefault(variable, {})[0] = array
    return Stored(layers, layout)


def once(names: Iterable[str], what: str) -> None:
    """Raises Refused where a name comes twice, of which a reader would keep one and not say which."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise Refused(f"holds two {what} named '{name}'")
        seen.add(name)
