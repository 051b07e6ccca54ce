"""A solver's definition, read as it is: every field used, refused by name, or said to count for nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converter.caffe_pb2 import NetParameter, NetState, Phase, SolverParameter
from converter.prototxt import parse_prototxt, parse_solver
from converter.rules import State
from converter.sources import decoded
from tools.train import forks
from tools.train.rates import Policy
from tools.train.schedule import read_schedule
from tools.train.updates import RULES, Rule
from weights import Refused

WITHOUT_EFFECT = {
    "solver_mode": "TensorFlow takes the devices that it finds",
    "device_id": "TensorFlow takes the devices that it finds; CUDA_VISIBLE_DEVICES chooses",
    "layer_wise_reduce": "it says how Caffe's GPUs exchange gradients, not what they compute",
    "debug_info": "it only adds to Caffe's log",
    "snapshot_diff": "it adds gradients to .caffemodel files for debugging; no reader uses them",
}
"""Caffe's own fields that change no number, and why; forks.py has those of forks. All others are used or refused."""

_ENUM = {"SGD": "SGD", "NESTEROV": "Nesterov", "ADAGRAD": "AdaGrad", "RMSPROP": "RMSProp", "ADADELTA": "AdaDelta"}
OLD_TYPES = {**_ENUM, "ADAM": "Adam"}
"""The enumerated ``solver_type`` of older files -> today's ``type``."""

_OF_RULES = ("momentum", "momentum2", "rms_decay", "delta")


@dataclass(frozen=True, eq=False)
class Definition:
    """A network's definition as the solver gives it: what to call it in messages, its message, as it is spelled, the
    state in which it runs, and the file that it stands in."""

    source: str
    message: NetParameter
    state: State
    path: Path


@dataclass(frozen=True, eq=False)
class TestNet:
    """A network to test with, on ``iterations`` batches each time."""

    definition: Definition
    iterations: int


@dataclass(frozen=True, eq=False)
class Solver:
    """What a solver's definition asks for, proved. Numbers are as Caffe's fields of these names; ``notes`` are lines
    that the user should see. ``snapshot_prefix`` is a path; ``random_seed`` is None where none is set."""

    path: Path
    train: Definition
    tests: tuple[TestNet, ...]
    policy: Policy
    rule: Rule
    type: str
    max_iter: int
    weight_decay: float
    regularization_type: str
    iter_size: int
    clip_gradients: float
    test_interval: int
    test_initialization: bool
    test_compute_loss: bool
    display: int
    average_loss: int
    snapshot: int
    snapshot_prefix: Path
    snapshot_format: str
    snapshot_after_train: bool
    random_seed: int | None
    weights: tuple[str, ...]
    notes: tuple[str, ...] = ()


def read_solver(path: Path) -> Solver:
    """Returns the solver at ``path``. Files that it names are looked for in the working directory, as Caffe does, and
    then beside the solver. Raises Refused with every reason why Caffe would not run it, or this project can't."""
    message = _placed(str(path), lambda: parse_solver(_text(path)))
    reader = _Reader(path, message)
    train, tests = reader.train(), reader.tests()
    solver_type = reader.type()
    policy, rule = reader.policy(), reader.rule(solver_type)
    reader.check()
    prefix = reader.prefix()
    if reader.problems or train is None or policy is None or rule is None:
        raise Refused(*(f"{path}: {problem}" for problem in reader.problems))
    return Solver(
        path,
        train,
        tuple(tests),
        policy,
        rule,
        solver_type,
        message.max_iter,
        message.weight_decay,
        message.regularization_type,
        message.iter_size,
        message.clip_gradients,
        message.test_interval,
        message.test_initialization,
        message.test_compute_loss,
        message.display,
        message.average_loss,
        message.snapshot,
        prefix,
        SolverParameter.SnapshotFormat.Name(message.snapshot_format),
        message.snapshot_after_train,
        message.random_seed if message.random_seed >= 0 else None,
        tuple(name for one in message.weights for name in one.split(",")),
        tuple(f"{path}: {note}" for note in reader.notes),
    )


def _placed(source: str, read: Any) -> Any:
    try:
        return read()
    except Refused as refused:
        raise refused.within(source) from refused


def _text(path: Path) -> str:
    try:
        return decoded(path.read_bytes())
    except OSError as error:
        raise Refused(error.strerror or str(error)) from error


def located(name: str, beside: Path, what: str = "the solver") -> tuple[Path, bool]:
    """Returns where the file ``name`` is, and whether it was found beside the file at ``beside``, which is ``what``,
    rather than from the working directory. Raises Refused where it is at neither."""
    if Path(name).exists():
        return Path(name), False
    near = beside.parent / name
    if near.exists():
        return near, True
    raise Refused(f"'{name}' is neither in the working directory nor beside {what}, {near}")


class _Reader:
    """Reads a solver's fields, and keeps what is wrong with them and what there is to say."""

    def __init__(self, path: Path, message: SolverParameter) -> None:
        self.path = path
        self.message = message
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.named: dict[str, NetParameter | None] = {}
        for name, reason in WITHOUT_EFFECT.items():
            if message.HasField(name):
                self.notes.append(f"{name} has no effect: {reason}")
        self.notes += forks.notes(message)

    def train(self) -> Definition | None:
        message = self.message
        given = [name for name in ("net", "net_param", "train_net", "train_net_param") if message.HasField(name)]
        if len(given) != 1:
            which = f"gives {' and '.join(given)}" if given else "gives none of them"
            self.problems.append(f"needs one of net, net_param, train_net and train_net_param; {which}")
            return None
        return self._definition(given[0], getattr(message, given[0]), "TRAIN", message.train_state)

    def tests(self) -> list[TestNet]:
        """Returns the nets to test with: those named for it, then the solver's own net once for each test_iter that is
        left (Caffe's InitTestNets)."""
        message = self.message
        nets: list[tuple[str, Any]] = [("test_net_param", one) for one in message.test_net_param]
        nets += [("test_net", name) for name in message.test_net]
        generic = next((name for name in ("net_param", "net") if message.HasField(name)), "")
        count = len(message.test_iter)
        if count < len(nets) or (count > len(nets) and not generic):
            self.problems.append(f"has {len(nets)} test nets and {count} values of test_iter; Caffe wants one for each")
            return []
        nets += [(generic, getattr(message, generic)) for _ in range(count - len(nets))] if generic else []
        states = list(message.test_state) or [NetState()] * len(nets)
        if len(states) != len(nets):
            self.problems.append(f"has {len(states)} values of test_state for {len(nets)} test nets")
            return []
        if nets and message.test_interval < 1:
            self.problems.append(f"test_interval is {message.test_interval}; with test_iter it must be 1 or more")
        if not nets and message.test_interval:
            self.notes.append("test_interval has no effect without test_iter")
        found = [self._definition(field, value, "TEST", state) for (field, value), state in zip(nets, states)]
        idle = [iterations for iterations in message.test_iter if iterations < 1]
        self.notes += (f"test_iter is {iterations}: that test has no batches, and is left out" for iterations in idle)
        return [
            TestNet(one, iterations)
            for one, iterations in zip(found, message.test_iter)
            if one is not None and iterations > 0
        ]

    def _definition(self, field: str, value: Any, phase: str, state: NetState) -> Definition | None:
        """Returns the definition that a field names or holds; its state is the phase's, then the net's own, then what
        the solver says."""
        message = self._named(field, value) if isinstance(value, str) else value
        if message is None:
            return None
        whole = NetState(phase=Phase.Value(phase))
        whole.MergeFrom(message.state)
        whole.MergeFrom(state)
        source = value if isinstance(value, str) else f"{self.path} ({field})"
        path = located(value, self.path)[0] if isinstance(value, str) else self.path
        return Definition(source, message, State(Phase.Name(whole.phase), whole.level, tuple(whole.stage)), path)

    def _named(self, field: str, name: str) -> NetParameter | None:
        if name not in self.named:
            self.named[name] = None
            try:
                file, is_beside = located(name, self.path)
                self.named[name] = _placed(str(file), lambda: parse_prototxt(_text(file)))
            except Refused as refused:
                self.problems += (f"{field}: {reason}" for reason in refused.reasons)
            else:
                if is_beside:
                    self.notes.append(f"{field}: '{name}' is not in the working directory; taken from {file}")
        return self.named[name]

    def type(self) -> str:
        message = self.message
        if message.HasField("solver_type"):
            if message.HasField("type"):
                self.problems.append("gives both type and solver_type, its older spelling; Caffe accepts one")
            return OLD_TYPES[SolverParameter.SolverType.Name(message.solver_type)]
        return message.type

    def policy(self) -> Policy | None:
        found = read_schedule(self.message)
        self.problems += found.problems
        self.notes += found.notes
        return found.policy

    def rule(self, solver_type: str) -> Rule | None:
        message = self.message
        if solver_type not in RULES:
            self.problems.append(f"type '{solver_type}' is unknown; expected {_any_of(RULES)}")
            return None
        definition = RULES[solver_type]
        if "momentum" not in definition.reads and message.momentum:
            self.problems.append(f"momentum is {message.momentum:g}; Caffe accepts none with type {solver_type}")
        for name in ("momentum", "momentum2", "rms_decay"):
            value = getattr(message, name)
            if name in definition.reads and not 0 <= value < 1:
                self._out_of_range(name, value, solver_type)
        if message.warmup_iter > 0 and solver_type == "SGD" and message.momentum:
            self.problems.append(
                "warmup_iter: with type SGD and a momentum Intel's Caffe scales the momentum too, by how the rate "
                "rises, which is not done here; to train without take warmup_iter or momentum out"
            )
        reads = (*definition.reads, "momentum")
        unread = (name for name in _OF_RULES if name not in reads and message.HasField(name))
        self.notes += (f"{name} has no effect with type {solver_type}" for name in unread)
        return definition(**{name: getattr(message, name) for name in definition.reads})

    def _out_of_range(self, name: str, value: float, solver_type: str) -> None:
        if solver_type in ("SGD", "Nesterov"):
            self.notes.append(f"{name} is {value:g}, and used as Caffe does; 0 or more, and less than 1, is usual")
        else:
            self.problems.append(f"{name} is {value:g}; expected 0 or more, and less than 1")

    def check(self) -> None:
        """Notes what Caffe would refuse in the fields that are only copied."""
        message = self.message
        for name, least in (("iter_size", 1), ("average_loss", 1), ("max_iter", 0), ("display", 0), ("snapshot", 0)):
            if getattr(message, name) < least:
                self.problems.append(f"{name} is {getattr(message, name)}; expected {least} or more")
        self.problems += forks.problems(message)
        if message.regularization_type not in ("L1", "L2"):
            self.problems.append(f"regularization_type '{message.regularization_type}' is unknown; expected L1 or L2")

    def prefix(self) -> Path:
        """Returns where snapshots go: as the solver says, from the working directory or else beside the solver; a
        folder gets the solver's name within (Caffe's UpgradeSnapshotPrefixProperty)."""
        message = self.message
        if not message.HasField("snapshot_prefix"):
            return self.path.with_suffix("")
        prefix = Path(message.snapshot_prefix)
        near = self.path.parent / prefix
        if not prefix.is_dir() and not prefix.parent.is_dir() and (near.is_dir() or near.parent.is_dir()):
            self.notes.append(f"snapshot_prefix: '{prefix}' is not in the working directory; snapshots go to {near}")
            prefix = near
        if prefix.is_dir():
            return prefix / self.path.stem
        if not prefix.parent.is_dir() and (message.snapshot or message.snapshot_after_train):
            self.problems.append(f"snapshot_prefix: the folder {prefix.parent} does not exist; make it first")
        return prefix


def _any_of(names: Any) -> str:
    return f"one of {', '.join(names)}"
