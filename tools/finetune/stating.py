"""What a fine-tuned port states of its preprocessing: what it was trained with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from converter.port import Port
from converter.sources import is_mean, recognise
from graphs.layers.data import Input, Transform
from graphs.network import Node
from tools.dataset import Preparation


def stated_port(port: Port, preparation: Preparation, mean_file: str | None) -> Port:
    """Returns the port with the preparation stated in its manifest and, as far as Caffe's words go, in its definition:
    its ``transform_param`` knows no order but B, G, R.

    A mean picture is among the port's sources; its averages are stated beside its name.
    """
    picture = preparation.mean if preparation.mean.ndim == 3 else None
    averages = preparation.mean.reshape(-1, preparation.mean.shape[-1]).mean(axis=0, dtype=np.float64)
    means = [round(float(value), 6) for value in averages] if averages.any() else []
    stated: dict[str, Any] = {} if preparation.scale == 1 else {"scale": preparation.scale}
    if preparation.mirror:
        stated["mirror"] = True
    size = (preparation.height, preparation.width)
    if preparation.resize not in (None, size) and size[0] == size[1]:
        stated["crop_size"] = size[0]
    sources = list(port.sources)
    if picture is not None:
        given = recognise(mean_file) if mean_file else next(source for source in sources if is_mean(source))
        sources += [given] if given not in sources else []
        stated["mean_file"] = given.name
    in_caffe = {**stated, **({"mean_value": tuple(means)} if means and picture is None else {})}
    transform = Transform(**in_caffe) if in_caffe and preparation.channel_order != "RGB" else None
    nodes = {node.name: _with_transform(node, transform) for node in port.network.nodes}
    shapes = tuple(replace(layer, node=nodes[layer.node.name]) for layer in port.shapes.layers)
    return replace(
        port,
        network=replace(port.network, nodes=tuple(nodes.values())),
        shapes=replace(port.shapes, layers=shapes),
        sources=tuple(sources),
        mean=port.mean if picture is None else np.ascontiguousarray(np.moveaxis(picture, -1, 0)),
        preprocessing={
            **stated,
            **({"mean_value": means} if means else {}),
            **({"channel_order": preparation.channel_order} if preparation.channel_order else {}),
        },
    )


def _with_transform(node: Node, transform: Transform | None) -> Node:
    is_fed = isinstance(node.layer, Input)
    return replace(node, layer=replace(node.layer, transform_param=transform)) if is_fed else node  # type: ignore[call-arg]
