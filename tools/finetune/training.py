"""A training from its plan to its outcome: the session, its checkpoints, the best epoch's numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converter.manifest import manifest_text
from converter.port import Port
from graphs.tensorflow1 import tensorflow1
from tools.finetune.course import BEST, STEM, Course, Feed, score
from tools.finetune.events import Events, histograms
from tools.finetune.graph import Graph, Learning, build_graph, load, with_arrays
from tools.finetune.head import Head
from tools.finetune.interruption import interruption
from tools.finetune.schedule import Schedule
from tools.finetune.state import Epoch, Score, State, manifest_with, read_state
from tools.finetune.terminal import note, watched
from tools.training.cluster import Cluster, session_on
from tools.training.snapshots import Checkpoints, numbered


@dataclass(frozen=True, eq=False)
class Plan:
    """All that a training depends on. ``layers`` learn; ``held_out`` is None where each epoch is judged by its own
    training batches; ``threads`` None for all; ``request`` is what checkpoints must have been trained with."""

    port: Port
    head: Head
    layers: tuple[str, ...]
    learning: Learning
    schedule: Schedule
    feed: Feed
    held_out: Feed | None
    seed: int
    folder: Path
    keep: int
    threads: int | None
    deterministic: bool
    request: Mapping[str, Any]
    cluster: Cluster | None = None
    all_gpus: bool = False


@dataclass(frozen=True, eq=False)
class Outcome:
    """The network as the best epoch left it, and its scores: at the start and then, both on the held-out pictures, or
    on the training pictures where there are none."""

    port: Port
    before: Score
    after: Score
    best: Epoch
    epochs: tuple[Epoch, ...]


def train(plan: Plan, resume: bool) -> Outcome:
    """Returns what has become of the network after all epochs; with ``resume``, from the latest checkpoint on.

    Raises Refused where that is of another graph or request, where the loss is no finite number, or a checkpoint can't
    be written; Interrupted where the user ends it.
    """
    tf = tensorflow1("fine-tuning")
    if plan.deterministic:
        tf.config.experimental.enable_op_determinism()
    empty = tf.Graph()  # never the default one: tf.data wants none
    with session_on(plan.cluster, plan.all_gpus, empty, plan.threads or 0) as (session, devices):
        if devices:
            note(f"each batch is shared out among {len(devices)} devices: {', '.join(devices)}")
        graph = build_graph(plan.port, plan.head, plan.layers, plan.learning, empty, devices)
        with graph.graph.as_default():
            summaries = histograms(graph)
            checkpoints = Checkpoints.of(tf, session, {one.op.name: one for one in tf.global_variables()})
        tested = plan.held_out or plan.feed
        if resume:
            latest = list(numbered(plan.folder / STEM).values())[-1]
            state = read_state(latest, plan.request)
            with graph.graph.as_default():
                checkpoints.restore(latest)
        else:
            load(session, graph, plan.port.parameters.values())
            state = State(before=score(session, graph, tested.testing()))
        state = _run(plan, session, graph, checkpoints, summaries, state)
        if state.best != state.epoch:
            with graph.graph.as_default():
                checkpoints.restore(plan.folder / BEST)
        best, before = state.best_epoch, state.before
        assert best is not None  # there is one epoch or more
        assert before is not None
        after = best.validation or score(session, graph, tested.testing())
        return Outcome(with_arrays(plan.port, graph.arrays(session)), before, after, best, state.history)


def _run(
    plan: Plan, session: Any, graph: Graph, checkpoints: Checkpoints, summaries: tuple[Any, Any], state: State
) -> State:
    text = manifest_text(plan.port, {"tensorflow": tensorflow1("fine-tuning").__version__})

    def beside(prefix: Path, state: State) -> None:
        manifest = manifest_with(text, state, plan.request)
        prefix.with_name(prefix.name + ".json").write_text(manifest, encoding="utf-8")

    events = Events(plan.folder / "events", graph, state.step)
    course = Course(
        session,
        graph,
        plan.feed,
        plan.held_out,
        plan.schedule,
        plan.seed,
        checkpoints,
        plan.folder,
        plan.keep,
        beside,
        events,
        summaries,
    )
    try:
        if not state.step and plan.held_out is not None and state.before is not None:
            events.score(0, state.before)
        with interruption() as is_wanted_to_end, watched(plan.schedule, is_wanted_to_end) as watch:
            return course.run(state, watch)
    finally:
        events.close()
