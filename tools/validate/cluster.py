"""Runs compared by several processes at once, on this machine or on many: a Ray cluster, a session for each worker."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.validate.bench import Bench
from tools.validate.running import Compared, compare_run
from weights import Refused

CORES = 4
"""Cores for each worker where there are no GPUs and nobody says how many workers: a session uses several at once."""

ATTEMPTS = 3
"""Workers that may die at the same run before it is given up."""

OPENING = -1
"""Stands for a run's number while a worker opens the port."""

STORE = 80 << 20
"""Bytes of Ray's object store where Ray is started here: what passes between processes is small."""

PATIENCE = 60.0
"""Seconds without any worker after which the user is told what is waited for."""


@dataclass(frozen=True)
class Task:
    """What a worker opens: ``opening`` in the folder ``folder``, where ``paths`` are to be; ``digests`` are the bench's
    that it must be the same as."""

    folder: str
    paths: tuple[str, ...]
    opening: Callable[[], Bench]
    digests: Mapping[str, str]


@dataclass(frozen=True)
class Opened:
    """A worker is ready; ``device`` says what it runs on."""

    device: Mapping[str, Any]


@dataclass(frozen=True)
class Failed:
    """What a worker was refused, on its machine ``node``."""

    node: str
    reasons: tuple[str, ...]


_ABSENT = (
    "{}: is not there; workers read the port, the recording and the pictures under the same paths as here, so put them "
    "on a file system that all nodes share"
)


class Worker:
    """A process of the cluster: it opens the port once, then compares one run after the other."""

    bench: Bench

    def open(self, task: Task) -> Opened | Failed:
        """Opens what is to be compared."""
        try:
            os.chdir(task.folder)
        except OSError:
            return self._failed(_ABSENT.format(task.folder))
        missing = [path for path in task.paths if not Path(path).exists()]
        if missing:
            return self._failed(_ABSENT.format(missing[0]))
        try:
            self.bench = task.opening()
        except Refused as refused:
            return self._failed(*refused.reasons)
        strange = [name for name, digest in self.bench.digests.items() if task.digests.get(name) != digest]
        if strange:
            return self._failed(f"{strange[0]}: not the same there as here; bring both to the same state")
        return Opened(self.bench.device.facts)

    def compare(self, number: int) -> Compared | Failed:
        """Compares a run."""
        bench = self.bench
        try:
            return compare_run(bench.subject, bench.truth.facts, bench.truth.run(number), bench.recompute)
        except Refused as refused:
            return self._failed(*refused.reasons)

    def _failed(self, *reasons: str) -> Failed:
        return Failed(platform.node(), reasons)


class Cluster:
    """Workers of a Ray cluster that this process is connected to. ``is_own`` is a cluster that was started here."""

    def __init__(self, ray: Any, is_own: bool, workers: int, options: Mapping[str, Any], note: Callable[[str], None]):
        self.ray, self.is_own, self.size, self.note = ray, is_own, workers, note
        self.remote = ray.remote(Worker).options(**options)
        self.devices: list[Mapping[str, Any]] = []
        self.deaths = Counter[int]()
        self.idle: list[Any] = []
        self.busy: dict[Any, tuple[Any, int]] = {}  # what is waited for -> the worker, and which run it has

    def open(self, task: Task) -> None:
        """Starts the workers, and waits for the first. Raises Refused where one can't open what it is to."""
        self.task = task
        for _ in range(self.size):
            self._start()
        while not self.idle:
            self._wait()

    def device(self) -> dict[str, Any]:
        """Returns what a report says of the devices of all workers so far."""
        names = list(dict.fromkeys(str(one["name"]) for one in self.devices))
        return {**self.devices[0], "name": "; ".join(names)}

    def compared(self, start: int, stop: int) -> Iterator[Compared]:
        """Yields how the port does on the runs ``start`` to ``stop``, in order. Each worker has one run at a time; what
        is compared before its turn is kept, being small. Where a worker dies, another takes its run.

        Raises Refused where a run can't be compared, or no worker survives it.
        """
        left = deque(range(start, stop))
        ahead: dict[int, Compared] = {}
        for number in range(start, stop):
            while number not in ahead:
                while self.idle and left:
                    worker, run = self.idle.pop(), left.popleft()
                    self.busy[worker.compare.remote(run)] = (worker, run)
                compared, again = self._wait()
                ahead |= {one.number: one for one in compared}
                left.extendleft(again)
            yield ahead.pop(number)

    def _start(self) -> None:
        worker = self.remote.remote()
        self.busy[worker.open.remote(self.task)] = (worker, OPENING)

    def _wait(self) -> tuple[list[Compared], list[int]]:
        """Returns what has come in: runs that are compared, and the numbers of those whose worker died."""
        compared, again = [], []
        ready, _ = self.ray.wait(list(self.busy), timeout=None if self.devices else PATIENCE)
        if not ready:
            self.note("still waiting for a worker: are the cluster's processors or GPUs taken?")
        for reference in ready:
            worker, number = self.busy.pop(reference)
            try:
                found = self.ray.get(reference)
            except self.ray.exceptions.RayTaskError:
                raise  # a fault of this project's own
            except self.ray.exceptions.RayError as error:
                self._died(number, error)
                again += [number] if number != OPENING else []
                continue
            if isinstance(found, Failed):
                raise Refused(*(reason if self.is_own else f"node {found.node}: {reason}" for reason in found.reasons))
            self.idle.append(worker)
            if isinstance(found, Opened):
                self.devices.append(found.device)
            else:
                compared.append(found)
        return compared, again

    def _died(self, number: int, error: Exception) -> None:
        """Starts another worker, unless too many died at the same."""
        self.deaths[number] += 1
        if self.deaths[number] < ATTEMPTS:
            self._start()
        elif number == OPENING:
            reason = " ".join(str(error).split())[:300]
            raise Refused(f"--runner ray: {ATTEMPTS} workers died as they were started: {reason}") from error
        else:
            raise Refused(
                f"--runner ray: {ATTEMPTS} workers died at batch {number + 1}, one after the other: too little memory, "
                "or a fault of the graph; try it without --runner ray"
            ) from error


@contextmanager
def cluster(
    address: str | None, workers: int | None, wants_gpus: bool | None, note: Callable[[str], None]
) -> Iterator[Cluster]:
    """Yields the Ray cluster at ``address`` ("auto" for the one that runs on this machine), or one that is started here
    for as long as it is used, for None.

    ``workers`` is how many there are to be: by default one for each GPU, or one for every four cores of a cluster
    without. ``wants_gpus`` says whether they are to have one each, None where there are any. What Ray prints is
    dropped. Raises Refused where Ray is not installed, there is no such cluster, or it is too small.
    """
    ray = _ray(address is None)
    with (
        tempfile.TemporaryDirectory(prefix="caffeport-ray-", ignore_cleanup_errors=True) as folder,
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
    ):
        try:
            _connect(ray, address, workers, folder)
            held = ray.cluster_resources()
            gpus = 0 if wants_gpus is False else int(held.get("GPU", 0))
            if wants_gpus and not gpus:
                raise Refused("--device gpu: the Ray cluster has no GPUs; try --device cpu")
            most = gpus or int(held.get("CPU", 0))
            count = workers or gpus or max(1, most // CORES)
            if count > most:
                raise Refused(f"--workers {count}: the Ray cluster has {most} {'GPUs' if gpus else 'processor cores'}")
            # As many threads as in a plain run: sums that are split alike have the very same last digits.
            threads = os.environ.get("OMP_NUM_THREADS", str(os.cpu_count() or 1))
            environment = {"env_vars": {"OMP_NUM_THREADS": threads}}
            options = {"num_cpus": 1, "num_gpus": 1 if gpus else 0, "scheduling_strategy": "SPREAD",
                       "runtime_env": environment}  # fmt: skip
            yield Cluster(ray, address is None, count, options, note)
        finally:
            ray.shutdown()


def _ray(is_own: bool) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if is_own:
        # Ray's name for "no cluster beyond this machine": its servers then listen on the loopback interface only.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
    except ModuleNotFoundError as error:
        raise Refused("--runner ray needs Ray: pip install 'caffeport[ray]'") from error
    return ray


def _connect(ray: Any, address: str | None, workers: int | None, folder: str) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    if address is None:
        cores = max(workers or 1, os.cpu_count() or 1)
        ray.init(
            "local", num_cpus=cores, include_dashboard=False, object_store_memory=STORE, _temp_dir=folder,
            _node_ip_address="127.0.0.1", **quiet,
        )  # fmt: skip
        return
    try:
        ray.init(address, **quiet)
    except Exception as error:  # ConnectionError, ValueError for an address that is none, RuntimeError for a version
        reason = " ".join(str(error).split())[:200]
        raise Refused(f"--ray-address {address}: no Ray cluster can be joined there: {reason}") from error


def existing(paths: Sequence[Any]) -> tuple[str, ...]:
    """Returns those of the paths that are there, as text."""
    return tuple(str(path) for path in paths if path is not None and Path(path).exists())
