"""Deep Compression's .net: codebooks and 4-bit gaps (Han et al. 2015), as SqueezeNet was published in.

There is no header. In the order of the net's parameter layers, little endian: one uint32 for each, its count n of
stored entries; then for each layer its codebook as float32 (256 values where the layer's name contains ``conv``, else
16), its biases as float32, n codebook indices (8 bits each, or two of 4 bits a byte, low half first) and n gaps of 4
bits. Entry i sits at the sum of (gap + 1) up to i, less 1, in the flattened weights; all other places hold the
codebook's first value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from weights.layout import Shape
from weights.refused import Refused
from weights.stored import CAFFE, ArrayLike, Stored


@dataclass(frozen=True)
class Expected:
    """A layer that the net has parameters for: its name, its weights' shape (Caffe's), its number of biases."""

    name: str
    weights: Shape
    biases: int

    @property
    def bits(self) -> int:
        """Bits of a codebook index."""
        return 8 if "conv" in self.name else 4

    def size(self, entries: int) -> int:
        """Returns the bytes that the layer takes."""
        return 4 * 2**self.bits + 4 * self.biases + -(-entries * self.bits // 8) + -(-entries // 2)


def is_deep_compression(data: memoryview, layers: Sequence[Expected]) -> bool:
    """Returns whether a file's counts add up to its very length for a net of these layers."""
    if not layers or len(data) < 4 * len(layers):
        return False
    counts = _counts(data, layers)
    return 4 * len(layers) + sum(layer.size(n) for layer, n in zip(layers, counts)) == len(data)


def _counts(data: memoryview, layers: Sequence[Expected]) -> list[int]:
    return np.frombuffer(data, "<u4", len(layers)).tolist()


def read_deep_compression(data: memoryview, layers: Sequence[Expected]) -> Stored:
    """Returns every layer's weights and biases, float32. Raises Refused where an entry lies outside of its layer."""
    position = 4 * len(layers)
    stored: dict[str, dict[int | str, ArrayLike]] = {}
    for layer, entries in zip(layers, _counts(data, layers)):
        piece = data[position : position + layer.size(entries)]
        position += len(piece)
        stored[layer.name] = _layer(layer, entries, piece)
    return Stored(stored, CAFFE, is_caffes=True)


def _layer(layer: Expected, entries: int, piece: memoryview) -> dict[int | str, ArrayLike]:
    codebook = np.frombuffer(piece, "<f4", 2**layer.bits)
    biases = np.frombuffer(piece, "<f4", layer.biases, offset=codebook.nbytes)
    packed = np.frombuffer(piece, np.uint8, offset=codebook.nbytes + biases.nbytes)
    index_bytes = -(-entries * layer.bits // 8)
    indices = packed[:entries] if layer.bits == 8 else _halves(packed[:index_bytes])[:entries]
    gaps = _halves(packed[index_bytes:])[:entries]
    places = np.cumsum(gaps.astype(np.int64) + 1) - 1
    count = math.prod(layer.weights)
    if entries and places[-1] >= count:
        raise Refused(f"layer '{layer.name}': an entry sits at {places[-1]:,}, beyond its {count:,} weights")
    weights = np.full(count, codebook[0], np.float32)
    weights[places] = codebook[indices]
    return {0: weights.reshape(layer.weights), **({1: biases} if layer.biases else {})}


def _halves(packed: np.ndarray) -> np.ndarray:
    return np.stack([packed & 15, packed >> 4], axis=1).reshape(-1)
