"""Programs around a port."""

import os
import sys

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_IS_SAFE = getattr(sys.flags, "safe_path", bool(sys.flags.isolated))  # python -P

# While `python -m tools.NAME` is started, Python looks for modules in the working directory first, where a user's
# weights.py or graphs/ would be taken for ours. It comes last from here on, unless this package lies in it.
if sys.argv[:1] == ["-m"] and not _IS_SAFE and sys.path[0] != _ROOT:
    sys.path[:] = [*(entry for entry in sys.path if entry != sys.path[0]), sys.path[0]]
