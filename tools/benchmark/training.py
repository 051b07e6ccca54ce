"""How long a step of training takes, as the convnet benchmark measures it: forward, and forward with the gradient of a
loss (half the sum of the squares of the outputs, before any softmax) with respect to every variable."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Sequence
from pathlib import Path

from graphs.alexnet import FAMILY
from tools.benchmark.engines import FORWARD, FORWARD_BACKWARD, Caffe, OnnxRuntime, OpenCV, Setting
from tools.benchmark.inference import check_folder, headline, write_csv
from tools.benchmark.plot import check_matplotlib, plot
from tools.benchmark.subject import Subject, beside
from tools.benchmark.tables import print_table
from tools.benchmark.training_engines import PyTorchTraining, TensorFlowTraining
from tools.benchmark.turns import AGREEMENT, Measured, Plan, measure
from weights import Refused

ENGINES = (TensorFlowTraining, OpenCV, OnnxRuntime, PyTorchTraining, Caffe)
"""Those without gradients are timed forward only."""

A_TURN = 10
"""Steps in a turn; the first turn, which is not counted, is the burn-in."""

COLUMNS = (
    "pass",
    "engine",
    "version",
    ">batch",
    ">mean ms",
    ">deviation ms",
    ">median ms",
    ">pictures/s",
    ">time / TensorFlow's",
    ">largest difference",
)


def run(
    sources: Sequence[str],
    batches: Sequence[int],
    steps: int,
    setting: Setting,
    csv_path: str | None = None,
    plot_path: str | None = None,
) -> bool:
    """Measures, prints the table, and writes the runs to ``csv_path`` and the picture to ``plot_path``; returns whether
    all engines computed the same outputs and gradients.

    ``sources`` are a definition, with weights or without, or a name of the AlexNet family. Raises Refused where they
    are none, TensorFlow can't run them, or a file can't be written.
    """
    for path in (csv_path, plot_path):
        check_folder(path)
    if plot_path:
        check_matplotlib()
    runs = min(A_TURN, steps)
    plan = Plan(tuple(batches), -(-steps // runs), runs, setting, (FORWARD, FORWARD_BACKWARD))
    above = headline(plan)  # before this program makes the machine busy itself
    with tempfile.TemporaryDirectory() as folder:
        subject = prepare(sources, Path(folder))
        measured, skipped = measure(subject, plan, ENGINES)
    title = subject.family or Path(sources[0]).stem
    print_table([f"{title}: {runs} steps to warm up, then {plan.turns * runs}", *above], COLUMNS, map(_cells, measured))
    for engine, reason in skipped.items():
        print(f"{engine}: skipped, {reason}")
    if csv_path:
        write_csv(Path(csv_path), measured, plan)
    if plot_path:
        plot(Path(plot_path), f"{title} on {measured[0].device}, {setting.threads} threads", measured)
    return all(one.difference <= AGREEMENT for one in measured)


def prepare(sources: Sequence[str], folder: Path) -> Subject:
    """Returns the network of a definition and its weights, or one of the AlexNet family by its name. A definition
    without weights is given seeded ones, which engines that read Caffe's files can't have. Raises Refused where the
    sources are none of these."""
    if len(sources) == 1 and sources[0] in FAMILY and not Path(sources[0]).exists():
        size = FAMILY[sources[0]].size
        why = "the family's graphs are TensorFlow's own; give a definition to compare with"
        absent = dict.fromkeys(("definition", "onnx", "sources"), why)
        return Subject({"images": (-1, 3, size, size)}, family=sources[0], absent=absent)
    if len(sources) == 1 and not Path(sources[0]).exists() and not Path(sources[0]).suffix:
        raise Refused(f"{sources[0]}: is no file, and none of the family: {', '.join(FAMILY)}")
    if importlib.util.find_spec("tensorflow") is None:
        raise Refused("tensorflow is not installed: pip install 'caffeport[cpu]'")
    from converter import convert

    return beside(convert(*sources), None, folder)


def _cells(one: Measured) -> tuple[str, ...]:
    return (
        one.what,
        one.engine,
        one.version,
        str(one.batch),
        f"{one.mean * 1e3:.1f}",
        f"{one.deviation * 1e3:.1f}",
        f"{one.median * 1e3:.1f}",
        f"{one.pictures_per_second:.1f}",
        f"{one.ratio:.2f}",
        f"{one.difference:.1e}" + ("" if one.difference <= AGREEMENT else " DIFFERS"),
    )
