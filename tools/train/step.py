"""One iteration as operations: gradients of a loss, Caffe's update of every parameter, all or nothing.

The order is that of Caffe's SGDSolver::ApplyUpdate: clip by the norm of all gradients, divide by ``iter_size``, add
weight decay, then the solver's own rule.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.layer import Tensor
from tools.train.solver import Solver
from tools.training.saturation import Cut
from tools.training.trainable import Rate, Trainable


def gradients(tf: Any, trained: Trainable, names: Sequence[str]) -> dict[str, Tensor]:
    """Returns variable -> gradient of a network's loss, dense; 0 where the loss does not depend on the variable."""
    variables = [trained.variables[name] for name in names]
    found = tf.gradients(trained.loss, variables, colocate_gradients_with_ops=True)  # each device's on that device
    return {
        name: tf.zeros_like(variable) if slope is None else tf.convert_to_tensor(slope)
        for name, variable, slope in zip(names, variables, found)
    }


@dataclass(frozen=True)
class Done:
    """What an iteration gave: the loss of each of its passes, up to the first at which the loss or a gradient was no
    finite number (``is_finite`` is False then, and nothing was changed); what the last pass was fed, its outputs, where
    asked for, and how many labels each loss cut off in all passes."""

    losses: tuple[float, ...]
    is_finite: bool
    fed: Sequence[Any]
    outputs: tuple[np.ndarray, ...]
    cut: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Step:
    """The operations of an iteration. ``slots`` is name -> variable, of the numbers that the solver keeps for each
    parameter beside it, ``sums`` those of gradients that passes of one iteration add up; all are to begin as 0.

    A pass takes the inputs' arrays and the seed; one that ends in the update the learning rate too. ``apply`` takes
    only that: the update by the sums, for a rate that depends on the loss; None where it does not.
    """

    slots: dict[str, Any]
    sums: dict[str, Any]
    accumulate: tuple[Callable[..., Any], Callable[..., Any]]
    update: tuple[Callable[..., Any], Callable[..., Any]]
    apply: Callable[[float], Any] | None

    def __call__(self, passes: Iterable[Sequence[Any]], count: int, rate: float, show: bool = False) -> Done:
        """Runs an iteration of ``count`` passes, each given as its arrays and its seed; its outputs are shown where
        asked for. Where there is ``apply``, the update, and so ``rate``, is left to it."""
        losses: list[float] = []
        cut: list[tuple[int, ...]] = []
        for number, fed in zip(range(count), passes):
            is_last = number + 1 == count
            if is_last and self.apply is None:
                loss, is_finite, outputs, counts, _ = self.update[show](*fed, rate)
            else:
                loss, is_finite, outputs, counts, _ = self.accumulate[show and is_last](*fed)
            losses.append(float(loss))
            cut.append(counts)
            if is_last or not is_finite:
                return Done(tuple(losses), bool(is_finite), fed, tuple(outputs), tuple(map(int, map(sum, zip(*cut)))))
        raise ValueError(f"an iteration has {count} passes; {len(losses)} were given")


def slots_of(tf: Any, solver: Solver, variables: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Returns variable -> the variables that the solver's rule keeps beside it."""
    return {
        name: [
            tf.get_variable(f"{name}/{slot}", variable.shape, tf.float32, tf.zeros_initializer(), use_resource=True)
            for slot in solver.rule.slots
        ]
        for name, variable in variables.items()
    }


def updates(
    tf: Any,
    solver: Solver,
    variables: Mapping[str, Any],
    slots: Mapping[str, Sequence[Any]],
    slopes: Mapping[str, Tensor],
    rates: Mapping[str, Rate],
    rate: Tensor,
) -> list[Any]:
    """Returns the operations that change ``variables`` by their gradients ``slopes``, summed over ``iter_size`` passes,
    at the learning rate ``rate``, a scalar tensor."""
    factor = _factor(tf, solver, list(slopes.values()))
    operations = []
    for name, slope in slopes.items():
        variable = variables[name]
        scaled = slope if factor is None else tf.multiply(slope, factor)
        decay = float(np.float32(solver.weight_decay) * np.float32(rates[name].decay_mult))
        if decay:
            of = variable if solver.regularization_type == "L2" else tf.sign(variable)
            scaled = tf.add(scaled, tf.multiply(of, decay))
        own = tf.multiply(rate, rates[name].lr_mult)
        operations.append(solver.rule.update(tf, variable, list(slots[name]), scaled, own))
    return operations


def _factor(tf: Any, solver: Solver, slopes: Sequence[Tensor]) -> Tensor | None:
    """Returns what gradients are multiplied by so that the norm of all of them is no longer than clip_gradients (which
    Caffe holds against the sum over iter_size), divided by iter_size; None for 1."""
    if solver.clip_gradients < 0:
        return None if solver.iter_size == 1 else tf.constant(1 / solver.iter_size, tf.float32)
    # Not tf.add_n, whose order follows which of them is ready first.
    norm = tf.sqrt(tf.reduce_sum(tf.stack([tf.reduce_sum(tf.square(slope)) for slope in slopes])))
    longest = tf.constant(solver.clip_gradients, tf.float32)
    clipped = tf.where(tf.greater(norm, longest), tf.divide(longest, norm), tf.ones_like(norm))
    return tf.divide(clipped, float(solver.iter_size))


def build_step(
    tf: Any,
    session: Any,
    solver: Solver,
    trained: Trainable,
    rates: Mapping[str, Rate],
    outputs: Sequence[str],
    seed: Tensor,
    cut: Sequence[Cut] = (),
    of_last_pass: Collection[str] = (),
) -> Step:
    """Returns the iteration of a network that ``solver`` trains. ``outputs`` are the blobs to show; ``seed`` is that of
    ``trained``; ``cut`` what its losses cut off; ``of_last_pass`` names variables whose gradients are not summed over
    passes."""
    learned = {name: variable for name, variable in trained.variables.items() if rates[name].lr_mult}
    slots = slots_of(tf, solver, learned)
    slopes = gradients(tf, trained, list(learned))
    is_late = solver.policy.follows_loss
    sums = _sums(tf, learned) if solver.iter_size > 1 or is_late else {}
    added = set(sums) - set(of_last_pass)
    summed = {name: tf.add(sums[name], slope) if name in added else slope for name, slope in slopes.items()}
    rate = tf.placeholder(tf.float32, [], name="learning_rate")

    def accumulate() -> Any:
        kept = [(one.assign_add if name in added else one.assign)(slopes[name]) for name, one in sums.items()]
        return tf.group(*kept, trained.keep(tf))

    def change(by: Mapping[str, Tensor]) -> Any:
        changes = updates(tf, solver, learned, slots, by, rates, rate)
        with tf.control_dependencies(changes):
            cleared = [one.assign(tf.zeros_like(one)) for one in sums.values()]
        return tf.group(*changes, *cleared)

    # What a pass leaves in parameters may not depend on the loss: it is computed before weights change.
    with tf.control_dependencies(list(trained.passed.values())):
        is_finite = tf.identity(all_finite(tf, [trained.loss, *slopes.values()]))
    fed = [*trained.inputs.values(), seed]
    counts = tuple(one.count for one in cut)
    shown = tuple(trained.blobs[blob] for blob in outputs)

    def callables(operation: Any, inputs: Sequence[Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Returns what runs a pass without its outputs, and with them."""
        of = [(trained.loss, is_finite, those, counts, operation) for those in ((), shown)]
        return session.make_callable(of[0], inputs), session.make_callable(of[1], inputs)

    updated = _where(tf, is_finite, lambda: tf.group(change(summed), trained.keep(tf)))
    return Step(
        {slot.op.name: slot for of in slots.values() for slot in of},
        sums,
        callables(_where(tf, is_finite, accumulate), fed),
        callables(updated, [*fed, rate]),
        session.make_callable(change({name: one.read_value() for name, one in sums.items()}), [rate])
        if is_late
        else None,
    )


def _sums(tf: Any, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Returns variable -> where its gradients are summed over passes, 0 between iterations."""
    zeros = tf.zeros_initializer()
    return {
        name: tf.get_variable(f"{name}/sum", variable.shape, tf.float32, zeros, use_resource=True)
        for name, variable in variables.items()
    }


def all_finite(tf: Any, tensors: Sequence[Tensor]) -> Tensor:
    """Returns whether all are finite numbers: a sum is not where one of its terms is not."""
    return tf.reduce_all(tf.math.is_finite(tf.stack([tf.reduce_sum(tensor) for tensor in tensors])))


def _where(tf: Any, condition: Tensor, run: Callable[[], Any]) -> Any:
    """Returns the operation that runs what ``run`` adds only where ``condition`` holds."""

    def branch() -> Tensor:
        with tf.control_dependencies([run()]):
            return tf.constant(True)

    return tf.cond(condition, branch, lambda: tf.constant(False))
