"""How fast a port runs: beside every other engine on the same network and the same pictures, and layer by layer."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from graphs.tensorflow1 import tensorflow1
from tools.benchmark.engines import ENGINES, Setting, TensorFlow
from tools.benchmark.layer_times import ELSEWHERE
from tools.benchmark.subject import End, Frozen, alone, beside
from tools.benchmark.subject import Subject as Forms
from tools.benchmark.turns import Inputs, Measured, Plan, measure, start
from tools.recording import Facts, Key, Truth
from tools.validate.device import Device
from tools.validate.report import EngineTiming, LayerTiming, Timings
from tools.validate.subject import Subject
from weights import Refused, Shape

TURNS, RUNS = 6, 5
"""How often each engine has its turn, and how many passes it makes in one."""


def timings(
    subject: Subject,
    truth: Truth,
    sources: Sequence[str],
    device: Device,
    batches: Sequence[int] = (1, 16),
    threads: int | None = None,
    tf32: bool = False,
    input_shapes: Mapping[str, Shape] | None = None,
) -> Timings:
    """Returns how long a port's forward passes take at each of ``batches``, on the pictures of the truth's first run,
    repeated.

    ``sources`` are the definition and the weights that other engines need; without them the port is timed alone.
    ``threads`` are every engine's, as many as there are processors unless given. Raises Refused where the port lacks an
    output, can't be frozen or can't be run.
    """
    missing = [blob for blob, key in truth.facts.outputs.items() if key not in subject.places]
    if missing:
        raise Refused(f"--timings: output '{missing[0]}' is missing in the port; say --output {missing[0]}=TENSOR")
    setting = Setting(threads or processors(), device.kind, tf32)
    batches = (subject.batch,) if subject.batch else tuple(dict.fromkeys(batches))
    plan = Plan(batches, TURNS, RUNS, setting)
    inputs = inputs_of(truth)
    with tempfile.TemporaryDirectory() as folder:
        forms = _forms(_frozen(subject, truth.facts, Path(folder)), sources, Path(folder), input_shapes)
        measured, skipped = measure(forms, plan, ENGINES, inputs)
        layers = _layers(forms, truth.facts, setting, inputs(batches[-1]))
    settings = {
        "device": measured[0].device,
        "threads": setting.threads,
        "tf32": tf32,
        "xla": "auto_jit" in os.environ.get("TF_XLA_FLAGS", ""),
        "oneDNN in TensorFlow": os.environ.get("TF_ENABLE_ONEDNN_OPTS") or "as TensorFlow decides",
        "turns": f"{TURNS} turns of {RUNS} passes, after one to warm up, each engine in a process of its own",
    }
    return Timings(tuple(map(_engine, measured)), layers, batches[-1], settings, skipped)


def processors() -> int:
    """Returns how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def inputs_of(truth: Truth) -> Inputs:
    """Returns what makes a batch of the pictures of the first run that has any. Raises Refused where none has."""
    run = next((run for run in truth.runs() if run.pictures), None)
    if run is None:
        raise Refused("--timings: there is no picture to run")

    def batch(count: int) -> dict[str, np.ndarray]:
        return {
            blob: np.resize(np.asarray(array, np.float32), (count, *array.shape[1:]))
            for blob, array in run.inputs.items()
        }

    return batch


def _forms(frozen: Frozen, sources: Sequence[str], folder: Path, input_shapes: Mapping[str, Shape] | None) -> Forms:
    if not sources:
        return alone(frozen)
    from converter import convert

    return beside(convert(*sources, input_shapes=input_shapes), frozen, folder, input_shapes)


def _frozen(subject: Subject, facts: Facts, folder: Path) -> Frozen:
    """Returns the port as a frozen graph with the ends that were matched; a port of another kind is frozen first."""

    def end(key: Key, shape: Shape) -> End:
        return End(subject.places[key].tensor, shape, subject.places[key].moved)

    shapes = {key: top.shape for layer in facts.layers for key, top in zip(layer.keys, layer.tops)}
    outputs = {blob: end(key, shapes[key]) for blob, key in facts.outputs.items()}
    path = subject.port.path
    if subject.port.kind != "frozen graph":
        path = folder / "port.pb"
        path.write_bytes(_constants(subject, [one.tensor for one in outputs.values()]))
    layers = {
        layer.name: tensors
        for layer in facts.layers
        if (tensors := tuple(subject.places[key].tensor for key in layer.keys if key in subject.places))
    }
    inputs = {blob: end(("", blob), shape) for blob, shape in facts.inputs.items()}
    return Frozen(path, inputs, outputs, layers, subject.feeds)


def _constants(subject: Subject, tensors: Sequence[str]) -> bytes:
    """Returns the port's graph, as far as ``tensors`` need it, with its variables as constants."""
    tf = tensorflow1("freezing a port")
    names = [name.partition(":")[0] for name in tensors]
    port = subject.port
    try:
        frozen = tf.graph_util.convert_variables_to_constants(port.session, port.graph.as_graph_def(), names)
        return frozen.SerializeToString()
    except Exception as error:  # TensorFlow's own error types, ValueError past protobuf's 2 GiB
        raise Refused(f"{port.path}: --timings: can't be frozen: {' '.join(str(error).split())[:200]}") from error


def _engine(one: Measured) -> EngineTiming:
    facts = (one.engine, one.version, one.device, one.batch, one.count, one.median, one.p95)
    return EngineTiming(*facts, one.ratio, one.difference)


def _layers(forms: Forms, facts: Facts, setting: Setting, inputs: dict[str, np.ndarray]) -> tuple[LayerTiming, ...]:
    with start(TensorFlow, forms, setting) as worker:
        worker.feed(inputs)
        times = [one for one in worker.ask("layer_times", TURNS) if one.layer != ELSEWHERE]
    total = sum(one.seconds for one in times) or 1.0
    types = {layer.name: layer.type for layer in facts.layers}
    return tuple(LayerTiming(one.layer, types[one.layer], one.seconds, one.seconds / total, one.flops) for one in times)
