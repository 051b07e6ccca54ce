"""What ``python -m tools.validate`` does once its arguments are parsed."""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import astuple, replace
from functools import partial
from pathlib import Path
from typing import Any

from converter.port import Port
from tools.journal import Journal
from tools.progress import shown
from tools.record.command import check_output, live_truth, note, notes, picture_states, read_network
from tools.record.engines import Engine
from tools.record.live import Live
from tools.recording import Run, Truth
from tools.recording_facts import identity_of
from tools.recording_file import read_recording
from tools.validate.certificate import certificate, read_certificate, verify
from tools.validate.cluster import Bench, Task, cluster, existing
from tools.validate.comparison import TOLERANCE
from tools.validate.device import Device, open_device
from tools.validate.explaining import diagnosed
from tools.validate.html import environment, html
from tools.validate.junit import junit
from tools.validate.opening import OpenPort, digest, open_port
from tools.validate.report import Report, as_json
from tools.validate.resuming import as_bytes, from_bytes
from tools.validate.running import Compared, Recompute, Tolerances, compare_runs, validate, versions
from tools.validate.subject import Words, match
from tools.validate.terminal import print_report
from weights import Refused
from weights.staging import staged

Render = Callable[[Report, Truth, Sequence[str]], bytes]
"""Returns a report in some form, for what the port was held against and the command line that asked."""

WRITERS: dict[str, Render] = {
    "json": lambda report, *_: (json.dumps(as_json(report), indent=1, ensure_ascii=False) + "\n").encode(),
    "junit": lambda report, *_: junit(report),
    "html": html,
    "certificate": lambda report, *_: (json.dumps(certificate(report), indent=1, ensure_ascii=False) + "\n").encode(),
}
"""Option -> what it writes. Another form of report is one more line here and one in the parser."""


def run(arguments: argparse.Namespace) -> int:
    """Validates; returns the exit code. Raises Refused where it can't be done."""
    outputs = {option: path for option in WRITERS if (path := getattr(arguments, option)) is not None}
    for option, path in outputs.items():
        check_output(path, _inputs(arguments))
        if path in [other for name, other in outputs.items() if name != option]:
            raise Refused(f"{path}: two reports can't be one file; name another for --{option}")
    if "html" in outputs:
        environment()  # what is missing is said before the work, not after it
    tolerances = read_tolerances(arguments.tolerance)
    words = read_words(arguments)
    if not arguments.verify and not arguments.against and not arguments.images:
        raise Refused(f"{arguments.port}: say what to hold it against: --against recording.h5, or DEFINITION WEIGHTS "
                      "--images PATH")  # fmt: skip
    check_runner(arguments)
    device = open_device("cpu" if arguments.runner == "ray" else arguments.device, arguments.tf32)
    with closing(open_port(arguments.port, device, arguments.weights, arguments.trust)) as port:
        if arguments.verify and not _verified(arguments, port):
            return 1
        if not arguments.against and not arguments.images:
            return 0
        report, truth = _report(arguments, port, device, tolerances, words, outputs)
    write_reports(report, truth, arguments.command, outputs)
    if arguments.quiet:
        verdict = report.verdict
        why = f", first at {verdict.first}" if verdict.first else f": {verdict.reasons[0]}" if verdict.exit_code else ""
        print(f"verdict: {verdict.answer}{why}")
    else:
        print_report(report)
    return report.verdict.exit_code


def _inputs(arguments: argparse.Namespace) -> list[Any]:
    """Returns what the command line names to be read, and what lies beside the port and belongs to it."""
    port = arguments.port
    beside = [f"{port}{ending}" for ending in (".json", ".index", ".meta", ".data-00000-of-00001")]
    return [
        port, *beside, arguments.weights, arguments.against, arguments.labels, arguments.mean_file, arguments.verify,
        *arguments.sources, *(arguments.images or ()),
    ]  # fmt: skip


def _report(
    arguments: argparse.Namespace,
    port: OpenPort,
    device: Device,
    tolerances: Tolerances,
    words: Words,
    outputs: Mapping[str, Path],
) -> tuple[Report, Truth]:
    bench = _bench(arguments, port, device, words)
    if arguments.runner == "plain":
        report = _compared(bench, device.facts, lambda start: compare_runs(bench.subject, bench.truth, bench.recompute,
                           start), tolerances, outputs)  # fmt: skip
    else:
        report = _shared_out(arguments, bench, tolerances, outputs)
    return diagnosed(report, bench.subject, bench.truth, bench.network, bench.recompute), bench.truth


def _shared_out(
    arguments: argparse.Namespace, bench: Bench, tolerances: Tolerances, outputs: Mapping[str, Path]
) -> Report:
    address = arguments.ray_address or os.environ.get("RAY_ADDRESS")
    gpus = {"auto": None, "cpu": False}.get(arguments.device, True)
    with cluster(address, arguments.workers, gpus, note) as workers:
        workers.open(Task(os.getcwd(), existing(_inputs(arguments)), partial(_opened, arguments), bench.digests))
        report = _compared(bench, workers.device(), lambda start: workers.compared(start, bench.truth.count),
                           tolerances, outputs)  # fmt: skip
        return replace(report, device={**report.device, **workers.device()})


def _opened(arguments: argparse.Namespace) -> Bench:
    """Returns all that comparing takes, opened anew: what each worker does."""
    device = open_device(arguments.device, arguments.tf32)
    port = open_port(arguments.port, device, arguments.weights, arguments.trust)
    return _bench(arguments, port, device, read_words(arguments))


def _bench(arguments: argparse.Namespace, port: OpenPort, device: Device, words: Words) -> Bench:
    truth, network, recompute, source = truth_of(arguments)
    subject = match(port, truth.facts, words, source.get("file") or "the reference")
    places = [[*key, place.tensor, place.moved] for key, place in subject.places.items()]
    states = [list(map(astuple, truth.spans)), picture_states(truth)] if isinstance(truth, Live) else []
    identity = {
        f"{port.path}": port.sha256,
        f"{arguments.against or 'the reference'}": dict(source),
        "the network and its preprocessing": identity_of(truth.facts),
        "the pictures": states,
        "the match of tensors": [places, dict(subject.feeds), recompute is not None],
        "the versions of caffeport, TensorFlow and NumPy": versions(),
    }
    return Bench(subject, truth, network, recompute, source, device, identity)


def _compared(
    bench: Bench,
    device: Mapping[str, Any],
    compared: Callable[[int], Iterator[Compared]],
    tolerances: Tolerances,
    outputs: Mapping[str, Path],
) -> Report:
    """Returns the report on runs as they are ``compared`` from a number on; where there is an output, what an
    interrupted command has done on the same ``device`` is not done again."""
    subject, truth = bench.subject, bench.truth
    if not outputs or truth.count < 2:
        runs = shown(_told(compared(0)), truth.count, "comparing")
        return validate(subject, truth, tolerances, bench.device, runs, bench.source)
    journal = Journal.beside(next(iter(outputs.values())), [bench.digests, dict(device)])
    done = [from_bytes(journal.load(part)) for part in range(min(journal.done(), truth.count))]
    if done:
        note(f"goes on after {len(done)} of {truth.count} batches that were compared")
    runs = shown(_told(compared(len(done))), truth.count - len(done), "comparing")

    def keep(one: Compared) -> None:
        journal.store(one.number, as_bytes(one))

    try:
        report = validate(subject, truth, tolerances, bench.device, runs, bench.source, done, keep)
    except Refused:
        journal.remove()
        raise
    journal.remove()
    return report


def _told(compared: Iterator[Compared]) -> Iterator[Compared]:
    for one in compared:
        for picture in one.broken:
            note(f"{picture.name}: {picture.reason}; left out")
        yield one


def check_runner(arguments: argparse.Namespace) -> None:
    """Raises Refused where what is said of workers does not fit."""
    if arguments.runner == "plain" and (arguments.workers or arguments.ray_address):
        option = "--workers" if arguments.workers else "--ray-address"
        raise Refused(f"{option}: is of use with --runner ray only; say that too")
    if arguments.runner == "ray" and ":" in arguments.device:
        raise Refused(f"--device {arguments.device}: Ray gives each worker a GPU of its own; say --device gpu")


def truth_of(arguments: argparse.Namespace) -> tuple[Truth, Port | None, Recompute | None, dict[str, Any]]:
    """Returns what the port is held against, the network where its files are given, what gives whole values where only
    samples were recorded, and what a report says of where it lies."""
    if arguments.against and arguments.images:
        raise Refused("--against and --images: give one of them; a recording holds its pictures")
    if arguments.images:
        if not arguments.sources:
            raise Refused("--images: give the DEFINITION and WEIGHTS that the pictures are to be run through")
        port, engine = read_network(arguments.sources, arguments.engine, arguments.input_shape)
        truth = live_truth(port, engine, arguments, None, 0)
        notes(truth)
        return truth, port, None, {}
    recording = read_recording(arguments.against)
    source = {"file": arguments.against.name, "sha256": digest([arguments.against])}
    network, recompute = None, None
    if arguments.sources:
        network, engine = read_network(arguments.sources, arguments.engine, arguments.input_shape)
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


def read_tolerances(texts: Sequence[str]) -> Tolerances:
    """Returns what ``--tolerance 1e-4`` and ``--tolerance fc7=1e-3`` say. Raises Refused for what is no tolerance."""
    default, layers = TOLERANCE, {}
    for text in texts:
        layer, equals, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= 0) or (equals and not layer):
            raise Refused(f"--tolerance {text}: expected a number such as 1e-4, or LAYER=1e-3")
        if layer:
            layers[layer] = value
        else:
            default = value
    return Tolerances(default, layers)


def read_words(arguments: argparse.Namespace) -> Words:
    """Returns what the command line says of a graph's tensors. Raises Refused where it can't be read."""
    layers = dict(_pair(text, "--map", "LAYER=TENSOR") for text in arguments.map)
    ends = [
        {blob: tensor for blob, _, tensor in (text.rpartition("=") for text in texts)}
        for texts in (arguments.input, arguments.output)
    ]
    feeds = {}
    for name, number in (_pair(text, "--feed", "NAME=NUMBER") for text in arguments.feed):
        try:
            feeds[name] = float(number)
        except ValueError as error:
            raise Refused(f"--feed {name}={number}: expected a number") from error
    return Words(layers, ends[0], ends[1], feeds)


def _pair(text: str, option: str, expected: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise Refused(f"{option} {text}: expected {expected}")
    return name, value


def write_reports(report: Report, truth: Truth, command: Sequence[str], outputs: Mapping[str, Path]) -> None:
    """Writes a report in the forms that were asked for, each whole or not at all; a certificate for a pass only."""
    for option, path in outputs.items():
        if option == "certificate" and report.verdict.exit_code:
            note(f"{path}: no certificate is written, as the port {report.verdict.answer}")
            continue
        content = WRITERS[option](report, truth, command)
        with staged(path.parent) as stage:
            (stage / path.name).write_bytes(content)


def _verified(arguments: argparse.Namespace, port: OpenPort) -> bool:
    stated = read_certificate(arguments.verify)
    given = [Path(one) for one in [*arguments.sources, *([arguments.against] if arguments.against else [])]]
    missing = [path for path in given if not path.is_file()]
    if missing:
        raise Refused(*(f"{path}: no such file" for path in missing))
    true, false = verify(stated, port, {path.name: digest([path]) for path in given})
    for line in true:
        print(f"true:  {line}")
    for line in false:
        print(f"FALSE: {line}")
    return not false
