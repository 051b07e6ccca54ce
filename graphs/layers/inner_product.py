"""InnerProduct: the fully connected layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.channels_last import channels_last, in_graph_order, is_moved, to_caffe_order
from graphs.layer import Filler, Layer, ParameterSpec, Site, Tensor, canonical_axis, layer
from weights import Layout, Shape


@layer("InnerProduct", "inner_product_param")
@dataclass(frozen=True)
class InnerProduct(Layer):
    """Caffe's InnerProductLayer: everything from ``axis`` on is one vector, in C, H, W order.

    Weights are (num_output, K) in Caffe, (K, num_output) with ``transpose``; (K, num_output) in TensorFlow, with K
    in the order in which the graph's own channels-last bottom flattens, so that nothing is transposed at run time.
    """

    note = "any axis, transposed, with and without bias"

    num_output: int = 0
    bias_term: bool = True
    weight_filler: Filler = Filler()
    bias_filler: Filler = Filler()
    axis: int = 1
    transpose: bool = False

    def top_shapes(self, x: Shape) -> Shape:
        if self.num_output < 1:
            raise ValueError(f"num_output is {self.num_output}; Caffe wants 1 or more")
        return (*x[: canonical_axis(self.axis, x)], self.num_output)

    def parameters(self, x: Shape) -> tuple[ParameterSpec, ...]:
        weights = ParameterSpec("weights", self._layout(x), self.weight_filler)
        biases = ParameterSpec("biases", Layout((self.num_output,)), self.bias_filler)
        return (weights, biases) if self.bias_term else (weights,)

    def _layout(self, x: Shape) -> Layout:
        flat = x[canonical_axis(self.axis, x) :]
        count, outputs = math.prod(flat), self.num_output
        channels_move = len(x) >= 4 and canonical_axis(self.axis, x) == 1
        order = (*range(1, len(flat)), 0) if channels_move else tuple(range(len(flat)))
        if self.transpose:
            return Layout((count, outputs), (*flat, outputs), (*order, len(flat)), (count, outputs))
        return Layout((outputs, count), (outputs, *flat), (*(axis + 1 for axis in order), 0), (count, outputs))

    def multiply_adds(self, bottoms: tuple[Shape, ...], tops: tuple[Shape, ...]) -> int:
        return math.prod(tops[0]) * math.prod(bottoms[0][canonical_axis(self.axis, bottoms[0]) :])

    def works_in_place(self, *bottoms: Shape) -> bool:
        return False

    def reference(self, x: np.ndarray, weights: np.ndarray, biases: np.ndarray | None = None) -> np.ndarray:
        axis = canonical_axis(self.axis, x.shape)
        rows = x.reshape(math.prod(x.shape[:axis]), -1)
        y = rows @ (weights if self.transpose else weights.T)
        if biases is not None:
            y = y + biases
        return y.reshape(*x.shape[:axis], self.num_output)

    def emit(self, tf: Any, site: Site, x: Tensor, weights: Tensor, biases: Tensor | None = None) -> Tensor:
        axis = canonical_axis(self.axis, site.bottom)
        if axis != 1:
            x = to_caffe_order(tf, x, site.bottom)
        if len(site.bottom) != 2 or axis != 1:
            x = tf.reshape(x, [-1, math.prod(site.bottom[axis:])])
        is_last = channels_last(site.top) == site.top and len(site.top) == 2 and not is_moved(site.top)
        last = site.name if is_last else None
        y = tf.matmul(x, weights, name=last if biases is None else None)
        if biases is not None:
            y = tf.nn.bias_add(y, biases, name=last)
        return y if is_last else in_graph_order(tf, y, site.top, site.name)
