"""SavedModels, with the signature that servers look for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from graphs.emit import build
from graphs.fillers import initialized
from graphs.layers.data import Input
from graphs.names import Names
from graphs.network import Network, Shapes
from graphs.tensorflow1 import tensorflow1
from weights import Parameter


def write_saved_model(
    folder: Path, network: Network, shapes: Shapes, names: Names, parameters: Mapping[str, Parameter]
) -> None:
    """Writes a SavedModel with tag ``serve`` and signature ``serving_default``, whose inputs and outputs bear the
    names of Caffe's blobs."""
    tf = tensorflow1("a SavedModel")
    with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
        emitted = build(network, shapes, names, tf, initialized(tf))
        for one in tf.global_variables():
            value = one.initializer.inputs[1]
            session.run(one.initializer, {value: parameters[one.op.name].tensorflow()})
        blobs = {top: tensor for one in emitted for top, tensor in zip(one.layer.node.tops, one.tops)}
        fed = [top for one in emitted if isinstance(one.layer.node.layer, Input) for top in one.layer.node.tops]
        builder = tf.saved_model.Builder(str(folder))
        signature = tf.saved_model.predict_signature_def(
            inputs={blob: blobs[blob] for blob in fed}, outputs={blob: blobs[blob] for blob in network.outputs}
        )
        builder.add_meta_graph_and_variables(
            session, [tf.saved_model.tag_constants.SERVING], {"serving_default": signature}
        )
        builder.save()
