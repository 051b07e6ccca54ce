"""LSTM and RNN, unrolled over time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from graphs.channels_last import to_caffe_order
from graphs.layer import Filler, Layer, ParameterSpec, Site, Tensor, layer, spell
from weights import Layout, Shape


@dataclass(frozen=True)
class _Recurrent(Layer):
    """Caffe's RecurrentLayer over x (T, N, ...): T steps of N independent streams.

    The second bottom (T, N) says by 1 that a stream goes on and by 0 that another begins at this step: what came before
    is multiplied by it. A static input (N, ...) may follow, which every step sees. With ``expose_hidden`` the state
    before the first step is given by further bottoms (1, N, num_output), and the last one returned as further tops.
    Without, the state begins at zero in every run, while Caffe's own layer goes on with the previous batch's.
    """

    num_output: int = 0
    weight_filler: Filler = Filler()
    bias_filler: Filler = Filler()
    expose_hidden: bool = False

    states: ClassVar[int]
    """Blobs that one step hands to the next."""
    gates: ClassVar[int]
    """Vectors of num_output that a step computes of its inputs."""
    stepwise = frozenset({"W_hc", "W_hh", "W_ho", "b_o"})
    fewest_parameters: ClassVar[int]
    """Parameters without a static input, which adds one."""

    @property
    def _exposed(self) -> int:
        return self.states if self.expose_hidden else 0

    def _has_static(self, bottoms: Sequence[Any]) -> bool:
        return len(bottoms) > 2 + self._exposed

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        x, cont = bottoms[:2]
        if self.num_output < 1:
            raise ValueError(f"num_output is {self.num_output}; Caffe wants 1 or more")
        fewest = 2 + self._exposed
        if not fewest <= len(bottoms) <= fewest + 1:
            raise ValueError(f"has {len(bottoms)} bottom blobs; expected {fewest}, or {fewest + 1} with a static input")
        if len(x) < 3:
            raise ValueError(f"its bottom has the shape {spell(x)}; expected three axes or more (steps, streams, ...)")
        if cont != x[:2]:
            raise ValueError(
                f"its second bottom has the shape {spell(cont)}; expected {spell(x[:2])}, steps by streams"
            )
        if self._has_static(bottoms) and (len(bottoms[2]) < 2 or bottoms[2][0] != x[1]):
            raise ValueError(
                f"its static input has the shape {spell(bottoms[2])}; expected two axes or more, {x[1]}x..."
            )
        state = (1, x[1], self.num_output)
        for given in bottoms[len(bottoms) - self._exposed :]:
            if given != state:
                raise ValueError(f"has a state of shape {spell(given)}; expected {spell(state)}")
        return [(*x[:2], self.num_output), *[state] * self._exposed]

    def notes(self, *bottoms: Shape) -> Iterator[str]:
        if not self.expose_hidden:
            yield (
                "its state begins at zero in every run; Caffe goes on with that of the run before where the second "
                "bottom's first step is not 0"
            )

    def _gate_parameters(self, bottoms: tuple[Shape, ...], x: str, bias: str, h: str) -> tuple[ParameterSpec, ...]:
        """Returns the parameters of a step's gates, by the names that Caffe's unrolled net has for them."""
        outputs = self.gates * self.num_output
        static = [self._matrix(f"{x}_static", outputs, math.prod(bottoms[2][1:]))] if self._has_static(bottoms) else []
        return (
            self._matrix(x, outputs, math.prod(bottoms[0][2:])),
            ParameterSpec(bias, Layout((outputs,)), self.bias_filler),
            *static,
            self._matrix(h, outputs, self.num_output),
        )

    def _matrix(self, name: str, outputs: int, inputs: int) -> ParameterSpec:
        return ParameterSpec(name, Layout((outputs, inputs), order=(1, 0)), self.weight_filler)

    def multiply_adds(self, bottoms: tuple[Shape, ...], tops: tuple[Shape, ...]) -> int:
        steps, streams = bottoms[0][:2]
        matrices = [spec for spec in self.parameters(*bottoms) if len(spec.layout.caffe) == 2]
        return streams * sum(spec.layout.size * (1 if spec.name.endswith("_static") else steps) for spec in matrices)

    def _divide(self, arrays: tuple[np.ndarray, ...]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Returns bottoms and parameters; a static input is one more of both."""
        fewest = 2 + self._exposed
        count = fewest + (len(arrays) - fewest - self.fewest_parameters) // 2
        return list(arrays[:count]), list(arrays[count:])

    def _inputs(self, bottoms: list[np.ndarray], parameters: list[np.ndarray]) -> np.ndarray:
        """Returns what every step's gates get of its inputs, (T, N, gates * num_output)."""
        steps, streams = bottoms[0].shape[:2]
        y = bottoms[0].reshape(steps, streams, -1) @ parameters[0].T + parameters[1]
        if self._has_static(bottoms):
            y = y + bottoms[2].reshape(streams, -1) @ parameters[2].T
        return y

    def _states(self, bottoms: list[np.ndarray]) -> list[np.ndarray]:
        """Returns the state before the first step."""
        zeros = np.zeros((bottoms[0].shape[1], self.num_output), bottoms[0].dtype)
        return [state[0] for state in bottoms[len(bottoms) - self._exposed :]] or [zeros] * self.states

    def _emit_inputs(
        self, tf: Any, site: Site, bottoms: Sequence[Tensor], parameters: Sequence[Tensor]
    ) -> list[Tensor]:
        """Returns what each step's gates get of its inputs, (N, gates * num_output)."""
        shape = site.bottom
        rows = tf.reshape(to_caffe_order(tf, bottoms[0], shape), [shape[0] * shape[1], math.prod(shape[2:])])
        steps = tf.split(tf.nn.bias_add(tf.matmul(rows, parameters[0]), parameters[1]), shape[0], axis=0)
        if not self._has_static(bottoms):
            return steps
        shape = site.bottoms[2]
        static = tf.reshape(to_caffe_order(tf, bottoms[2], shape), [shape[0], math.prod(shape[1:])])
        static = tf.matmul(static, parameters[2])
        return [tf.add(step, static) for step in steps]

    def _emit_states(self, tf: Any, site: Site, bottoms: Sequence[Tensor]) -> list[Tensor | None]:
        """Returns the state before the first step, None for zeros. Like Caffe's, its gradient goes no further back."""
        given = [_stopped(tf, site, state) for state in bottoms[len(bottoms) - self._exposed :]]
        return [tf.reshape(state, [site.bottom[1], self.num_output]) for state in given] or [None] * self.states

    def _emit_tops(self, tf: Any, site: Site, outputs: list[Tensor], states: list[Tensor]) -> list[Tensor]:
        exposed = [
            tf.expand_dims(_stopped(tf, site, state), 0, name=name) for state, name in zip(states, site.names[1:])
        ]
        return [tf.stack(outputs, name=site.name), *exposed]


def _stopped(tf: Any, site: Site, state: Tensor) -> Tensor:
    """Returns a state that passes a layer's border, where Caffe's gradient ends."""
    return tf.stop_gradient(state) if site.phase == "TRAIN" else state


def _continuing(tf: Any, site: Site, cont: Tensor) -> list[Tensor]:
    """Returns for each step a column (N, 1): whether its streams go on."""
    steps, streams = site.bottoms[1]
    return tf.split(tf.reshape(cont, [steps * streams, 1]), steps, axis=0)


@layer("LSTM", "recurrent_param")
@dataclass(frozen=True)
class LSTM(_Recurrent):
    """Caffe's LSTMLayer (Zaremba and Sutskever 2014), without peepholes.

    The gates lie in the order i, f, o, g: c = cont * sigmoid(f) * c + sigmoid(i) * tanh(g), h = sigmoid(o) * tanh(c).
    """

    bottoms = (2, 5)
    tops = (1, 3)
    without_effect = frozenset({"debug_info"})
    note = "static input, expose_hidden; the state begins at zero in every run"
    fixes_batch = True

    states: ClassVar[int] = 2
    gates: ClassVar[int] = 4
    fewest_parameters: ClassVar[int] = 3

    def parameters(self, *bottoms: Shape) -> tuple[ParameterSpec, ...]:
        return self._gate_parameters(bottoms, "W_xc", "b_c", "W_hc")

    def reference(self, *arrays: np.ndarray) -> list[np.ndarray]:
        bottoms, parameters = self._divide(arrays)
        h, c = self._states(bottoms)
        outputs = []
        for inputs, cont in zip(self._inputs(bottoms, parameters), bottoms[1]):
            goes_on = cont[:, None]
            i, f, o, g = np.split(inputs + (goes_on * h) @ parameters[-1].T, 4, axis=1)
            c = goes_on * _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
            h = _sigmoid(o) * np.tanh(c)
            outputs.append(h)
        return [np.stack(outputs), *((h[None], c[None]) if self.expose_hidden else ())]

    def emit(self, tf: Any, site: Site, *tensors: Tensor) -> list[Tensor]:
        bottoms, parameters = tensors[: len(site.bottoms)], tensors[len(site.bottoms) :]
        h, c = self._emit_states(tf, site, bottoms)
        outputs = []
        for gates, goes_on in zip(self._emit_inputs(tf, site, bottoms, parameters), _continuing(tf, site, bottoms[1])):
            if h is not None:
                gates = tf.add(gates, tf.matmul(tf.multiply(h, goes_on), parameters[-1]))
            i, f, o, g = tf.split(gates, 4, axis=1)
            new = tf.multiply(tf.sigmoid(i), tf.tanh(g))
            c = new if c is None else tf.add(tf.multiply(tf.multiply(tf.sigmoid(f), goes_on), c), new)
            h = tf.multiply(tf.sigmoid(o), tf.tanh(c))
            outputs.append(h)
        return self._emit_tops(tf, site, outputs, [h, c])


@layer("RNN", "recurrent_param")
@dataclass(frozen=True)
class RNN(_Recurrent):
    """Caffe's RNNLayer: h = tanh(W_xh x + b_h + W_hh (cont * h)), of which o = tanh(W_ho h + b_o) is the top."""

    bottoms = (2, 4)
    tops = (1, 2)
    without_effect = frozenset({"debug_info"})
    note = "static input, expose_hidden; the state begins at zero in every run"
    fixes_batch = True

    states: ClassVar[int] = 1
    gates: ClassVar[int] = 1
    fewest_parameters: ClassVar[int] = 5

    def parameters(self, *bottoms: Shape) -> tuple[ParameterSpec, ...]:
        out = ParameterSpec("b_o", Layout((self.num_output,)), self.bias_filler)
        gates = self._gate_parameters(bottoms, "W_xh", "b_h", "W_hh")
        return (*gates, self._matrix("W_ho", self.num_output, self.num_output), out)

    def reference(self, *arrays: np.ndarray) -> list[np.ndarray]:
        bottoms, parameters = self._divide(arrays)
        (h,) = self._states(bottoms)
        own, out, bias = parameters[-3:]
        outputs = []
        for inputs, cont in zip(self._inputs(bottoms, parameters), bottoms[1]):
            h = np.tanh(inputs + (cont[:, None] * h) @ own.T)
            outputs.append(np.tanh(h @ out.T + bias))
        return [np.stack(outputs), *((h[None],) if self.expose_hidden else ())]

    def emit(self, tf: Any, site: Site, *tensors: Tensor) -> list[Tensor]:
        bottoms, parameters = tensors[: len(site.bottoms)], tensors[len(site.bottoms) :]
        own, out, bias = parameters[-3:]
        (h,) = self._emit_states(tf, site, bottoms)
        outputs = []
        for gates, goes_on in zip(self._emit_inputs(tf, site, bottoms, parameters), _continuing(tf, site, bottoms[1])):
            if h is not None:
                gates = tf.add(gates, tf.matmul(tf.multiply(h, goes_on), own))
            h = tf.tanh(gates)
            outputs.append(tf.tanh(tf.nn.bias_add(tf.matmul(h, out), bias)))
        return self._emit_tops(tf, site, outputs, [h])


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
