"""The solver's fields of the learning rate, read: each used, refused by name, or said to count for nothing."""

from __future__ import annotations

from dataclasses import dataclass

from converter.caffe_pb2 import SolverParameter
from tools.train.rates import POLICIES, Policy

OF_POLICIES = ("gamma", "power", "stepsize", "stepvalue", "plateau_winsize", "stagelr", "stageiter")
REPEATED = ("stepvalue", "plateau_winsize", "stagelr", "stageiter")


@dataclass(frozen=True)
class Schedule:
    """The policy, None where there is a problem with it; problems and notes are lines without the file's name."""

    policy: Policy | None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_schedule(message: SolverParameter) -> Schedule:
    """Returns how a solver's learning rate changes."""
    name, is_known = message.lr_policy, message.lr_policy in POLICIES
    problems = [f"does not say {field}" for field in _needed(name) if not message.HasField(field)]
    if not is_known:
        if message.HasField("lr_policy"):
            problems.append(f"lr_policy '{name}' is unknown; expected one of {', '.join(POLICIES)}")
        return Schedule(None, tuple(problems))
    reads = POLICIES[name].reads
    problems += _wrong(message, reads)
    notes = _notes(message, reads)
    policy = Policy(
        name,
        message.base_lr,
        message.gamma,
        message.power,
        message.stepsize,
        tuple(message.stepvalue),
        message.max_iter,
        tuple(message.plateau_winsize),
        tuple(message.stagelr),
        tuple(message.stageiter),
        message.min_lr,
        message.rampup_interval,
        message.rampup_lr,
        message.warmup_iter,
        message.warmup_start_lr,
    )
    return Schedule(policy, tuple(problems), tuple(notes))


def is_set(message: SolverParameter, name: str) -> bool:
    """Returns whether a solver sets a field."""
    return bool(getattr(message, name)) if name in REPEATED else message.HasField(name)


def _needed(policy: str) -> tuple[str, ...]:
    own = () if policy == "multifixed" else ("base_lr",)
    return (*own, "lr_policy", "max_iter")


def _wrong(message: SolverParameter, reads: tuple[str, ...]) -> list[str]:
    """Returns what Caffe stops at, or the fork that a field comes from."""
    problems = []
    of = f"lr_policy '{message.lr_policy}'"
    if "stepsize" in reads and not is_set(message, "stepsize"):
        problems.append(f"does not say stepsize, which {of} reads")
    elif "stepsize" in reads and message.stepsize < 1:
        problems.append(f"stepsize is {message.stepsize}; expected 1 or more")
    if "gamma" in reads and message.gamma < 0:
        problems.append(f"gamma is {message.gamma:g}; expected 0 or more")
    if "stagelr" in reads and (len(message.stagelr) != len(message.stageiter) or not message.stagelr):
        counts = f"{len(message.stagelr)} values of stagelr and {len(message.stageiter)} of stageiter"
        problems.append(f"has {counts}; {of} wants one of each for each stage")
    for name in ("min_lr", "rampup_interval", "warmup_iter"):
        if getattr(message, name) < 0:
            problems.append(f"{name} is {getattr(message, name):g}; expected 0 or more")
    if message.lr_policy == "poly" and message.min_lr > message.base_lr:
        problems.append(f"min_lr is {message.min_lr:g}, above base_lr, {message.base_lr:g}; {of} falls to it")
    if message.rampup_interval > 0 and message.warmup_iter > 0:
        problems.append("gives both rampup_interval, NVIDIA's, and warmup_iter, Intel's; no Caffe reads both")
    return problems


def _notes(message: SolverParameter, reads: tuple[str, ...]) -> list[str]:
    of = f"lr_policy '{message.lr_policy}'"
    notes = [f"{name} has no effect with {of}" for name in OF_POLICIES if name not in reads and is_set(message, name)]
    for name in ("gamma", "power"):
        if name in reads and not is_set(message, name):
            notes.append(f"does not say {name}, which {of} reads; it counts as 0, as in Caffe")
    for name in ("stepvalue", "plateau_winsize"):
        if name in reads and not is_set(message, name):
            notes.append(f"does not say {name}, which {of} reads; the learning rate stays what it is, as in Caffe")
    for name, switch in (("rampup_lr", "rampup_interval"), ("warmup_start_lr", "warmup_iter")):
        if is_set(message, name) and not getattr(message, switch):
            notes.append(f"{name} has no effect without {switch}")
    if message.lr_policy == "poly" and message.min_lr:
        notes.append("min_lr: lr_policy 'poly' falls to it, as in NVIDIA's Caffe 0.17; 0.16 cuts the rate off there")
    return notes
