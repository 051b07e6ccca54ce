"""The network that is measured, in every form that an engine reads."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from converter.sources import CAFFEMODEL, DEFINITION
from weights import Refused, Shape

if TYPE_CHECKING:
    from converter.port import Port


@dataclass(frozen=True)
class End:
    """The tensor of a frozen graph that stands for a blob. ``shape`` is the blob's in Caffe's layout, -1 for a free
    batch; ``moved`` says whether the tensor has its channels last."""

    tensor: str
    shape: Shape
    moved: bool


@dataclass(frozen=True)
class Frozen:
    """A frozen graph and its ends. ``inputs`` and ``outputs`` have a blob's name for each; ``layers`` has a layer's
    tensors, in the network's order; ``feeds`` are numbers for other placeholders (keep_prob)."""

    path: Path
    inputs: Mapping[str, End]
    outputs: Mapping[str, End]
    layers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    feeds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Subject:
    """One network: its files, and the ends by which an engine feeds and reads it.

    ``inputs`` is blob -> shape in Caffe's layout, -1 for a free batch; ``makers`` is output -> the layer that makes it,
    in order. ``sources`` are the files that the network was converted from, with ``input_shapes`` where the definition
    leaves them open; ``family`` is the name of one of the AlexNet family instead. ``absent`` has, for a field whose
    file is not to be had, the reason.
    """

    inputs: Mapping[str, Shape]
    frozen: Frozen | None = None
    definition: Path | None = None
    weights: Path | None = None
    onnx: Path | None = None
    sources: tuple[Path, ...] = ()
    input_shapes: Mapping[str, Shape] = field(default_factory=dict)
    makers: Mapping[str, str] = field(default_factory=dict)
    family: str = ""
    absent: Mapping[str, str] = field(default_factory=dict)

    @property
    def caffe_files(self) -> list[str]:
        """The definition, and the weights where there are any."""
        return [str(path) for path in (self.definition, self.weights) if path]

    def seeded_inputs(self, batch: int) -> dict[str, np.ndarray]:
        """Returns the same normal numbers at every call, in Caffe's layout. Raises Refused where the network takes no
        such batch."""
        numbers = np.random.default_rng(0)
        arrays = {}
        for blob, shape in self.inputs.items():
            if min(shape[1:], default=1) < 0:
                raise Refused(f"input '{blob}' has axes of any size beside its batch: {shape}")
            if shape[0] not in (-1, batch):
                raise Refused(f"input '{blob}' has {shape[0]} as its first axis in this graph, not {batch}")
            arrays[blob] = numbers.standard_normal((batch, *shape[1:]), dtype=np.float32)
        return arrays


def prepare(sources: Sequence[str], folder: Path) -> Subject:
    """Returns the network of a definition and its weights, of a frozen graph (``.pb``), or of all three.

    What can be made of the ``sources`` and is not among them is written to ``folder``. Raises Refused where they are
    no such files.
    """
    frozen = [Path(source) for source in sources if source.endswith(".pb")]
    if len(frozen) > 1:
        raise Refused(f"{' and '.join(map(str, frozen))}: both are frozen graphs; give one")
    others = [source for source in sources if not source.endswith(".pb")]
    if not others:
        return alone(opened(frozen[0]))
    from converter import convert

    port = convert(*others)
    return beside(port, opened(frozen[0] if frozen else port.save(folder / "port.pb")[0]), folder)


def opened(path: Path) -> Frozen:
    """Returns a frozen graph with the ends that its manifest names, or that it seems to have. Raises Refused where the
    file is missing or holds none."""
    from graphs import load

    graph = load(path)
    graph.close()
    inputs = {blob: End(tensor, graph.shapes[blob], True) for blob, tensor in graph.inputs.items()}
    outputs = {blob: End(tensor, (), True) for blob, tensor in graph.outputs.items()}
    layers: dict[str, tuple[str, ...]] = {}
    for (layer, _), tensor in graph.layers.items():
        layers[layer] = (*layers.get(layer, ()), tensor)
    return Frozen(path, inputs, outputs, layers)


def alone(frozen: Frozen) -> Subject:
    """Returns the network of which no more than a frozen graph is known."""
    why = "needs the definition and the weights too"
    inputs = {blob: end.shape for blob, end in frozen.inputs.items()}
    return Subject(inputs, frozen, absent=dict.fromkeys(("definition", "onnx", "sources"), why))


def beside(port: Port, frozen: Frozen | None, folder: Path, input_shapes: Mapping[str, Shape] | None = None) -> Subject:
    """Returns a port's network in every form that it can be brought into; what is written goes to ``folder``.
    ``input_shapes`` are those that the port was converted with."""
    makers = {top: layer.node.name for layer in port.shapes for top in layer.node.tops}
    shapes = {top: shape for layer in port.shapes for top, shape in zip(layer.node.tops, layer.open_tops)}
    caffe = {source.kind: source.path for source in port.sources}
    onnx, absent = folder / "port.onnx", {}
    if DEFINITION not in caffe or (any(layer.parameters for layer in port.shapes) and CAFFEMODEL not in caffe):
        absent["definition"] = "reads Caffe's own .prototxt and .caffemodel only"
    try:
        _write_onnx(port, onnx)
    except Refused as refused:
        absent["onnx"] = "; ".join(refused.reasons)
    return Subject(
        {blob: shapes[blob] for blob in port.network.inputs},
        frozen,
        caffe.get(DEFINITION),
        caffe.get(CAFFEMODEL),
        onnx,
        tuple(source.path for source in port.sources),
        dict(input_shapes or {}),
        {blob: makers[blob] for blob in port.network.outputs},
        absent=absent,
    )


def _write_onnx(port: Port, path: Path) -> None:
    if importlib.util.find_spec("onnx") is None:
        raise Refused("needs the package onnx, which is not installed")
    from tools.benchmark.onnx_model import onnx_model

    path.write_bytes(onnx_model(port).SerializeToString())
