"""NumPy's .npz: variable name -> array, in TensorFlow's layout."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from weights.parameter import Parameter


def write_npz(path: Path, parameters: Iterable[Parameter]) -> None:
    """Writes one uncompressed member per parameter, one array in memory at a time.

    The bytes depend on the numbers alone: a member's date is the format's first (1980), its order that of
    ``parameters``. Format: NumPy's NEP 1 inside a zip archive.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for parameter in parameters:
            with archive.open(parameter.name + ".npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, parameter.tensorflow(), allow_pickle=False)
