"""What a port can be written as, by the ending of the path."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from converter.caffemodel import LARGEST, write_caffemodel
from converter.describe import foreign_layers, message_of
from converter.manifest import manifest_text
from converter.mean import write_mean
from converter.prototxt import print_prototxt
from graphs.checkpoint import write_checkpoint
from graphs.frozen import write_frozen
from graphs.network import Inferred
from graphs.saved_model import write_saved_model
from graphs.source import network_source
from graphs.tensorflow1 import tensorflow1
from weights import Refused
from weights.hdf5 import NO_GROUP, is_group, write_hdf5
from weights.npy import write_npy
from weights.npz import write_npz
from weights.safetensors_file import write_safetensors
from weights.staging import staged

if TYPE_CHECKING:
    from converter.port import Port


def save(port: Port, path: str | Path) -> list[Path]:
    """Writes the port to ``path`` in the form that its ending says; returns the files written, the named one first.

    Raises Refused where the ending is unknown, weights are needed and absent, or the folder can't be written.
    """
    ending = ending_of(path)
    check(port, path)
    path = Path(path)
    try:
        with staged(path.parent) as stage:
            _WRITERS[ending](port, stage / path.name)
            written = [path.parent / file.name for file in sorted(stage.iterdir())]
    except Refused as refused:
        raise refused if str(path) in str(refused) else refused.within(str(path)) from refused
    return sorted(written, key=lambda file: file != path)


def ending_of(path: str | Path) -> str:
    """Returns the part of a path that says what is to be written: "/" for a SavedModel, else its ending."""
    if str(path).endswith("/"):
        return "/"
    return ".caffemodel.h5" if str(path).endswith(".caffemodel.h5") else Path(path).suffix


def check(port: Port, path: str | Path) -> None:
    """Raises Refused where ``path`` can't be written as its ending says, before any work is done."""
    ending, path = ending_of(path), Path(path)
    if ending not in _WRITERS:
        raise Refused(f"{path}: unknown ending '{ending}'; expected one of {', '.join(_WRITERS)}")
    if path.is_dir() and ending != "/":
        raise Refused(f"{path}: is a folder; name a file, or end it in / for a SavedModel")
    if ending == "/":
        _check_folder(path)
    if not path.parent.is_dir():
        raise Refused(f"{path}: the folder {path.parent} does not exist; make it first")
    if ending == ".binaryproto" and port.mean is None:
        raise Refused(f"{path}: needs a mean picture; give a mean .npy or .binaryproto too")
    foreign = foreign_layers(port.network) if ending in _IN_CAFFE else []
    if foreign:
        node = foreign[0]
        what = f"layer '{node.name}': Caffe has no {type(node.layer).__name__}"
        raise Refused(f"{path}: {what}; write a .pb, a .ckpt or a SavedModel")
    hidden = [layer.node for layer in port.shapes if layer.parameters and not is_group(layer.node.name)]
    if hidden and ending in _SNAPSHOT:
        more = f" and {len(hidden) - 1} more" if len(hidden) > 1 else ""
        raise Refused(f"{path}: {hidden[0]}{more}: {NO_GROUP}")
    needs = any(layer.parameters for layer in port.shapes) and ending not in _WITHOUT_WEIGHTS
    if needs and not port.parameters:
        raise Refused(f"{path}: needs weights; give the net's .caffemodel too")
    size = sum(parameter.array.nbytes for parameter in port.parameters.values())
    if ending in _WITHIN_PROTOBUF and size > LARGEST - (64 << 20):
        raise Refused(
            f"{path}: the weights are {size / 2**30:.1f} GiB, and one protobuf message ends at 2 GiB; write a "
            "checkpoint (-o NAME.ckpt), a SavedModel (-o NAME/), .npz, .safetensors or .caffemodel.h5 instead"
        )


def _check_folder(path: Path) -> None:
    """Raises Refused where a SavedModel would take the place of anything but an older one."""
    if path.name in ("", ".."):
        raise Refused(f"{path}: a SavedModel needs a folder of its own; name one, such as model/")
    if path.exists() and not path.is_dir():
        raise Refused(f"{path}: is a file; name another folder for the SavedModel")
    others = sorted({file.name for file in path.iterdir()} - _SAVED_MODEL) if path.is_dir() else []
    if others:
        raise Refused(f"{path}: holds {others[0]}, which a SavedModel would replace; name another folder")


def _frozen(port: Port, path: Path) -> None:
    write_frozen(path, port.network, port.shapes, port.names, port.parameters)
    _manifest(port, path)


def _checkpoint(port: Port, path: Path) -> None:
    write_checkpoint(path, port.network, port.shapes, port.names, port.parameters)
    _manifest(port, path)


def _saved_model(port: Port, path: Path) -> None:
    write_saved_model(path, port.network, port.shapes, port.names, port.parameters)
    _manifest(port, path)


def _manifest(port: Port, path: Path) -> None:
    version = tensorflow1("a graph").__version__
    path.with_name(path.name + ".json").write_text(manifest_text(port, {"tensorflow": version}), encoding="utf-8")


def _source(port: Port, path: Path) -> None:
    made_from = ", ".join(source.name for source in port.sources)
    path.write_text(network_source(port.network, port.shapes, port.names, made_from), encoding="utf-8")
    path.with_name(path.name + ".json").write_text(manifest_text(port, {}), encoding="utf-8")


def _npz(port: Port, path: Path) -> None:
    write_npz(path, port.parameters.values())


def _npy(port: Port, path: Path) -> None:
    write_npy(path, port.parameters.values())


def _safetensors(port: Port, path: Path) -> None:
    write_safetensors(path, port.parameters.values())


def _prototxt(port: Port, path: Path) -> None:
    path.write_text(print_prototxt(message_of(port.network)), encoding="utf-8")


def _caffemodel(port: Port, path: Path) -> None:
    arrays = [held for layer, held in zip(port.shapes, port.arrays()) if not layer.node.shows]
    with open(path, "wb") as file:
        write_caffemodel(file, message_of(port.network), arrays)


def _hdf5(port: Port, path: Path) -> None:
    write_hdf5(path, ((layer.node.name, arrays) for layer, arrays in _owned(port)))


def _owned(port: Port) -> Iterator[tuple[Inferred, list[np.ndarray | None]]]:
    """Yields each layer that has parameters with its arrays, None for those that an earlier layer shares: Caffe leaves
    them out."""
    owned: set[str] = set()
    for layer, variables, blobs in zip(port.shapes, port.names.variables, port.arrays()):
        if variables:
            yield layer, [None if name in owned else blob for name, blob in zip(variables, blobs)]
            owned.update(variables)


def _mean(port: Port, path: Path) -> None:
    assert port.mean is not None  # check() has seen to it
    write_mean(path, port.mean)


_WRITERS: dict[str, Callable[[Port, Path], None]] = {
    ".pb": _frozen,
    ".ckpt": _checkpoint,
    "/": _saved_model,
    ".py": _source,
    ".npz": _npz,
    ".npy": _npy,
    ".safetensors": _safetensors,
    ".caffemodel": _caffemodel,
    ".caffemodel.h5": _hdf5,
    ".h5": _hdf5,
    ".prototxt": _prototxt,
    ".binaryproto": _mean,
}
_SAVED_MODEL = {"saved_model.pb", "variables", "assets", "assets.extra", "fingerprint.pb"}
_WITHIN_PROTOBUF = {".pb", ".caffemodel"}
_SNAPSHOT = {".caffemodel.h5", ".h5"}
_IN_CAFFE = {".caffemodel", ".caffemodel.h5", ".h5", ".prototxt", ".py"}
_WITHOUT_WEIGHTS = {".py", ".prototxt", ".binaryproto"}
