"""A parameter of a network: its name, its layout and its numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from weights.layout import Layout
from weights.stored import CAFFE


@dataclass(frozen=True, eq=False)
class Parameter:
    """One array of a layer. ``name`` is its TensorFlow variable, ``conv1/weights``; ``array``, float32, lies in Caffe's
    layout, or in TensorFlow's where ``held`` says so: what comes in TensorFlow's layout and leaves in it is not moved.
    """

    name: str
    layout: Layout
    array: np.ndarray
    held: str = CAFFE

    @property
    def caffe(self) -> np.ndarray:
        """The array in Caffe's layout, made anew at each use where it is held in the other."""
        return self.array if self.held == CAFFE else self.layout.to_caffe(self.array)

    def tensorflow(self) -> np.ndarray:
        """Returns the array in TensorFlow's layout, made anew at each call where it is held in the other, so that only
        one need be in memory."""
        return self.layout.to_tensorflow(self.array) if self.held == CAFFE else np.asarray(self.array, order="C")


def in_tensorflow_layout(parameters: Iterable[Parameter]) -> Iterator[tuple[str, np.ndarray]]:
    """Yields each parameter's name and its array in TensorFlow's layout; the next one is made while this one is used,
    and no more than these two are in memory."""
    with ThreadPoolExecutor(max_workers=1) as worker:
        coming = None
        for parameter in parameters:
            made, coming = coming, (parameter.name, worker.submit(parameter.tensorflow))
            if made is not None:
                yield made[0], made[1].result()
                del made
        if coming is not None:
            yield coming[0], coming[1].result()
