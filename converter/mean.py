"""Mean pictures: Caffe's .binaryproto (one BlobProto) and .npy, (C, H, W), B, G, R."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError

from converter.caffemodel import parse_blob, write_blob
from converter.sources import NPY, Source
from weights import Refused
from weights.npy import read_npy


def read_mean(source: Source) -> np.ndarray:
    """Returns the mean in a file, (C, H, W) float32. Raises Refused where it holds something else."""
    if source.kind == NPY:
        array = read_npy(source.data)
        if not isinstance(array, np.ndarray):
            raise Refused("holds weights; expected a mean picture")
    else:
        try:
            array = parse_blob(source.data)
        except (ValueError, DecodeError) as error:
            raise Refused(f"is no whole mean picture: {error}") from error
    while array.ndim > 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim == 0:
        raise Refused("holds one number; expected a mean picture, (3, H, W), or a mean for each channel, (3,)")
    if array.ndim not in (1, 3) or array.shape[0] not in (1, 3):
        raise Refused(f"holds an array of shape {array.shape}; expected a mean picture, (3, H, W)")
    return np.asarray(array, np.float32)


def write_mean(path: Path, mean: np.ndarray) -> None:
    """Writes a mean, (C, H, W) float32, as ``path``'s ending says: .npy or .binaryproto."""
    with open(path, "wb") as file:
        if path.suffix == ".npy":
            np.save(file, mean)
        else:
            write_blob(file, mean[None])
