"""A parameter of a network: its name, its layout and its numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from weights.layout import Layout


@dataclass(frozen=True, eq=False)
class Parameter:
    """One array of a layer, held in Caffe's layout.

    ``name`` is its TensorFlow variable, ``conv1/weights``; ``caffe`` has the shape ``layout.caffe``, float32.
    """

    name: str
    layout: Layout
    caffe: np.ndarray

    def tensorflow(self) -> np.ndarray:
        """Returns the array in TensorFlow's layout, made anew at each call so that only one need be in memory."""
        return self.layout.to_tensorflow(self.caffe)
