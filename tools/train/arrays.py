"""What a training is fed from arrays: an .npz named after the net's inputs, one leading index for each pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from graphs.layer import canonical_axis, spell
from graphs.network import Network, infer
from weights import Refused, Shape
from weights.npz import read_npz
from weights.stored import ArrayLike

CLASSES = {"SoftmaxWithLoss", "InfogainLoss", "Accuracy", "HingeLoss", "MultinomialLogisticLoss"}
"""Layers whose second bottom holds the numbers of classes."""


@dataclass(frozen=True, eq=False)
class Arrays:
    """Arrays of an .npz by name, read as they are needed."""

    path: Path
    arrays: dict[str, np.ndarray]

    @property
    def shapes(self) -> dict[str, Shape]:
        """Name -> shape of one pass."""
        return {name: tuple(array.shape[1:]) for name, array in self.arrays.items()}

    def passes(self, inputs: Mapping[str, Shape]) -> int:
        """Returns how many passes there are arrays for."""
        return min((len(self.arrays[blob]) for blob in inputs), default=0)

    def reader(self, inputs: Mapping[str, Shape], start: int) -> Callable[[int], list[np.ndarray]]:
        """Returns the function from a pass's number, ``start`` or later, to what it is fed: float32 in TensorFlow's
        layout, in the order of ``inputs``. After the last index comes the first again, as in Caffe's data layers."""
        of = [self.arrays[blob] for blob in inputs]
        count = self.passes(inputs)
        return lambda number: [in_graph_layout(array[number % count]) for array in of]


def in_graph_layout(array: np.ndarray) -> np.ndarray:
    """Returns a blob in Caffe's layout as TensorFlow's: float32, channels last from rank 4 on."""
    moved = np.moveaxis(array, 1, -1) if array.ndim >= 4 else array
    return np.asarray(moved, np.float32, order="C")  # which leaves a scalar one


def read_arrays(path: Path) -> Arrays:
    """Returns the arrays of an .npz; uncompressed ones stay on the disk. Raises Refused where it is none."""
    if not path.is_file():
        raise Refused(f"{path}: no such file")
    try:
        stored = read_npz(path)
        found: dict[str, ArrayLike] = {
            layer if key == 0 else f"{layer}/{key}": array
            for layer, arrays in stored.layers.items()
            for key, array in arrays.items()
        }
        return Arrays(path, {name: np.asarray(array) for name, array in found.items()})
    except Refused as refused:
        raise refused if str(path) in str(refused) else refused.within(str(path)) from refused


def check_arrays(arrays: Arrays, network: Network) -> None:
    """Raises Refused with everything that keeps arrays from being what a network is fed: inputs that are missing, have
    another shape or as many passes as none, values that are no numbers, labels that are no class."""
    problems = []
    inputs = network.inputs
    for blob, shape in inputs.items():
        array = arrays.arrays.get(blob)
        if array is None:
            problems.append(f"has no array '{blob}', an input of the net; it has {', '.join(sorted(arrays.arrays))}")
        elif array.ndim != len(shape) + 1 or array.shape[1:] != shape:
            problems.append(f"'{blob}' has the shape {spell(array.shape)}; expected PASSESx{spell(shape)}")
        elif not len(array):
            problems.append(f"'{blob}' has no passes: its shape is {spell(array.shape)}")
    lengths = {blob: len(arrays.arrays[blob]) for blob in inputs if blob in arrays.arrays and arrays.arrays[blob].ndim}
    if not problems and len(set(lengths.values())) > 1:
        told = ", ".join(f"'{blob}' {count}" for blob, count in lengths.items())
        problems.append(f"its arrays have not as many passes: {told}")
    problems = problems or _label_problems(arrays, network)
    if problems:
        raise Refused(*(f"{arrays.path}: {problem}" for problem in problems))


def _label_problems(arrays: Arrays, network: Network) -> list[str]:
    told = (label_problem(arrays.arrays[blob], blob, of) for blob, of in label_ranges(network).items())
    return list(dict.fromkeys(one for one in told if one))


def label_problem(labels: np.ndarray, blob: str, of: tuple[int, int | None, str], first: int = 0) -> str:
    """Returns what to say of labels of which some are no class, "" where all are. ``of`` is what ``label_ranges`` says
    of the blob; ``first`` the index of the first label along the first axis."""
    classes, ignored, node = of
    wrong = (np.trunc(labels) < 0) | (np.trunc(labels) >= classes) | ~np.isfinite(labels)
    if ignored is not None:
        wrong &= np.trunc(labels) != ignored
    if not wrong.any():
        return ""
    index = tuple(np.argwhere(wrong)[0])
    at = ", ".join(map(str, (index[0] + first, *index[1:])))
    more = f" ({np.count_nonzero(wrong) - 1} more)" if np.count_nonzero(wrong) > 1 else ""
    return f"label {labels[index]:g} at '{blob}'[{at}] is no class of {node}; expected 0 to {classes - 1}{more}"


def label_ranges(network: Network) -> dict[str, tuple[int, int | None, str]]:
    """Returns input -> (number of classes, the label that is ignored or None, the layer that reads it), of the inputs
    that a loss or Accuracy reads as labels."""
    found: dict[str, tuple[int, int | None, str]] = {}
    for layer in infer(network):
        node = layer.node
        if node.layer.type in CLASSES and node.bottoms[1] in network.inputs:
            scores = layer.bottoms[0]
            whole = node.layer.type in ("HingeLoss", "MultinomialLogisticLoss")
            axis = 0 if whole else canonical_axis(getattr(node.layer, "axis", 1), scores)
            classes = math.prod(scores[1:]) if whole else scores[axis]
            known = found.get(node.bottoms[1])
            if known is None or classes < known[0]:
                found[node.bottoms[1]] = (classes, getattr(node.layer, "ignore_label", None), str(node))
    return found
