"""Caffe's fillers: the first values of parameters that are not loaded, in NumPy and as TensorFlow's initializers."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from graphs.layer import Filler, ParameterSpec
from weights import Refused, Shape


def filled(spec: ParameterSpec, seed: str) -> np.ndarray:
    """Returns first values for a parameter, float32 in Caffe's layout; the same for the same ``seed``.

    Caffe's own random numbers are not reproduced, its distributions are. Raises Refused for an unknown filler.
    """
    if spec.filler.type not in FILLERS:
        raise Refused(f"filler '{spec.filler.type}' is unknown; expected one of {', '.join(FILLERS)}")
    rng = np.random.default_rng(zlib.crc32(seed.encode()))
    return np.asarray(FILLERS[spec.filler.type](rng, spec.filler, spec.layout.caffe), np.float32)


def drawn(spec: ParameterSpec) -> ParameterSpec:
    """Returns a parameter that is left out with a filler that training can start from: its own where one is stated.

    A definition that is made to be deployed states none, and Caffe's default, zeros, never changes in weights behind a
    ReLU: weights get xavier's, and a factor (BN's slope) 1.
    """
    if spec.filler != Filler():
        return spec
    if spec.name == "slope":
        return replace(spec, filler=Filler(value=1.0))
    return replace(spec, filler=Filler("xavier")) if is_matrix(spec) else spec


def is_matrix(spec: ParameterSpec) -> bool:
    """Returns whether a parameter is weights that mix their bottom's values; biases and statistics, of any rank, are
    none."""
    return len(spec.layout.caffe) > 1 and spec.name not in ("biases", "bias", "slope", "mean", "variance")


def begins_at_zero(spec: ParameterSpec) -> bool:
    """Returns whether a parameter is weights whose filler is 0."""
    return is_matrix(spec) and spec.filler.type == "constant" and not spec.filler.value


def _fans(filler: Filler, shape: Shape) -> float:
    """Returns the n that xavier and msra divide by (Caffe: fan_in is count / num, fan_out count / channels)."""
    count = math.prod(shape)
    fan_in = count / shape[0] if shape else 1
    fan_out = count / shape[1] if len(shape) > 1 else count
    return {"FAN_IN": fan_in, "FAN_OUT": fan_out, "AVERAGE": (fan_in + fan_out) / 2}[filler.variance_norm]


def _constant(rng: np.random.Generator, filler: Filler, shape: Shape) -> np.ndarray:
    return np.full(shape, filler.value)


def _uniform(rng: np.random.Generator, filler: Filler, shape: Shape) -> np.ndarray:
    return rng.uniform(filler.min, filler.max, shape)


def _gaussian(rng: np.random.Generator, filler: Filler, shape: Shape) -> np.ndarray:
    values = rng.normal(filler.mean, filler.std, shape)
    if filler.sparse < 0:
        return values
    return values * (rng.random(shape) < filler.sparse / shape[0])  # of num_output, as Caffe has it


def _xavier(rng: np.random.Generator, filler: Filler, shape: Shape) -> np.ndarray:
    limit = math.sqrt(3 / _fans(filler, shape))
    return rng.uniform(-limit, limit, shape)


def _msra(rng: np.random.Generator, filler: Filler, shape: Shape) -> np.ndarray:
    return rng.normal(0, math.sqrt(2 / _fans(filler, shape)), shape)


def _unit_ball(rng: np.random.Generator, filler: Filler, shape: Shape) -> np.ndarray:
    values = rng.random(shape)
    return values / values.reshape(shape[0], -1).sum(axis=1).reshape(-1, *(1,) * (len(shape) - 1))


def _bilinear(rng: np.random.Generator, filler: Filler, shape: Shape) -> np.ndarray:
    if len(shape) != 4 or shape[2] != shape[3]:
        raise Refused(f"filler 'bilinear' wants square kernels; the weights have the shape {shape}")
    size = shape[3]
    factor = math.ceil(size / 2)
    centre = (size - 1) / (2 * factor)
    weights = 1 - np.abs(np.arange(size) / factor - centre)
    return np.broadcast_to(weights[:, None] * weights, shape)


FILLERS: dict[str, Callable[[np.random.Generator, Filler, Shape], np.ndarray]] = {
    "constant": _constant,
    "uniform": _uniform,
    "gaussian": _gaussian,
    "xavier": _xavier,
    "msra": _msra,
    "positive_unitball": _unit_ball,
    "bilinear": _bilinear,
}
"""Caffe's filler type -> what draws it."""


def initializer(tf: Any, spec: ParameterSpec) -> Any:
    """Returns TensorFlow's initializer for a parameter's filler, None for a filler that it has none for (sparse
    gaussian, positive_unitball, bilinear)."""
    filler = spec.filler
    if filler.type == "constant":
        return tf.constant_initializer(filler.value) if filler.value else tf.zeros_initializer()
    if filler.type == "uniform":
        return tf.random_uniform_initializer(filler.min, filler.max)
    if filler.type == "gaussian" and filler.sparse < 0:
        return tf.random_normal_initializer(filler.mean, filler.std)
    if filler.type == "xavier":
        limit = math.sqrt(3 / _fans(filler, spec.layout.caffe))
        return tf.random_uniform_initializer(-limit, limit)
    if filler.type == "msra":
        return tf.random_normal_initializer(0.0, math.sqrt(2 / _fans(filler, spec.layout.caffe)))
    return None


def initialized(tf: Any) -> Callable[[str, ParameterSpec], Any]:
    """Returns the function that makes a parameter's variable, which its filler initializes."""

    def variable(name: str, spec: ParameterSpec) -> Any:
        first = initializer(tf, spec)
        if first is None:
            first = tf.constant_initializer(spec.layout.to_tensorflow(filled(spec, seed=name)))
        return tf.get_variable(name, spec.layout.tensorflow, tf.float32, initializer=first)

    return variable
