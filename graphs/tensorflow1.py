"""The one door to TensorFlow, in its TF1 form."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from weights import Refused


def tensorflow1(purpose: str) -> Any:
    """Returns the module ``tensorflow.compat.v1``, its start-up chatter turned off.

    Raises Refused with the extra to install where TensorFlow is absent; ``purpose`` says what needs it.
    """
    if "tensorflow" in sys.modules:
        import tensorflow.compat.v1 as tf

        return tf
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        with quiet_stderr():
            import tensorflow.compat.v1 as tf
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] != "tensorflow":
            raise
        raise Refused(
            f"{purpose} needs TensorFlow, which is not installed: pip install 'caffeport[cpu]' (or 'caffeport[gpu]')"
        ) from error
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    return tf


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Holds back what native code writes to stderr (TensorFlow's libraries greet before any log level is read); it is
    shown after all where an error ends the block, other than Refused, which says all that a user needs."""
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # no stderr at all
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Refused:
            raise
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
