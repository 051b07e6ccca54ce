"""What a network computes: layers, shapes, the NumPy reference and TensorFlow 1 style graphs.

graph = graphs.load("alexnet.pb")
graph.run({"data": pictures})["prob"]

endpoints = graphs.alexnet.bvlc(images, keep_prob=0.5)
"""

from graphs import alexnet, layers  # noqa: F401  the latter registers the layer definitions
from graphs.frozen import FrozenGraph, load
from graphs.layer import LAYERS, Filler, Layer, layer
from graphs.network import Network, Node, infer
from graphs.reference import run_reference

__all__ = [
    "LAYERS",
    "Filler",
    "FrozenGraph",
    "Layer",
    "Network",
    "Node",
    "alexnet",
    "infer",
    "layer",
    "load",
    "run_reference",
]
