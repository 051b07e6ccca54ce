"""A ``tf`` that computes nothing: its calls are values that can be printed as source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class Call:
    """``function(*arguments, **keywords)``, not run."""

    function: str
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Element:
    """One element of a call's result."""

    of: Call
    index: int


SEVERAL = {"tf.math.top_k": 2, "tf.nn.max_pool_with_argmax": 2, "tf.nn.moments": 2}
"""Functions whose result is so many tensors. That of ``tf.split`` is as many as it is told to make."""


@dataclass(frozen=True)
class Attribute:
    """``tf.nn.relu``, or ``tf.float32``: a name that can be called."""

    name: str

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Attribute(f"{self.name}.{name}")

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        call = Call(self.name, arguments, {name: value for name, value in keywords.items() if value is not None})
        count = SEVERAL.get(self.name)
        if self.name == "tf.split":
            count = arguments[1] if isinstance(arguments[1], int) else len(arguments[1])
        return call if count is None else [Element(call, index) for index in range(count)]


RECORDING_TF = Attribute("tf")
