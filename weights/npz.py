"""NumPy's .npz: variable name -> array, in TensorFlow's layout."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from weights import wire
from weights.parameter import Parameter, in_tensorflow_layout


def write_npz(path: Path, parameters: Iterable[Parameter]) -> None:
    """Writes one uncompressed member per parameter, two arrays in memory at a time.

    The bytes depend on the numbers alone: a member's date is the format's first (1980), its order that of
    ``parameters``. Format: NumPy's NEP 1 inside a zip archive.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, array in in_tensorflow_layout(parameters):
            with archive.open(name + ".npy", "w", force_zip64=True) as member:
                np.lib.format.write_array_header_1_0(member, np.lib.format.header_data_from_array_1_0(array))
                member.write(wire.flat(array))  # NumPy's own writer copies it in pieces
