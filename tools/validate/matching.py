"""Which tensor of a graph is which value of the network: by the manifest, by the user's word, or by name, shape and
order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tools.recording import Facts, Key, RecordedLayer
from weights import Shape


@dataclass(frozen=True)
class Candidate:
    """A tensor of a stranger's graph, in the graph's order. ``shape`` has -1 for sizes that are not known, and is None
    where not even the rank is; ``type`` is the operation's."""

    tensor: str
    type: str
    shape: Shape | None

    @property
    def name(self) -> str:
        """The operation's name."""
        return self.tensor.partition(":")[0]


@dataclass(frozen=True)
class Place:
    """The tensor that stands for a value. ``moved`` says whether its channels are last; ``how`` what tied them:
    "manifest", "--map", "name", "order", or "passes on" for a layer that only hands on what it reads."""

    tensor: str
    moved: bool
    how: str


PASSES_ON = frozenset({"Dropout", "Split"})
"""Layers that do nothing in TEST, and that other people's graphs leave out."""

MAKERS: Mapping[str, frozenset[str]] = {
    "Convolution": frozenset({"BiasAdd", "Add", "AddV2", "Conv2D", "DepthwiseConv2dNative", "ConcatV2", "Reshape"}),
    "InnerProduct": frozenset({"BiasAdd", "Add", "AddV2", "MatMul", "Conv2D"}),
    "ReLU": frozenset({"Relu", "LeakyRelu"}),
    "PReLU": frozenset({"Add", "AddV2", "Sub", "Maximum"}),
    "LRN": frozenset({"LRN", "RealDiv", "Mul", "MatMul"}),
    "Pooling": frozenset({"MaxPool", "MaxPoolV2", "AvgPool", "Mean", "Max"}),
    "Softmax": frozenset({"Softmax", "Reshape", "RealDiv"}),
    "Concat": frozenset({"ConcatV2", "Concat"}),
    "Eltwise": frozenset({"Add", "AddV2", "AddN", "Mul", "Maximum"}),
    "Dropout": frozenset({"Identity", "Mul", "RealDiv", "SelectV2"}),
    "Flatten": frozenset({"Reshape", "Squeeze"}),
    "Reshape": frozenset({"Reshape", "Squeeze"}),
    "BatchNorm": frozenset({"FusedBatchNorm", "FusedBatchNormV3", "Add", "AddV2", "Sub", "Mul", "RealDiv"}),
    "Scale": frozenset({"FusedBatchNorm", "FusedBatchNormV3", "BiasAdd", "Add", "AddV2", "Mul"}),
    "Sigmoid": frozenset({"Sigmoid"}),
    "TanH": frozenset({"Tanh"}),
    "ELU": frozenset({"Elu"}),
}
"""Caffe's type -> what may make its value in TensorFlow; a type that is not here takes any operation."""

LATE: Mapping[str, float] = {"BiasAdd": 0.5, "Add": 0.5, "AddV2": 0.5, "Relu": 0.5, "ConcatV2": 0.4}
"""Operations that come last where several make one layer, with what that counts; biases follow a group's joining."""


def fits(shape: Shape | None, caffe: Shape) -> bool | None:
    """Returns whether a tensor of that shape can hold a blob: True with channels last, False in Caffe's own order, None
    where it can't. Axes of size 1 may be missing or added."""
    if shape is None:
        return None
    if len(shape) == len(caffe) >= 4:
        moved = (caffe[0], *caffe[2:], caffe[1])
        if _agree(shape, moved):
            return True
        return False if _agree(shape, caffe) else None
    if len(shape) == len(caffe):
        return False if _agree(shape, caffe) else None
    if not shape or not caffe or not _agree(shape[:1], caffe[:1]):
        return None
    same = [size for size in shape[1:] if size != 1] == [size for size in caffe[1:] if size != 1]
    return (len(shape) >= 4) if same and -1 not in shape[1:] else None


def _agree(one: Shape, other: Shape) -> bool:
    return all(a == b or -1 in (a, b) for a, b in zip(one, other)) and (
        len(one) < 2 or any(a == b for a, b in zip(one[1:], other[1:]))
    )


def match_layers(
    facts: Facts, candidates: Sequence[Candidate], chosen: Mapping[Key, str], inputs: Mapping[str, Place]
) -> dict[Key, Place]:
    """Returns the tensors of the network's values in a stranger's graph; what can't be told is left out.

    ``candidates`` are in the graph's order, ``chosen`` is what the user has said, value -> tensor. Layers and tensors
    are paired so that both keep their order, every shape fits and every operation may make its layer; among such
    pairings, that with most names in common.
    """
    by_name = {one.tensor: one for one in candidates}
    found: dict[Key, Place] = {}
    shapes = {key: top.shape for layer in facts.layers for key, top in zip(layer.keys, layer.tops)}
    for key, tensor in chosen.items():
        moved = fits(by_name[tensor].shape if tensor in by_name else None, shapes[key])
        found[key] = Place(tensor, len(shapes[key]) >= 4 if moved is None else moved, "--map")
    layers = [layer for layer in facts.layers if len(layer.tops) == 1 and layer.keys[0] not in found]
    for layer, candidate in _aligned(layers, candidates):
        shape = layer.tops[0].shape
        moved = fits(candidate.shape, shape)
        moved = _nearly_fits(candidate.shape, shape) if moved is None else moved
        found[layer.keys[0]] = Place(candidate.tensor, moved, "name" if _named(layer, candidate) else "order")
    for layer in facts.layers:  # in order, so that a chain of them passes on
        if layer.type in PASSES_ON and facts.phase == "TEST":
            source = found.get(layer.bottoms[0]) or inputs.get(layer.bottoms[0][1])
            for key in layer.keys:
                if key not in found and source is not None:
                    found[key] = Place(source.tensor, source.moved, "passes on")
    return found


def _aligned(layers: Sequence[RecordedLayer], candidates: Sequence[Candidate]) -> list[tuple[RecordedLayer, Candidate]]:
    """Returns the pairing in order with the highest sum of scores."""
    rows, columns = len(layers), len(candidates)
    scores = [[_score(layer, candidate) for candidate in candidates] for layer in layers]
    best = [[0.0] * (columns + 1) for _ in range(rows + 1)]
    for row in range(rows - 1, -1, -1):
        own, below, here = scores[row], best[row + 1], best[row]
        for column in range(columns - 1, -1, -1):
            here[column] = max(below[column], here[column + 1])
            if own[column]:
                here[column] = max(here[column], own[column] + below[column + 1])
    pairs, row, column = [], 0, 0
    while row < rows and column < columns:
        if scores[row][column] and best[row][column] == scores[row][column] + best[row + 1][column + 1]:
            pairs.append((layers[row], candidates[column]))
            row, column = row + 1, column + 1
        elif best[row][column] == best[row + 1][column]:
            row += 1
        else:
            column += 1
    return pairs


def _nearly_fits(shape: Shape | None, caffe: Shape) -> bool:
    """Whether a tensor with channels last could hold a blob if a window had been laid otherwise: SAME for VALID, or
    sizes rounded down for up."""
    if shape is None or not len(shape) == len(caffe) == 4 or shape[-1] != caffe[1]:
        return False
    return all(abs(one - other) <= max(2, other // 8) for one, other in zip(shape[1:3], caffe[2:]))


def _score(layer: RecordedLayer, candidate: Candidate) -> float:
    """Returns how well they go together, 0 where they do not."""
    named = _named(layer, candidate)
    makers = MAKERS.get(layer.type)
    if fits(candidate.shape, layer.tops[0].shape) is None:
        if makers is None or candidate.type not in makers or not _nearly_fits(candidate.shape, layer.tops[0].shape):
            return 0.0
        return 0.25 + LATE.get(candidate.type, 0.0) / 5 + (2.0 if named else 0.0)
    if makers is not None and candidate.type not in makers:
        # An operation under the very name of the layer is its value, whatever it is.
        return 4.0 if candidate.name == layer.name else 0.0
    if layer.type in PASSES_ON and not named:
        return 0.0
    return 1.0 + LATE.get(candidate.type, 0.0) + (3.0 if candidate.name == layer.name else 2.0 if named else 0.0)


def _named(layer: RecordedLayer, candidate: Candidate) -> bool:
    """Returns whether the layer's name is one of the parts of the operation's."""
    name, own = candidate.name.lower(), layer.name.lower()
    return name == own or name.startswith(own + "/") or f"/{own}/" in f"/{name}/"
