"""What ``python -m tools.validate`` does once its arguments are parsed."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tools.journal import Journal
from tools.progress import shown
from tools.record.command import check_output, note
from tools.recording import Truth
from tools.validate.bench import Bench, open_bench, opened_anew
from tools.validate.certificate import certificate, read_certificate, verify
from tools.validate.cluster import Task, cluster, existing
from tools.validate.device import open_device
from tools.validate.explaining import diagnosed
from tools.validate.html import environment, html
from tools.validate.junit import junit
from tools.validate.opening import OpenPort, digest, open_port
from tools.validate.options import check_together, read_tolerances, read_words
from tools.validate.report import Report, Timings, as_json
from tools.validate.resuming import as_bytes, from_bytes
from tools.validate.running import Compared, Tolerances, compare_runs, validate
from tools.validate.terminal import print_report
from tools.validate.xla.outcome import with_program
from weights import Refused
from weights.refused import one_line
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
    _check_outputs(arguments, outputs)
    tolerances = read_tolerances(arguments.tolerance)
    read_words(arguments)  # what is wrong with them is said before the port is opened
    if not arguments.verify and not arguments.against and not arguments.images:
        raise Refused(f"{arguments.port}: say what to hold it against: --against recording.h5, or DEFINITION WEIGHTS "
                      "--images PATH")  # fmt: skip
    check_together(arguments)
    device = open_device("cpu" if arguments.runner == "ray" else arguments.device, arguments.tf32, arguments.engine)
    with closing(open_port(arguments.port, device, arguments.weights, arguments.trust)) as port:
        if arguments.verify and not _verified(arguments, port):
            return 1
        if not arguments.against and not arguments.images:
            return 0
        bench = open_bench(arguments, port, device)
        report = _report(arguments, bench, tolerances, outputs)
        report = diagnosed(report, bench.subject, bench.truth, bench.network, bench.recompute)
        report = _timed(arguments, report, bench)
    written = write_reports(report, bench.truth, arguments.command, outputs)
    if arguments.quiet:
        verdict = report.verdict
        why = f", first at {verdict.first}" if verdict.first else f": {verdict.reasons[0]}" if verdict.exit_code else ""
        print(f"verdict: {verdict.answer}{why}")
    else:
        print_report(report)
        for path in written:
            print(one_line(f"{path}: {path.stat().st_size / 1024:,.1f} KiB"))
    return report.verdict.exit_code


def _check_outputs(arguments: argparse.Namespace, outputs: Mapping[str, Path]) -> None:
    """Raises Refused where a report can't be written, before any work is done."""
    named = {**outputs, **({"save-program": arguments.save_program} if arguments.save_program else {})}
    for option, path in named.items():
        check_output(path, _inputs(arguments))
        if path in [other for name, other in named.items() if name != option]:
            raise Refused(f"{path}: two reports can't be one file; name another for --{option}")
    if "html" in outputs:
        environment()


def _inputs(arguments: argparse.Namespace) -> list[Any]:
    """Returns what the command line names to be read, and what lies beside the port and belongs to it."""
    port = arguments.port
    beside = [f"{port}{ending}" for ending in (".json", ".index", ".meta", ".data-00000-of-00001")]
    return [
        port, *beside, arguments.weights, arguments.against, arguments.labels, arguments.mean_file, arguments.verify,
        *arguments.sources, *(arguments.images or ()),
    ]  # fmt: skip


def _report(arguments: argparse.Namespace, bench: Bench, tolerances: Tolerances, outputs: Mapping[str, Path]) -> Report:
    """Returns the report on all runs, compared here or by the workers of a cluster."""
    if arguments.runner == "plain":
        return _compared(
            bench,
            bench.device.facts,
            lambda start: compare_runs(bench.subject, bench.truth, bench.recompute, start),
            tolerances,
            outputs,
        )
    address = arguments.ray_address or os.environ.get("RAY_ADDRESS")
    gpus = {"auto": None, "cpu": False}.get(arguments.device, True)
    with cluster(address, arguments.workers, gpus, note) as workers:
        workers.open(Task(os.getcwd(), existing(_inputs(arguments)), partial(opened_anew, arguments), bench.digests))
        report = _compared(bench, workers.device(), lambda start: workers.compared(start, bench.truth.count),
                           tolerances, outputs)  # fmt: skip
        return replace(report, device={**report.device, **workers.device()})


def _timed(arguments: argparse.Namespace, report: Report, bench: Bench) -> Report:
    """Returns the report with the timings that are asked for."""
    if arguments.engine == "xla":
        batches = arguments.program_batch or (arguments.timing_batch if arguments.timings else ())
        return with_program(report, bench.subject, bench.truth, arguments.save_program, batches)
    return replace(report, timings=_timings(arguments, bench)) if arguments.timings else report


def _timings(arguments: argparse.Namespace, bench: Bench) -> Timings:
    from converter.command import input_shape
    from tools.validate.timing import timings

    shapes = dict(map(input_shape, arguments.input_shape))
    return timings(
        bench.subject, bench.truth, arguments.sources, bench.device, arguments.timing_batch,
        tf32=arguments.timing_tf32, input_shapes=shapes,
    )  # fmt: skip


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


def write_reports(report: Report, truth: Truth, command: Sequence[str], outputs: Mapping[str, Path]) -> list[Path]:
    """Writes a report in the forms that were asked for, each whole or not at all, a certificate for a pass only;
    returns the files."""
    written = []
    for option, path in outputs.items():
        if option == "certificate" and report.verdict.exit_code:
            note(f"{path}: no certificate is written, as the port {report.verdict.answer}")
            continue
        content = WRITERS[option](report, truth, command)
        with staged(path.parent) as stage:
            (stage / path.name).write_bytes(content)
        written.append(path)
    return written


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
    if not arguments.against and not arguments.images:
        print(f"verdict: {'not as certified' if false else 'as certified'}; nothing was computed again, which "
              "--against does")  # fmt: skip
    return not false
