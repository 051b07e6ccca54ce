"""What a layer definition is, and the registry of all of them.

A definition is a frozen dataclass with Caffe's parameter names and defaults and, in one file: its shape rule, its
parameters, its NumPy reference and its TensorFlow emission. Adding a layer touches that file and its test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np

from weights import Layout, Shape

# A tensor of whatever ``tf`` an emission is given: TensorFlow's own, or one that writes source.
Tensor = Any


@dataclass(frozen=True)
class Filler:
    """Caffe's FillerParameter: how training draws a parameter's first values."""

    type: str = "constant"
    value: float = 0.0
    min: float = 0.0
    max: float = 1.0
    mean: float = 0.0
    std: float = 1.0
    sparse: int = -1
    variance_norm: str = "FAN_IN"


@dataclass(frozen=True)
class Zeros(Filler):
    """Zeros that a definition asks for; ``Filler()`` is what Caffe takes where it says nothing."""


@dataclass(frozen=True)
class ParameterSpec:
    """A parameter that a layer declares: the last part of its variable's name, its layout, its filler; ``otherwise`` is
    its value in files that name a layer's arrays and have no such one, None where they must have it."""

    name: str
    layout: Layout
    filler: Filler = Filler()
    otherwise: float | None = None


@dataclass(frozen=True)
class Site:
    """Where an emission takes place.

    ``names`` has the name that each top's last operation must bear, None where TensorFlow may choose. ``bottoms`` and
    ``tops`` are shapes in Caffe's layout; the first axis is -1 where the batch is free. ``phase`` is TEST or TRAIN.
    ``seed`` is a tensor of two whole numbers that alone decides what TRAIN draws, None where TensorFlow may draw as it
    likes.
    """

    names: tuple[str | None, ...]
    bottoms: tuple[Shape, ...]
    tops: tuple[Shape, ...]
    phase: str = "TEST"
    seed: Tensor | None = None

    @property
    def name(self) -> str | None:
        """The name for the last operation of a layer with one top."""
        return self.names[0]

    @property
    def bottom(self) -> Shape:
        """The first bottom's shape."""
        return self.bottoms[0]

    @property
    def top(self) -> Shape:
        """The first top's shape."""
        return self.tops[0]


@dataclass(frozen=True)
class Layer:
    """Base of the layer definitions; what it says here holds for a layer that keeps its bottom's shape.

    A method that speaks of tops returns one value where the layer has one top, and a list where it has several. A
    shape rule and a reference return all tops that there may be, also where the definition takes the first ones only.
    Shapes are Caffe's (N, C, H, W), without exception.
    """

    type: ClassVar[str]
    messages: ClassVar[tuple[str, ...]] = ()
    """The fields of Caffe's LayerParameter that hold the parameters."""
    without_effect: ClassVar[frozenset[str]] = frozenset()
    """Parameters that choose how Caffe computes, never what: ``engine`` and the like."""
    unread: ClassVar[frozenset[str]] = frozenset()
    """Fields of its messages that are other layers' parameters: Caffe's layer does not read them, which is noted."""
    bottoms: ClassVar[tuple[int, int]] = (1, 1)
    """Fewest and most bottoms."""
    tops: ClassVar[tuple[int, int]] = (1, 1)
    """Fewest and most tops."""
    note: ClassVar[str] = ""
    """What the table of layers says beside the type."""
    fixes_batch: ClassVar[bool] = False
    """Whether the graph is made for the very first axis that the definition gives, though others would fit."""
    judges: ClassVar[bool] = False
    """Whether it measures its first bottom (losses, Accuracy), which so remains an output of the network."""
    counts_tops: ClassVar[bool] = False
    """Whether ``top_shapes`` and ``reference`` are told the number of tops, as ``tops``."""
    knows_phase: ClassVar[bool] = False
    """Whether ``top_shapes`` and ``reference`` are told the phase, as ``phase``."""
    is_view: ClassVar[bool] = False
    """Whether its tops are its bottom's own memory in Caffe, as those of Flatten and Split; Concat and Slice are views
    where they have one bottom and one top."""
    selects: ClassVar[bool] = False
    """Whether values decide how many items its tops have, so that only a graph with a free batch can hold it."""
    stepwise: ClassVar[frozenset[str]] = frozenset()
    """Parameters that Caffe's layer reads at every step of a sequence; in TRAIN from copies of its own after the first,
    which are not what it shares."""
    automatic_top: ClassVar[bool] = False
    """Whether Caffe adds a top where the definition names none, as for losses."""
    draws: ClassVar[bool] = False
    """Whether it draws random numbers in TRAIN."""
    sized_by_values: ClassVar[tuple[int, ...]] = ()
    """Axes of the top whose size only the bottoms' values decide; its shape has -1 there, and no layer can read it."""

    def top_shapes(self, *bottoms: Shape) -> Shape | list[Shape]:
        """Returns the tops' shapes. Raises ValueError with the reason where Caffe would refuse the bottoms."""
        return bottoms[0]

    def parameters(self, *bottoms: Shape) -> tuple[ParameterSpec, ...]:
        """Returns the layer's parameters in the order of Caffe's blobs."""
        return ()

    def works_in_place(self, *bottoms: Shape) -> bool:
        """Returns whether Caffe's layer may write its first top over its first bottom: not where it reads a value
        again after writing there. ``bottoms`` are shapes, none where they are not known."""
        return True

    def hides(self, bottoms: int) -> bool:
        """Returns whether TensorFlow's optimizer may compute it, with that many bottoms, in one with what made them,
        and lose their tensors even where they are fetched: the patterns of its remapper that do not look."""
        return False

    def notes(self, *bottoms: Shape) -> Iterator[str]:
        """Yields what a user should know though it changes no number: fields that Caffe ignores here."""
        yield from ()

    def multiply_adds(self, bottoms: tuple[Shape, ...], tops: tuple[Shape, ...]) -> int:
        """Returns the multiplications with a weight (each with its addition) that one pass takes."""
        return 0

    def reference(self, *arrays: np.ndarray) -> np.ndarray | list[np.ndarray]:
        """Returns the tops, computed plainly in the arrays' own float type. ``arrays``: bottoms, then parameters."""
        raise NotImplementedError

    def emit(self, tf: Any, site: Site, *tensors: Tensor) -> Tensor | list[Tensor]:
        """Returns the tops, made of ``tf``'s operations. ``tensors``: bottoms, then parameters, in TensorFlow's
        layout (channels last from rank 4 on)."""
        raise NotImplementedError

    def passed(self, tf: Any, site: Site, *tensors: Tensor) -> list[Tensor]:
        """Returns the values that a forward pass leaves in the layer's parameters, in their order, where it changes
        them by itself, as moving averages; [] where it does not. ``tensors`` are those of ``emit``."""
        return []


L = TypeVar("L", bound=Layer)

LAYERS: dict[str, type[Layer]] = {}
"""Caffe's type name -> definition."""


def layer(type_name: str, *messages: str) -> Callable[[type[L]], type[L]]:
    """Returns the class decorator that registers a definition, a frozen dataclass.

    ``messages`` are the fields of Caffe's LayerParameter with its parameters (``lrn_param``).
    """

    def register(definition: type[L]) -> type[L]:
        if type_name in LAYERS:
            raise ValueError(f"layer type {type_name} is registered twice")
        definition.type = type_name
        definition.messages = messages
        LAYERS[type_name] = definition
        return definition

    return register


MANY = 1 << 30
"""No limit on bottoms or tops."""


def canonical_axis(axis: int, shape: Shape) -> int:
    """Returns ``axis`` counted from the front. Raises ValueError where ``shape`` has no such axis."""
    if not -len(shape) <= axis < len(shape):
        raise ValueError(f"axis {axis} is not one of a bottom of shape {spell(shape)}")
    return axis % len(shape)


def spell(shape: Shape) -> str:
    """Returns ``shape`` as people write it: ``2x3x227x227``."""
    return "x".join("N" if size < 0 else str(size) for size in shape) or "scalar"


def told(definition: Layer, tops: int, phase: str = "TEST") -> dict[str, Any]:
    """Returns what ``top_shapes`` and ``reference`` are given beside their arguments."""
    return {
        **({"tops": tops} if definition.counts_tops else {}),
        **({"phase": phase} if definition.knows_phase else {}),
    }


def listed(value: Any) -> list[Any]:
    """Returns a layer's tops as a list, also where there is one."""
    return value if isinstance(value, list) else [value]
