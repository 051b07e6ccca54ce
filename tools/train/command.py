"""What ``python -m tools.train`` does once its arguments are parsed."""

from __future__ import annotations

import argparse
import secrets
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from converter.command import describe_file
from converter.outputs import check
from graphs.tensorflow1 import tensorflow1
from tools.train.building import RANDOM_SEED, build_training
from tools.train.feeding import fed, tests_fed
from tools.train.nets import Net, final_port, first_values, sharing, trained_port
from tools.train.reporting import bar, loss_log, notes, say
from tools.train.running import Training
from tools.train.solver import Solver, read_solver
from tools.training.cluster import first_of, lend, read_cluster, session_on
from tools.training.snapshots import numbered, stored_value
from weights import Refused


def run(arguments: argparse.Namespace) -> None:
    """Trains, or lends this machine's devices to the one that leads. Raises Refused where it can't be done."""
    cluster = read_cluster(arguments)
    if cluster is not None and not cluster.leads:
        lend(cluster)
        return
    solver = read_solver(arguments.solver)
    notes(solver.notes)
    resumed = _resumed(solver, arguments)
    seed = _seed(solver, resumed)
    net, source = fed(solver, arguments, seed)
    tests = [(sharing(net, tested), of) for tested, of in tests_fed(solver, arguments, seed)]
    weights = [name for one in arguments.weights for name in one.split(",")] or list(solver.weights)
    if resumed is not None and arguments.weights:
        raise Refused("--weights: a snapshot has weights already; give one of them")
    _check_outputs(solver, net, arguments.output)
    first = None if resumed else first_values([net, *(other for other, _ in tests)], weights, seed)
    notes(first.notes if first else ())
    tf = tensorflow1("training")
    graph = tf.Graph()
    with (
        session_on(cluster, arguments.all_gpus, graph) as (session, devices),
        graph.as_default(),
        first_of(tf, devices),
    ):
        if devices:
            say(f"Sharing each batch out among {len(devices)} devices: {', '.join(devices)}")
        built = build_training(tf, session, solver, net, tests, devices)
        training = Training(solver, net, source, built, seed)
        if first is not None:
            training.begin(first)
            del first  # which is as large as the network
        if resumed is not None:
            training.resume(resumed)
            say(f"Resuming from {resumed} at iteration {training.iteration}")
        with (
            loss_log(arguments.log, training.iteration) as log,
            bar(solver, training.iteration, net.batch * solver.iter_size) as moved,
        ):
            finished = training.run(log, moved)
        if not finished:
            raise Refused(
                f"interrupted after {training.iteration} iterations; go on with --snapshot {training.last_snapshot}"
            )
        say("Optimization Done.")
        values = training.values()
    port = final_port(net, values)
    for output in arguments.output:
        say(describe_file(port, port.save(output)))


def _seed(solver: Solver, resumed: Path | None) -> int:
    """Returns what decides all that is drawn: the snapshot's, so that what goes on is the same training, else the
    solver's, else a new one."""
    kept = stored_value(resumed, RANDOM_SEED) if resumed is not None else None
    if kept is not None:
        if solver.random_seed not in (None, int(kept)):
            notes([f"{solver.path}: random_seed is {solver.random_seed}, but the snapshot's counts: {int(kept)}"])
        return int(kept)
    if solver.random_seed is not None:
        return solver.random_seed
    seed = secrets.randbelow(2**31)
    notes([f"{solver.path}: sets no random_seed; {seed} was drawn"])
    return seed


def _resumed(solver: Solver, arguments: argparse.Namespace) -> Path | None:
    if arguments.snapshot is not None:
        return arguments.snapshot
    if not arguments.resume:
        return None
    found = numbered(Path(f"{solver.snapshot_prefix}_iter_"))
    if not found:
        notes([f"--resume: there is no snapshot {solver.snapshot_prefix}_iter_*.ckpt; training begins"])
        return None
    return list(found.values())[-1]


def _check_outputs(solver: Solver, net: Net, outputs: Sequence[str]) -> None:
    """Raises Refused where what is to be written at the end, or as snapshots, can't be: before any training."""
    arrays = {
        name: np.broadcast_to(np.float32(0), spec.layout.tensorflow)
        for layer, variables in zip(net.shapes, net.names.variables)
        for spec, name in zip(layer.parameters, variables)
    }
    port = final_port(net, arrays)
    for output in outputs:
        check(port, output)
    if not (outputs or solver.snapshot or solver.snapshot_after_train):
        notes([f"{solver.path}: takes no snapshots, so none of the weights are kept; to keep them say what to write, "
               "such as -o final.caffemodel"])  # fmt: skip
    if solver.snapshot or solver.snapshot_after_train:
        ending = ".caffemodel" if solver.snapshot_format == "BINARYPROTO" else ".caffemodel.h5"
        check(trained_port(net, arrays), f"{solver.snapshot_prefix}_iter_0{ending}")
