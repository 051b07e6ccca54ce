"""Where a comparison runs: ``--device auto|cpu|gpu[:N]``, and in which precision."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from graphs.tensorflow1 import tensorflow1
from weights import Refused


@dataclass(frozen=True, eq=False)
class Device:
    """A device that a session runs on. ``config`` is a TensorFlow session's ConfigProto; ``tf32`` says whether a GPU
    may round factors to 10 bits of fraction, which is off for comparisons. ``engine`` is what computes, ``versions``
    its own; ``handle`` is JAX's device where JAX computes, else None."""

    name: str
    kind: str
    config: Any
    tf32: bool
    engine: str = "TensorFlow"
    versions: Mapping[str, str] = field(default_factory=dict)
    handle: Any = None

    @property
    def facts(self) -> dict[str, Any]:
        """What a report says of it."""
        plain = {"graph optimizer": False} if self.handle is None else {}
        stated = {"name": self.name, "kind": self.kind, "engine": self.engine, "dtype": "float32", "tf32": self.tf32}
        return stated | plain


def open_device(asked: str = "auto", tf32: bool = False, engine: str = "tensorflow") -> Device:
    """Returns the device that ``asked`` names: "cpu", "gpu", "gpu:1", or "auto" for a GPU where there is one that the
    ``engine`` sees: "tensorflow", or "xla" for JAX.

    Sets TF32 of TensorFlow for this process, off unless ``tf32``. Raises Refused where there is no such device.
    """
    if engine == "xla":
        from tools.validate.xla.engine import open_xla_device

        return open_xla_device(asked, tf32)
    match = re.fullmatch(r"(auto|cpu|gpu)(?::(\d+))?", asked)
    if match is None or (match[2] and match[1] != "gpu"):
        raise Refused(f"--device {asked}: expected auto, cpu, gpu or gpu:N")
    tf = tensorflow1("a comparison")
    import tensorflow

    versions = {"tensorflow": str(tf.__version__)}
    gpus = [] if match[1] == "cpu" else tensorflow.config.list_physical_devices("GPU")
    tensorflow.config.experimental.enable_tensor_float_32_execution(tf32)
    place = int(match[2] or 0)
    if match[1] == "gpu" and place >= len(gpus):
        seen = f"only {len(gpus)}" if gpus else "no GPU"
        raise Refused(f"--device {asked}: TensorFlow {tf.__version__} sees {seen} here; try --device cpu")
    if not gpus:
        from tools.benchmark.tables import processor

        config = _plain(tf.ConfigProto(device_count={"GPU": 0}))
        return Device(f"{processor()}, {os.cpu_count()} cores", "cpu", config, tf32, versions=versions)
    options = tf.GPUOptions(visible_device_list=str(place), allow_growth=True)
    details = tensorflow.config.experimental.get_device_details(gpus[place])
    config = tf.ConfigProto(gpu_options=options, allow_soft_placement=True)
    name = str(details.get("device_name", gpus[place].name))
    return Device(name, f"gpu:{place}", _plain(config), tf32, versions=versions)


def _plain(config: Any) -> Any:
    """Returns a ConfigProto with TensorFlow's graph optimizer off: every layer is asked for, so there is nothing to
    fuse, and it copies the graph, weights and all, for every new set of tensors (AlexNet: 15 s and 2 GB)."""
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    config.graph_options.optimizer_options.opt_level = -1
    return config
