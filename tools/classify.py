"""Names what is in pictures, with a frozen graph that this project wrote."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from converter.exit_code import exit_code
from graphs import FrozenGraph, load
from graphs.layer import spell
from tools.arguments import count
from tools.pictures import Preparation, prepare, read_all
from weights import Refused, Shape

BATCH = 32
"""Pictures that are run at once where the graph takes any number."""

_HELP = """\
Names what is in pictures, with a frozen graph that this project wrote.

  python -m tools.classify digits.pb tools/demo/pictures/*.png --labels tools/demo/labels.txt

Each picture is brought to the input's size, and its values, 0 to 255, become input as the graph's manifest
(GRAPH.pb.json) states: the mean is subtracted, then all is multiplied by scale. Where the Caffe definition did not
state that, say here how the network was trained. Pictures are read and resized as Caffe's own tools do, with OpenCV's
numbers. BVLC's AlexNet, for one:

  python -m tools.classify alexnet.pb cat.jpeg --mean 104,117,123 --resize 256
"""


@dataclass(frozen=True, eq=False)
class Classifier:
    """A graph that reads pictures from the blob ``input`` and gives each a score for every class in ``output``.

    ``batch`` is how many pictures it runs at once; where ``is_fixed``, it takes no other number.
    """

    path: Path
    graph: FrozenGraph
    input: str
    output: str
    classes: int
    batch: int
    is_fixed: bool
    preparation: Preparation

    def scores(self, pictures: np.ndarray) -> np.ndarray:
        """Returns (N, classes) for pictures, uint8 (N, H, W, C). Raises Refused where a score is no number."""
        parts = []
        for start in range(0, len(pictures), self.batch):
            batch = pictures[start : start + self.batch]
            if self.is_fixed:
                batch = np.resize(batch, (self.batch, *batch.shape[1:]))  # filled up with its own pictures
            feeds = {self.input: self.preparation.fed(batch)}
            parts.append(self.graph.run(feeds, [self.output])[self.output].reshape(len(batch), self.classes))
        scores = np.concatenate(parts)[: len(pictures)]
        if not np.isfinite(scores).all():
            raise Refused(f"{self.path}: output '{self.output}' has values that are no numbers (NaN or infinite)")
        return scores


def read_classifier(
    path: Path,
    output: str | None = None,
    mean: np.ndarray | None = None,
    scale: float | None = None,
    resize: int | None = None,
) -> Classifier:
    """Returns the frozen graph in ``path``, ready to classify by its blob ``output``, or by its only one; ``mean``,
    ``scale`` and ``resize`` are what ``prepare`` takes.

    Raises Refused where it does not read one blob of pictures, does not give each a row of scores, or states a
    preparation that can't be honoured.
    """
    graph = load(path)
    try:
        blob, shape = _input(graph)
        output = output or _output(graph)
        preparation = prepare(shape, graph.manifest.get("preprocessing", {}), mean, scale, resize)
        is_fixed = shape[0] > 0
        batch = shape[0] if is_fixed else BATCH
        return Classifier(path, graph, blob, output, _classes(graph, output), batch, is_fixed, preparation)
    except Refused as refused:
        raise refused.within(str(path)) from refused


def _input(graph: FrozenGraph) -> tuple[str, Shape]:
    """Returns the blob that pictures are fed to, and its shape, N, C, H, W."""
    if len(graph.shapes) != 1:
        raise Refused(f"has {len(graph.shapes)} inputs ({', '.join(graph.shapes)}); expected one, for pictures")
    ((blob, shape),) = graph.shapes.items()
    if len(shape) != 4 or shape[1] not in (1, 3) or min(shape[2:]) < 1:
        raise Refused(f"input '{blob}' has the shape {spell(shape)}; expected pictures, N x (1 or 3) x H x W")
    return blob, shape


def _output(graph: FrozenGraph) -> str:
    if len(graph.outputs) != 1:
        raise Refused(f"has {len(graph.outputs)} outputs ({', '.join(graph.outputs)}); choose one with --output")
    return next(iter(graph.outputs))


def _classes(graph: FrozenGraph, output: str) -> int:
    """Returns how many scores the output has for each picture."""
    shape = graph.graph.get_tensor_by_name(graph.tensor(output)).shape
    sizes = [-1 if size is None else size for size in shape.as_list()] if shape.rank is not None else []
    row = sizes[1:]
    if not row or min(row) < 1 or math.prod(row) != max(row):
        spelled = spell(tuple(sizes)) if sizes else "unknown"
        raise Refused(f"output '{output}' has the shape {spelled}; expected a row of scores for each picture")
    return max(row)


def read_labels(path: Path, classes: int) -> list[str]:
    """Returns the names of classes, one a line in ``path``. Raises Refused where there are not as many."""
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().split("\n")
    except OSError as error:
        raise Refused(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise Refused(f"{path}: is no text in UTF-8; expected one label a line") from error
    if len(lines) != classes:
        raise Refused(f"{path}: has {len(lines)} labels; the network tells {classes} classes apart")
    return [line.strip() for line in lines]


def read_mean(text: str) -> np.ndarray:
    """Returns the mean that the command line gives: (C,) for numbers, (C, H, W) or (C,) for a file.

    Raises Refused where it is neither.
    """
    try:
        return np.array([_number(number) for number in text.split(",")], np.float32)
    except argparse.ArgumentTypeError as error:
        if not Path(text).exists():
            raise Refused(f"--mean {text}: is neither numbers, such as 104,117,123, nor a file") from error

    from converter import mean, sources

    try:
        return mean.read_mean(sources.recognise(text))
    except Refused as refused:
        raise refused if text in str(refused) else refused.within(text) from refused


@dataclass(frozen=True)
class Guess:
    """A class and its score; ``is_probability`` where the scores of all classes add up to 1."""

    label: str
    score: float
    is_probability: bool

    @property
    def value(self) -> str:
        """The score as people read it."""
        return f"{100 * self.score:.1f}%" if self.is_probability else f"{self.score:#.4g}"

    def __str__(self) -> str:
        return f"{self.label} {self.value}"


def guesses(scores: np.ndarray, labels: Sequence[str], top: int) -> list[Guess]:
    """Returns the best classes of one picture, at most ``top``, the best first. Those whose probability would be
    printed as 0.0% are left out."""
    is_probability = bool(scores.min() >= 0 and abs(scores.sum() - 1) < 1e-3)
    best = np.argsort(-scores, kind="stable")[:top]
    found = [Guess(labels[index], float(scores[index]), is_probability) for index in best]
    return [one for one in found if one is found[0] or one.value != "0.0%"]


def print_table(paths: Sequence[Path], found: Sequence[Sequence[Guess]]) -> None:
    """Prints a line for each picture: its best class and the runners-up."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("picture", overflow="fold")
    table.add_column("class", overflow="fold")
    table.add_column("probability" if found[0][0].is_probability else "score", justify="right", no_wrap=True)
    table.add_column("runners-up", overflow="fold")
    for path, (best, *others) in zip(paths, found):
        cells = (str(path), best.label, best.value, "; ".join(map(str, others)))
        table.add_row(*map(Text, cells))
    Console(width=None if sys.stdout.isatty() else 1000, highlight=False).print(table)


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):  # TensorFlow's layers may turn NaN into numbers that look right
        raise argparse.ArgumentTypeError(f"'{text}' is not a number")
    return number


def parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.classify",
        description=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("graph", type=Path, metavar="GRAPH.pb", help="frozen graph, its manifest beside it")
    add("pictures", type=Path, nargs="+", metavar="PICTURE", help="picture that Pillow can read: PNG, JPEG, ...")
    add("--labels", type=Path, metavar="FILE", help="names of the classes, one a line (default: the "
        "manifest's, else they are counted from 0)")  # fmt: skip
    add("--top", type=count, default=5, metavar="N", help="classes to show for each picture, at most (default: 5)")
    add("--output", metavar="BLOB", help="where the scores are, if the graph has several outputs")
    add("--mean", metavar="B,G,R", help="mean to subtract; or a file of it (.binaryproto, .npy)")
    add("--scale", type=_number, metavar="X", help="what values are multiplied by, after the mean")
    add("--resize", type=count, metavar="N", help="bring pictures to N by N first, then cut out the middle")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code: 0 done, 2 could not do it (a line on stderr says why)."""
    return exit_code(parser(), run, argv)


def run(arguments: argparse.Namespace) -> None:
    """Does what the command line asks. Raises Refused where it can't be done."""
    mean = None if arguments.mean is None else read_mean(arguments.mean)
    classifier = read_classifier(arguments.graph, arguments.output, mean, arguments.scale, arguments.resize)
    stated = classifier.graph.manifest.get("preprocessing", {})
    if not stated and mean is None and arguments.scale is None:
        _note(arguments.graph, "no preprocessing is stated, so values stay 0 to 255; see --mean and --scale")
    if stated.get("mean_file") and mean is None:
        file = stated["mean_file"]
        _note(arguments.graph, f"of the mean picture {file}, only its averages are subtracted; see --mean {file}")
    labels = read_labels(arguments.labels, classifier.classes) if arguments.labels else None
    pictures = read_all(arguments.pictures, classifier.preparation)
    stated = classifier.graph.manifest.get("classes", ())
    names = labels or (stated if len(stated) == classifier.classes else [*map(str, range(classifier.classes))])
    scores = classifier.scores(pictures)
    print_table(arguments.pictures, [guesses(row, names, arguments.top) for row in scores])


def _note(graph: Path, text: str) -> None:
    print(f"note: {graph}: {text}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
