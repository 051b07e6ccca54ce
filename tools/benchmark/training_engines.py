"""Engines that compute gradients: TensorFlow with variables, and PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphs.alexnet import FAMILY
from graphs.emit import build
from graphs.layer import ParameterSpec
from graphs.tensorflow1 import tensorflow1
from tools.benchmark.engines import FORWARD, FORWARD_BACKWARD, Engine, PyTorch, Setting, tensorflow_on
from tools.benchmark.parameters import is_trained, judged, parameters_of
from tools.benchmark.subject import Subject

Tensor = Any


class _OnDevice:
    """TensorFlow, but for its placeholders: each is a variable that holds an array already, so that a step waits for
    no copy from the processor's memory."""

    def __init__(self, tf: Any, arrays: dict[str, np.ndarray]) -> None:
        self._tf, self._arrays = tf, arrays

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tf, name)

    def placeholder(self, dtype: Any, shape: Any, name: str) -> Tensor:
        array = self._arrays[name.rstrip("/")]
        return self._tf.identity(held(self._tf, f"held_{name.rstrip('/')}", array), name=name)


def held(tf: Any, name: str, array: np.ndarray) -> Tensor:
    """Returns a variable for an array, which is not to be trained."""
    return tf.get_variable(name, array.shape, tf.float32, initializer=tf.zeros_initializer(), trainable=False)


def _norm(array: np.ndarray) -> float:
    """Returns the Euclidean norm, summed in float64: of fc6's 38 million values float32 loses the fourth digit."""
    flat = array.reshape(-1)
    return float(np.sqrt(np.einsum("i,i->", flat, flat, dtype=np.float64)))


class TensorFlowTraining(Engine):
    """The network with variables in TensorFlow: a definition's, or one of the AlexNet family."""

    name, module, reads = "TensorFlow", "tensorflow", ""
    passes = (FORWARD, FORWARD_BACKWARD)

    def __init__(self, subject: Subject, setting: Setting) -> None:
        self.tf, self.subject = tensorflow1("timing a training step"), subject
        self.config, self.device_name = tensorflow_on(self.tf, setting)

    def version(self) -> str:
        return self.tf.__version__

    def device(self) -> str:
        return self.device_name

    def feed(self, inputs: dict[str, np.ndarray]) -> None:
        tf = self.tf
        moved = {blob: np.moveaxis(array, 1, -1) if array.ndim >= 4 else array for blob, array in inputs.items()}
        with tf.Graph().as_default() as graph:
            first = {f"held_{blob}": array for blob, array in moved.items()}
            if self.subject.family:
                outputs = ends = self._family(tf, next(iter(moved.items())))
            else:
                outputs, ends, values = self._defined(tf, moved)
                first |= values
            loss = tf.add_n([tf.nn.l2_loss(end) for end in ends])
            variables = tf.trainable_variables()
            gradients = [one for one in tf.gradients(loss, variables) if one is not None]
            # A step fetches the first number of each: all of them are computed, and none is copied.
            fetched = [loss, *(tf.reshape(one, [-1])[:1] for one in gradients)]
            start = tf.global_variables_initializer()
            self.session = tf.Session(graph=graph, config=self.config)
        self.session.run(start)
        for variable in graph.get_collection("variables"):
            if variable.op.name in first:
                self.session.run(variable.initializer, {variable.initializer.inputs[1]: first.pop(variable.op.name)})
        self.outputs, self.gradients = outputs, gradients
        self.forward, self.backward = map(self.session.make_callable, (outputs, fetched))

    def _family(self, tf: Any, fed: tuple[str, np.ndarray]) -> list[Tensor]:
        blob, array = fed
        images = tf.identity(held(tf, f"held_{blob}", array))
        return [FAMILY[self.subject.family].build(images)["logits"]]

    def _defined(
        self, tf: Any, inputs: dict[str, np.ndarray]
    ) -> tuple[list[Tensor], list[Tensor], dict[str, np.ndarray]]:
        """Returns the outputs, what the loss is taken of, and the variables' first values."""
        from converter import convert

        port = convert(*self.subject.sources, input_shapes=self.subject.input_shapes)
        parameters = parameters_of(port)

        def variable(name: str, spec: ParameterSpec) -> Tensor:
            zeros, trained = tf.zeros_initializer(), is_trained(name)
            return tf.get_variable(name, spec.layout.tensorflow, tf.float32, initializer=zeros, trainable=trained)

        emitted = build(port.network, port.shapes, port.names, _OnDevice(tf, inputs), variable)
        blobs = {top: tensor for one in emitted for top, tensor in zip(one.layer.node.tops, one.tops)}
        first = {name: layout.to_tensorflow(array) for name, (layout, array) in parameters.items()}
        tops = {
            (one.layer.node.name, top): tensor for one in emitted for top, tensor in zip(one.layer.node.tops, one.tops)
        }
        return [blobs[blob] for blob in port.network.outputs], [tops[key] for key in judged(port)], first

    def run(self) -> Any:
        return self.forward()

    def run_backward(self) -> Any:
        return self.backward()

    def gradient_norms(self) -> list[float]:
        """Returns the Euclidean norm of the loss's gradient for each parameter, in order."""
        return [_norm(one) for one in self.session.run(self.gradients)]

    def in_caffe_layout(self, outputs: Any) -> list[np.ndarray]:
        return [np.moveaxis(array, -1, 1) if array.ndim >= 4 else array for array in outputs]


class PyTorchTraining(PyTorch):
    """The same layers as PyTorch's functions, with its automatic gradients."""

    passes = (FORWARD, FORWARD_BACKWARD)

    def feed(self, inputs: dict[str, np.ndarray]) -> None:
        super().feed(inputs)
        self.inputs = {blob: tensor.to(self.place) for blob, tensor in self.inputs.items()}
        self.trained = [tensor.requires_grad_() for name, tensor in self.parameters.items() if is_trained(name)]

    def _gradients(self) -> tuple[Any, ...]:
        values = self.network.values(self.inputs, self.parameters)
        loss = sum((values[key] * values[key]).sum() / 2 for key in self.judged)
        return self.torch.autograd.grad(loss, self.trained)

    def run_backward(self) -> Any:
        return [gradient.reshape(-1)[:1].cpu() for gradient in self._gradients()]

    def gradient_norms(self) -> list[float]:
        """Returns the Euclidean norm of the loss's gradient for each parameter, in order."""
        return [_norm(gradient.cpu().numpy()) for gradient in self._gradients()]
