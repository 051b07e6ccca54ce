"""Files that appear whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from weights.refused import Refused


@contextmanager
def staged(folder: Path, inside: Path | None = None) -> Iterator[Path]:
    """Yields an empty folder in ``folder``, or ``inside`` another on the same disk; what is written there moves into
    ``folder`` at the end, replacing files of the same names. On any error nothing moves and nothing stays behind; what
    a killed process leaves goes with ``inside``.

    Raises Refused where ``folder`` does not exist or can't be written, and where the disk is full.
    """
    if not folder.is_dir():
        raise Refused(f"{folder}: no such folder; make it first, or name another with -o")
    try:
        stage = Path(tempfile.mkdtemp(prefix=".caffeport-", dir=inside or folder))
        try:
            yield stage
            for path in sorted(stage.iterdir()):
                target = folder / path.name
                if target.is_dir() and path.is_dir():
                    shutil.rmtree(target)
                path.replace(target)
        finally:
            shutil.rmtree(stage, ignore_errors=True)
    except OSError as error:
        raise Refused(f"could not be written: {error.strerror or error}") from error
