"""TF1 checkpoints, of the network's variables alone or of a training that has slots beside them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from graphs.emit import build
from graphs.fillers import initialized
from graphs.names import Names
from graphs.network import Network, Shapes
from graphs.tensorflow1 import tensorflow1
from weights import Parameter, Refused
from weights.stored import TENSORFLOW, Lazy, Stored, by_variable


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
        build(network, shapes, names, tf, initialized(tf))
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
        try:
            session.run(save, dict(zip(tensors, arrays)))
        except tf.errors.OpError as error:  # a page, with the system's reason on the line that names the file
            reasons = [line.split("; ")[-1] for line in error.message.splitlines() if f"{prefix.name}.data-" in line]
            raise OSError(reasons[0] if reasons else "TensorFlow could not write the checkpoint") from error


SLOTS = (
    "Momentum",
    "Adam",
    "Adam_1",
    "RMSProp",
    "RMSProp_1",
    "Adagrad",
    "Adadelta",
    "ExponentialMovingAverage",
    "Ftrl",
)
"""What optimizers append to a variable's name for their own numbers."""
COUNTERS = ("global_step", "beta1_power", "beta2_power")
"""What trainings keep beside their variables."""


def read_checkpoint(prefix: Path) -> Stored:
    """Returns the variables of a checkpoint (format V2), each left in its file until it is used.

    Optimizers' slots (``conv1/weights/Momentum``) and counters (``global_step``) are passed over. Raises Refused where
    the checkpoint is broken.
    """
    tf = tensorflow1("reading a checkpoint")
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        shapes = reader.get_variable_to_shape_map()
        types = reader.get_variable_to_dtype_map()
    except Exception as error:  # TensorFlow's own error types
        raise Refused(f"is no whole checkpoint: {' '.join(str(error).split())[:200]}") from error

    def read(name: str) -> np.ndarray:
        try:
            return reader.get_tensor(name)
        except Exception as error:
            raise Refused(f"{prefix}: variable '{name}': {' '.join(str(error).split())[:200]}") from error

    return by_variable(
        {
            name: Lazy(tuple(shapes[name]), np.dtype(types[name].as_numpy_dtype), partial(read, name))
            for name in sorted(shapes)
            if types[name].is_floating and name.rpartition("/")[2] not in (*SLOTS, *COUNTERS)
        },
        TENSORFLOW,
    )
