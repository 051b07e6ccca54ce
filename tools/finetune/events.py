"""What TensorBoard shows of a training: curves, histograms, the graph."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from graphs.tensorflow1 import tensorflow1
from tools.finetune.graph import Graph
from tools.finetune.state import Epoch, Score


class Events:
    """Writes TensorBoard's event files: ``training`` and ``validation`` below ``folder``, whose curves share axes; each
    shows the network as it is there, without what trains and saves it.

    ``step`` is the number of batches so far; of an earlier run, what it wrote from there on is struck out.
    """

    def __init__(self, folder: Path, graph: Graph, step: int) -> None:
        tf = self._tf = tensorflow1("TensorBoard's files")
        with graph.graph.as_default():  # which a writer wants, whatever it writes
            self._training = tf.summary.FileWriter(str(folder / "training"))
            self._validation = tf.summary.FileWriter(str(folder / "validation"))
        for writer, tower in ((self._training, graph.training), (self._validation, graph.testing)):
            if step:
                writer.add_session_log(tf.SessionLog(status=tf.SessionLog.START), step + 1)
            else:
                part = tf.graph_util.extract_sub_graph(graph.graph.as_graph_def(), [tower.losses.op.name])
                writer.add_event(tf.Event(graph_def=part.SerializeToString(), wall_time=time.time()))

    def batch(self, step: int, loss: float, rate: float, norm: float) -> None:
        """Writes the loss, the learning rate and the gradients' length of a batch."""
        self._scalars(self._training, step, {"batch/loss": loss, "batch/learning_rate": rate, "batch/gradient": norm})

    def histograms(self, step: int, summary: bytes) -> None:
        """Writes histograms, as an operation of ``histograms`` made them."""
        self._training.add_summary(summary, step)

    def epoch(self, epoch: Epoch) -> None:
        """Writes an epoch's loss and accuracy, in training and in validation."""
        values = {"epoch/loss": epoch.loss, "epoch/accuracy": epoch.accuracy}
        self._scalars(self._training, epoch.step, values)
        if epoch.validation is not None:
            self.score(epoch.step, epoch.validation)
        self.flush()

    def score(self, step: int, score: Score) -> None:
        """Writes a score on the validation set."""
        values = {"epoch/loss": score.loss, "epoch/accuracy": score.accuracy}
        if score.among_top is not None:
            values["epoch/among_best_five"] = score.among_top
        self._scalars(self._validation, step, values)

    def flush(self) -> None:
        """Puts on the disk what was written."""
        self._training.flush()
        self._validation.flush()

    def close(self) -> None:
        """Ends the files."""
        self._training.close()
        self._validation.close()

    def _scalars(self, writer: Any, step: int, values: dict[str, float]) -> None:
        tf = self._tf
        summary = tf.Summary(value=[tf.Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
        writer.add_summary(summary, step)


def histograms(graph: Graph) -> tuple[Any, Any]:
    """Returns operations that summarize the gradients and the weights of all that learns; adds them to the graph.

    The first may run with a step; the second runs alone, since the step changes what it reads.
    """
    tf = tensorflow1("TensorBoard's files")
    with graph.graph.as_default(), tf.name_scope("histograms"):
        gradients = [tf.summary.histogram(f"gradients/{name}", value) for name, value in graph.gradients.items()]
        variables = [one.variable for one in graph.trained]
        weights = [tf.summary.histogram(f"weights/{one.op.name}", one) for one in variables]
        return tf.summary.merge(gradients), tf.summary.merge(weights)
