"""Programs in a file, HDF5, for a machine that has JAX and no TensorFlow:

    facts      the port, its match with the network, what each program is made for: JSON, as bytes
    code/I     program number I: StableHLO, a portable artifact
    weights/I  array number I of the facts, in the graph's layout

The recording that they are held against stays a file of its own; it has the inputs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tools.hdf5 import SIGNATURE, Form, opened, proved
from tools.recording import Facts, Key
from tools.recording_facts import facts_as_json
from tools.validate.device import Device
from tools.validate.matching import Place
from tools.validate.opening import OpenPort, digest
from tools.validate.subject import Subject, Words, check_preprocessing
from tools.validate.xla.program import Argument, Missing, Program, Signature, batches_of
from tools.validate.xla.session import XlaSession
from weights import Refused, Shape
from weights.staging import staged

FORM = Form("caffeport program", 1, "program", "python -m tools.validate PORT --against recording.h5 --engine xla "
            "--save-program FILE", "save it again")  # fmt: skip

LARGEST = 64 << 20
"""Bytes that a program may have: weights are no part of it."""

CHUNK = 1 << 20
"""Bytes of weights, at most, that have a checksum of their own, where a row of them is not larger."""

DTYPES = frozenset({"float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"})
"""Types of arguments that a file may name."""


@dataclass(frozen=True, eq=False)
class Saved:
    """What was known of a port when its programs were saved.

    ``network`` is its name, layers and inputs as ``facts_as_json`` spells them; ``places``, ``feeds`` and ``batch`` are
    the Subject's; ``shapes`` tensor -> shape in the graph; ``batches`` those that are there to be timed; ``parts`` has
    what each program is fed and gives, as tensors.
    """

    network: Mapping[str, Any]
    places: Mapping[Key, Place]
    feeds: Mapping[str, float]
    batch: int
    shapes: Mapping[str, Shape | None]
    batches: tuple[int, ...]
    parts: frozenset[tuple[frozenset[str], frozenset[str]]]

    def has(self, fed: Iterable[str], wanted: Iterable[str]) -> bool:
        """Returns whether there is a program that is fed those tensors and gives those."""
        return (frozenset(fed) | frozenset(self.feeds), frozenset(wanted)) in self.parts

    def subject(self, port: OpenPort, facts: Facts, words: Words, against: str) -> Subject:
        """Returns the port with its tensors matched as they were. Raises Refused where the truth is of another network
        or preprocessing, and where the user says something else of the tensors."""
        if words != Words():
            raise Refused(f"{port.path}: its tensors were matched when it was saved; --map, --input, --output and "
                          "--feed are of no use now")  # fmt: skip
        theirs = _network(facts)
        if theirs != self.network:
            what = _first_difference(self.network, theirs)
            raise Refused(f"{against}: is of another network than {port.path} is a program of: {what}")
        check_preprocessing(port.manifest or {}, facts, against)
        inputs = {self.places["", blob].tensor for blob in facts.inputs} | set(self.feeds)
        alone = any(fed != inputs for fed, _ in self.parts)
        notes = () if alone else (f"{port.path.name} was saved against samples: no layer is judged in isolation",)
        return Subject(port, self.places, self.feeds, self.batch, notes)


@dataclass(frozen=True, eq=False)
class SavedPrograms:
    """Programs in a file, read when they are asked for. ``heads`` has all of them, without their code, with the number
    of the code; ``arrays`` is a weight's tensor -> the number of its array, and what it must be."""

    path: Path
    heads: Mapping[Signature, tuple[Program, int]]
    arrays: Mapping[str, tuple[int, Argument]]
    dtypes: Mapping[str, str]

    def program(self, feeds: tuple[Argument, ...], results: tuple[str, ...]) -> Program:
        """Returns the program with that signature. Raises Missing where there is none, Refused where the file is
        broken."""
        if (feeds, results) not in self.heads:
            wanted = {argument.tensor for argument in feeds}
            alike = [one for one, _ in self.heads.values() if {argument.tensor for argument in one.feeds} == wanted]
            raise Missing(
                f"{self.path}: has no program from {', '.join(sorted(wanted))} to {results[0]} for "
                f"{batches_of([feeds])} pictures at once, only for {batches_of(one.feeds for one in alike)}; save it "
                "again against this recording"
            )
        head, number = self.heads[feeds, results]
        with opened(self.path, FORM) as file:
            return Program(head.feeds, head.weights, head.results, _bytes(self.path, file, f"code/{number}"))

    def dtype(self, tensor: str) -> str:
        """Returns the name of a tensor's type."""
        return self.dtypes[tensor]

    def weight(self, tensor: str) -> np.ndarray:
        """Returns the values of a weight. Raises Refused where the file is broken there."""
        number, stated = self.arrays[tensor]
        with opened(self.path, FORM) as file:
            dataset = proved(self.path, FORM, file, f"weights/{number}")
            if dataset.shape != stated.shape or dataset.dtype.name != stated.dtype:
                raise Refused(f"{self.path}: is no whole program: '{tensor}' is not what its programs take")
            return np.asarray(dataset[()])

    def close(self) -> None:
        """Frees nothing: the file is open only while it is read."""


def write_program(
    path: Path, subject: Subject, facts: Facts, programs: Iterable[Program], batches: Iterable[int]
) -> None:
    """Writes programs of a port, with their weights, whole or not at all. Raises Refused where ``path`` can't be
    written."""
    import h5py

    programs, port = sorted(programs, key=lambda one: one.signature), subject.port
    weights = sorted({one for program in programs for one in program.weights})
    codes = sorted({program.code for program in programs})
    tensors = sorted({place.tensor for place in subject.places.values()} | set(subject.feeds))
    stated = {
        "port": {"file": port.path.name, "kind": port.kind, "sha256": port.sha256},
        "manifest": port.manifest,
        "network": _network(facts),
        "places": [[*key, place.tensor, place.moved, place.how] for key, place in subject.places.items()],
        "feeds": dict(subject.feeds),
        "batch": subject.batch,
        "shapes": {tensor: port.shape_of(tensor) for tensor in tensors},
        "dtypes": {tensor: port.session.programs.dtype(tensor) for tensor in tensors},
        "weights": [_argument_as_json(one) for one in weights],
        "programs": [
            {
                "code": codes.index(one.code),
                "feeds": [_argument_as_json(argument) for argument in one.feeds],
                "weights": [weights.index(argument) for argument in one.weights],
                "results": one.results,
            }
            for one in programs
        ],
        "batches": sorted(batches),
        "versions": dict(port.versions),
    }
    with staged(path.parent) as stage, h5py.File(stage / path.name, "w") as file:
        file.attrs["kind"], file.attrs["format"] = FORM.kind, FORM.format
        text = json.dumps(stated, separators=(",", ":")).encode()
        for name, content in (("facts", text), *((f"code/{place}", code) for place, code in enumerate(codes))):
            array = np.frombuffer(content, np.uint8)
            file.create_dataset(name, data=array, chunks=array.shape, compression="gzip", fletcher32=True)
        for place, one in enumerate(weights):
            values = port.session.programs.weight(one.tensor)
            if values.size and values.ndim:
                most = max(1, CHUNK // values[0].nbytes)
                rows = max(n for n in range(1, min(len(values), most) + 1) if not len(values) % n)  # no chunk is padded
                chunk = (rows, *values.shape[1:])
                file.create_dataset(f"weights/{place}", data=values, chunks=chunk, fletcher32=True)
            else:
                file.create_dataset(f"weights/{place}", data=values)


def is_program(path: Path) -> bool:
    """Returns whether a file is HDF5, as no other kind of port is."""
    try:
        with path.open("rb") as file:
            return file.read(len(SIGNATURE)) == SIGNATURE
    except OSError:
        return False


def open_program(path: Path, device: Device) -> OpenPort:
    """Returns the port whose programs are in a file, to be run on JAX's ``device``. Raises Refused where it is none, or
    no whole one."""
    with opened(path, FORM) as file:
        stated = json.loads(_bytes(path, file, "facts"))
        weights = [_argument(one) for one in stated["weights"]]
        heads = {}
        for one in stated["programs"]:
            feeds = tuple(_argument(argument) for argument in one["feeds"])
            own = tuple(weights[number] for number in one["weights"])
            head = Program(feeds, own, tuple(map(str, one["results"])), b"")
            heads[head.signature] = head, int(one["code"])
        for number in {number for _, number in heads.values()}:
            proved(path, FORM, file, f"code/{number}")
        for number in range(len(weights)):
            proved(path, FORM, file, f"weights/{number}")
        arrays = {one.tensor: (number, one) for number, one in enumerate(weights)}
        dtypes = {str(tensor): _dtype(name) for tensor, name in stated["dtypes"].items()}
        saved = _saved(stated)
        missing = {place.tensor for place in saved.places.values()} - set(dtypes)
        if missing:
            raise Refused(f"{path}: is no whole program: '{min(missing)}' has no type")
        origin = stated["port"]
        kind = f"XLA program of {origin['file']}, {origin['kind']}"
        session = XlaSession(device, SavedPrograms(path, heads, arrays, dtypes))
        manifest = stated["manifest"]
        versions = {str(name): str(version) for name, version in stated["versions"].items()}
        return OpenPort(path, kind, None, session, digest([path]), manifest, saved=saved, versions=versions)


def _saved(stated: Mapping[str, Any]) -> Saved:
    places = {
        (str(layer), str(blob)): Place(str(tensor), bool(moved), str(how))
        for layer, blob, tensor, moved, how in stated["places"]
    }
    return Saved(
        stated["network"],
        places,
        {str(tensor): float(value) for tensor, value in stated["feeds"].items()},
        int(stated["batch"]),
        {str(tensor): None if shape is None else tuple(map(int, shape)) for tensor, shape in stated["shapes"].items()},
        tuple(map(int, stated["batches"])),
        frozenset(
            (frozenset(str(tensor) for tensor, _, _ in one["feeds"]), frozenset(map(str, one["results"])))
            for one in stated["programs"]
        ),
    )


def _network(facts: Facts) -> dict[str, Any]:
    """Returns what tells networks apart, as JSON gives it back."""
    spelled = facts_as_json(facts)
    return json.loads(json.dumps({name: spelled[name] for name in ("network", "layers", "inputs", "outputs")}))


def _first_difference(own: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    if own["inputs"] != theirs["inputs"]:
        return f"its inputs are {theirs['inputs']}, the program's {own['inputs']}"
    known = {one["name"]: one for one in own["layers"]}
    strange = [one for one in theirs["layers"] if known.get(one["name"]) != one]
    if strange:
        return f"the program has no layer {strange[0]['name']} ({strange[0]['type']}) that reads and makes the same"
    return f"it has {len(theirs['layers'])} layers, the program {len(own['layers'])}, or another name or outputs"


def _argument_as_json(one: Argument) -> list[Any]:
    return [one.tensor, one.shape, one.dtype]


def _argument(stated: Any) -> Argument:
    tensor, shape, dtype = stated
    return Argument(str(tensor), tuple(map(int, shape)), _dtype(dtype))


def _dtype(name: Any) -> str:
    if name not in DTYPES:
        raise ValueError(f"'{name}' is no type of an argument")
    return str(name)


def _bytes(path: Path, file: Any, name: str) -> bytes:
    dataset = proved(path, FORM, file, name)
    if dataset.dtype != np.uint8 or dataset.ndim != 1 or dataset.nbytes > LARGEST:
        raise Refused(f"{path}: is no whole program: '{name}' is no text or code")
    return dataset[()].tobytes()
