"""A network run plainly in NumPy, N, C, H, W: the judge of graphs, which shares no code with what it judges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from graphs.layer import listed, told
from graphs.layers.data import Input
from graphs.network import Shapes
from weights import Refused

Values = dict[tuple[str, str], np.ndarray]
"""(layer, top) -> the value right after that layer."""


def run_reference(
    shapes: Shapes,
    parameters: Sequence[Sequence[np.ndarray]],
    inputs: Mapping[str, np.ndarray],
    dtype: type = np.float64,
) -> Values:
    """Returns every layer's value.

    ``parameters`` has each layer's arrays in Caffe's layout, in the order of ``shapes``; ``inputs`` the fed blobs
    (N, C, H, W; the batch may differ from the definition's where it is free). All is computed in ``dtype``, float64
    or float32. Raises Refused where an input is missing or has another shape.
    """
    blobs: dict[str, np.ndarray] = {}
    values: Values = {}
    tops: list[np.ndarray]
    for layer, arrays in zip(shapes, parameters):
        node = layer.node
        if isinstance(node.layer, Input):
            tops = [fed(inputs, top, shape).astype(dtype) for top, shape in zip(node.tops, layer.open_tops)]
        else:
            bottoms = [blobs[bottom] for bottom in node.bottoms]
            given = (*bottoms, *(array.astype(dtype) for array in arrays))
            tops = listed(node.layer.reference(*given, **told(node.layer, len(node.tops), shapes.phase)))
            tops = tops * len(node.tops) if len(tops) == 1 else tops
        blobs.update(zip(node.tops, tops))
        values.update({(node.name, top): value for top, value in zip(node.tops, tops)})
    return values


def fed(inputs: Mapping[str, np.ndarray], blob: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the array fed to ``blob``. Raises Refused where it is missing or does not have ``shape``."""
    if blob not in inputs:
        raise Refused(f"input '{blob}' is not fed; got {', '.join(inputs) or 'nothing'}")
    array = np.asarray(inputs[blob])
    fits = array.ndim == len(shape) and all(want in (-1, got) for want, got in zip(shape, array.shape))
    if not fits:
        spelled = ", ".join("N" if size < 0 else str(size) for size in shape)
        raise Refused(f"input '{blob}' has the shape {array.shape}; expected ({spelled})")
    return array
