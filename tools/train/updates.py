"""How each of Caffe's solvers changes a parameter (src/caffe/solvers/*.cpp, ComputeUpdateValue and Net::Update).

All in float32, as Caffe. TensorFlow's fused operations are used where they compute the same formula, which is named at
each.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from graphs.layer import Tensor


@dataclass(frozen=True)
class Rule:
    """A solver's rule. ``reads`` are the solver's fields that count for it; ``slots`` what its numbers for a parameter
    are called, after the parameter's name, in a checkpoint. All start at 0."""

    slots: ClassVar[tuple[str, ...]]
    reads: ClassVar[tuple[str, ...]]

    def correction(self, iteration: int) -> float:
        """Returns what the learning rate of ``iteration``, counted from 0, is multiplied by."""
        return 1.0

    def update(self, tf: Any, variable: Any, slots: list[Any], gradient: Tensor, rate: Tensor) -> Any:
        """Returns the operation that changes a variable and its slots; ``rate`` is the parameter's own."""
        raise NotImplementedError


@dataclass(frozen=True)
class SGD(Rule):
    """h = momentum h + rate g; w -= h. The slot holds -h (TensorFlow's Keras form)."""

    slots = ("Momentum",)
    reads = ("momentum",)

    momentum: float = 0.0

    def update(self, tf: Any, variable: Any, slots: list[Any], gradient: Tensor, rate: Tensor) -> Any:
        return _momentum(tf, variable, slots[0], gradient, rate, self.momentum, nesterov=False)


@dataclass(frozen=True)
class Nesterov(Rule):
    """h' = momentum h + rate g; w -= (1 + momentum) h' - momentum h, which is momentum h' + rate g. Holds -h."""

    slots = ("Momentum",)
    reads = ("momentum",)

    momentum: float = 0.0

    def update(self, tf: Any, variable: Any, slots: list[Any], gradient: Tensor, rate: Tensor) -> Any:
        return _momentum(tf, variable, slots[0], gradient, rate, self.momentum, nesterov=True)


def _momentum(
    tf: Any, variable: Any, slot: Any, gradient: Tensor, rate: Tensor, momentum: float, nesterov: bool
) -> Any:
    return tf.raw_ops.ResourceApplyKerasMomentum(
        var=variable.handle,
        accum=slot.handle,
        lr=rate,
        grad=gradient,
        momentum=tf.constant(momentum, tf.float32),
        use_nesterov=nesterov,
    )


@dataclass(frozen=True)
class AdaGrad(Rule):
    """h += g^2; w -= rate g / (sqrt(h) + delta)."""

    slots = ("Adagrad",)
    reads = ("delta",)

    delta: float = 1e-8

    def update(self, tf: Any, variable: Any, slots: list[Any], gradient: Tensor, rate: Tensor) -> Any:
        return tf.raw_ops.ResourceApplyAdagradV2(
            var=variable.handle,
            accum=slots[0].handle,
            lr=rate,
            epsilon=tf.constant(self.delta, tf.float32),
            grad=gradient,
        )


@dataclass(frozen=True)
class RMSProp(Rule):
    """h = rms_decay h + (1 - rms_decay) g^2; w -= rate g / (sqrt(h) + delta). TensorFlow's own has its epsilon within
    the root."""

    slots = ("RMSProp",)
    reads = ("rms_decay", "delta")

    rms_decay: float = 0.99
    delta: float = 1e-8

    def update(self, tf: Any, variable: Any, slots: list[Any], gradient: Tensor, rate: Tensor) -> Any:
        held = slots[0].assign(tf.square(gradient) * (1 - self.rms_decay) + slots[0] * self.rms_decay)
        return variable.assign_sub(rate * gradient / (tf.sqrt(held) + self.delta))


@dataclass(frozen=True)
class AdaDelta(Rule):
    """h = momentum h + (1 - momentum) g^2; u = g sqrt((d + delta) / (h + delta)); d = momentum d + (1 - momentum) u^2;
    w -= rate u."""

    slots = ("Adadelta", "Adadelta_1")
    reads = ("momentum", "delta")

    momentum: float = 0.0
    delta: float = 1e-8

    def update(self, tf: Any, variable: Any, slots: list[Any], gradient: Tensor, rate: Tensor) -> Any:
        return tf.raw_ops.ResourceApplyAdadelta(
            var=variable.handle,
            accum=slots[0].handle,
            accum_update=slots[1].handle,
            lr=rate,
            rho=tf.constant(self.momentum, tf.float32),
            epsilon=tf.constant(self.delta, tf.float32),
            grad=gradient,
        )


@dataclass(frozen=True)
class Adam(Rule):
    """m = momentum m + (1 - momentum) g; v = momentum2 v + (1 - momentum2) g^2; w -= rate c m / (sqrt(v) + delta), with
    c = sqrt(1 - momentum2^t) / (1 - momentum^t) for t = iteration + 1."""

    slots = ("Adam", "Adam_1")
    reads = ("momentum", "momentum2", "delta")

    momentum: float = 0.0
    momentum2: float = 0.999
    delta: float = 1e-8

    def correction(self, iteration: int) -> float:
        t = iteration + 1
        return math.sqrt(1 - self.momentum2**t) / (1 - self.momentum**t)

    def update(self, tf: Any, variable: Any, slots: list[Any], gradient: Tensor, rate: Tensor) -> Any:
        none = tf.constant(0.0, tf.float32)  # its own correction loses digits in float32; the rate has it already
        return tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=slots[0].handle,
            v=slots[1].handle,
            beta1_power=none,
            beta2_power=none,
            lr=rate,
            beta1=tf.constant(self.momentum, tf.float32),
            beta2=tf.constant(self.momentum2, tf.float32),
            epsilon=tf.constant(self.delta, tf.float32),
            grad=gradient,
        )


RULES: dict[str, type[Rule]] = {
    "SGD": SGD,
    "Nesterov": Nesterov,
    "AdaGrad": AdaGrad,
    "RMSProp": RMSProp,
    "AdaDelta": AdaDelta,
    "Adam": Adam,
}
"""The solver's ``type`` -> its rule."""
