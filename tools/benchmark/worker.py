"""An engine in a process of its own, so that engines share neither threads nor libraries."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from tools.benchmark.engines import FORWARD, FORWARD_BACKWARD, Engine, Setting
from tools.benchmark.subject import Subject
from weights import Refused


class Worker:
    """Runs an engine on request and waits, idle, while the others have their turn. Use it in a ``with``."""

    def __init__(self, engine: type[Engine], subject: Subject, setting: Setting) -> None:
        """Starts the process. Raises Refused with the reason where the engine can't load the network."""
        self.engine = engine
        context = multiprocessing.get_context("spawn")
        self._connection, far_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(far_end, engine, subject, setting), daemon=True)
        self._process.start()
        far_end.close()
        try:
            self.version, self.device = self._answer()
        except Refused:
            self.close()
            raise

    def feed(self, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Sets the inputs of all runs to come; returns what the engine makes of them, in Caffe's layout.

        Raises Refused with the reason where it can't run them.
        """
        return self.ask("outputs", inputs)

    def time(self, runs: int, what: str = FORWARD) -> list[float]:
        """Returns the seconds that each of ``runs`` runs took, after one that is not counted: it finds the caches as
        another engine left them. ``what`` is FORWARD or FORWARD_BACKWARD."""
        return self.ask("seconds", runs, what)

    def ask(self, *request: Any) -> Any:
        """Returns what the process answers: to one of REQUESTS, or to a method of its engine. Raises Refused with the
        reason where it can't."""
        with suppress(BrokenPipeError):  # its end is told by _answer
            self._connection.send(request)
        return self._answer()

    def _answer(self) -> Any:
        try:
            answer = self._connection.recv()
        except (EOFError, ConnectionResetError):
            self._process.join()
            answer = RuntimeError(f"its process ended with code {self._process.exitcode}")
        if isinstance(answer, Exception):
            raise Refused(" ".join(str(answer).split()))
        return answer

    def close(self) -> None:
        """Ends the process."""
        self._connection.close()
        self._process.join(timeout=5)
        self._process.terminate()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _serve(connection: Connection, engine: type[Engine], subject: Subject, setting: Setting) -> None:
    """Answers a Worker until it hangs up: first with the engine's version and device, then to each request; with the
    error where the engine raises one."""
    with suppress(EOFError, BrokenPipeError, KeyboardInterrupt):
        try:
            runner = engine(subject, setting)
            connection.send((runner.version(), runner.device()))
        except Exception as error:
            connection.send(_told(error))
            return
        while True:
            name, *arguments = connection.recv()
            try:
                answer = REQUESTS[name](runner, *arguments) if name in REQUESTS else getattr(runner, name)(*arguments)
                connection.send(answer)
            except Exception as error:
                connection.send(_told(error))


def _outputs(runner: Engine, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    runner.feed(inputs)
    return runner.in_caffe_layout(runner.run())


def _seconds(runner: Engine, runs: int, what: str) -> list[float]:
    once = {FORWARD: runner.run, FORWARD_BACKWARD: runner.run_backward}[what]
    once()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        once()
        seconds.append(time.perf_counter() - start)
    return seconds


REQUESTS: dict[str, Callable[..., Any]] = {"outputs": _outputs, "seconds": _seconds}
"""What a Worker may ask for beside its engine's own methods."""


def _told(error: Exception) -> Exception:
    """Returns an error that can pass to another process: an engine's own may not."""
    return RuntimeError(str(error) or type(error).__name__)
