"""Where a TensorFlow graph spends its time, layer by layer, from TensorFlow's own trace of each operation."""

from __future__ import annotations

import math
import re
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ELSEWHERE = ""
"""Stands for a layer where an operation belongs to none: what brings inputs in and outputs out."""

WEIGHTED = frozenset({"Conv2D", "DepthwiseConv2dNative", "MatMul", "BatchMatMulV2", "Conv2DBackpropInput"})
"""Operations that multiply by weights; where TensorFlow fuses several, the time is said to be theirs."""


@dataclass(frozen=True)
class LayerTime:
    """Seconds that a layer's operations take in one pass (the median of several), and the floating point operations of
    the multiplications by weights among them, an addition with each; 0 where there are none."""

    layer: str
    seconds: float
    flops: float


def layer_times(
    tf: Any,
    graph: Any,
    config: Any,
    layers: Mapping[str, Sequence[str]],
    feeds: Mapping[str, Any],
    fetches: Sequence[str],
    runs: int,
) -> list[LayerTime]:
    """Returns what each of ``layers`` takes, and ELSEWHERE's share last where there is one.

    ``layers`` has each layer's tensors, in the network's order. One operation runs at a time, on all of the threads,
    so that times add up; TensorFlow's optimizer works as ever, and what it fuses counts for the layer with the weights.
    """
    config = type(config).FromString(config.SerializeToString())
    config.inter_op_parallelism_threads = 1
    owner = owners(graph, layers, set(feeds))
    full = tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE)
    spent: dict[str, list[float]] = defaultdict(list)
    with tf.Session(graph=graph, config=config) as session:
        for run in range(runs + 2):  # the first two warm up: they choose kernels and bring weights into form
            told = tf.RunMetadata()
            session.run(list(fetches), feeds, options=full, run_metadata=told)
            if run >= 2:
                times = dict(_node_seconds(told.step_stats))
                one_run = _by_layer(graph, owner, times)
                for layer in (*layers, ELSEWHERE):
                    spent[layer].append(one_run.get(layer, 0.0))
        counted = flops(tf, graph, session, owner, feeds)
    medians = {layer: statistics.median(seconds) for layer, seconds in spent.items()}
    return [
        LayerTime(layer, seconds, counted.get(layer, 0.0))
        for layer, seconds in medians.items()
        if layer != ELSEWHERE or seconds
    ]


def owners(graph: Any, layers: Mapping[str, Sequence[str]], fed: set[str]) -> dict[str, str]:
    """Returns operation -> the first layer whose tensors need it, of a graph's operations."""
    owner: dict[str, str] = {}
    ends = {name.partition(":")[0] for name in fed}
    for layer, tensors in layers.items():
        left = [graph.get_tensor_by_name(tensor).op for tensor in tensors]
        while left:
            operation = left.pop()
            if operation.name not in owner and operation.name not in ends and operation.type != "Placeholder":
                owner[operation.name] = layer
                left += [tensor.op for tensor in operation.inputs]
    return owner


def _node_seconds(stats: Any) -> Iterator[tuple[str, float]]:
    """Yields each operation that was run with its seconds: on a GPU those of its kernels, where they were traced."""
    devices = [one for one in stats.dev_stats if "/stream:all" in one.device] or [
        one for one in stats.dev_stats if "stream" not in one.device and "memcpy" not in one.device
    ]
    total: dict[str, float] = defaultdict(float)
    for device in devices:
        for node in device.node_stats:
            fine = (node.op_end_rel_nanos - node.op_start_rel_nanos) / 1e9
            coarse = (node.op_end_rel_micros - node.op_start_rel_micros) / 1e6
            total[node.node_name.partition(":")[0]] += fine or coarse
    yield from total.items()


def _by_layer(graph: Any, owner: Mapping[str, str], seconds: Mapping[str, float]) -> dict[str, float]:
    known = {operation.name: operation for operation in graph.get_operations()}
    total: dict[str, float] = defaultdict(float)
    for name, taken in seconds.items():
        # What the optimizer adds around an operation bears its name and a number: conv1-0-TransposeNHWCToNCHW-...
        operation = known.get(name) or known.get(re.sub(r"-\d+-.*$", "", name))
        if operation is None or operation.type == "Const":
            total[ELSEWHERE] += taken
        else:
            total[_layer_of(operation, owner, seconds)] += taken
    return total


def _layer_of(operation: Any, owner: Mapping[str, str], executed: Mapping[str, float]) -> str:
    """Returns the layer of an operation that was run; where others went into it, of the weighted one among them."""
    left, seen = [operation], set()
    while left:
        one = left.pop()
        if one.type in WEIGHTED and one.name in owner:
            return owner[one.name]
        seen.add(one.name)
        for tensor in one.inputs:
            before = tensor.op
            if before.name not in executed and before.name not in seen and before.type not in ("Const", "Placeholder"):
                left.append(before)
    return owner.get(operation.name, ELSEWHERE)


def flops(tf: Any, graph: Any, session: Any, owner: Mapping[str, str], feeds: Mapping[str, Any]) -> dict[str, float]:
    """Returns layer -> floating point operations of its multiplications by weights, two for each value of the weights
    at each place where they are used."""
    weighted = [one for one in graph.get_operations() if one.type in WEIGHTED and one.name in owner]
    with graph.as_default():
        sizes = {one.name: (tf.shape(one.outputs[0]), *(tf.shape(tensor) for tensor in one.inputs)) for one in weighted}
    found = session.run(sizes, feeds)
    total: dict[str, float] = defaultdict(float)
    for one in weighted:
        top, *bottoms = (tuple(map(int, shape)) for shape in found[one.name])
        total[owner[one.name]] += 2.0 * _multiply_adds(one, top, bottoms)
    return dict(total)


def _multiply_adds(operation: Any, top: tuple[int, ...], bottoms: Sequence[tuple[int, ...]]) -> int:
    if "MatMul" in operation.type:
        transposed = operation.get_attr("transpose_a" if operation.type == "MatMul" else "adj_x")
        return math.prod(top) * bottoms[0][-2 if transposed else -1]
    weights = bottoms[1]
    moved = operation.get_attr("data_format") == b"NHWC"
    # Each place of a convolution's top takes the weights once, of a deconvolution's bottom.
    places = bottoms[2] if operation.type == "Conv2DBackpropInput" else top
    channels = places[-1] if moved else places[1]
    return math.prod(places) // channels * math.prod(weights)
