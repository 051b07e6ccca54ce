"""The graph of a training: its networks, its step, and what of it a snapshot holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from graphs.layer import Tensor
from tools.train.nets import Net
from tools.train.solver import Solver
from tools.train.step import Step, build_step
from tools.training.saturation import Cut, cut_labels
from tools.training.snapshots import Checkpoints
from tools.training.towers import add_towers
from tools.training.trainable import Trainable, add_network, clear, frozen_in_part, of_last_pass, rates
from weights import Refused, Shape

ITERATION, RANDOM_SEED = "global_step", "random_seed"
"""Variables of a snapshot: how many iterations were done, and what decides all that is drawn."""
PLATEAU = ("minimum_loss", "last_event", "steps")
"""Those where the learning rate follows the loss."""


class Source(Protocol):
    """What feeds a network."""

    def reader(self, inputs: dict[str, Shape], start: int) -> Callable[[int], list[np.ndarray]]:
        """Returns the function from a pass's number, ``start`` and then one after the other, to what it is fed."""


@dataclass(frozen=True, eq=False)
class Tested:
    """A net to test with: its place in a graph, what runs a pass of it, and where its pictures come from."""

    net: Net
    source: Source
    iterations: int
    forward: Callable[..., tuple[np.float32, tuple[np.ndarray, ...]]]


@dataclass(frozen=True, eq=False)
class Built:
    """The graph of a training."""

    tf: Any
    session: Any
    trained: Trainable
    seed: Tensor
    step: Step
    forward: Callable[..., tuple[np.float32, tuple[np.ndarray, ...]]]
    tests: tuple[Tested, ...]
    variables: dict[str, Any]
    state: dict[str, Any]
    checkpoints: Checkpoints
    cut: tuple[Cut, ...]


def build_training(
    tf: Any,
    session: Any,
    solver: Solver,
    net: Net,
    tests: Sequence[tuple[Net, Source]],
    devices: Sequence[str] = (),
) -> Built:
    """Adds all networks of a training to ``tf``'s default graph, the test nets with the training's variables. They have
    no values until a training begins or is resumed. Each batch is shared out among ``devices``, where there are any."""
    seed = tf.placeholder(tf.int64, [2], name="seed")
    if devices:
        trained = add_towers(tf, net.network, net.names, devices, seed, net.definition.source)
    else:
        trained = add_network(tf, net.network, net.shapes, net.names, seed=seed)
    unclipped = frozen_in_part(net.shapes, net.names) if solver.clip_gradients >= 0 else {}
    if unclipped:
        raise Refused(*(f"{net.definition.source}: {told}" for told in unclipped.values()))
    cut = tuple(cut_labels(tf, trained))
    try:
        rate, last = rates(net.shapes, net.names), of_last_pass(net.shapes, net.names)
    except Refused as refused:
        raise refused.within(net.definition.source) from refused
    step = build_step(tf, session, solver, trained, rate, net.outputs, seed, cut, last)
    variables = dict(trained.variables)
    tested = []
    for place, ((other, source), one) in enumerate(zip(tests, solver.tests)):
        shared = {"variables": variables, "seed": seed, "scope": f"test_{place}"}
        try:
            added = add_network(tf, other.network, other.shapes, other.names, **shared)
        except Refused as refused:
            raise refused.within(other.definition.source) from refused
        variables |= added.variables
        tested.append(Tested(other, source, one.iterations, _forward(tf, session, other, added, seed)))
    kinds = dict.fromkeys((ITERATION, RANDOM_SEED, *(PLATEAU if solver.policy.follows_loss else ())), tf.int64)
    kinds |= {name: tf.float64 for name in PLATEAU[:1] if name in kinds}
    state = {
        name: tf.get_variable(name, [], kind, tf.zeros_initializer(), use_resource=True) for name, kind in kinds.items()
    }
    checkpoints = Checkpoints.of(tf, session, {**variables, **step.slots, **state})
    clear(session, {**step.slots, **step.sums, **state})
    forward = _forward(tf, session, net, trained, seed)
    return Built(tf, session, trained, seed, step, forward, tuple(tested), variables, state, checkpoints, cut)


def _forward(tf: Any, session: Any, net: Net, added: Trainable, seed: Tensor) -> Callable[..., Any]:
    loss = tf.constant(0.0) if added.loss is None else added.loss
    shown = tuple(added.blobs[blob] for blob in net.outputs)
    run = session.make_callable((loss, shown, added.keep(tf)), [*added.inputs.values(), seed])
    return lambda *fed: run(*fed)[:2]
