"""TF1 checkpoints: written without a session."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graphs.emit import build
from graphs.names import Names
from graphs.network import Network, Shapes
from graphs.tensorflow1 import tensorflow1
from weights import Parameter


def write_checkpoint(
    prefix: Path, network: Network, shapes: Shapes, names: Names, parameters: Mapping[str, Parameter]
) -> None:
    """Writes ``prefix``.index, ``prefix``.data-00000-of-00001 and ``prefix``.meta, as ``tf.compat.v1.train.Saver``
    does (format V2).

    The meta graph holds the network with variables and a saver, so that ``import_meta_graph(prefix + ".meta")``
    followed by ``restore(session, prefix)`` is all that a reader needs.
    """
    tf = tensorflow1("a checkpoint")
    with tf.Graph().as_default() as graph:

        def variable(name: str, shape: tuple[int, ...]) -> Any:
            return tf.get_variable(name, shape, tf.float32, initializer=tf.zeros_initializer())

        build(network, shapes, names, tf, variable)
        saver = tf.train.Saver() if parameters else None
        meta = tf.train.export_meta_graph(graph=graph, saver_def=saver.as_saver_def() if saver else None)
    Path(f"{prefix}.meta").write_bytes(meta.SerializeToString(deterministic=True))
    if not parameters:
        return
    with tf.Graph().as_default(), tf.Session() as session:
        arrays = [parameter.tensorflow() for parameter in parameters.values()]
        tensors = [tf.placeholder(tf.float32, array.shape) for array in arrays]
        save = tf.raw_ops.SaveV2(
            prefix=str(prefix),
            tensor_names=list(parameters),
            shape_and_slices=[""] * len(parameters),
            tensors=tensors,
        )
        session.run(save, dict(zip(tensors, arrays)))
