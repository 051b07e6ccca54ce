"""Standalone source of a graph, printed from the very definitions that build it."""

from __future__ import annotations

import json
import keyword
import math
import re
import textwrap
from collections.abc import Sequence
from typing import Any

from graphs.emit import Emitted, emit
from graphs.fillers import initializer
from graphs.layer import Filler, Zeros
from graphs.layers.data import Input
from graphs.names import Names
from graphs.network import Network, Shapes
from graphs.recording import RECORDING_TF, Attribute, Call, Element
from graphs.sharing import declared

WIDTH = 100

_MODULE = '''"""{title} as a TensorFlow 1 style graph, in channels-last layout. Made by caffeport from {made_from}.

    python THIS_FILE WEIGHTS        prints every variable's and output's shape

WEIGHTS is the .npz or the checkpoint that was converted from the same model. From Python:

    with tf.Graph().as_default(), tf.Session() as session:
        tensors = build()
        load(session, WEIGHTS)
        session.run(tensors[{example}], {{tensors[{fed}]: pictures}})
"""

import sys

import numpy as np
import tensorflow.compat.v1 as tf

INPUTS = {inputs}
OUTPUTS = {outputs}


def build():
    """Adds the network to the default graph; returns the tensor of each input and layer by name."""
{body}
    return {{
{returned}
    }}


def load(session, path):
    """Sets all variables from an .npz file (variable name -> array) or a checkpoint."""
    if not tf.global_variables():
        return
    if not path.endswith(".npz"):
        tf.train.Saver().restore(session, path)
        return
    with np.load(path) as arrays:
        for variable in tf.global_variables():
            value = variable.initializer.inputs[1]
            session.run(variable.initializer, {{value: arrays[variable.op.name]}})


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with tf.Graph().as_default(), tf.Session() as session:
        tensors = build()
        load(session, sys.argv[1])
        for variable in tf.global_variables():
            print(f"{{variable.op.name:40}} {{variable.shape}}")
        for name in INPUTS + OUTPUTS:
            print(f"{{name:40}} {{tensors[name].shape}}")
'''


def network_source(network: Network, shapes: Shapes, names: Names, made_from: str) -> str:
    """Returns a Python module that builds the network with ``tf.compat.v1`` alone and loads its weights.

    ``made_from`` names the files it was converted from.
    """
    specs = declared(shapes, names.variables)
    variables: dict[str, Any] = {}

    def parameter(name: str) -> Any:
        if name not in variables:
            spec = specs[name]
            first = initializer(RECORDING_TF, spec) if spec.filler not in (Filler(), Zeros()) else None
            variables[name] = RECORDING_TF.get_variable(name, list(spec.layout.tensorflow), initializer=first)
        return variables[name]

    emitted = emit(network, shapes, names, RECORDING_TF, parameter)
    lines, returned = _Printer(emitted).body(emitted, names)
    inputs = [name for one, planned in zip(emitted, names.tops) for name in planned if _is_fed(one)]
    by_blob = {
        top: name for one, planned in zip(emitted, names.tops) for top, name in zip(one.layer.node.tops, planned)
    }
    outputs = [by_blob[blob] for blob in network.outputs]
    return _MODULE.format(
        title=_plain(network.name) or "A network",
        made_from=_plain(made_from) or "a definition",
        inputs=_quoted(inputs),
        outputs=_quoted(outputs),
        example=_quoted(outputs[0] if outputs else ""),
        fed=_quoted(inputs[0] if inputs else ""),
        body="\n".join(lines),
        returned="\n".join(f"        {_quoted(name)}: {variable}," for name, variable in returned),
    )


def _quoted(value: str | list[str]) -> str:
    """Returns strings as Python source, in double quotes."""
    return json.dumps(value, ensure_ascii=False)


def _plain(text: str) -> str:
    """Returns text that can stand in a docstring."""
    return re.sub(r'["\\{}]', "'", " ".join(text.split()))


def _is_fed(one: Emitted) -> bool:
    return isinstance(one.layer.node.layer, Input)


class _Printer:
    """Prints recorded calls: each layer one statement, and a statement for whatever is used twice."""

    def __init__(self, emitted: list[Emitted]) -> None:
        self.variables: dict[int, str] = {}
        self.taken = {"tf", "np", "sys", "build", "load", "INPUTS", "OUTPUTS"}
        self.uses: dict[int, int] = {}
        for one in emitted:
            for top in one.tops:
                self._count(top)
        self.lines: list[str] = []

    def body(self, emitted: list[Emitted], names: Names) -> tuple[list[str], list[tuple[str, str]]]:
        """Returns the statements, indented, and (tensor name, Python variable) for every layer's top."""
        returned = []
        for one, planned in zip(emitted, names.tops):
            for top, name in zip(one.tops, planned):
                self._assign(top, name)
                returned.append((name, self.variables[id(top)]))
        return self.lines, returned

    def _count(self, value: Any) -> None:
        if isinstance(value, Element):
            value = value.of
        elif isinstance(value, (list, tuple)):
            for one in value:
                self._count(one)
        if not isinstance(value, Call):
            return
        self.uses[id(value)] = self.uses.get(id(value), 0) + 1
        if self.uses[id(value)] == 1:
            for one in (*value.arguments, *value.keywords.values()):
                self._count(one)

    def _assign(self, value: Any, name: str) -> None:
        if id(value) in self.variables:
            return
        self._assign_shared(value, name, is_top=True)
        variable = self._fresh(name)
        self.lines += self._statement(f"{variable} = ", value)
        self.variables[id(value)] = variable

    def _assign_shared(self, value: Any, name: str, is_top: bool = False) -> None:
        """Writes statements for those parts of ``value`` that are used more than once, innermost first."""
        if isinstance(value, (list, tuple)):
            for one in value:
                self._assign_shared(one, name)
            return
        call = value.of if isinstance(value, Element) else value
        if not isinstance(call, Call) or id(call) in self.variables:
            return
        for one in (*call.arguments, *call.keywords.values()):
            self._assign_shared(one, name)
        if not is_top and self.uses[id(call)] > 1:
            own = call.arguments[0] if call.function == "tf.get_variable" else f"{name}_{call.function.split('.')[-1]}"
            variable = self._fresh(own)
            self.lines += self._statement(f"{variable} = ", call)
            self.variables[id(call)] = variable

    def _fresh(self, name: str) -> str:
        base = re.sub(r"\W", "_", name, flags=re.ASCII)
        if not base.isidentifier() or keyword.iskeyword(base):
            base = "_" + base
        variable, count = base, 1
        while variable in self.taken:
            count += 1
            variable = f"{base}_{count}"
        self.taken.add(variable)
        return variable

    def _statement(self, start: str, value: Any) -> list[str]:
        text = self._print(value, 4, len(start))
        return (" " * 4 + start + text).split("\n")

    def _print(self, value: Any, indent: int, used: int = 0) -> str:
        """Returns ``value`` as source; on one line where it fits in WIDTH, else an argument a line."""
        flat = self._flat(value)
        if indent + used + len(flat) < WIDTH or id(value) in self.variables:
            return flat
        inner = indent + 4
        if isinstance(value, (list, tuple)):
            return self._list(value, indent)
        if not isinstance(value, Call):
            return flat
        arguments = [self._print(one, inner) for one in value.arguments]
        arguments += [f"{name}={self._print(one, inner, len(name) + 1)}" for name, one in value.keywords.items()]
        joined = "".join(f"\n{' ' * inner}{argument}," for argument in arguments)
        return f"{value.function}({joined}\n{' ' * indent})"

    def _list(self, value: Sequence[Any], indent: int) -> str:
        """Returns a list that is too long for a line: its numbers in filled lines, anything else one a line."""
        inner = " " * (indent + 4)
        items = [self._print(one, indent + 4) for one in value]
        if all(isinstance(one, (int, float)) for one in value):
            body = textwrap.fill(", ".join(items), WIDTH, initial_indent=inner, subsequent_indent=inner)
            return f"[\n{body},\n{' ' * indent}]"
        return "[" + "".join(f"\n{inner}{item}," for item in items) + f"\n{' ' * indent}]"

    def _flat(self, value: Any) -> str:
        if id(value) in self.variables:
            return self.variables[id(value)]
        if isinstance(value, Element):
            return f"{self._flat(value.of)}[{value.index}]"
        if isinstance(value, Call):
            arguments = [self._flat(one) for one in value.arguments]
            arguments += [f"{name}={self._flat(one)}" for name, one in value.keywords.items()]
            return f"{value.function}({', '.join(arguments)})"
        if isinstance(value, (list, tuple)):
            return f"[{', '.join(map(self._flat, value))}]"
        if isinstance(value, Attribute):
            return value.name
        if isinstance(value, float) and not math.isfinite(value):
            return f'float("{value}")'
        return _quoted(value) if isinstance(value, str) else repr(value)
