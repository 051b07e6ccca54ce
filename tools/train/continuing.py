"""What recurrent layers are told of the streams that go on, where training in Caffe would make something else of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from graphs.network import Network, Node
from weights import Refused


def told_by_inputs(network: Network) -> list[Node]:
    """Returns the recurrent layers that an input tells, step by step, which streams go on."""
    recurrent = (node for node in network.nodes if node.layer.type in ("LSTM", "RNN"))
    return [node for node in recurrent if node.bottoms[1] in network.inputs]


def check_sequences(nodes: Iterable[Node], arrays: Mapping[str, np.ndarray], is_first: bool) -> None:
    """Raises Refused where an input lets a stream go on from the pass before, whose state is not kept here, or tells an
    LSTM something between yes and no, for which Caffe's gradient is not the derivative. ``is_first`` says that there is
    no pass before."""
    for node in nodes:
        layer: Any = node.layer
        blob, told = node.bottoms[1], arrays[node.bottoms[1]]
        is_clear = (told == 0) | (told == 1)
        if layer.type == "LSTM" and not is_clear.all():
            raise Refused(
                f"{node}: '{blob}' has {told[~is_clear][0]:g}, for which Caffe's gradient is not the derivative; that "
                "is not repeated here: let it be 0 or 1 at every step"
            )
        if not layer.expose_hidden and not is_first and np.any(told[0]):
            raise Refused(
                f"{node}: '{blob}' is not 0 at the first step, so that Caffe goes on with the state of the pass "
                "before, which is not kept here: let every pass begin with 0, or hand on the state with expose_hidden"
            )
