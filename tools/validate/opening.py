"""Ports in files, of every kind, as a TensorFlow graph with a session: ours by their manifest, and anyone's."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converter.sources import checkpoint_prefix
from graphs.frozen import read_definition
from graphs.tensorflow1 import tensorflow1
from tools.validate.device import Device, open_device
from tools.validate.lightened import fill, lightened
from tools.validate.trust import check_trust
from weights import Refused, Shape

if TYPE_CHECKING:
    from tools.validate.xla.saved import Saved


@dataclass(frozen=True, eq=False)
class OpenPort:
    """A port in memory. ``manifest`` is None for a stranger's graph; ``ends`` are the inputs and outputs that its own
    format names, blob -> tensor; ``sha256`` is of all the files that hold it. ``saved`` is what an XLA program in a
    file knows of its graph, which is None then. ``versions`` are of what else had a part in it."""

    path: Path
    kind: str
    graph: Any
    session: Any
    sha256: str
    manifest: Mapping[str, Any] | None = None
    ends: tuple[Mapping[str, str], Mapping[str, str]] = field(default_factory=lambda: ({}, {}))
    saved: Saved | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    def shape_of(self, tensor: str) -> Shape | None:
        """Returns a tensor's shape in the graph, -1 for sizes that are not known; None where not even the rank is."""
        if self.saved is not None:
            return self.saved.shapes[tensor]
        return static_shape(self.graph.get_tensor_by_name(tensor))

    def close(self) -> None:
        """Frees the session."""
        self.session.close()


def static_shape(tensor: Any) -> Shape | None:
    """Returns a TensorFlow tensor's shape, -1 for sizes that are not known; None where not even the rank is."""
    if tensor.shape.rank is None:
        return None
    return tuple(-1 if size is None else int(size) for size in tensor.shape.as_list())


def open_port(path: str | Path, device: Device, weights: Path | None = None, trust: bool = False) -> OpenPort:
    """Returns the port in ``path``: a frozen graph, a checkpoint (with its .meta), a source (.py, with its weights
    beside it or in ``weights``), a SavedModel, or the XLA program of any of these; it runs on ``device``. Raises
    Refused where it can't be read, or is not to be trusted."""
    if device.handle is None:
        return _opened(path, device, weights, trust)
    from tools.validate.xla.saved import is_program, open_program

    if is_program(Path(path)):
        return open_program(Path(path), device)
    from tools.validate.xla.lowering import graph_programs, leave_gpus
    from tools.validate.xla.session import XlaSession

    leave_gpus()
    here = open_device("cpu")
    port = _opened(path, here, weights, trust)
    return replace(port, session=XlaSession(device, graph_programs(port.session)), versions=here.versions)


def _opened(path: str | Path, device: Device, weights: Path | None, trust: bool) -> OpenPort:
    """Returns a port in a TensorFlow session."""
    text, path = str(path), Path(path)
    prefix = checkpoint_prefix(path)
    try:
        if prefix is not None:
            return _checkpoint(prefix, device, trust)
        if path.is_dir():
            return _saved_model(path, device, trust)
        if not path.exists():
            raise Refused("no such file")
        if path.suffix == ".py":
            return _source(path, device, weights)
        return _frozen(path, device, trust)
    except Refused as refused:
        raise refused if text in str(refused) else refused.within(text) from refused


def _frozen(path: Path, device: Device, trust: bool) -> OpenPort:
    tf = tensorflow1("a frozen graph")
    definition = read_definition(path)
    if not trust:
        check_trust(definition)
    pulled = lightened(definition)
    with tf.Graph().as_default() as graph:
        _imported(lambda: tf.import_graph_def(definition, name=""))
    session = tf.Session(graph=graph, config=device.config)
    fill(session, pulled)
    return OpenPort(path, "frozen graph", graph, session, digest([path]), _manifest(path))


def _checkpoint(prefix: Path, device: Device, trust: bool) -> OpenPort:
    tf = tensorflow1("a checkpoint")
    meta_path = Path(f"{prefix}.meta")
    meta = tf.MetaGraphDef()
    try:
        meta.ParseFromString(meta_path.read_bytes())
    except FileNotFoundError as error:
        raise Refused(f"{meta_path}: is not there; a checkpoint alone is variables without a graph") from error
    except Exception as error:  # protobuf's DecodeError
        raise Refused(f"{meta_path}: is no whole meta graph") from error
    if not trust:
        check_trust(meta.graph_def, meta.saver_def.filename_tensor_name.rpartition("/")[0])
    with tf.Graph().as_default() as graph:
        saver = _imported(lambda: tf.train.import_meta_graph(meta, clear_devices=True))
        session = tf.Session(graph=graph, config=device.config)
        if saver is not None:
            try:
                saver.restore(session, str(prefix))
            except Exception as error:  # TensorFlow's own error types
                raise Refused(f"is no whole checkpoint: {' '.join(str(error).split())[:200]}") from error
    files = sorted(file for file in prefix.parent.glob(f"{prefix.name}.*") if not file.name.endswith(".json"))
    return OpenPort(prefix, "checkpoint", graph, session, digest(files), _manifest(prefix))


def _saved_model(path: Path, device: Device, trust: bool) -> OpenPort:
    tf = tensorflow1("a SavedModel")
    file = path / "saved_model.pb"
    if not file.is_file():
        raise Refused("is a folder without a SavedModel; name a .pb, a checkpoint, a .py or a SavedModel's folder")
    from tensorflow.core.protobuf import saved_model_pb2

    stored = saved_model_pb2.SavedModel()
    try:
        stored.ParseFromString(file.read_bytes())
    except Exception as error:  # protobuf's DecodeError
        raise Refused("is no whole SavedModel") from error
    graphs = [meta for meta in stored.meta_graphs if "serve" in meta.meta_info_def.tags]
    if not graphs:
        raise Refused("is a SavedModel without a graph to serve (tag 'serve')")
    if not trust:
        check_trust(graphs[0].graph_def, graphs[0].saver_def.filename_tensor_name.rpartition("/")[0])
    with tf.Graph().as_default() as graph:
        session = tf.Session(graph=graph, config=device.config)
        try:
            meta = tf.saved_model.loader.load(session, ["serve"], str(path))
        except Exception as error:  # TensorFlow's own error types
            raise Refused(f"is no whole SavedModel: {' '.join(str(error).split())[:200]}") from error
    signature = meta.signature_def.get("serving_default")
    ends: tuple[dict[str, str], dict[str, str]] = ({}, {})
    if signature is not None:
        ends = (
            {name: one.name for name, one in signature.inputs.items()},
            {name: one.name for name, one in signature.outputs.items()},
        )
    files = sorted(one for one in path.rglob("*") if one.is_file())
    return OpenPort(path, "SavedModel", graph, session, digest(files), _manifest(path), ends)


def _source(path: Path, device: Device, weights: Path | None) -> OpenPort:
    """Runs a source that this project printed: it is Python, and whoever names it asks for that."""
    tf = tensorflow1("a source")
    weights = weights or next((one for one in map(path.with_suffix, (".npz", ".ckpt")) if _exists(one)), None)
    specification = importlib.util.spec_from_file_location("caffeport_source", path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    try:
        specification.loader.exec_module(module)
    except Exception as error:  # whatever that file does
        raise Refused(f"can't be run: {type(error).__name__}: {error}") from error
    if not callable(getattr(module, "build", None)) or not callable(getattr(module, "load", None)):
        raise Refused("has no build() and load(); expected a source that python -m converter ... -o NAME.py wrote")
    with tf.Graph().as_default() as graph:
        session = tf.Session(graph=graph, config=device.config)
        try:
            with session.as_default():
                tensors = module.build()
                if tf.global_variables():
                    if weights is None:
                        raise Refused(f"needs its weights: {path.with_suffix('.npz')}, or name them with --weights")
                    module.load(session, str(weights))
        except Refused:
            raise
        except Exception as error:  # whatever that file does
            raise Refused(f"can't be run: {type(error).__name__}: {' '.join(str(error).split())[:200]}") from error
    manifest = _manifest(path)
    if manifest is not None:
        manifest = _renamed(manifest, {name: tensor.name for name, tensor in tensors.items()})
    files = [path, *([weights] if weights and weights.is_file() else [])]
    return OpenPort(path, "source", graph, session, digest(files), manifest)


def _exists(path: Path) -> bool:
    return path.exists() or path.with_name(path.name + ".index").exists()


def _renamed(manifest: Mapping[str, Any], tensors: Mapping[str, str]) -> dict[str, Any]:
    """Returns a manifest with each tensor's name as it is in a graph that was built by a source."""

    def name(tensor: str) -> str:
        return tensors.get(tensor.rpartition(":")[0], tensor)

    ends = {
        end: [{**one, "tensor": name(one["tensor"])} for one in manifest[end]] for end in ("inputs", "outputs")
    }  # fmt: skip
    layers = [
        {**layer, "tops": [{**top, "tensor": name(top["tensor"])} for top in layer["tops"]]}
        for layer in manifest["layers"]
    ]
    return {**manifest, **ends, "layers": layers}


def _imported(imports: Any) -> Any:
    try:
        return imports()
    except Exception as error:  # TensorFlow's own error types, ValueError
        raise Refused(f"can't be loaded by this TensorFlow: {' '.join(str(error).split())[:200]}") from error


def _manifest(path: Path) -> dict[str, Any] | None:
    file = path.with_name(path.name + ".json")
    if not file.is_file():
        return None
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        for end in ("inputs", "outputs"):
            for one in manifest[end]:
                one["blob"], one["tensor"]
        for layer in manifest["layers"]:
            layer["name"], layer["type"], [(top["blob"], top["tensor"]) for top in layer["tops"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Refused(f"{file}: is no manifest of a port; take it away to match tensors by name and shape") from error
    return manifest


def digest(files: list[Path]) -> str:
    """Returns the hexadecimal SHA-256 of the files, one after the other."""
    found = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            while piece := file.read(1 << 20):
                found.update(piece)
    return found.hexdigest()
