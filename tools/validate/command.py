"""What ``python -m tools.validate`` does once its arguments are parsed."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from converter.command import _input_shape as input_shape
from tools.journal import Journal
from tools.progress import shown
from tools.record.command import check_output, live_truth, note, notes, picture_states, read_network
from tools.record.engines import Engine
from tools.record.live import Live
from tools.recording import Run, Truth
from tools.recording_facts import facts_as_json
from tools.recording_file import read_recording
from tools.validate.certificate import certificate, read_certificate, verify
from tools.validate.comparison import TOLERANCE
from tools.validate.device import Device, open_device
from tools.validate.junit import junit
from tools.validate.opening import OpenPort, digest, open_port
from tools.validate.report import Report, Timings, as_json
from tools.validate.resuming import as_bytes, from_bytes
from tools.validate.running import Compared, Recompute, Tolerances, validate
from tools.validate.subject import Subject, Words, match
from tools.validate.terminal import print_report
from tools.validate.timing import timings
from weights import Refused
from weights.staging import staged

Render = Callable[[Report], bytes]

WRITERS: dict[str, Render] = {
    "json": lambda report: (json.dumps(as_json(report), indent=1, ensure_ascii=False) + "\n").encode(),
    "junit": junit,
    "certificate": lambda report: (json.dumps(certificate(report), indent=1, ensure_ascii=False) + "\n").encode(),
}
"""Option -> what it writes. Another form of report is one more line here and one in the parser."""


def run(arguments: argparse.Namespace) -> int:
    """Validates; returns the exit code. Raises Refused where it can't be done."""
    outputs = {option: path for option in WRITERS if (path := getattr(arguments, option)) is not None}
    for path in outputs.values():
        check_output(path)
    tolerances = read_tolerances(arguments.tolerance)
    words = read_words(arguments)
    if not arguments.verify and not arguments.against and not arguments.images:
        raise Refused(f"{arguments.port}: say what to hold it against: --against recording.h5, or DEFINITION WEIGHTS "
                      "--images PATH")  # fmt: skip
    device = open_device(arguments.device, arguments.tf32)
    with closing(open_port(arguments.port, device, arguments.weights, arguments.trust)) as port:
        if arguments.verify and not _verified(arguments, port):
            return 1
        if not arguments.against and not arguments.images:
            return 0
        report = _report(arguments, port, device, tolerances, words, outputs)
        if arguments.timings:
            report = replace(report, timings=_timings(arguments, port, device, words))
    write_reports(report, outputs)
    if arguments.quiet:
        print(f"verdict: {report.verdict.answer}" + (f", first at {report.verdict.first}" if report.first else ""))
    else:
        print_report(report)
    return report.verdict.exit_code


def _report(
    arguments: argparse.Namespace,
    port: OpenPort,
    device: Device,
    tolerances: Tolerances,
    words: Words,
    outputs: Mapping[str, Path],
) -> Report:
    truth, recompute, source = truth_of(arguments)
    subject = match(port, truth.facts, words, source.get("file") or "the reference")
    if not outputs or truth.count < 2:
        runs = shown(_told(truth, 0), truth.count, "comparing")
        return validate(subject, truth, tolerances, device, recompute, runs, source)
    journal = Journal.beside(next(iter(outputs.values())), _request(truth, subject, device, source, recompute))
    done = [from_bytes(journal.load(part)) for part in range(min(journal.done(), truth.count))]
    if done:
        note(f"goes on after {len(done)} of {truth.count} batches that were compared")
    runs = shown(_told(truth, len(done)), truth.count - len(done), "comparing")

    def keep(one: Compared) -> None:
        journal.store(one.number, as_bytes(one))

    try:
        report = validate(subject, truth, tolerances, device, recompute, runs, source, done, keep)
    except Refused:
        journal.remove()
        raise
    journal.remove()
    return report


def _timings(arguments: argparse.Namespace, port: OpenPort, device: Device, words: Words) -> Timings:
    truth, _, source = truth_of(arguments)
    subject = match(port, truth.facts, words, source.get("file") or "the reference")
    shapes = dict(map(input_shape, arguments.input_shape))
    return timings(
        subject, truth, arguments.sources, device, arguments.timing_batch, tf32=arguments.timing_tf32,
        input_shapes=shapes,
    )  # fmt: skip


def _request(
    truth: Truth, subject: Subject, device: Device, source: Mapping[str, Any], recompute: Recompute | None
) -> list[Any]:
    """Returns all that a compared run depends on: a journal of anything else is of no use."""
    places = [[*key, place.tensor, place.moved] for key, place in subject.places.items()]
    states = [truth.spans, picture_states(truth)] if isinstance(truth, Live) else []
    return [
        facts_as_json(truth.facts), subject.port.sha256, places, dict(subject.feeds), device.facts, dict(source),
        recompute is not None, states,
    ]  # fmt: skip


def _told(truth: Truth, start: int) -> Iterator[Run]:
    for run in truth.runs(start):
        for one in run.broken:
            note(f"{one.name}: {one.reason}; left out")
        yield run


def truth_of(arguments: argparse.Namespace) -> tuple[Truth, Recompute | None, dict[str, Any]]:
    """Returns what the port is held against, what gives whole values where only samples were recorded, and what a
    report says of where it lies."""
    if arguments.against and arguments.images:
        raise Refused("--against and --images: give one of them; a recording holds its pictures")
    if arguments.images:
        if not arguments.sources:
            raise Refused("--images: give the DEFINITION and WEIGHTS that the pictures are to be run through")
        port, engine = read_network(arguments.sources, arguments.engine, arguments.input_shape)
        truth = live_truth(port, engine, arguments, None, 0)
        notes(truth)
        return truth, None, {}
    recording = read_recording(arguments.against)
    source = {"file": arguments.against.name, "sha256": digest([arguments.against])}
    recompute = None
    if arguments.sources:
        port, engine = read_network(arguments.sources, arguments.engine, arguments.input_shape)
        recorded = {one.sha256 for one in recording.facts.sources}
        strange = [one for one in port.sources if recorded and one.sha256 not in recorded]
        if strange:
            raise Refused(f"{strange[0].path}: is not what {arguments.against} was recorded from")
        recompute = recomputed(engine)
    return recording, recompute, source


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


def write_reports(report: Report, outputs: Mapping[str, Path]) -> None:
    """Writes a report in the forms that were asked for, each whole or not at all; a certificate for a pass only."""
    for option, path in outputs.items():
        if option == "certificate" and report.verdict.exit_code:
            note(f"{path}: no certificate is written, as the port {report.verdict.answer}")
            continue
        content = WRITERS[option](report)
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
