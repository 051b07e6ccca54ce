"""--runner ray: workers on this machine give the numbers of a plain run, outlive one another, and leave nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tools.recording import Broken, Run
from tools.validate import __main__ as validate
from tools.validate.bench import Bench, opened_anew
from tools.validate.cluster import ATTEMPTS, Cluster, Failed, Opened, Task, Worker, cluster
from tools.validate.device import Device
from weights import Refused


@pytest.fixture
def live(demo: Path, demo_port: Path, tmp_path: Path) -> tuple[str, ...]:
    """What holds the demo's port against its network: 71 pictures, one of them broken, two at a time."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for path in (demo / "pictures").iterdir():
        for copy in range(7):
            (folder / f"{copy}-{path.name}").symlink_to(path)
    (folder / "3-digit-0.5.png").write_bytes(b"")
    sources = (demo / "digits.prototxt", demo / "digits.caffemodel")
    return tuple(map(str, (demo_port, *sources, "--images", folder, "--batch", 2, "--quiet")))


@pytest.fixture
def temporary(monkeypatch) -> Iterator[Path]:
    """A folder of this test's own for what is temporary; its path is short, as sockets' must be."""
    with tempfile.TemporaryDirectory(prefix="r") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


@pytest.mark.slow
def test_two_workers_interrupted_and_taken_up_again_give_the_very_numbers_of_a_plain_run(
    live, root, temporary, tmp_path, capfd
):
    ray = pytest.importorskip("ray")
    plain, shared = tmp_path / "plain.json", tmp_path / "shared.json"
    place = {**os.environ, "TMPDIR": str(temporary)}
    # In a process of its own: within one, TensorFlow's threads, and so its sums' order, are those of its first session.
    command = [sys.executable, "-m", "tools.validate", *live, "--json", str(plain)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("verdict: agrees\n", "note: 3-digit-0.5.png: is empty; left out\n")
    arguments = [*live, "--json", str(shared), "--runner", "ray", "--workers", "2"]
    with subprocess.Popen(
        [sys.executable, "-m", "tools.validate", *arguments], cwd=root, env=place, stdout=-1, stderr=-1, text=True
    ) as process:
        while not list(tmp_path.glob(".shared.json.journal/*/000002")) and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err.splitlines()[-1] == "interrupted"
    assert not list(temporary.iterdir())
    assert validate.main(arguments) == 0
    out, err = capfd.readouterr()
    assert out == "verdict: agrees\n"  # Ray prints nothing of its own
    assert err.startswith("note: goes on after ")
    assert [line for line in err.splitlines()[1:] if line != "note: 3-digit-0.5.png: is empty; left out"] == []
    one, other = (json.loads(path.read_text()) for path in (plain, shared))
    for name in ("port", "reference", "device", "pictures", "predictions", "layers", "verdict", "broken", "notes"):
        assert one[name] == other[name], name
    assert (one["pictures"], len(one["layers"])) == (70, 23)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures", "plain.json", "shared.json"]
    assert not list(temporary.iterdir())
    assert not ray.is_initialized()


# Workers alone, in this process.


@dataclass(frozen=True)
class Scripted:
    """A truth of runs without pictures. Run 3 ends its process, once where ``once`` is a file that it can make; run
    ``refused`` can't be read."""

    once: str = ""
    refused: int = -1
    facts = None

    def run(self, number: int) -> Run:
        if number == self.refused:
            raise Refused("r.h5: is no whole recording", "and more")
        if number == 3 and self.once and not Path(self.once).exists():
            if not self.once.endswith("always"):
                Path(self.once).touch()
            os._exit(1)
        return Run(number, (), {}, {}, {}, (Broken(str(number), "is empty"),))


def bench(truth: Any, digest: str = "a") -> Bench:
    subject: Any = SimpleNamespace()
    return Bench(subject, truth, None, None, {}, Device("a device", "cpu", None, False), {"net.pb": digest, "net": "c"})


def refusing() -> Bench:
    raise Refused("net.pb: no such file", "and more")


def task(truth: Any = Scripted(), folder: Path | str = "/", **changes: Any) -> Task:
    given = Task(str(folder), (), partial(bench, truth), bench(truth).digests)
    return replace(given, **changes)


class TestWorker:
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path, monkeypatch) -> Path:
        monkeypatch.chdir(tmp_path)  # a worker goes elsewhere; this brings the tests back
        return tmp_path

    def reasons(self, given: Task) -> tuple[str, ...]:
        found = Worker().open(given)
        assert isinstance(found, Failed)
        assert found.node == os.uname().nodename
        return found.reasons

    def test_opens_and_compares(self, folder):
        worker = Worker()
        opened = worker.open(task(folder=folder, paths=(str(folder),)))
        assert opened == Opened(
            {
                "name": "a device",
                "kind": "cpu",
                "engine": "TensorFlow",
                "dtype": "float32",
                "tf32": False,
                "graph optimizer": False,
            }
        )
        compared = worker.compare(2)
        assert (compared.number, compared.pictures, compared.broken) == (2, 0, (Broken("2", "is empty"),))

    def test_where_the_folder_or_a_file_is_not(self, folder):
        after = (
            ": is not there; workers read the port, the recording and the pictures under the same paths as here, so "
            "put them on a file system that all nodes share"
        )
        assert self.reasons(task(folder=folder / "none")) == (f"{folder / 'none'}{after}",)
        assert self.reasons(task(folder=folder, paths=("net.pb",))) == (f"net.pb{after}",)

    def test_where_the_port_is_another(self, folder):
        assert self.reasons(task(folder=folder, opening=partial(bench, Scripted(), "b"))) == (
            "net.pb: not the same there as here; bring both to the same state",
        )

    def test_what_can_t_be_opened_or_compared(self, folder):
        assert self.reasons(task(folder=folder, opening=refusing)) == ("net.pb: no such file", "and more")
        worker = Worker()
        worker.open(task(Scripted(refused=2), folder))
        assert worker.compare(2).reasons == ("r.h5: is no whole recording", "and more")


@pytest.fixture(scope="module")
def connected() -> Iterator[Any]:
    """Ray, with a cluster on this machine."""
    pytest.importorskip("ray")
    with cluster(None, 2, False, print) as found:
        yield found.ray


@pytest.mark.slow
class TestCluster:
    """On workers in processes of their own."""

    @pytest.fixture
    def workers(self, connected) -> Callable[..., Cluster]:
        """Returns a function that has so many workers open a task."""

        def make(given: Task, count: int = 2, is_own: bool = True) -> Cluster:
            own = Cluster(connected, is_own, count, {"num_cpus": 0}, print)
            own.open(given)
            return own

        return make

    def test_runs_come_in_order_though_a_worker_died(self, workers, tmp_path):
        own = workers(task(Scripted(once=str(tmp_path / "died"))))
        assert [one.number for one in own.compared(1, 11)] == list(range(1, 11))
        assert own.deaths == {3: 1}
        assert own.device() == {
            "name": "a device",
            "kind": "cpu",
            "engine": "TensorFlow",
            "dtype": "float32",
            "tf32": False,
            "graph optimizer": False,
        }

    def test_a_run_that_no_worker_survives(self, workers, tmp_path):
        own = workers(task(Scripted(once=str(tmp_path / "always"))), 1)
        with pytest.raises(Refused) as refused:
            list(own.compared(0, 7))
        assert own.deaths == {3: ATTEMPTS}
        assert refused.value.reasons == (
            "--runner ray: 3 workers died at batch 4, one after the other: too little memory, or a fault of the graph; "
            "try it without --runner ray",
        )

    @pytest.mark.parametrize(("is_own", "before"), [(True, ""), (False, f"node {os.uname().nodename}: ")])
    def test_what_a_worker_can_t_do_is_said_with_its_node(self, workers, is_own, before):
        with pytest.raises(Refused) as refused:
            workers(task(opening=refusing), 1, is_own)
        assert refused.value.reasons == (f"{before}net.pb: no such file", f"{before}and more")
        with pytest.raises(Refused) as refused:
            list(workers(task(Scripted(refused=2)), 1, is_own).compared(0, 7))
        assert refused.value.reasons[0] == f"{before}r.h5: is no whole recording"


# What is asked for.


@pytest.mark.parametrize(("arguments", "reason"), [
    (("--workers", "2"), "--workers: is of use with --runner ray only; say that too"),
    (("--ray-address", "auto"), "--ray-address: is of use with --runner ray only; say that too"),
    (("--runner", "ray", "--device", "gpu:1"),
     "--device gpu:1: Ray gives each worker a GPU of its own; say --device gpu"),
])  # fmt: skip
def test_what_does_not_fit(demo, demo_port, capsys, arguments, reason):
    assert validate.main([str(demo_port), "--against", str(demo / "reference.h5"), *arguments]) == 2
    assert capsys.readouterr().err == f"{reason}\n"


@pytest.fixture
def ray(monkeypatch) -> SimpleNamespace:
    """A Ray of 8 cores, without GPUs, that starts nothing."""
    stand_in = SimpleNamespace(
        init=lambda *_, **__: None, shutdown=lambda: None, cluster_resources=lambda: {"CPU": 8.0},
        remote=lambda cls: SimpleNamespace(options=lambda **options: options),
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "ray", stand_in)
    return stand_in


@pytest.mark.parametrize(("held", "workers", "gpus", "count", "each"), [
    ({"CPU": 8.0}, None, None, 2, 0),
    ({"CPU": 2.0}, None, None, 1, 0),
    ({"CPU": 8.0}, 5, None, 5, 0),
    ({"CPU": 8.0, "GPU": 3.0}, None, None, 3, 1),
    ({"CPU": 8.0, "GPU": 3.0}, 2, True, 2, 1),
    ({"CPU": 8.0, "GPU": 3.0}, None, False, 2, 0),
])  # fmt: skip
def test_how_many_workers_and_whether_each_has_a_gpu(ray, held, workers, gpus, count, each):
    ray.cluster_resources = lambda: held
    with cluster("auto", workers, gpus, print) as found:
        assert (found.size, found.remote["num_gpus"]) == (count, each)


@pytest.mark.parametrize(("workers", "gpus", "reason"), [
    (9, None, "--workers 9: the Ray cluster has 8 processor cores"),
    (None, True, "--device gpu: the Ray cluster has no GPUs; try --device cpu"),
])  # fmt: skip
def test_a_cluster_that_is_too_small(ray, workers, gpus, reason):
    with pytest.raises(Refused) as refused, cluster("auto", workers, gpus, print):
        pass
    assert str(refused.value) == reason


def test_a_cluster_that_is_not_there(ray):
    def init(*_: object, **__: object) -> None:
        raise ConnectionError("Could not find\nany running Ray instance.")

    ray.init = init
    with pytest.raises(Refused) as refused, cluster("auto", None, None, print):
        pass
    assert str(refused.value) == (
        "--ray-address auto: no Ray cluster can be joined there: Could not find any running Ray instance."
    )


def test_without_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(Refused) as refused, cluster(None, None, None, print):
        pass
    assert str(refused.value) == "--runner ray needs Ray: pip install 'caffeport[ray]'"


def test_each_worker_opens_what_the_command_line_says(demo, demo_port):
    arguments = validate.parser().parse_args([str(demo_port), "--against", str(demo / "reference.h5"), "--map",
                                              "fc8=fc8"])  # fmt: skip
    one, other = opened_anew(arguments), opened_anew(arguments)
    assert one.digests == other.digests
    assert one.subject.places["fc8", "fc8"].how == "--map"
    one.subject.close()
    other.subject.close()
