"""What ``python -m tools.record`` does once its arguments are parsed."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tools.journal import Journal, journaled
from tools.progress import shown
from tools.record.engines import ENGINES, Engine
from tools.record.live import Live, live, values_per_picture
from tools.record.pictures import list_pictures
from tools.record.preprocessing import Asked
from tools.recording import Run
from tools.recording_facts import identity_of
from tools.recording_file import write_recording
from weights import Refused
from weights.refused import one_line

if TYPE_CHECKING:
    from converter.port import Port

WHOLE_BYTES = 16 << 20
"""What the pictures that are kept whole may take, where nobody says how many they are to be."""


def run(arguments: argparse.Namespace) -> None:
    """Records. Raises Refused where it can't be done."""
    output: Path = arguments.output
    check_output(output, [*arguments.sources, *arguments.images, arguments.mean_file, arguments.labels])
    port, engine = read_network(arguments.sources, arguments.engine, arguments.input_shape)
    keep = None if arguments.full else arguments.whole
    if keep is None and not arguments.full:
        keep = WHOLE_BYTES // (4 * values_per_picture(port))
    truth = live_truth(port, engine, arguments, keep, arguments.sample)
    notes(truth)
    journal = Journal.beside(output, [identity_of(truth.facts), truth.spans, truth.sample, picture_states(truth)])
    if journal.done():
        note(f"{output}: goes on after {journal.done()} of {truth.count} batches that were done")
    try:
        tally = Tally(shown(journaled(truth, journal), truth.count, "recording"))
        write_recording(output, truth.facts, tally, journal.room())
    except BaseException as error:  # an interruption too
        if isinstance(error, Refused) or not journal.done():
            journal.remove()
        raise
    journal.remove()
    if not tally.whole:
        note(f"{output}: holds samples only, against which no layer can be judged in isolation; --whole 1 keeps every "
             "value of one picture")  # fmt: skip
    size = output.stat().st_size / 2**20
    counted = "1 picture" if tally.pictures == 1 else f"{tally.pictures} pictures"
    whole = "all" if tally.whole >= tally.pictures else str(tally.whole)
    print(one_line(f"{output}: {size:,.1f} MiB, {counted}, {whole} of them whole, {truth.facts.engine}"))


def check_output(output: Path, inputs: Iterable[str | Path | None] = ()) -> None:
    """Raises Refused where a file can't be written there, or would replace one of the ``inputs``, before any work is
    done."""
    if output.is_dir():
        raise Refused(f"{output}: is a folder; name a file")
    if not output.parent.is_dir():
        raise Refused(f"{output}: the folder {output.parent} does not exist; make it first")
    for given in inputs:
        if given is not None and os.path.exists(given) and output.exists() and os.path.samefile(given, output):
            raise Refused(f"{output}: is read by this command, and would be replaced; name another file to write")
    try:
        with tempfile.TemporaryFile(dir=output.parent):
            pass
    except OSError as error:
        raise Refused(
            f"{output}: can't be written, as nothing can be made in {output.parent} ({error.strerror or error}); name "
            "another folder"
        ) from error


def read_network(sources: Sequence[str], engine: str, shapes: Sequence[str]) -> tuple[Port, Engine]:
    """Returns the network in files, and what runs it. Raises Refused where it has no weights."""
    from converter import convert
    from converter.command import input_shape

    port = convert(*sources, input_shapes=dict(map(input_shape, shapes)))
    if any(layer.parameters for layer in port.shapes) and not port.parameters:
        raise Refused(f"{sources[0]}: needs weights; give the net's .caffemodel too")
    for line in port.notes:
        note(line)
    return port, ENGINES[engine](port)


def live_truth(port: Port, engine: Engine, arguments: argparse.Namespace, keep: int | None, sample: int) -> Live:
    """Returns the truth that the command line asks for; ``keep`` pictures of it are whole, all for None."""
    pictures, remarks = list_pictures(arguments.images)
    for line in remarks:
        note(line)
    labels = read_labels(arguments.labels) if arguments.labels else ()
    return live(port, engine, pictures, asked_of(arguments), labels, arguments.batch, keep, sample)


def asked_of(arguments: argparse.Namespace) -> Asked:
    """Returns what the command line says of preprocessing. Raises Refused where it makes no sense."""
    mean, file = mean_of(arguments)
    return Asked(
        mean,
        file,
        arguments.scale,
        arguments.channel_order,
        arguments.resize,
        arguments.crop,
        arguments.raw_scale,
    )


def mean_of(arguments: argparse.Namespace) -> tuple[np.ndarray | None, str]:
    """Returns the mean that the command line gives, (C,) or (C, H, W), and the name of its file, "" for numbers; None
    where it is silent. Raises Refused where it is neither."""
    if arguments.mean and arguments.mean_file:
        raise Refused("--mean and --mean-file: give one of them")
    if arguments.mean_file:
        from converter.mean import read_mean
        from converter.sources import recognise

        path = arguments.mean_file
        try:
            return read_mean(recognise(path)), Path(path).name
        except Refused as refused:
            raise refused if path in str(refused) else refused.within(path) from refused
    if not arguments.mean:
        return None, ""
    try:
        mean = np.array([float(number) for number in arguments.mean.split(",")], np.float32)
    except ValueError:
        mean = np.array([np.nan])
    if not np.isfinite(mean).all():
        raise Refused(f"--mean {arguments.mean}: expected numbers, such as 104,117,123; for a file say --mean-file")
    return mean, ""


def read_labels(path: Path) -> tuple[str, ...]:
    """Returns the names of classes, one a line. Raises Refused where they can't be read."""
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().split("\n")
    except OSError as error:
        raise Refused(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise Refused(f"{path}: is no text in UTF-8; expected one label a line") from error
    return tuple(line.strip() for line in lines)


def notes(truth: Live) -> None:
    """Says on stderr what the user should know of a truth before it is computed."""
    preprocessing = truth.facts.preprocessing
    if preprocessing.stated_by == "nothing":
        note("no preprocessing is stated, so values stay 0 to 255, B, G, R, without a mean; see --mean and --scale")
    for line in truth.facts.notes:
        note(line)


def note(text: str) -> None:
    """Says a line on stderr."""
    print(f"note: {one_line(text)}", file=sys.stderr)


def picture_states(truth: Live) -> list[tuple[str, int, int]]:
    """Returns what tells that picture files are those of an earlier command."""
    states = []
    for source in truth.pictures:
        try:
            state = os.stat(source.path)
            states.append((str(source.path), state.st_size, state.st_mtime_ns))
        except OSError:  # it is told as broken when its turn comes
            states.append((str(source.path), -1, -1))
    return states


class Tally:
    """Runs as they pass by, counted; broken pictures are said as they are met."""

    def __init__(self, runs: Iterator[Run]) -> None:
        self.runs = runs
        self.pictures = self.whole = self.broken = 0

    def __iter__(self) -> Iterator[Run]:
        for run in self.runs:
            self.pictures += len(run.pictures)
            self.whole += len(run.pictures) if all(value.is_whole for value in run.values.values()) else 0
            self.broken += len(run.broken)
            for one in run.broken:
                note(f"{one.name}: {one.reason}; left out")
            yield run
        if self.broken and self.pictures:
            note(f"{self.broken} of {self.broken + self.pictures} pictures can't be read and were left out")
