"""Caffe's file formats, the pipeline from them to a port, and the command line.

port = converter.convert("deploy.prototxt", "weights.caffemodel")
port.save("alexnet.pb")
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_IS_SAFE = getattr(sys.flags, "safe_path", bool(sys.flags.isolated))  # python -P

# While `python -m converter` is started, Python looks for modules in the working directory first, where a user's
# weights.py or graphs/ would be taken for ours. It comes last from here on, unless this package lies in it.
if sys.argv[:1] == ["-m"] and not _IS_SAFE and sys.path[0] != _ROOT:
    sys.path[:] = [*(entry for entry in sys.path if entry != sys.path[0]), sys.path[0]]

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
