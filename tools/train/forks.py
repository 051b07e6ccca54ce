"""Fields that forks' solvers have beside Caffe's own (SSD's, NVIDIA's, Intel's, after their own sources): which of them
change no number here, and which would and so are refused. Those of the learning rate are in schedule.py."""

from __future__ import annotations

from converter.caffe_pb2 import SolverParameter

WITHOUT_EFFECT = {
    "eval_type": "it says how SSD's Caffe sums up its tests; here test nets print the means of their outputs",
    "ap_version": "it says how SSD's Caffe sums up the tests of a detector",
    "show_per_class_result": "it only adds to SSD's log",
    "test_offset": "it only moves the iterations at which Intel's Caffe tests",
    "test_and_snapshot_last_epochs": "it adds tests and snapshots at the end, in NVIDIA's Caffe",
    "store_blobs_in_old_format": "it chooses how NVIDIA's Caffe stores snapshots; here they are what all Caffes read",
    "solver_data_type": "it says in what NVIDIA's Caffe keeps weights and their history; here that is float32",
    "per_parameter_reduce": "it says how NVIDIA's GPUs exchange gradients, not what they compute",
    "engine": "it chooses the libraries that Intel's Caffe calls",
}
"""Fields that change no number, and why."""

_CHANGES = {
    "momentum_policy": ("fixed", "NVIDIA's Caffe changes the momentum from iteration to iteration"),
    "weight_decay_policy": ("fixed", "NVIDIA's Caffe changes the weight decay from iteration to iteration"),
    "larc": (False, "NVIDIA's Caffe takes each parameter's rate from the norms of its values and gradients"),
    "local_lr_auto": (False, "Intel's Caffe takes each parameter's rate from the norms of its values and gradients"),
    "disabled_update": (False, "Intel's Caffe leaves the update to other machines"),
}
"""Switches -> the value at which they change nothing, and what another does."""

_OF_SWITCHES = {
    "max_momentum": "momentum_policy",
    "momentum_power": "momentum_policy",
    "weight_decay_power": "weight_decay_policy",
    "max_weight_decay": "weight_decay_policy",
    "larc_policy": "larc",
    "larc_eta": "larc",
    "larc_turbo": "larc",
    "local_gw_ratio": "local_lr_auto",
}
"""Fields that count only where a switch is on."""


def problems(message: SolverParameter) -> list[str]:
    """Returns a line for each field that would change numbers in a way that is not done here."""
    lines = []
    for name, (harmless, change) in _CHANGES.items():
        value = getattr(message, name)
        if value != harmless:
            stated = str(value).lower() if isinstance(value, bool) else f"'{value}'"
            expected = str(harmless).lower() if isinstance(harmless, bool) else f"'{harmless}'"
            lines.append(f"{name} is {stated}: {change}, which is not done here; to train without say {expected}")
    return lines


def notes(message: SolverParameter) -> list[str]:
    """Returns a line for each field that is set and has no effect."""
    lines = [f"{name} has no effect: {reason}" for name, reason in WITHOUT_EFFECT.items() if message.HasField(name)]
    lines += [f"{name} has no effect: it is what every Caffe does" for name in _CHANGES if _is_idle(message, name)]
    lines += [
        f"{name} has no effect without {switch}"
        for name, switch in _OF_SWITCHES.items()
        if message.HasField(name) and getattr(message, switch) == _CHANGES[switch][0]
    ]
    return lines


def _is_idle(message: SolverParameter, name: str) -> bool:
    return message.HasField(name) and getattr(message, name) == _CHANGES[name][0]
