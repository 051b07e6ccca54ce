"""What ``python -m tools.train`` does once its arguments are parsed."""

from __future__ import annotations

import argparse
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from converter.command import _describe_file as describe_file
from converter.command import _input_shape as input_shape
from converter.outputs import check
from graphs.tensorflow1 import tensorflow1
from tools.train.arrays import Arrays, check_arrays, read_arrays
from tools.train.nets import First, Net, final_port, first_values, read_net, trained_port
from tools.train.reporting import bar, loss_log, say
from tools.train.running import Training, build_training
from tools.train.solver import Definition, Solver, read_solver
from tools.training.snapshots import numbered
from weights import Refused, Shape
from weights.refused import one_line


def run(arguments: argparse.Namespace) -> None:
    """Trains. Raises Refused where it can't be done."""
    solver = read_solver(arguments.solver)
    notes(solver.notes)
    shapes = dict(map(input_shape, arguments.input_shape))
    net, source = _fed_net(solver.train, arguments.data, shapes, arguments.allow, "--data")
    tests = _tests(solver, arguments.test_data, shapes, arguments.allow)
    notes([*net.notes, *_wrapping(solver, net, source)])
    seed = _seed(solver)
    weights = [name for one in arguments.weights for name in one.split(",")] or list(solver.weights)
    resumed = _resumed(solver, arguments)
    if resumed is not None and arguments.weights:
        raise Refused("--weights: a snapshot has weights already; give one of them")
    first = first_values([net, *(other for other, _ in tests)], () if resumed else weights, seed)
    _check_outputs(solver, net, first, arguments.output)
    notes(first.notes)
    tf = tensorflow1("training")
    with tf.Graph().as_default(), tf.Session() as session:
        built = build_training(tf, session, solver, net, tests, first)
        training = Training(solver, net, source, built, seed)
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
                f"interrupted after iteration {training.iteration - 1}; go on with --snapshot {training.last_snapshot}"
            )
        say("Optimization Done.")
        values = training.values()
    port = final_port(net, values)
    for output in arguments.output:
        say(describe_file(port, port.save(output)))


def notes(lines: Sequence[str]) -> None:
    """Says lines on stderr."""
    for line in lines:
        print(f"note: {one_line(line)}", file=sys.stderr)


def _fed_net(
    definition: Definition, data: Path | None, shapes: Mapping[str, Shape], allow: Sequence[str], option: str
) -> tuple[Net, Arrays]:
    """Returns a network and what feeds it, which fits it."""
    if data is None:
        raise Refused(f"{definition.source}: is fed from nothing; say {option} FILE.npz")
    arrays = read_arrays(data)
    net = read_net(definition, {**arrays.shapes, **shapes}, allow)
    check_arrays(arrays, net.network)
    unused = [name for name in arrays.arrays if name not in net.inputs]
    if unused:
        notes([f"{data}: {', '.join(map(repr, unused))}: no input of {definition.source}, and not used"])
    return net, arrays


def _tests(
    solver: Solver, data: Sequence[Path], shapes: Mapping[str, Shape], allow: Sequence[str]
) -> list[tuple[Net, Arrays]]:
    count = len(solver.tests)
    if not count and data:
        raise Refused(f"--test-data: {solver.path} has no test_iter, and so no test nets")
    if count and not data:
        raise Refused(f"{solver.path}: has {count} test nets; say --test-data FILE.npz, or take test_iter out")
    if data and len(data) not in (1, count):
        raise Refused(f"--test-data: {len(data)} files for {count} test nets; give one for all or one for each")
    files = list(data) * count if len(data) == 1 else data
    return [_fed_net(one.definition, file, shapes, allow, "--test-data") for one, file in zip(solver.tests, files)]


def _wrapping(solver: Solver, net: Net, source: Arrays) -> list[str]:
    there, wanted = source.passes(net.inputs), solver.max_iter * solver.iter_size
    if not net.inputs or there >= wanted:
        return []
    return [f"{source.path}: has {there} passes for {wanted}; after the last comes the first again, as in Caffe"]


def _seed(solver: Solver) -> int:
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


def _check_outputs(solver: Solver, net: Net, first: First, outputs: Sequence[str]) -> None:
    """Raises Refused where what is to be written at the end, or as snapshots, can't be: before any training."""
    arrays = {name: np.broadcast_to(np.float32(0), one.layout.tensorflow) for name, one in first.parameters.items()}
    port = final_port(net, arrays)
    for output in outputs:
        check(port, output)
    if solver.snapshot or solver.snapshot_after_train:
        ending = ".caffemodel" if solver.snapshot_format == "BINARYPROTO" else ".caffemodel.h5"
        check(trained_port(net, arrays), f"{solver.snapshot_prefix}_iter_0{ending}")
