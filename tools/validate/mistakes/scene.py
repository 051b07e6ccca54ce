"""A network in which a mistake may be made: what is known when a layer of a port differs, and what follows of a change.

A mistake is a rewriting of the network. The port's value of the layer came about by feeding true values and fetching
one; the rewritten network is fed the same and asked for the same, plainly in NumPy. Where both agree, the port made
that mistake. Shapes and values are in Caffe's order (N, C, H, W).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from graphs.layer import Layer, listed, told
from graphs.layers.data import Input
from graphs.network import Shapes
from tools.recording import Key, Preprocessing, Values

Change = Callable[[np.ndarray], np.ndarray]
"""What is done to a value on its way."""

INPUTS = ""
"""The name of the step that stands for what is fed; ``Key`` has it in place of a layer."""


class Unknown(Exception):
    """Something can't be computed, because a value or parameter that it takes is not known."""


@dataclass(frozen=True, eq=False)
class Step:
    """A layer at work: its definition, the keys that it reads and makes, its parameters in Caffe's layout (None where
    they are not known).

    ``before`` is done to its first bottom, ``after`` to its first top; ``instead`` computes that top in place of the
    definition, from the bottoms.
    """

    name: str
    layer: Layer
    bottoms: tuple[Key, ...]
    tops: tuple[Key, ...]
    arrays: tuple[np.ndarray, ...] | None = ()
    before: tuple[Change, ...] = ()
    instead: Callable[..., np.ndarray] | None = None
    after: tuple[Change, ...] = ()

    def __str__(self) -> str:
        return f"{self.name} ({self.layer.type})"

    def compute(self, *bottoms: np.ndarray) -> list[np.ndarray]:
        """Returns the tops. Raises Unknown where the step's parameters are needed and not known."""
        values = list(bottoms)
        for change in self.before:
            values[0] = change(values[0])
        if self.instead is not None:
            tops = [self.instead(*values)]
        elif self.arrays is None:
            raise Unknown(f"the parameters of {self}")
        else:
            tops = listed(self.layer.reference(*values, *self.arrays, **told(self.layer, len(self.tops))))
        for change in self.after:
            tops = [change(tops[0]), *tops[1:]]
        return tops * len(self.tops) if len(tops) == 1 else tops

    def having(self, **fields: Any) -> Step:
        """Returns the step with other parameters in its definition."""
        return replace(self, layer=replace(self.layer, **fields))

    def computing(self, function: Callable[..., np.ndarray]) -> Step:
        """Returns the step with another computation."""
        return replace(self, instead=function)

    def holding(self, *arrays: np.ndarray) -> Step:
        """Returns the step with other parameters than its own."""
        return replace(self, arrays=arrays)

    def fed_through(self, change: Change) -> Step:
        """Returns the step with a change of what it reads, made before all that is made already."""
        return replace(self, before=(change, *self.before))

    def followed_by(self, change: Change) -> Step:
        """Returns the step with a change of what it makes."""
        return replace(self, after=(*self.after, change))


@dataclass(frozen=True, eq=False)
class Variant:
    """One mistake at one place. ``mistake`` is its short name; ``explanation`` says in one sentence what the port does
    and how to put it right; ``steps`` are the network's steps as the mistake has them."""

    mistake: str
    explanation: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, eq=False)
class Memory:
    """What one computation has found so far: values, and whether a mistake has a part in them."""

    values: dict[Key, np.ndarray] = field(default_factory=dict)
    touched: dict[Key, bool] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Scene:
    """A value of a port, and what is known around it.

    ``steps`` is layer -> step, in order, the one for the inputs among them; ``truth`` the true values, whole;
    ``target`` the key that was fetched, ``got`` what the port made of it; ``fed`` the keys that were fed the truth (the
    target itself never counts). ``again`` is what a second run on the same gave, where there was one: a graph that
    draws random numbers gives another. All is computed in ``precision``. ``changed`` names the steps that a mistake has
    rewritten. ``has_own`` says that the steps hold the port's parameters, as the network's are not at hand.
    """

    steps: Mapping[str, Step]
    truth: Values
    target: Key
    got: np.ndarray
    fed: frozenset[Key]
    preprocessing: Preprocessing
    again: np.ndarray | None = None
    precision: type = np.float64
    changed: frozenset[str] = frozenset()
    has_own: bool = False

    def with_mistake(self, variant: Variant) -> Scene:
        """Returns the scene as it is where the mistake was made."""
        steps = {**self.steps, **{step.name: step for step in variant.steps}}
        return replace(self, steps=steps, changed=self.changed | {step.name for step in variant.steps})

    def value(self) -> np.ndarray:
        """Returns what the target comes to. Raises Unknown where it can't be computed, ValueError where the network, as
        it was rewritten, does not fit together."""
        return self._made(self.target, Memory()) if self.target[0] else self._input(self.target)

    def bottom(self, step: Step, place: int = 0) -> np.ndarray:
        """Returns what a step reads, before ``step.before``."""
        return self._read(step.bottoms[place], Memory())

    def _input(self, key: Key) -> np.ndarray:
        if key not in self.truth:
            raise Unknown(f"input '{key[1]}'")
        value = np.asarray(self.truth[key], np.float64)
        for change in self.steps[INPUTS].after:
            value = change(value)
        return value.astype(self.precision)

    def _read(self, key: Key, memory: Memory) -> np.ndarray:
        if not key[0]:
            return self._input(key)
        is_own = key in self.fed and key != self.target
        if key in self.truth and (is_own or not self._is_touched(key, memory.touched)):
            return np.asarray(self.truth[key], self.precision)
        return self._made(key, memory)

    def _made(self, key: Key, memory: Memory) -> np.ndarray:
        if key not in memory.values:
            if key[0] not in self.steps:
                raise Unknown(f"the definition of {key[0]}")
            step = self.steps[key[0]]
            tops = step.compute(*(self._read(bottom, memory) for bottom in step.bottoms))
            memory.values.update(zip(step.tops, tops))
        return memory.values[key]

    def _is_touched(self, key: Key, known: dict[Key, bool]) -> bool:
        """Whether a rewritten step takes part in what a key comes to, other than through values that are fed."""
        if key not in known:
            step = self.steps.get(key[0])
            below = () if step is None or not key[0] else step.bottoms
            known[key] = key[0] in self.changed or any(
                self._is_touched(one, known) for one in below if one not in self.fed or not one[0]
            )
        return known[key]

    def suspects(self) -> list[Step]:
        """Returns the steps that may have gone wrong, the target's first: those between it and what was fed, and the
        inputs' own where one of them reads an input."""
        found: dict[str, Step] = {}
        left = [self.target]
        while left:
            key = left.pop(0)
            if key[0] in self.steps and key[0] not in found:
                found[key[0]] = self.steps[key[0]]
                left += [one for one in found[key[0]].bottoms if one not in self.fed or not one[0]]
        return list(found.values())

    def maker(self, key: Key) -> Step | None:
        """Returns the step that makes a value, None for an input or where it is not known."""
        return self.steps.get(key[0]) if key[0] else None

    def readers(self, step: Step) -> Iterator[Step]:
        """Yields the steps that read what a step makes."""
        yield from (one for one in self.steps.values() if set(one.bottoms) & set(step.tops))

    def is_target(self, step: Step) -> bool:
        """Whether the port's value is this very step's first top, so that numbers can be fitted to it."""
        return self.target == (step.tops or (None,))[0] and not step.after


def inputs_step(blobs: tuple[str, ...]) -> Step:
    """Returns the step that stands for what is fed."""
    return Step(INPUTS, Input(), (), tuple((INPUTS, blob) for blob in blobs))


def steps_of(shapes: Shapes, parameters: Sequence[Sequence[np.ndarray] | None] | None = None) -> dict[str, Step]:
    """Returns a network's steps. ``parameters`` has each layer's arrays in Caffe's layout, in the order of ``shapes``,
    as ``Port.arrays`` does; None for a layer, or for all, where they are not known."""
    made: dict[str, Key] = {}
    steps = {
        INPUTS: inputs_step(tuple(top for one in shapes if isinstance(one.node.layer, Input) for top in one.node.tops))
    }
    for place, layer in enumerate(shapes):
        node = layer.node
        if isinstance(node.layer, Input):
            made.update({top: (INPUTS, top) for top in node.tops})
            continue
        bottoms = tuple(made[bottom] for bottom in node.bottoms)
        tops = tuple((node.name, top) for top in node.tops)
        made.update(zip(node.tops, tops))
        known = parameters[place] if parameters is not None and layer.parameters else None
        arrays = () if not layer.parameters else None if known is None else tuple(known)
        steps[node.name] = Step(node.name, node.layer, bottoms, tops, arrays)
    return steps


def scene_of(
    steps: Mapping[str, Step],
    truth: Values,
    target: Key,
    got: np.ndarray,
    fed: frozenset[Key] | None = None,
    preprocessing: Preprocessing | None = None,
    again: np.ndarray | None = None,
) -> Scene:
    """Returns what a diagnosis is made from.

    ``truth`` has the true values, whole, the inputs among them; ``got`` is the port's value of ``target`` where the
    keys ``fed`` were fed the truth: by default the target's bottoms. Values are in Caffe's order, a few pictures
    suffice.
    """
    if fed is None:
        fed = frozenset(steps[target[0]].bottoms if target[0] in steps else ())
    return Scene(steps, truth, target, np.asarray(got), fed, preprocessing or Preprocessing(), again)
