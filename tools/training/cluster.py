"""More than one device: the GPUs of a machine, or of several machines that TensorFlow's own runtime joins.

Every machine runs the same command with its own ``--task``. The first one reads, feeds, saves and reports; it holds the
variables and places a part of each batch on every device. The others lend their devices until it is done.
"""

from __future__ import annotations

import argparse
import re
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from graphs.tensorflow1 import tensorflow1
from weights import Refused

JOB = "worker"

LOOKED_AFTER = 5.0
"""Seconds after which a machine that lends its devices looks whether the first one is still there."""

PATIENCE = 60.0
"""Seconds that machines wait for each other to start."""


@dataclass(frozen=True)
class Cluster:
    """Machines by HOST:PORT, and which of them this one is."""

    hosts: tuple[str, ...]
    task: int

    @property
    def leads(self) -> bool:
        """Whether this machine reads, feeds, saves and reports."""
        return self.task == 0


def add_devices(parser: argparse.ArgumentParser | argparse._ArgumentGroup) -> None:
    """Adds the options that say where a training runs."""
    add = parser.add_argument
    add("--all-gpus", action="store_true", help="share each batch out among all GPUs of this machine")
    add("--cluster", metavar="HOST:PORT,...", help="share each batch out among these machines too, the first of which "
        "leads; run the same command on each, with its own --task")  # fmt: skip
    add("--task", type=int, default=0, metavar="N", help="which machine of --cluster this is, from 0 (default: 0)")


def read_cluster(arguments: argparse.Namespace) -> Cluster | None:
    """Returns what the command line says of other machines, None where it says nothing. Raises Refused where it makes
    no sense."""
    if arguments.cluster is None:
        if arguments.task:
            raise Refused(f"--task {arguments.task}: say --cluster HOST:PORT,HOST:PORT too")
        return None
    hosts = tuple(arguments.cluster.split(","))
    for host in hosts:
        if not re.fullmatch(r"[^\s:,]+:\d{1,5}", host):
            raise Refused(f"--cluster: '{host}' is no HOST:PORT; expected such as 10.0.0.1:2222,10.0.0.2:2222")
    if len(set(hosts)) < len(hosts):
        raise Refused("--cluster: names a machine twice; give each process a port of its own")
    if not 0 <= arguments.task < len(hosts):
        raise Refused(f"--task {arguments.task}: the cluster has the tasks 0 to {len(hosts) - 1}")
    return Cluster(hosts, arguments.task)


def lend(cluster: Cluster) -> None:
    """Lends this machine's devices until the first one says that it is done. Raises Refused where the port can't be
    taken, and where the first one goes away before that."""
    tf = tensorflow1("training on several machines")
    server = _server(tf, cluster)
    config = tf.ConfigProto(device_filters=[_task(cluster.task)])  # a session waits for all machines that it sees
    with tf.Graph().as_default(), tf.device(_task(cluster.task)), tf.Session(server.target, config=config) as session:
        done = _end(tf, cluster.task).dequeue()
        patient_until = time.monotonic() + PATIENCE
        while True:
            try:
                session.run(done, options=tf.RunOptions(timeout_in_ms=int(LOOKED_AFTER * 1000)))
                return
            except tf.errors.DeadlineExceededError:
                if _answers(cluster.hosts[0]):
                    patient_until = time.monotonic() + LOOKED_AFTER
                elif time.monotonic() > patient_until:
                    raise Refused(f"--cluster: {cluster.hosts[0]}, which leads, does not answer any more") from None


@contextmanager
def session_on(
    cluster: Cluster | None, all_gpus: bool, graph: Any, threads: int = 0
) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """Yields a session for ``graph`` and the devices that each batch is to be shared out among: () for the one that
    TensorFlow chooses. The first device holds the variables. ``threads`` are the processor's, all for 0; neither the
    session nor the graph becomes the default one.

    Raises Refused where machines of the cluster don't answer, or where there are no GPUs and all are asked for.
    """
    tf = tensorflow1("training")
    config = tf.ConfigProto(
        allow_soft_placement=True, intra_op_parallelism_threads=threads, inter_op_parallelism_threads=threads
    )
    if cluster is None:
        with closing(tf.Session(graph=graph, config=config)) as session:
            gpus = _gpus(session)
            if all_gpus and not gpus:
                raise Refused("--all-gpus: TensorFlow sees no GPU here; leave it out to train on the CPU")
            yield session, tuple(gpus) if all_gpus and len(gpus) > 1 else ()
        return
    server = _server(tf, cluster)
    _wait_for(cluster)
    with closing(tf.Session(server.target, graph=graph, config=config)) as session:
        with graph.as_default():
            ends = [_told(tf, task) for task in range(1, len(cluster.hosts))]
        gpus = _gpus(session)
        devices = [
            device
            for task in range(len(cluster.hosts))
            for device in [one for one in gpus if f"/task:{task}/" in one] or [f"{_task(task)}/device:CPU:0"]
        ]
        try:
            yield session, tuple(devices)
        finally:
            session.run(ends)


def first_of(tf: Any, devices: Sequence[str]) -> AbstractContextManager[Any]:
    """Returns the context in which operations are placed on the first device; anywhere, where there is none."""
    return tf.device(devices[0]) if devices else nullcontext()


def _server(tf: Any, cluster: Cluster) -> Any:
    try:
        return tf.train.Server({JOB: list(cluster.hosts)}, JOB, cluster.task)
    except tf.errors.OpError as error:
        raise Refused(f"--cluster: {cluster.hosts[cluster.task]} can't be listened on: {error.message[:120]}; "
                      "is the port taken?") from error  # fmt: skip


def _wait_for(cluster: Cluster) -> None:
    until = time.monotonic() + PATIENCE
    while absent := [host for host in cluster.hosts if not _answers(host)]:
        if time.monotonic() > until:
            raise Refused(*(f"--cluster: {host} does not answer; run the same command there with "
                            f"--task {cluster.hosts.index(host)}" for host in absent))  # fmt: skip
        time.sleep(0.2)


def _answers(host: str) -> bool:
    name, _, port = host.rpartition(":")
    try:
        socket.create_connection((name, int(port)), timeout=2).close()
    except OSError:
        return False
    return True


def _task(task: int) -> str:
    return f"/job:{JOB}/replica:0/task:{task}"


def _gpus(session: Any) -> list[str]:
    return sorted(one.name for one in session.list_devices() if one.device_type == "GPU")


def _end(tf: Any, task: int) -> Any:
    """Returns the queue, on a machine that lends its devices, that its end is put into."""
    with tf.device(f"{_task(task)}/device:CPU:0"):
        return tf.FIFOQueue(1, tf.bool, shapes=[()], shared_name=f"end_of_task_{task}")


def _told(tf: Any, task: int) -> Any:
    with tf.device(f"{_task(task)}/device:CPU:0"):
        return _end(tf, task).enqueue(True)
