"""Frozen graphs: written without a session, loaded without this project."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from graphs.channels_last import channels_last
from graphs.emit import build
from graphs.names import Names
from graphs.network import Network, Shapes
from graphs.reference import fed
from graphs.tensorflow1 import tensorflow1
from weights import Parameter, Refused, wire
from weights.parameter import in_tensorflow_layout
from weights.stored import TENSORFLOW, Stored, by_variable, once


def write_frozen(
    path: Path, network: Network, shapes: Shapes, names: Names, parameters: Mapping[str, Parameter]
) -> None:
    """Writes the network as a GraphDef with its parameters as constants.

    Needs no session and, beside the parameters, memory for one of them: a protobuf message may be written in pieces,
    so nodes go to the file one by one. The caller sees to it that they stay below protobuf's 2 GiB.
    """
    tf = tensorflow1("a frozen graph")
    with tf.Graph().as_default() as graph:
        build(
            network, shapes, names, tf, lambda name, spec: tf.placeholder(tf.float32, spec.layout.tensorflow, name=name)
        )
        definition = graph.as_graph_def()
    with open(path, "wb") as file:
        constants = [parameters[node.name] for node in definition.node if node.name in parameters]
        for name, array in in_tensorflow_layout(constants):
            file.write(_constant_head(tf, name, array))
            file.write(wire.flat(array))
        for node in definition.node:
            if node.name not in parameters:
                file.write(tf.GraphDef(node=[node]).SerializeToString(deterministic=True))
        rest = tf.GraphDef(versions=definition.versions, library=definition.library)
        file.write(rest.SerializeToString(deterministic=True))


def _constant_head(tf: Any, name: str, array: np.ndarray) -> bytes:
    """Returns the Const node of a float32 array, as GraphDef's field, up to where the array's bytes begin."""
    float32 = tf.float32.as_datatype_enum
    node = tf.NodeDef(name=name, op="Const")
    node.attr["dtype"].type = float32
    attribute = tf.AttrValue()
    attribute.tensor.dtype = float32
    attribute.tensor.tensor_shape.SetInParent()
    for size in array.shape:
        attribute.tensor.tensor_shape.dim.add(size=size)
    tensor = attribute.tensor
    return wire.around(
        array.nbytes,
        (tensor.TENSOR_CONTENT_FIELD_NUMBER, tensor.SerializeToString()),
        (attribute.TENSOR_FIELD_NUMBER, b""),
        (2, wire.head(1, len(b"value")) + b"value"),  # a map's entry: key 1, value 2
        (node.ATTR_FIELD_NUMBER, node.SerializeToString(deterministic=True)),
        (tf.GraphDef.NODE_FIELD_NUMBER, b""),
    )


def read_definition(path: Path) -> Any:
    """Returns the GraphDef in ``path``. Raises Refused where the file is missing or holds none."""
    definition = tensorflow1("reading a frozen graph").GraphDef()
    try:
        definition.ParseFromString(path.read_bytes())
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from error
    except Exception as error:  # protobuf's DecodeError: this package imports no protobuf
        raise Refused(f"{path}: is no frozen graph: it does not decode as a GraphDef") from error
    if not definition.node:
        raise Refused(f"{path}: is no frozen graph: it has no nodes")
    return definition


def read_frozen(path: Path) -> Stored:
    """Returns the float constants of a frozen graph that are named LAYER/PARAMETER. Raises Refused as
    ``read_definition`` does."""
    tf = tensorflow1("reading a frozen graph")
    constants = {}
    definition = read_definition(path)
    once((node.name for node in definition.node), "nodes")
    for node in definition.node:
        tensor = node.attr["value"].tensor
        is_operand = node.name.endswith(("/x", "/y"))  # what TensorFlow makes of a number in an expression
        if node.op == "Const" and tensor.dtype == tf.float32.as_datatype_enum and "/" in node.name and not is_operand:
            constants[node.name] = tf.make_ndarray(tensor)
    return by_variable(constants, TENSORFLOW)


@dataclass(frozen=True)
class FrozenGraph:
    """A frozen graph in memory, with a session of its own.

    ``inputs`` and ``outputs`` are blob -> tensor name; ``layers`` has (layer, top) -> tensor name where the graph
    has a manifest beside it; ``shapes`` the inputs' shapes in Caffe's layout, -1 for a free batch.
    """

    graph: Any
    session: Any
    inputs: dict[str, str]
    outputs: dict[str, str]
    layers: dict[tuple[str, str], str]
    shapes: dict[str, tuple[int, ...]]
    manifest: dict[str, Any]

    def run(
        self, feeds: Mapping[str, np.ndarray], fetch: Sequence[str] | None = None, layout: str = "tensorflow"
    ) -> dict[str, np.ndarray]:
        """Returns blob -> value for all outputs, or name -> value for the layers, blobs or tensors in ``fetch``.

        ``feeds`` has an array for each input blob. ``layout`` says how feeds and results of rank 4 and more lie:
        "tensorflow" is N, H, W, C, "caffe" N, C, H, W. Raises Refused where an input is missing, has another shape,
        or a name in ``fetch`` is unknown.
        """
        if layout not in ("tensorflow", "caffe"):
            raise Refused(f"layout '{layout}' is unknown; expected 'tensorflow' or 'caffe'")
        in_caffe = layout == "caffe"
        values = {}
        for blob, tensor in self.inputs.items():
            shape = self.shapes[blob] if in_caffe else channels_last(self.shapes[blob])
            array = fed(feeds, blob, shape)
            values[tensor] = np.moveaxis(array, 1, -1) if in_caffe and array.ndim >= 4 else array
        tensors = self.outputs if fetch is None else {name: self.tensor(name) for name in fetch}
        results = self.session.run(tensors, values)
        if in_caffe:
            results = {name: np.moveaxis(a, -1, 1) if np.ndim(a) >= 4 else a for name, a in results.items()}
        return results

    def tensor(self, name: str) -> str:
        """Returns the tensor of an output or input blob, of a layer, or of that very name."""
        by_layer = {layer: tensor for (layer, _), tensor in self.layers.items()}
        for known in (self.outputs, by_layer, self.inputs):
            if name in known:
                return known[name]
        try:
            return self.graph.get_tensor_by_name(name if ":" in name else name + ":0").name
        except (KeyError, ValueError) as error:
            raise Refused(f"'{name}' is no output, layer or tensor of this graph") from error

    def close(self) -> None:
        """Frees the session."""
        self.session.close()


def load(path: str | Path, config: Any = None) -> FrozenGraph:
    """Returns the frozen graph in ``path``, its inputs and outputs named by the manifest beside it.

    Without a manifest, inputs are its placeholders, outputs the operations that none reads. ``config`` is the
    ``tf.compat.v1.ConfigProto`` of its session: threads, GPU memory. Raises Refused where the file is missing or holds
    no GraphDef.
    """
    path = Path(path)
    tf = tensorflow1("loading a frozen graph")
    definition = read_definition(path)
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(definition, name="")
    manifest_path = path.with_name(path.name + ".json")
    try:
        manifest = json.loads(manifest_path.read_bytes()) if manifest_path.exists() else _manifest_of(graph)
        return FrozenGraph(
            graph,
            tf.Session(graph=graph, config=config),
            {one["blob"]: one["tensor"] for one in manifest["inputs"]},
            {one["blob"]: one["tensor"] for one in manifest["outputs"]},
            {(one["name"], top["blob"]): top["tensor"] for one in manifest["layers"] for top in one["tops"]},
            {one["blob"]: tuple(-1 if size is None else size for size in one["shape"]) for one in manifest["inputs"]},
            manifest,
        )
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(f"{manifest_path}: is no manifest of a graph; remove it, or convert the model again") from error


def _manifest_of(graph: Any) -> dict[str, Any]:
    operations = graph.get_operations()

    def named(tensor: Any) -> dict[str, Any]:
        return {"blob": tensor.op.name, "tensor": tensor.name}

    inputs = []
    for operation in operations:
        if operation.type == "Placeholder":
            tensor = operation.outputs[0]
            shape = tensor.shape.as_list() if tensor.shape.rank is not None else []
            caffe = shape if len(shape) < 4 else [shape[0], shape[-1], *shape[1:-1]]
            inputs.append({**named(tensor), "shape": caffe})
    read = {tensor.name for operation in operations for tensor in operation.inputs}
    ends = _ends(operations, read)
    return {"inputs": inputs, "outputs": [named(tensor) for tensor in ends], "layers": []}


def _ends(operations: Sequence[Any], read: set[str]) -> Iterator[Any]:
    for operation in operations:
        if operation.type not in ("Placeholder", "Const", "NoOp"):
            yield from (tensor for tensor in operation.outputs if tensor.name not in read)
