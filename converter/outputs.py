"""What a port can be written as, by the ending of the path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from converter.caffemodel import write_caffemodel
from converter.describe import message_of
from converter.manifest import manifest_text
from converter.prototxt import print_prototxt
from graphs.checkpoint import write_checkpoint
from graphs.frozen import write_frozen
from graphs.source import network_source
from graphs.tensorflow1 import tensorflow1
from weights import Refused
from weights.npz import write_npz
from weights.staging import staged

if TYPE_CHECKING:
    from converter.port import Port


def save(port: Port, path: str | Path) -> list[Path]:
    """Writes the port to ``path`` in the form that its ending says; returns the files written, the named one first.

    Raises Refused where the ending is unknown, weights are needed and absent, or the folder can't be written.
    """
    path = Path(path)
    check(port, path)
    try:
        with staged(path.parent) as stage:
            _WRITERS[path.suffix](port, stage / path.name)
            written = [path.parent / file.name for file in sorted(stage.iterdir())]
    except Refused as refused:
        raise refused if str(path) in str(refused) else refused.within(str(path)) from refused
    return sorted(written, key=lambda file: file != path)


def check(port: Port, path: Path) -> None:
    """Raises Refused where ``path`` can't be written as its ending says, before any work is done."""
    if path.suffix not in _WRITERS:
        raise Refused(f"{path}: unknown ending '{path.suffix}'; expected one of {', '.join(_WRITERS)}")
    if path.is_dir():
        raise Refused(f"{path}: is a folder; name a file")
    if not path.parent.is_dir():
        raise Refused(f"{path}: the folder {path.parent} does not exist; make it first")
    needs = any(layer.parameters for layer in port.shapes) and path.suffix not in _WITHOUT_WEIGHTS
    if needs and not port.parameters:
        raise Refused(f"{path}: needs weights; give the net's .caffemodel too")


def _frozen(port: Port, path: Path) -> None:
    write_frozen(path, port.network, port.shapes, port.names, port.parameters)
    _manifest(port, path)


def _checkpoint(port: Port, path: Path) -> None:
    write_checkpoint(path, port.network, port.shapes, port.names, port.parameters)
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


def _prototxt(port: Port, path: Path) -> None:
    path.write_text(print_prototxt(message_of(port.network)), encoding="utf-8")


def _caffemodel(port: Port, path: Path) -> None:
    with open(path, "wb") as file:
        write_caffemodel(file, message_of(port.network), port.arrays())


_WRITERS: dict[str, Callable[[Port, Path], None]] = {
    ".pb": _frozen,
    ".ckpt": _checkpoint,
    ".py": _source,
    ".npz": _npz,
    ".caffemodel": _caffemodel,
    ".prototxt": _prototxt,
}
_WITHOUT_WEIGHTS = {".py", ".prototxt"}
