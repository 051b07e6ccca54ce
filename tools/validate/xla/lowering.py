"""A port's TensorFlow graph as programs for XLA, a part at a time: what is wanted, back to what is fed.

Weights do not become part of a program: large constants and variables are its arguments, with values that the port's
own session reads once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphs.tensorflow1 import quiet_stderr, tensorflow1
from tools.validate.xla.program import Argument, Program
from tools.validate.xla.stablehlo import portable
from weights import Refused

LIFTED = 1 << 6
"""Floats of a constant from which on it is an argument. What XLA must know to lower a graph, shapes and axes, are whole
numbers."""

SCOPE = "caffeport_xla"
"""Name scope of what is put into a graph."""

VARIABLES = frozenset({"ReadVariableOp", "VariableV2", "Variable"})
"""Operations whose value is a variable's."""

ARRAYS = "fiu"
"""NumPy's kinds of types that an argument of weights may have."""


@dataclass(frozen=True, eq=False)
class GraphPrograms:
    """The programs of a port's graph, lowered when they are asked for. ``session`` is TensorFlow's, which holds the
    weights; ``nodes`` is name -> NodeDef, in a form that XLA has operations for."""

    session: Any
    nodes: dict[str, Any] = field(repr=False)
    library: Any = field(repr=False)

    def program(self, feeds: tuple[Argument, ...], results: tuple[str, ...]) -> Program:
        """Returns the graph's part from ``feeds`` to ``results``. Raises Refused where XLA has no form of it."""
        fed = {argument.tensor: f"{SCOPE}/argument{place}" for place, argument in enumerate(feeds)}
        found, weights = self._part(results, fed)
        arguments = [*feeds, *weights]
        names = fed | {one.tensor: f"{SCOPE}/argument{len(feeds) + place}" for place, one in enumerate(weights)}
        hlo = self._lowered(_cut(found, names, self.library), arguments, names, results)
        return Program(feeds, weights, results, portable(hlo))

    def dtype(self, tensor: str) -> str:
        """Returns the name of a tensor's type."""
        return str(self.session.graph.get_tensor_by_name(tensor).dtype.base_dtype.name)

    def weight(self, tensor: str) -> np.ndarray:
        """Returns the values of a constant or variable."""
        return np.asarray(self.session.run(tensor))

    def close(self) -> None:
        """Frees TensorFlow's session."""
        self.session.close()

    def _part(self, results: Sequence[str], fed: Iterable[str]) -> tuple[list[Any], tuple[Argument, ...]]:
        """Returns the nodes that ``results`` take, back to what is fed and to weights, and the weights."""
        ends, weights, seen = set(fed), dict[str, Argument](), dict[str, Any]()
        left = [tensor for tensor in results if tensor not in ends]
        while left:
            tensor = _tensor(left.pop())
            name = tensor.rpartition(":")[0]
            if tensor in ends or tensor in weights or name in seen:
                continue
            node = self.nodes.get(name)
            if node is None:
                raise Refused(f"its graph has no operation '{name}'")
            if self._is_weight(node):
                weights[tensor] = self._argument(tensor)
                continue
            if node.op in ("Placeholder", "PlaceholderV2"):
                raise Refused(f"placeholder '{name}' is needed, and nothing is fed to it")
            seen[name] = node
            left += [one for one in node.input if not one.startswith("^")]  # order matters to side effects only
        return list(seen.values()), tuple(sorted(weights.values()))

    def _is_weight(self, node: Any) -> bool:
        if node.op in VARIABLES:
            return np.dtype(self.dtype(f"{node.name}:0")).kind in ARRAYS
        shape = [dim.size for dim in node.attr["value"].tensor.tensor_shape.dim] if node.op == "Const" else []
        return math.prod(shape) >= LIFTED and self.dtype(f"{node.name}:0") in ("float32", "float64")

    def _argument(self, tensor: str) -> Argument:
        known = self.session.graph.get_tensor_by_name(tensor).shape
        shape = tuple(known.as_list()) if known.is_fully_defined() else self.weight(tensor).shape
        return Argument(tensor, shape, self.dtype(tensor))

    def _lowered(self, definition: Any, arguments: Sequence[Argument], names: dict[str, str], results: Any) -> bytes:
        import tensorflow

        wanted = [tensor for tensor in results if tensor not in names]
        read = {reference for node in definition.node for reference in node.input}

        def program(*values: Any) -> list[Any]:
            given = {f"{names[one.tensor]}:0": value for one, value in zip(arguments, values)}
            used = {name: value for name, value in given.items() if name.removesuffix(":0") in read}
            made = tensorflow.graph_util.import_graph_def(definition, used, wanted, name="") if wanted else []
            own = dict(zip(wanted, made))
            return [own[one] if one in own else tensorflow.identity(given[f"{names[one]}:0"]) for one in results]

        specifications = [tensorflow.TensorSpec(one.shape, one.dtype) for one in arguments]
        tensorflow.config.experimental.enable_tensor_float_32_execution(False)  # products then ask for all of float32
        with quiet_stderr():
            try:
                function = tensorflow.function(program, jit_compile=True, autograph=False)
                lower = function.experimental_get_compiler_ir(*specifications)
                return lower(stage="hlo_serialized", platform_name="CPU")
            except Exception as error:  # TensorFlow's own error types, ValueError
                why = _reason(str(error))
                raise Refused(f"XLA has no form of it: {why}; run it with --engine tensorflow") from error


def leave_gpus() -> None:
    """Keeps TensorFlow off this process's GPUs, whose memory JAX takes; no more can be done where it is on them."""
    tensorflow1("a program for XLA")
    import tensorflow

    with suppress(RuntimeError):
        tensorflow.config.set_visible_devices([], "GPU")


def graph_programs(session: Any) -> GraphPrograms:
    """Returns the programs of a TensorFlow session's graph."""
    definition = session.graph.as_graph_def()
    nodes = {node.name: node for node in definition.node}
    for node in list(nodes.values()):
        node.device = ""
        if "_class" in node.attr:
            del node.attr["_class"]  # wants to lie beside an operation that may be cut off
        if node.op == "MaxPool" and node.attr["padding"].s == b"EXPLICIT":
            nodes |= _padded(node)
    return GraphPrograms(session, nodes, definition.library)


def _padded(node: Any) -> dict[str, Any]:
    """Changes a max-pooling with explicit padding, which XLA's bridge lacks, into one without over an input that is
    padded with minus infinity: the same values. Returns the nodes that it takes, by name."""
    tf = tensorflow1("a program for XLA")
    kind = tf.as_dtype(node.attr["T"].type)
    before = list(node.attr["explicit_paddings"].list.i)
    sizes = tf.make_tensor_proto(np.array(before, np.int32).reshape(-1, 2))
    lowest = tf.make_tensor_proto(np.array(-np.inf, kind.as_numpy_dtype))
    made = [tf.NodeDef(name=f"{SCOPE}/{node.name}/{part}", op=op)
            for part, op in (("sizes", "Const"), ("lowest", "Const"), ("padded", "PadV2"))]  # fmt: skip
    for constant, value in zip(made, (sizes, lowest)):
        constant.attr["dtype"].type = value.dtype
        constant.attr["value"].tensor.CopyFrom(value)
    made[2].input.extend([node.input[0], made[0].name, made[1].name])
    made[2].attr["T"].type = node.attr["T"].type
    made[2].attr["Tpaddings"].type = tf.int32.as_datatype_enum
    node.input[0] = made[2].name
    node.attr["padding"].s = b"VALID"
    del node.attr["explicit_paddings"]
    return {one.name: one for one in made}


def _cut(nodes: Iterable[Any], names: dict[str, str], library: Any) -> Any:
    """Returns a GraphDef of the nodes in which each tensor of ``names`` is read under its new name."""
    tf = tensorflow1("a program for XLA")
    definition = tf.GraphDef(library=library)
    definition.versions.producer = tf.version.GRAPH_DEF_VERSION
    for node in nodes:
        copy = definition.node.add()
        copy.CopyFrom(node)
        del copy.input[:]
        data = [one for one in node.input if not one.startswith("^")]
        copy.input.extend(names.get(_tensor(one), one) for one in data)
    return definition


def _tensor(reference: str) -> str:
    return reference if ":" in reference else f"{reference}:0"


ABSENT = re.compile(r"(\w+) \(No registered '\w+' OpKernel.*?\{\{node ([^}]*)\}\}", re.DOTALL)
"""In TensorFlow's message: an operation that XLA does not have, and the name of one."""

STARTS = re.compile(r"^(Failed getting HLO text: ')?((INVALID_ARGUMENT|UNIMPLEMENTED): )?")
"""What TensorFlow's message begins with, whatever the reason."""


def _reason(text: str) -> str:
    """Returns what TensorFlow's message says of why, without where in TensorFlow it was noticed."""
    if found := ABSENT.search(text):
        return f"it has no operation {found[1]} ('{found[2]}')"
    first, _, rest = STARTS.sub("", text).partition("\n")
    node = re.search(r"\{\{node ([^}]*)\}\}", rest)
    return first[:300] + (f" ('{node[1]}')" if node else "")
