"""What stands for a TensorFlow session where XLA computes: it is asked for tensors, and runs programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphs.tensorflow1 import quiet_stderr
from tools.validate.device import Device
from tools.validate.xla.engine import Executable, compiled, placed
from tools.validate.xla.program import Argument, Program, Programs, Signature


@dataclass(frozen=True, eq=False)
class Loaded:
    """A program, compiled, with its weights on the device."""

    program: Program
    executable: Executable
    weights: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class XlaSession:
    """A port's graph on JAX's device. What was compiled and put on the device is kept until it is closed; programs
    that compute the same, as a network's repeated layers do, are compiled once."""

    device: Device
    programs: Programs
    loaded: dict[Signature, Loaded] = field(default_factory=dict, repr=False)
    _executables: dict[bytes, Executable] = field(default_factory=dict, repr=False)
    _weights: dict[str, Any] = field(default_factory=dict, repr=False)

    def run(self, fetches: Mapping[str, str], feeds: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Returns name -> value of the tensors in ``fetches``, where those in ``feeds`` have the values given; in the
        graph's layout. Raises Refused where XLA can't."""
        given = self.arguments(feeds)
        results = tuple(sorted(set(fetches.values())))
        one = self.load(tuple(sorted(given)), results)
        fed = [placed(given[argument], self.device) for argument in one.program.feeds]
        with quiet_stderr():  # XLA's own account of what it then raises
            values = dict(zip(one.program.results, one.executable([*fed, *one.weights])))
        return {name: np.asarray(values[tensor]) for name, tensor in fetches.items()}

    def prepared(self, results: tuple[str, ...], feeds: Mapping[str, Any]) -> Callable[[], None]:
        """Returns what makes one forward pass, with everything on the device already, and waits for its end."""
        given = self.arguments(feeds)
        one = self.load(tuple(sorted(given)), results)
        arguments = [*(placed(given[argument], self.device) for argument in one.program.feeds), *one.weights]

        def forward() -> None:
            one.executable(arguments)

        return forward

    def arguments(self, feeds: Mapping[str, Any]) -> dict[Argument, np.ndarray]:
        """Returns what is fed in the tensors' own types."""
        arrays = {tensor: np.asarray(value, self.programs.dtype(tensor)) for tensor, value in feeds.items()}
        return {Argument(tensor, array.shape, array.dtype.name): array for tensor, array in arrays.items()}

    def load(self, feeds: tuple[Argument, ...], results: tuple[str, ...]) -> Loaded:
        """Returns the program with that signature, ready to run."""
        if (feeds, results) not in self.loaded:
            program = self.programs.program(feeds, results)
            if program.code not in self._executables:
                self._executables[program.code] = compiled(program.code, self.device)
            for one in program.weights:
                if one.tensor not in self._weights:
                    self._weights[one.tensor] = placed(self.programs.weight(one.tensor), self.device)
            weights = tuple(self._weights[one.tensor] for one in program.weights)
            self.loaded[feeds, results] = Loaded(program, self._executables[program.code], weights)
        return self.loaded[feeds, results]

    def close(self) -> None:
        """Frees what lies on the device, and the source of the programs."""
        for kept in (self.loaded, self._executables, self._weights):
            kept.clear()
        self.programs.close()
