"""A port under test: opened, its tensors matched with the network's values, ready to be fed and asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from graphs.layer import spell
from tools.recording import Facts, Key, RecordedLayer, Values
from tools.validate.lightened import SCOPE
from tools.validate.matching import Candidate, Place, fits, match_layers
from tools.validate.opening import OpenPort, static_shape
from weights import Refused, Shape


@dataclass(frozen=True)
class Words:
    """What the user says of a stranger's graph: ``layers`` is LAYER (or LAYER/TOP) -> tensor, ``inputs`` and
    ``outputs`` blob -> tensor, with the blob "" where there is one; ``feeds`` placeholder -> number."""

    layers: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    feeds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Subject:
    """A port whose tensors are known. ``places`` is value -> tensor, the inputs under ("", blob); ``feeds`` are numbers
    for placeholders beside the inputs; ``batch`` is the number of pictures that its graph is made for, 0 for any."""

    port: OpenPort
    places: Mapping[Key, Place]
    feeds: Mapping[str, float]
    batch: int
    notes: tuple[str, ...] = ()

    def run(self, inputs: Mapping[str, np.ndarray], keys: Sequence[Key]) -> dict[Key, np.ndarray]:
        """Returns the port's values in Caffe's order, for inputs as they are fed in Caffe's order."""
        rows = len(next(iter(inputs.values())))
        given = {("", blob): array for blob, array in inputs.items()}
        if not self.batch or rows == self.batch:
            return self.run_from(given, keys)
        parts = []
        for start in range(0, rows, self.batch):
            piece = {key: array[start : start + self.batch] for key, array in given.items()}
            full = {key: np.resize(array, (self.batch, *array.shape[1:])) for key, array in piece.items()}
            parts.append(self.run_from(full, keys))
        return {
            key: np.concatenate([part[key] for part in parts])[:rows] if parts[0][key].ndim else parts[0][key]
            for key in keys
        }

    def alone(self, layer: RecordedLayer) -> tuple[Key, ...]:
        """Returns the values that a layer is fed to be judged alone: its bottoms, and those inputs of the network that
        the port reads there without passing them."""
        inputs = {key for key in self.places if not key[0]} - set(layer.bottoms)
        bottoms = {self.places[key].tensor for key in layer.bottoms}
        if self.port.graph is None:
            return layer.bottoms
        left = [self.port.graph.get_tensor_by_name(self.places[key].tensor) for key in layer.keys if key in self.places]
        seen = set()
        while left:
            tensor = left.pop()
            if tensor.name not in seen and tensor.name not in bottoms:
                left += tensor.op.inputs
            seen.add(tensor.name)
        return (*layer.bottoms, *sorted(key for key in inputs if self.places[key].tensor in seen))

    def run_from(self, given: Values, keys: Sequence[Key]) -> dict[Key, np.ndarray]:
        """Returns the port's values where any values of the network are given: a session can be fed any tensor."""
        feeds = self.fed(given)
        names = sorted({self.places[key].tensor for key in keys})
        try:
            fetched = dict(zip(names, self._fetched(names, feeds)))
        except Refused:
            raise
        except Exception as error:  # TensorFlow's own error types, ValueError for a shape
            line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise Refused(f"can't be run: {line[:300]}") from error
        return {key: _to_caffe(np.asarray(fetched[self.places[key].tensor]), self.places[key].moved) for key in keys}

    def _fetched(self, names: Sequence[str], feeds: Mapping[str, Any]) -> Sequence[Any]:
        graph, session = self.port.graph, self.port.session
        fits_graph = graph is None or all(
            graph.get_tensor_by_name(name).shape.is_compatible_with(np.shape(value)) for name, value in feeds.items()
        )
        run_any = getattr(session, "_make_callable_from_options", None)
        if fits_graph or run_any is None:
            found = session.run({name: name for name in names}, feeds)
            return [found[name] for name in names]
        # A layer with a wrong window makes every later one expect another size than the truth has. The kernels take
        # any; it is only Session.run that looks at what the graph was inferred to have.
        from tensorflow.core.protobuf.config_pb2 import CallableOptions

        given = {name: np.asarray(value, np.float32) for name, value in feeds.items()}
        return run_any(CallableOptions(feed=list(given), fetch=list(names)))(*given.values())

    def fed(self, given: Values) -> dict[str, Any]:
        """Returns tensor -> what is fed to it in the graph's layout, where values of the network are given."""
        feeds: dict[str, Any] = dict(self.feeds)
        for key, array in given.items():
            place = self.places[key]
            feeds[place.tensor] = _to_graph(array, place, self.port.shape_of(place.tensor))
        return feeds

    def close(self) -> None:
        """Frees the session."""
        self.port.close()


def as_blob(array: np.ndarray, shape: Shape) -> np.ndarray:
    """Returns an array with the blob's shape, where they differ in nothing but axes of size 1."""
    if array.shape == shape or array.size != int(np.prod(shape)):
        return array
    same = [size for size in array.shape if size != 1] == [size for size in shape if size != 1]
    return array.reshape(shape) if same else array


def _to_caffe(array: np.ndarray, moved: bool) -> np.ndarray:
    return np.moveaxis(array, -1, 1) if moved and array.ndim >= 4 else array


def _to_graph(array: np.ndarray, place: Place, shape: Shape | None) -> np.ndarray:
    if place.moved and array.ndim >= 4:
        array = np.moveaxis(array, 1, -1)
    if shape is not None and len(shape) != array.ndim:
        return array.reshape(len(array), *shape[1:])
    return array


def match(port: OpenPort, facts: Facts, words: Words, against: str) -> Subject:
    """Returns the port with its tensors matched. ``against`` names the truth in messages.

    Raises Refused where the truth is of another network or preprocessing, where inputs can't be told, or where the user
    names what is not there.
    """
    if port.saved is not None:
        return port.saved.subject(port, facts, words, against)
    tensors = _tensors(port)
    if port.manifest is not None and not words.inputs:
        places = _by_manifest(port.manifest, facts, against)
        check_preprocessing(port.manifest, facts, against)
    else:
        places = _inputs(port, facts, words, tensors)
    chosen = {key: _named(tensors, tensor) for key, tensor in _chosen(facts, words).items()}
    if port.manifest is None:
        fed = {blob: places["", blob] for blob in facts.inputs}
        candidates = [one for one in tensors.values() if one.type not in ("Placeholder", "Const")]
        places |= match_layers(facts, candidates, chosen, fed)
    else:
        places |= {
            key: Place(tensor, _is_moved(tensors[tensor], facts, key), "--map") for key, tensor in chosen.items()
        }
    feeds = {_named(tensors, name): value for name, value in words.feeds.items()}
    _check_fed(tensors, places, feeds, facts, port.path)
    absent = [place.tensor for place in places.values() if place.tensor not in tensors]
    if absent:
        raise Refused(
            f"{port.path}: has no tensor '{absent[0]}', which its manifest names: it is cut short, or the manifest is "
            "another's"
        )
    first = tensors[next(places["", blob].tensor for blob in facts.inputs)].shape
    return Subject(port, places, feeds, max(first[0], 0) if first else 0)


def _tensors(port: OpenPort) -> dict[str, Candidate]:
    floats = {"float32", "float64", "float16", "bfloat16", "int32", "int64", "bool", "uint8"}
    return {
        tensor.name: Candidate(tensor.name, operation.type, static_shape(tensor))
        for operation in port.graph.get_operations()
        for tensor in operation.outputs
        if not operation.name.startswith(SCOPE) and tensor.dtype.base_dtype.name in floats
    }


def _by_manifest(manifest: Mapping[str, Any], facts: Facts, against: str) -> dict[Key, Place]:
    fed = {one["blob"]: one for one in manifest["inputs"]}
    for blob, shape in facts.inputs.items():
        if blob not in fed:
            raise Refused(f"{against}: is of another network, {_title(facts)}: the port has no input '{blob}'")
        own = tuple(-1 if size is None else int(size) for size in fed[blob]["shape"])
        if own[1:] != shape[1:]:
            raise Refused(
                f"{against}: is of another network, {_title(facts)}: its input '{blob}' is {spell(shape)}, the port's "
                f"{spell(own)}"
            )
    types = {layer["name"]: layer["type"] for layer in manifest["layers"]}
    tops = {(layer["name"], top["blob"]): top["tensor"] for layer in manifest["layers"] for top in layer["tops"]}
    strange = [
        layer
        for layer in facts.layers
        if types.get(layer.name) != layer.type or any(key not in tops for key in layer.keys)
    ]
    if strange:
        others = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
        raise Refused(f"{against}: is of another network, {_title(facts)}: the port has no layer {strange[0]}{others}")
    places = {
        ("", blob): Place(fed[blob]["tensor"], len(shape) >= 4, "manifest") for blob, shape in facts.inputs.items()
    }
    for layer in facts.layers:
        for key, top in zip(layer.keys, layer.tops):
            places[key] = Place(tops[key], len(top.shape) >= 4, "manifest")
    return places


def _title(facts: Facts) -> str:
    return f"'{facts.network}'" if facts.network else "without a name"


def check_preprocessing(manifest: Mapping[str, Any], facts: Facts, against: str) -> None:
    """Raises Refused where the port's manifest states another preprocessing than the recording was made with."""
    stated, used = manifest.get("preprocessing", {}), facts.preprocessing
    problems = []
    if "scale" in stated and not np.isclose(stated["scale"], used.scale):
        problems.append(f"scale {used.scale:g}, the port's manifest states {stated['scale']:g}")
    mean = stated.get("mean_value")
    if mean and used.mean.ndim == 1 and not np.allclose(np.broadcast_to(used.mean, len(mean)), mean, atol=1e-3):
        spelled = ", ".join(f"{value:g}" for value in used.mean)
        problems.append(f"mean {spelled}, the port's manifest states {', '.join(f'{value:g}' for value in mean)}")
    order = stated.get("channel_order")
    if order and used.channel_order and order != used.channel_order:
        problems.append(f"channels {used.channel_order}, the port's manifest states {order}")
    if problems:
        raise Refused(f"{against}: is of another preprocessing: {'; '.join(problems)}")


def _inputs(port: OpenPort, facts: Facts, words: Words, tensors: Mapping[str, Candidate]) -> dict[Key, Place]:
    """Returns the places of the inputs in a graph without a manifest."""
    fed = {one.tensor: one for one in tensors.values() if one.type in ("Placeholder", "PlaceholderWithDefault")}
    places: dict[Key, Place] = {}
    for blob, shape in facts.inputs.items():
        said = words.inputs.get(blob) or (words.inputs.get("") if len(facts.inputs) == 1 else None)
        own = port.ends[0].get(blob)
        if said or own:
            tensor = _named(tensors, said or str(own))
        else:
            fitting = [one for one in fed.values() if fits(one.shape, shape) is not None]
            named = [one for one in fitting if one.name.lower() == blob.lower()]
            fitting = named or fitting
            if len(fitting) != 1:
                found = f"{len(fitting)} placeholders" if fitting else "no placeholder"
                names = ", ".join(one.tensor for one in (fitting or fed.values())) or "none at all"
                raise Refused(
                    f"{port.path}: has {found} for input '{blob}' ({spell(shape)}), of {names}; say --input TENSOR"
                )
            tensor = fitting[0].tensor
        moved = fits(tensors[tensor].shape, shape)
        if moved is None and tensors[tensor].shape is not None:
            own_shape = spell(tensors[tensor].shape or ())
            raise Refused(f"{port.path}: '{tensor}' is {own_shape}; input '{blob}' is {spell(shape)} in Caffe's order")
        places["", blob] = Place(tensor, len(shape) >= 4 if moved is None else moved, "--input" if said else "shape")
    return places


def _chosen(facts: Facts, words: Words) -> dict[Key, str]:
    """Returns what the user says of layers and outputs, value -> tensor."""
    chosen: dict[Key, str] = {}
    known = {key for layer in facts.layers for key in layer.keys}
    for name, tensor in words.layers.items():
        keys = [key for key in known if name in (key[0], "/".join(key))]
        if len(keys) != 1:
            what = "several tops; say LAYER/TOP=TENSOR" if keys else "no layer of that name was recorded"
            raise Refused(f"--map {name}={tensor}: {what}")
        chosen[keys[0]] = tensor
    for blob, tensor in words.outputs.items():
        if blob not in facts.outputs and (blob or len(facts.outputs) != 1):
            raise Refused(f"--output {blob}={tensor}: the outputs are {', '.join(facts.outputs)}")
        chosen[facts.outputs[blob or next(iter(facts.outputs))]] = tensor
    return chosen


def _named(tensors: Mapping[str, Candidate], name: str) -> str:
    tensor = name if ":" in name else name + ":0"
    if tensor not in tensors:
        raise Refused(f"'{name}' is no tensor of numbers in this graph")
    return tensor


def _is_moved(candidate: Candidate, facts: Facts, key: Key) -> bool:
    shape = next(top.shape for layer in facts.layers for own, top in zip(layer.keys, layer.tops) if own == key)
    moved = fits(candidate.shape, shape)
    return len(shape) >= 4 if moved is None else moved


def _check_fed(
    tensors: Mapping[str, Candidate], places: Mapping[Key, Place], feeds: Mapping[str, float], facts: Facts, path: Path
) -> None:
    """Raises Refused where a placeholder is left that nothing feeds."""
    fed = {places["", blob].tensor for blob in facts.inputs} | set(feeds)
    left = [one for one in tensors.values() if one.type == "Placeholder" and one.tensor not in fed]
    scalars = [one for one in left if one.shape in ((), None)]
    if scalars:
        raise Refused(f"{path}: placeholder '{scalars[0].name}' needs a number; say --feed {scalars[0].name}=1")
