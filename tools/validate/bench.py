"""All that it takes to compare a port with a truth: both opened, matched, and told apart from any others."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

from tools.record.command import live_truth, notes, picture_states, read_network
from tools.record.engines import Engine
from tools.record.live import Live
from tools.recording import Run, Truth
from tools.recording_facts import identity_of
from tools.recording_file import read_recording
from tools.validate.device import Device, open_device
from tools.validate.opening import OpenPort, digest, open_port
from tools.validate.options import read_words
from tools.validate.running import Recompute, versions
from tools.validate.subject import Subject, match
from weights import Refused

if TYPE_CHECKING:
    from converter.port import Port


@dataclass(frozen=True, eq=False)
class Bench:
    """All that it takes to compare a run. ``network`` is Caffe's where its files are at hand; ``identity`` is name ->
    all that its numbers depend on, as JSON: two benches of the same identity compute the same."""

    subject: Subject
    truth: Truth
    network: Port | None
    recompute: Recompute | None
    source: Mapping[str, Any]
    device: Device
    identity: Mapping[str, Any]

    @property
    def digests(self) -> dict[str, str]:
        """The identity in short."""
        return {name: hashlib.sha256(json.dumps(one).encode()).hexdigest() for name, one in self.identity.items()}


def open_bench(arguments: argparse.Namespace, port: OpenPort, device: Device) -> Bench:
    """Returns what the command line names, with the port opened already. Raises Refused where they don't fit."""
    truth, network, recompute, source = truth_of(arguments)
    words = read_words(arguments)
    subject = match(port, truth.facts, words, source.get("file") or "the reference")
    places = [[*key, place.tensor, place.moved] for key, place in subject.places.items()]
    states = [list(map(astuple, truth.spans)), picture_states(truth)] if isinstance(truth, Live) else []
    identity = {
        f"{port.path}": port.sha256,
        f"{arguments.against or 'the reference'}": dict(source),
        "the network and its preprocessing": identity_of(truth.facts),
        "the pictures": states,
        "the match of tensors": [places, dict(subject.feeds), recompute is not None],
        "the versions of caffeport, TensorFlow and NumPy": versions(subject, device),
    }
    return Bench(subject, truth, network, recompute, source, device, identity)


def opened_anew(arguments: argparse.Namespace) -> Bench:
    """Returns all of it, opened by itself: what each worker does."""
    device = open_device(arguments.device, arguments.tf32)
    return open_bench(arguments, open_port(arguments.port, device, arguments.weights, arguments.trust), device)


def truth_of(arguments: argparse.Namespace) -> tuple[Truth, Port | None, Recompute | None, dict[str, Any]]:
    """Returns what the port is held against, the network where its files are given, what gives whole values where only
    samples were recorded, and what a report says of where it lies."""
    if arguments.against and arguments.images:
        raise Refused("--against and --images: give one of them; a recording holds its pictures")
    if arguments.images:
        if not arguments.sources:
            raise Refused("--images: give the DEFINITION and WEIGHTS that the pictures are to be run through")
        port, engine = read_network(arguments.sources, arguments.reference_engine, arguments.input_shape)
        truth = live_truth(port, engine, arguments, None, 0)
        notes(truth)
        return truth, port, None, {}
    recording = read_recording(arguments.against)
    source = {"file": arguments.against.name, "sha256": digest([arguments.against])}
    network, recompute = None, None
    if arguments.sources:
        network, engine = read_network(arguments.sources, arguments.reference_engine, arguments.input_shape)
        recorded = {one.sha256 for one in recording.facts.sources}
        strange = [one for one in network.sources if recorded and one.sha256 not in recorded]
        if strange:
            raise Refused(f"{strange[0].path}: is not what {arguments.against} was recorded from")
        recompute = recomputed(engine)
    return recording, network, recompute, source


def recomputed(engine: Engine) -> Recompute:
    """Returns what gives a run's whole values: the engine, a few pictures at a time."""

    def values(run: Run) -> Mapping[Any, Any]:
        return engine.run(run.inputs)

    return values
