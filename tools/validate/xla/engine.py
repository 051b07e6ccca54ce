"""JAX's part: which device, compiling StableHLO for it, running it.

A program is run as it is, so nothing of JAX's own numpy, its default precision or its types comes in between.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np

from tools.validate.device import Device
from tools.validate.xla.stablehlo import OLDEST, REMEDY, TESTED, proved
from weights import Refused

XLA = "XLA through JAX"
"""Name of the engine in reports."""


def jax_module() -> Any:
    """Returns the module ``jax``. Raises Refused with what to install where it is absent or too old."""
    try:
        import jax
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] not in ("jax", "jaxlib"):
            raise
        raise Refused("the XLA engine needs JAX, which is not installed: pip install 'caffeport[xla]', or, for an "
                      "NVIDIA GPU, 'jax[cuda12]'") from error  # fmt: skip
    if jax.__version_info__ < OLDEST:
        raise Refused(f"JAX {jax.__version__} is too old; {TESTED} are known to work: {REMEDY}")
    return jax


def open_xla_device(asked: str = "auto", tf32: bool = False) -> Device:
    """Returns the device of JAX that ``asked`` names: "cpu", "gpu", "gpu:1", or "auto" for JAX's own choice.

    Raises Refused where there is no such device.
    """
    match = re.fullmatch(r"(auto|cpu|gpu)(?::(\d+))?", asked)
    if match is None or (match[2] and match[1] != "gpu"):
        raise Refused(f"--device {asked}: expected auto, cpu, gpu or gpu:N")
    jax = jax_module()
    try:
        devices = jax.devices() if match[1] == "auto" else jax.devices(match[1])
    except RuntimeError as error:  # no such platform, or one that can't be started
        devices, why = [], str(error).splitlines()[0] if match[1] == "auto" else ""
        if why:
            raise Refused(f"JAX {jax.__version__} finds no device: {why[:200]}") from error
    place = int(match[2] or 0)
    if place >= len(devices):
        seen = f"only {len(devices)}" if devices else "no GPU"
        raise Refused(f"--device {asked}: JAX {jax.__version__} sees {seen} here; try --device cpu")
    device = devices[place]
    kind = str(device.platform)
    import jaxlib

    versions = {"jax": str(jax.__version__), "jaxlib": str(jaxlib.__version__)}
    if kind == "cpu":
        from tools.benchmark.tables import machine

        return Device(machine(), "cpu", None, tf32, XLA, versions, device)
    kind = "gpu" if kind in ("gpu", "cuda", "rocm") else kind
    return Device(str(device.device_kind), f"{kind}:{place}", None, tf32, XLA, versions, device)


@dataclass(frozen=True, eq=False)
class Executable:
    """A program compiled for a device."""

    loaded: Any

    def __call__(self, arguments: Sequence[Any]) -> list[Any]:
        """Returns the results for arguments that lie on the device (``placed``), computed, on the device as well.
        Raises Refused where the device can't, for want of memory most often."""
        try:
            results = self.loaded.execute_sharded(list(arguments)).disassemble_into_single_device_arrays()
            return [shards[0].block_until_ready() for shards in results]
        except (RuntimeError, ValueError) as error:  # XLA's
            raise Refused(f"XLA can't run it: {' '.join(str(error).split())[:300]}") from error


def compiled(code: bytes, device: Device) -> Executable:
    """Returns a program compiled for a device, its products in full float32 unless ``device.tf32``.

    Raises Refused where it can't be ``proved``, and where this version of JAX or this device can't do with it.
    """
    jax = jax_module()
    what = proved(code, device.tf32)
    try:
        from jaxlib import xla_client

        devices = xla_client.DeviceList((device.handle,))
        return Executable(device.handle.client.compile_and_load(what, devices, xla_client.CompileOptions()))
    except (ImportError, AttributeError, TypeError) as error:
        raise Refused(f"JAX {jax.__version__} has another interface than {TESTED}: {REMEDY}") from error
    except RuntimeError as error:  # XLA's
        raise Refused(f"XLA can't compile it for {device.name}: {' '.join(str(error).split())[:300]}") from error


def placed(array: np.ndarray, device: Device) -> Any:
    """Returns an array on a device, its type kept."""
    with _wide():
        return jax_module().device_put(np.ascontiguousarray(array).reshape(np.shape(array)), device.handle)


def _wide() -> AbstractContextManager[Any]:
    """Returns the context in which JAX keeps 64-bit types."""
    jax = jax_module()
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    before: Any = importlib.import_module("jax.experimental")  # its place before JAX 0.8
    return before.enable_x64()
