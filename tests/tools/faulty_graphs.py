"""A small AlexNet-like network whose TensorFlow graph can be built with a fault in it, and run layer by layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from converter.describe import Request, describe
from converter.prototxt import parse_prototxt
from converter.rules import State
from converter.upgrade import upgrade
from graphs import run_reference
from graphs.layer import Site
from graphs.layers.data import Input
from graphs.network import Shapes, infer
from graphs.tensorflow1 import tensorflow1
from tools.recording import Key, Preprocessing
from tools.validate.mistakes import Step
from tools.validate.mistakes.scene import steps_of
from weights import Parameter

MEAN = (104.0, 117.0, 123.0)
"""B, G, R."""

DEFINITION = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 95 dim: 95 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 12 kernel_size: 11 stride: 4 } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "norm1" type: "LRN" bottom: "conv1" top: "norm1" lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 } }
layer { name: "pool1" type: "Pooling" bottom: "norm1" top: "pool1" pooling_param { kernel_size: 3 stride: 2 } }
layer { name: "conv2" type: "Convolution" bottom: "pool1" top: "conv2"
  convolution_param { num_output: 16 kernel_size: 5 pad: 2 group: 2 } }
layer { name: "relu2" type: "ReLU" bottom: "conv2" top: "conv2" }
layer { name: "norm2" type: "LRN" bottom: "conv2" top: "norm2"
  lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 k: 2 } }
layer { name: "pool2" type: "Pooling" bottom: "norm2" top: "pool2"
  pooling_param { pool: AVE kernel_size: 2 stride: 2 pad: 1 } }
layer { name: "conv3" type: "Convolution" bottom: "pool2" top: "conv3"
  convolution_param { num_output: 20 kernel_size: 3 pad: 1 } }
layer { name: "bn3" type: "BatchNorm" bottom: "conv3" top: "conv3" }
layer { name: "scale3" type: "Scale" bottom: "conv3" top: "conv3" scale_param { bias_term: true } }
layer { name: "relu3" type: "ReLU" bottom: "conv3" top: "conv3" }
layer { name: "norm3" type: "LRN" bottom: "conv3" top: "norm3"
  lrn_param { local_size: 3 alpha: 0.7 beta: 0.75 norm_region: WITHIN_CHANNEL } }
layer { name: "conv4" type: "Convolution" bottom: "norm3" top: "conv4"
  convolution_param { num_output: 20 kernel_size: 3 pad: 1 stride: 2 } }
layer { name: "relu4" type: "ReLU" bottom: "conv4" top: "conv4" }
layer { name: "fc6" type: "InnerProduct" bottom: "conv4" top: "fc6" inner_product_param { num_output: 24 } }
layer { name: "relu6" type: "ReLU" bottom: "fc6" top: "fc6" }
layer { name: "drop6" type: "Dropout" bottom: "fc6" top: "fc6" dropout_param { dropout_ratio: 0.3 } }
layer { name: "fc7" type: "InnerProduct" bottom: "fc6" top: "fc7" inner_product_param { num_output: 24 } }
layer { name: "relu7" type: "ReLU" bottom: "fc7" top: "fc7" }
layer { name: "fc8" type: "InnerProduct" bottom: "fc7" top: "fc8" inner_product_param { num_output: 10 } }
layer { name: "prob" type: "Softmax" bottom: "fc8" top: "prob" }
"""

Fault = Callable[..., Any]
"""(tf, bottom, *parameters in Caffe's layout) -> the layer's tensor; N, H, W, C."""


@dataclass(frozen=True, eq=False)
class Truth:
    """A network, its parameters, and what it makes of pictures."""

    shapes: Shapes
    arrays: list[list[np.ndarray]]
    values: dict[Key, np.ndarray]
    preprocessing: Preprocessing
    steps: dict[str, Step] = field(default_factory=dict)

    @property
    def scores(self) -> np.ndarray:
        """The last layer's value."""
        return list(self.values.values())[-1]


def read(definition: str) -> Shapes:
    """Returns the shapes of a network from its prototxt."""
    return infer(describe(upgrade(parse_prototxt(definition)), Request(State("TEST", 0, ()), {}, frozenset())).network)


def pictures(count: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """Returns smooth pictures (N, 3, size, size) of 0..255, B, G, R, with colours of their own."""
    coarse = rng.uniform(0, 255, (count, 3, size // 8 + 2, size // 8 + 2))
    fine = np.repeat(np.repeat(coarse, 8, axis=2), 8, axis=3)[:, :, :size, :size]
    colour = rng.uniform(-60, 60, (count, 3, 1, 1))
    return np.clip(0.7 * fine + 40 + colour + rng.uniform(-20, 20, fine.shape), 0, 255)


def true(shapes: Shapes, arrays: list[list[np.ndarray]], fed: np.ndarray, preprocessing: Preprocessing) -> Truth:
    """Returns what the NumPy reference makes of pictures as they are fed (N, C, H, W)."""
    values: dict[Key, np.ndarray] = {("", "data"): fed.astype(np.float32)}
    for (layer, top), value in run_reference(shapes, arrays, {"data": fed.astype(np.float32)}).items():
        if layer != "data":
            values[layer, top] = value.astype(np.float32)
    return Truth(shapes, arrays, values, preprocessing, steps_of(shapes, arrays))


def seeded(shapes: Shapes, fed: np.ndarray, rng: np.random.Generator) -> list[list[np.ndarray]]:
    """Returns parameters under which every layer's values stay in range and the pictures fall into several classes.

    Each layer with parameters is scaled by what it makes of the pictures; the last one's scores have mean zero.
    """
    found: list[list[np.ndarray]] = []
    blobs = {"data": fed}
    last = [one.node.name for one in shapes if one.parameters][-1]
    normalized = {one.node.bottoms[0] for one in shapes if one.node.layer.type == "BatchNorm"}
    for layer in shapes:
        node, arrays = layer.node, [rng.normal(0, 1, spec.layout.caffe) for spec in layer.parameters]
        if node.layer.type in ("Convolution", "InnerProduct"):
            y = node.layer.reference(blobs[node.bottoms[0]], arrays[0], 0 * arrays[1])
            is_last = node.name == last
            spread = 0.05 if node.tops[0] in normalized else 5 if is_last else 30  # small where eps is to matter
            size = spread / y.std()
            arrays = [arrays[0] * size, -size * y.mean(axis=0) if is_last else spread / 10 * arrays[1]]
        elif node.layer.type == "BatchNorm":
            x = blobs[node.bottoms[0]]
            of_others = rng.uniform(0.7, 1.4, x.shape[1])  # training saw other pictures
            arrays = [12 * x.mean(axis=(0, 2, 3)), 12 * x.var(axis=(0, 2, 3)) * of_others, np.array([12.0])]
        elif node.layer.type == "Scale":
            arrays = [0.5 + abs(arrays[0]), arrays[1]]
        found.append([array.astype(np.float32) for array in arrays])
        if node.bottoms:
            blobs[node.tops[0]] = node.layer.reference(*(blobs[one] for one in node.bottoms), *found[-1])
    return found


class Graph:
    """A TensorFlow graph of a network, layer by layer, with faults planted: ``faults`` is layer -> what it is built as,
    ``reads`` is layer -> the layer whose value it reads in place of its own bottom's."""

    def __init__(
        self, truth: Truth, faults: Mapping[str, Fault], reads: Mapping[str, str] | None = None, channels: int = 3
    ) -> None:
        self.tf, self.truth, self.faults, self.reads = tensorflow1("the tests"), truth, faults, reads or {}
        self.layers = {one.node.name: (one, arrays) for one, arrays in zip(truth.shapes, truth.arrays)}
        self.graph = self.tf.Graph()
        self.tensors: dict[Key, Any] = {}
        with self.graph.as_default():
            self.data = self.tf.placeholder(self.tf.float32, [None, None, None, channels], name="data")
            self.tensors["", "data"] = self.data
            for name in self.layers:
                self._tensor(name)
            self.session = self.tf.Session()

    def _tensor(self, name: str) -> Any:
        layer, arrays = self.layers[name]
        if isinstance(layer.node.layer, Input):
            return self.data
        key = (name, layer.node.tops[0])
        if key not in self.tensors:
            below = self.reads.get(name) or self.truth.steps[name].bottoms[0][0] or "data"
            x = self._tensor(below)
            if name in self.faults:
                tensor = self.faults[name](self.tf, x, *arrays)
            else:
                parameters = [
                    self.tf.constant(Parameter(spec.name, spec.layout, array).tensorflow())
                    for spec, array in zip(layer.parameters, arrays)
                ]
                site = Site((name,), layer.open_bottoms, layer.open_tops)
                tensor = layer.node.layer.emit(self.tf, site, x, *parameters)
            self.tensors[key] = tensor
        return self.tensors[key]

    def run(self, key: Key, feeds: Mapping[Key, np.ndarray]) -> np.ndarray:
        """Returns a value of the graph where others are fed, all in Caffe's order."""
        fed = {self.tensors[at]: np.moveaxis(one, 1, -1) if one.ndim == 4 else one for at, one in feeds.items()}
        value = self.session.run(self.tensors[key], fed)
        return np.moveaxis(value, -1, 1) if value.ndim == 4 else value

    def isolated(self, key: Key) -> np.ndarray:
        """Returns what a layer makes of the truth's own bottoms."""
        wanted = {("", "data"), *self.truth.steps[key[0]].bottoms}
        return self.run(key, {one: self.truth.values[one] for one in wanted})
