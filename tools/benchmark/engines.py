"""The engines that run a network, each behind the same few methods."""

from __future__ import annotations

import os
from typing import Any, ClassVar

import numpy as np

from tools.benchmark.subject import Subject


class Engine:
    """An engine with a network loaded: feed it once, then run it as often as wanted.

    Made in a process of its own, where nothing else sets threads or takes memory.
    """

    name: ClassVar[str]
    module: ClassVar[str]
    """The Python package that it needs."""
    reads: ClassVar[str]
    """The file of a Subject that it can't do without."""

    def __init__(self, subject: Subject, threads: int) -> None:
        """Loads the network, to run on ``threads`` threads."""
        raise NotImplementedError

    def version(self) -> str:
        """Returns the engine's version."""
        raise NotImplementedError

    def feed(self, inputs: dict[str, np.ndarray]) -> None:
        """Takes blob -> array in Caffe's layout for all runs to come, and brings them into the engine's own."""
        raise NotImplementedError

    def run(self) -> Any:
        """Makes one forward pass; returns the outputs as the engine has them."""
        raise NotImplementedError

    def in_caffe_layout(self, outputs: Any) -> list[np.ndarray]:
        """Returns what ``run`` returned in Caffe's layout, in the order of the network's outputs."""
        return list(outputs)


class TensorFlow(Engine):
    """The frozen graph in TensorFlow."""

    name, module, reads = "TensorFlow", "tensorflow", "frozen"

    def __init__(self, subject: Subject, threads: int) -> None:
        from graphs import load
        from graphs.tensorflow1 import tensorflow1

        self.tf = tensorflow1("timing a frozen graph")
        config = self.tf.ConfigProto(intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads)
        self.graph = load(subject.frozen, config)
        self.forward = self.graph.session.make_callable(
            list(self.graph.outputs.values()), feed_list=list(self.graph.inputs.values())
        )

    def version(self) -> str:
        return self.tf.__version__

    def feed(self, inputs: dict[str, np.ndarray]) -> None:
        arrays = [inputs[blob] for blob in self.graph.inputs]
        self.inputs = [np.ascontiguousarray(np.moveaxis(a, 1, -1)) if a.ndim >= 4 else a for a in arrays]

    def run(self) -> Any:
        return self.forward(*self.inputs)

    def in_caffe_layout(self, outputs: Any) -> list[np.ndarray]:
        return [np.moveaxis(array, -1, 1) if array.ndim >= 4 else array for array in outputs]


class OpenCV(Engine):
    """Caffe's own files in OpenCV's dnn module."""

    name, module, reads = "OpenCV", "cv2", "definition"

    def __init__(self, subject: Subject, threads: int) -> None:
        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # what goes wrong is raised as well
        import cv2

        self.cv2 = cv2
        cv2.setNumThreads(threads)
        files = (path for path in (subject.definition, subject.weights) if path)
        self.net = cv2.dnn.readNetFromCaffe(*map(str, files))
        self.makers = list(subject.makers)

    def version(self) -> str:
        return self.cv2.__version__

    def feed(self, inputs: dict[str, np.ndarray]) -> None:
        self.inputs = inputs

    def run(self) -> Any:
        for blob, array in self.inputs.items():
            self.net.setInput(array, blob)
        return self.net.forward(self.makers)


class OnnxRuntime(Engine):
    """This project's ONNX form of the network in ONNX Runtime."""

    name, module, reads = "ONNX Runtime", "onnxruntime", "onnx"

    def __init__(self, subject: Subject, threads: int) -> None:
        import onnxruntime

        self.onnxruntime = onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(str(subject.onnx), options, providers=["CPUExecutionProvider"])

    def version(self) -> str:
        return self.onnxruntime.__version__

    def feed(self, inputs: dict[str, np.ndarray]) -> None:
        self.inputs = dict(zip((one.name for one in self.session.get_inputs()), inputs.values()))

    def run(self) -> Any:
        return self.session.run(None, self.inputs)


ENGINES: tuple[type[Engine], ...] = (TensorFlow, OpenCV, OnnxRuntime)
"""The first is the one that the others are measured against."""
