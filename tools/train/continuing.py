"""Recurrent layers whose state Caffe hands from one pass to the next, and what is fed where that would count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphs.network import Network, Node
from weights import Refused


def continuing(network: Network) -> dict[str, Node]:
    """Returns input -> the first layer that it tells, step by step, which streams go on, of those that keep a state."""
    found: dict[str, Node] = {}
    for node in network.nodes:
        layer: Any = node.layer
        if layer.type in ("LSTM", "RNN") and not layer.expose_hidden and node.bottoms[1] in network.inputs:
            found.setdefault(node.bottoms[1], node)
    return found


def check_beginnings(layers: Mapping[str, Node], inputs: Sequence[str], arrays: Sequence[np.ndarray]) -> None:
    """Raises Refused where what is fed lets a stream go on from the pass before, whose state is not kept here."""
    for blob, array in zip(inputs, arrays):
        if blob in layers and np.any(array[0]):
            raise Refused(
                f"{layers[blob]}: '{blob}' is not 0 at the first step, so that Caffe goes on with the state of the "
                "pass before, which is not kept here: let every pass begin with 0, or hand on the state with "
                "expose_hidden"
            )
