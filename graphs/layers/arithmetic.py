"""Plain arithmetic on each value by itself: AbsVal, Power, Exp, Log, Clip, Threshold."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.layer import Layer, Site, Tensor, layer
from weights import Shape


@layer("AbsVal")
@dataclass(frozen=True)
class AbsVal(Layer):
    """The magnitude of each value."""

    def works_in_place(self, *bottoms: Shape) -> bool:
        return False  # Caffe refuses it itself

    def reference(self, x: np.ndarray) -> np.ndarray:
        return np.abs(x)

    def emit(self, tf: Any, site: Site, x: Tensor) -> Tensor:
        return tf.abs(x, name=site.name)


@layer("Power", "power_param")
@dataclass(frozen=True)
class Power(Layer):
    """(shift + scale * x) ^ power; NaN where a negative number has a power with a fraction."""

    note = "power, scale, shift"

    power: float = 1.0
    scale: float = 1.0
    shift: float = 0.0

    @property
    def _constant(self) -> float | None:
        """The value of every top, where ``power`` times ``scale`` is 0, in float32 as Caffe has it, and the bottom's
        values do not count."""
        if self.power == 0:
            return 1.0
        with np.errstate(all="ignore"):
            if np.float32(self.power) * np.float32(self.scale) != 0:
                return None
            return float(np.float32(self.shift) ** np.float32(self.power))

    def notes(self, *bottoms: Shape) -> Iterator[str]:
        if self._constant is not None and not math.isfinite(self._constant):
            yield (
                f"scale is {self.scale:g}, so that every value of its top is shift ^ power, {self.shift:g} ^ "
                f"{self.power:g}: {self._constant:g}, as in Caffe"
            )

    def reference(self, x: np.ndarray) -> np.ndarray:
        if self._constant is not None:
            with np.errstate(all="ignore"):
                return np.full_like(x, x.dtype.type(self.shift) ** x.dtype.type(self.power))
        return (self.shift + self.scale * x) ** self.power

    def emit(self, tf: Any, site: Site, x: Tensor) -> Tensor:
        if self._constant is not None:
            return tf.fill(tf.shape(x), self._constant, name=site.name)
        steps: list[tuple[Callable[..., Tensor], float]] = []
        if self.scale != 1:
            steps.append((tf.multiply, self.scale))
        if self.shift != 0:
            steps.append((tf.add, self.shift))
        if self.power != 1:
            steps.append((tf.pow, self.power))
        if not steps:
            return tf.identity(x, name=site.name)
        for function, value in steps[:-1]:
            x = function(x, value)
        function, value = steps[-1]
        return function(x, value, name=site.name)


@layer("Exp", "exp_param")
@dataclass(frozen=True)
class Exp(Layer):
    """base ^ (shift + scale * x); a base of -1 stands for e."""

    note = "base, scale, shift"

    base: float = -1.0
    scale: float = 1.0
    shift: float = 0.0

    @property
    def _factor(self) -> float:
        """base ^ shift."""
        with np.errstate(over="ignore"):
            return float(np.float32(np.exp(_natural_log(self.base) * self.shift)))

    def top_shapes(self, x: Shape) -> Shape:
        _natural_log(self.base)
        return x

    def notes(self, *bottoms: Shape) -> Iterator[str]:
        if math.isinf(self._factor):
            yield f"base {self.base:g} to the power of shift, {self.shift:g}, is inf in float32, as in Caffe"

    def reference(self, x: np.ndarray) -> np.ndarray:
        base = np.e if self.base == -1 else self.base
        return base ** (self.shift + self.scale * x)

    def emit(self, tf: Any, site: Site, x: Tensor) -> Tensor:
        inner = _natural_log(self.base) * self.scale
        scaled = x if inner == 1 else tf.multiply(x, inner)
        if self.shift == 0:
            return tf.exp(scaled, name=site.name)
        return tf.multiply(tf.exp(scaled), self._factor, name=site.name)


@layer("Log", "log_param")
@dataclass(frozen=True)
class Log(Layer):
    """The logarithm of shift + scale * x to ``base``; a base of -1 stands for e."""

    note = "base, scale, shift"

    base: float = -1.0
    scale: float = 1.0
    shift: float = 0.0

    def top_shapes(self, x: Shape) -> Shape:
        if _natural_log(self.base) == 0:
            raise ValueError("base is 1, to which there is no logarithm")
        return x

    def reference(self, x: np.ndarray) -> np.ndarray:
        y = np.log(self.shift + self.scale * x)
        return y if self.base == -1 else y / np.log(self.base)

    def emit(self, tf: Any, site: Site, x: Tensor) -> Tensor:
        if self.scale != 1:
            x = tf.multiply(x, self.scale)
        if self.shift != 0:
            x = tf.add(x, self.shift)
        factor = 1 / _natural_log(self.base)
        if factor == 1:
            return tf.math.log(x, name=site.name)
        return tf.multiply(tf.math.log(x), factor, name=site.name)


def _natural_log(base: float) -> float:
    """Returns the natural logarithm of Caffe's ``base``. Raises ValueError where there is none."""
    if base == -1:
        return 1.0
    if base <= 0:
        raise ValueError(f"base is {base:g}; Caffe wants one above 0, or -1 for e")
    return math.log(base)


@layer("Clip", "clip_param")
@dataclass(frozen=True)
class Clip(Layer):
    """Values below ``min`` become ``min``, those above ``max`` become ``max``."""

    note = "min, max"

    min: float | None = None
    max: float | None = None

    def _limits(self) -> tuple[float, float]:
        if (self.min is None) != (self.max is None):
            raise ValueError("sets only one of min and max; Caffe reads a clip_param with both, or none at all")
        return self.min or 0.0, self.max or 0.0

    def notes(self, *bottoms: Shape) -> Iterator[str]:
        if self.min is None and self.max is None:
            yield "sets neither min nor max, which Caffe takes as 0: all of its top is 0"

    def top_shapes(self, x: Shape) -> Shape:
        self._limits()
        return x

    def reference(self, x: np.ndarray) -> np.ndarray:
        low, high = self._limits()
        return np.maximum(np.minimum(x, high), low)

    def emit(self, tf: Any, site: Site, x: Tensor) -> Tensor:
        low, high = self._limits()
        return tf.maximum(tf.minimum(x, high), low, name=site.name)


@layer("Threshold", "threshold_param")
@dataclass(frozen=True)
class Threshold(Layer):
    """1 where a value is above ``threshold``, else 0."""

    note = "threshold"

    threshold: float = 0.0

    def reference(self, x: np.ndarray) -> np.ndarray:
        # As Caffe holds it: 0.1 in float32 is more than 0.1 in float64, and a value between them would count.
        return (x > np.float32(self.threshold)).astype(x.dtype)

    def emit(self, tf: Any, site: Site, x: Tensor) -> Tensor:
        return tf.cast(tf.greater(x, self.threshold), tf.float32, name=site.name)
