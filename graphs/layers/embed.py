"""Embed: a row of weights for each index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.channels_last import in_graph_order, to_caffe_order
from graphs.layer import Filler, Layer, ParameterSpec, Site, Tensor, layer
from weights import Layout, Shape


@layer("Embed", "embed_param")
@dataclass(frozen=True)
class Embed(Layer):
    """Caffe's EmbedLayer: each value of its bottom is the number of the row of weights (input_dim, num_output) that
    replaces it, as a new last axis."""

    note = "with and without bias"

    num_output: int = 0
    input_dim: int = 0
    bias_term: bool = True
    weight_filler: Filler = Filler()
    bias_filler: Filler = Filler()

    def top_shapes(self, x: Shape) -> Shape:
        for name, value in (("num_output", self.num_output), ("input_dim", self.input_dim)):
            if value < 1:
                raise ValueError(f"{name} is {value}; Caffe wants 1 or more")
        return (*x, self.num_output)

    def parameters(self, x: Shape) -> tuple[ParameterSpec, ...]:
        weights = ParameterSpec("weights", Layout((self.input_dim, self.num_output)), self.weight_filler)
        biases = ParameterSpec("biases", Layout((self.num_output,)), self.bias_filler)
        return (weights, biases) if self.bias_term else (weights,)

    def works_in_place(self, *bottoms: Shape) -> bool:
        return False

    def reference(self, x: np.ndarray, weights: np.ndarray, biases: np.ndarray | None = None) -> np.ndarray:
        y = np.empty((*x.shape, self.num_output), weights.dtype)
        for place in np.ndindex(*x.shape):
            y[place] = weights[int(x[place])]
        return y if biases is None else y + biases

    def emit(self, tf: Any, site: Site, x: Tensor, weights: Tensor, biases: Tensor | None = None) -> Tensor:
        is_in_order = len(site.top) < 4
        last = site.name if is_in_order else None
        rows = tf.cast(to_caffe_order(tf, x, site.bottom), tf.int32)
        y = tf.gather(weights, rows, name=last if biases is None else None)
        if biases is not None:
            y = tf.add(y, biases, name=last)
        return y if is_in_order else in_graph_order(tf, y, site.top, site.name)
