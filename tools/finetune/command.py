"""What the command line does once its arguments are parsed."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from converter.command import describe_file, input_shape
from converter.outputs import check, ending_of
from graphs.layers.normalization import BatchNorm
from tools.dataset import Examples, Faults, arrays_of, checked, order_notes, prepare, read_examples, split
from tools.finetune.course import STEM
from tools.finetune.graph import Learning, pictures_blob, trainable_layers
from tools.finetune.head import Fresh, Head, head_of, with_classes
from tools.finetune.opening import Opened, open_model
from tools.finetune.pictures import Pictures
from tools.finetune.schedule import Schedule
from tools.finetune.stating import stated_port
from tools.finetune.terminal import note, print_summary
from tools.finetune.training import Outcome, Plan, train
from tools.record.command import asked_of, read_labels
from tools.record.preprocessing import Asked, check_arrays
from tools.training.cluster import lend, read_cluster
from tools.training.snapshots import numbered
from weights import Refused
from weights.refused import one_line
from weights.staging import staged

REQUEST = (
    "model", "weights", "skip_layers", "scores", "data", "validation", "hold_out", "mean", "mean_file", "scale",
    "raw_scale", "channel_order", "resize", "mirror", "train_layers", "keep_head", "batch", "optimizer",
    "learning_rate", "momentum", "weight_decay", "head_lr_mult", "schedule", "gamma", "step_epochs", "warmup", "seed",
)  # fmt: skip
"""Arguments that decide what is learned: a training that goes on must have the same."""


def run(arguments: argparse.Namespace) -> None:
    """Does what the command line asks. Raises Refused where it can't be done, Interrupted where the user ends it."""
    cluster = read_cluster(arguments)
    if cluster is not None and not cluster.leads:
        lend(cluster)
        return
    outputs = _outputs(arguments)
    folder = _folder(arguments, outputs)
    shapes = dict(map(input_shape, arguments.input_shape))
    opened = open_model(arguments.model, arguments.weights, arguments.skip_layers, shapes)
    head = head_of(opened.port, arguments.scores)
    faults = Faults(arguments.max_bad)
    examples, held_out = _read_sets(arguments, faults)
    fresh = with_classes(opened.port, head, examples.classes, arguments.seed, arguments.keep_head)
    asked = _asked(arguments, opened)
    shape = opened.port.network.inputs[pictures_blob(opened.port)]
    preparation = prepare(shape, opened.stated, asked, arguments.mirror)
    arrays = arrays_of(examples, *([held_out] if held_out else []))
    remarks = check_arrays(arrays, asked, preparation.mean, preparation.scale)
    for line in (*remarks, *order_notes(arrays, preparation)):
        note(line)
    if not opened.stated and arguments.mean is None and arguments.mean_file is None and arguments.scale is None:
        what = "the values of arrays are fed as they are" if arrays else "values of 0 to 255 are fed"
        note(f"no mean or scale is stated, so {what}; see --mean and --scale")
    port = stated_port(fresh.port, preparation, arguments.mean_file)
    for output in outputs:
        check(port, output)
    layers = _layers(arguments.train_layers, fresh, head)
    for line in (*opened.notes, *fresh.notes, *examples.notes, *layers.notes):
        note(line)

    def fed(examples: Examples) -> Pictures:
        return Pictures(examples, preparation, arguments.batch, faults, arguments.seed, arguments.threads)

    feed = fed(examples)
    outcome = train(
        Plan(
            port,
            head,
            layers.names,
            _learning(arguments, head),
            _schedule(arguments, feed.per_epoch),
            feed,
            fed(held_out) if held_out else None,
            arguments.seed,
            folder,
            arguments.keep,
            arguments.threads,
            arguments.deterministic,
            {name: getattr(arguments, name) for name in REQUEST},
            cluster,
            arguments.all_gpus,
        ),
        arguments.resume,
    )
    _finish(arguments, outcome, outputs, "held-out pictures" if held_out else "training pictures")


def _outputs(arguments: argparse.Namespace) -> list[str]:
    """Returns what is to be written. Raises Refused where something is not said."""
    outputs = list(arguments.output)
    if arguments.model_dir is not None:
        outputs.append(f"{arguments.model_dir / '1'}/")
    for is_there, reason in (
        (arguments.model, "MODEL: say what to train, such as alexnet.pb, a .prototxt and its weights, or bvlc"),
        (arguments.data, "--data: say where the pictures are that show what to learn"),
        (outputs, "-o: say what to write, such as tuned.pb"),
    ):
        if not is_there:
            raise Refused(reason)
    if arguments.validation and arguments.hold_out:
        raise Refused("--validation and --hold-out: give one of them")
    for place in (arguments.model_dir, arguments.output_data_dir):
        if place is not None:
            _made(place)
    return outputs


def _folder(arguments: argparse.Namespace, outputs: list[str]) -> Path:
    """Returns the folder of the run. Raises Refused where it holds another one, or none to go on with."""
    first = Path(outputs[0])
    if not first.parent.is_dir() and arguments.model_dir is None:
        raise Refused(f"{first}: the folder {first.parent} does not exist; make it first")
    folder = arguments.run or first.with_name(f"{first.name.removesuffix(first.suffix)}.run")
    is_begun = bool(numbered(folder / STEM))
    if arguments.resume and not is_begun:
        raise Refused(f"--resume: {folder} holds no checkpoint to go on from")
    if is_begun and not arguments.resume:
        raise Refused(f"{folder}: holds the checkpoints of a run; --resume goes on with it, --run names another folder")
    return _made(folder)


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Refused(f"{folder}: can't be made: {error.strerror or error}") from error
    return folder


def _read_sets(arguments: argparse.Namespace, faults: Faults) -> tuple[Examples, Examples | None]:
    """Returns the pictures to learn from, and those that are held out, None for none."""
    names = read_labels(arguments.labels) if arguments.labels else None
    examples = checked(read_examples(arguments.data, names, arguments.root), faults)
    held_out = None
    if arguments.validation:
        held_out = checked(read_examples(arguments.validation, examples.classes, arguments.root), faults)
    elif arguments.hold_out:
        examples, held_out = split(examples, arguments.hold_out, arguments.seed)
    return examples.trainable(arguments.batch), held_out


def _asked(arguments: argparse.Namespace, opened: Opened) -> Asked:
    """Returns what is said of preprocessing; a mean picture among the sources is the mean where none is asked."""
    asked = asked_of(arguments)
    return replace(asked, mean=opened.port.mean) if asked.mean is None and opened.port.mean is not None else asked


@dataclass(frozen=True)
class Layers:
    """The layers that learn, and what there is to say of them."""

    names: tuple[str, ...]
    notes: tuple[str, ...] = ()


def _layers(asked: list[str], fresh: Fresh, head: Head) -> Layers:
    """Returns the layers that learn: those that are asked for and, always, those with new weights. Raises Refused for
    names that no layer with weights has."""
    known = trainable_layers(fresh.port)
    if asked == ["all"]:
        asked = known
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise Refused(
            f"--train-layers {' '.join(unknown)}: no layer with weights has that name; there are {', '.join(known)}"
        )
    names = tuple(name for name in known if name in asked or name in fresh.layers) or (head.layer,)
    added = [name for name in names if asked and name not in asked]
    notes = [f"--train-layers: {', '.join(added)} learns too: its weights are new"] if added else []
    notes += [
        f"{node}: its weights are new, but its lr_mult is 0, so that they stay as they were drawn"
        for node in fresh.port.network.nodes
        if node.name in fresh.layers and node.specs and not any(one.lr_mult for one in node.specs)
        if not isinstance(node.layer, BatchNorm)
    ]
    return Layers(names, tuple(notes))


def _learning(arguments: argparse.Namespace, head: Head) -> Learning:
    multipliers = {head.layer: arguments.head_lr_mult}
    return Learning(arguments.optimizer, arguments.momentum, arguments.weight_decay, multipliers)


def _schedule(arguments: argparse.Namespace, per_epoch: int) -> Schedule:
    return Schedule(
        arguments.schedule,
        arguments.learning_rate,
        arguments.epochs,
        per_epoch,
        arguments.gamma,
        arguments.step_epochs,
        arguments.warmup,
    )


def _finish(arguments: argparse.Namespace, outcome: Outcome, outputs: list[str], what: str) -> None:
    """Writes the network of the best epoch, and says what has become of it."""
    for output in outputs:
        print(one_line(describe_file(outcome.port, outcome.port.save(output))))
    endings = {ending_of(output) for output in outputs}
    if endings & {".caffemodel", ".caffemodel.h5"} and ".prototxt" not in endings:
        note("Caffe needs the changed definition too, which -o NAME.prototxt writes")
    if outcome.after.rank <= outcome.before.rank:
        note("no epoch was better than the network before; try a lower --learning-rate, or more pictures")
    if arguments.output_data_dir is not None:
        with staged(arguments.output_data_dir) as stage:
            text = json.dumps(_metrics(outcome), indent=1)
            (stage / "metrics.json").write_text(text + "\n", encoding="utf-8")
    print_summary(outcome.before, outcome.after, outcome.best, what)


def _metrics(outcome: Outcome) -> Mapping[str, Any]:
    return {
        "before": asdict(outcome.before),
        "after": asdict(outcome.after),
        "best_epoch": outcome.best.number,
        "epochs": [asdict(epoch) for epoch in outcome.epochs],
    }
