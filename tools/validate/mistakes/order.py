"""Layers left out, applied twice, or in each other's place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from graphs.layers.data import Input
from graphs.layers.elementwise import Dropout, ReLU
from graphs.layers.lrn import LRN
from graphs.layers.pooling import Pooling
from graphs.layers.softmax import Softmax
from tools.recording import Key
from tools.validate.mistakes.scene import Change, Scene, Step, Variant

NAMED_ELSEWHERE = (Input, ReLU, Softmax, Dropout)
"""Layers whose own mistakes say already that they were left out, or doubled."""


def left_out(scene: Scene, step: Step) -> Iterator[Variant]:
    """Yields a layer that passes its bottom on."""
    if len(step.bottoms) == 1 and len(step.tops) == 1 and not isinstance(step.layer, NAMED_ELSEWHERE):
        yield Variant(
            "layer missing", f"the port has no {step}: it passes its input on; add it", (step.computing(lambda x: x),)
        )  # fmt: skip


def doubled(scene: Scene, step: Step) -> Iterator[Variant]:
    """Yields a layer applied to its own top."""
    if len(step.bottoms) != 1 or len(step.tops) != 1 or isinstance(step.layer, (*NAMED_ELSEWHERE, Pooling)):
        return
    plain = replace(step, before=(), after=(), instead=None)
    yield Variant(
        "layer doubled",
        f"the port applies {step} twice; once is right",
        (step.followed_by(lambda x: plain.compute(x)[0]),),
    )


def swapped(scene: Scene, step: Step) -> Iterator[Variant]:
    """Yields a layer and the one before or after it in each other's place, whichever of the two tensors was matched."""
    makers = [maker for maker in map(scene.maker, step.bottoms[:1]) if maker is not None]
    for first, second in [(maker, step) for maker in makers] + [(step, one) for one in scene.readers(step)]:
        if not _is_plain(first) or not _is_plain(second) or first.layer.type == second.layer.type:
            continue
        explanation = (
            f"the port has {second} before {first}; Caffe has {first.name} first: swap them"
        )  # fmt: skip
        name = _named(first, second)
        source = first.bottoms
        # By name: each tensor is its own layer's, reading the other way round.
        rewired = [_reading(one, second.tops[0], first.tops[0]) for one in scene.readers(second)]
        yield Variant(
            name,
            explanation,
            (replace(second, bottoms=source), replace(first, bottoms=second.tops[:1]), *rewired),
        )
        # By place: the second key stands for what comes last, the first for what comes first.
        yield Variant(
            name,
            explanation,
            (
                replace(second, bottoms=source).followed_by(_then(first)),
                first.computing(_then(second)),
            ),
        )


def _reading(step: Step, old: Key, new: Key) -> Step:
    return replace(step, bottoms=tuple(new if one == old else one for one in step.bottoms))


def _then(step: Step) -> Change:
    return lambda x: step.compute(x)[0]


def _is_plain(step: Step) -> bool:
    return len(step.bottoms) == 1 and len(step.tops) == 1 and not isinstance(step.layer, Input)


def _named(first: Step, second: Step) -> str:
    kinds = (type(first.layer), type(second.layer))
    if kinds in ((LRN, Pooling), (Pooling, LRN)):
        return "norm and pool swapped"
    return f"{first.layer.type} and {second.layer.type} swapped"


def passed_over(scene: Scene, step: Step) -> Iterator[Variant]:
    """Yields a layer that reads what the layer before it reads."""
    maker = scene.maker(step.bottoms[0]) if step.bottoms else None
    if maker is None or len(maker.bottoms) != 1:
        return
    if np.shape(scene.truth.get(maker.bottoms[0], 0)) != np.shape(scene.truth.get(step.bottoms[0], 1)):
        return
    yield Variant(
        "ReLU missing" if isinstance(maker.layer, ReLU) else "layer missing",
        f"the port's {step.name} reads what comes before {maker}; it must read what {maker.name} makes",
        (replace(step, bottoms=(*maker.bottoms, *step.bottoms[1:])),),
    )
