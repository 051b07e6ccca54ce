"""Caffe's file formats, the pipeline from them to a port, and the command line.

port = converter.convert("deploy.prototxt", "weights.caffemodel")
port.save("alexnet.pb")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from converter.port import Port, convert

__all__ = ["Port", "convert"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Loaded at first use: `python -m converter --help` needs neither NumPy nor protobuf.
    if name in __all__:
        from converter import port

        return getattr(port, name)
    raise AttributeError(f"module 'converter' has no attribute {name!r}")
