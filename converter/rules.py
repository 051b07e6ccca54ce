"""Which layers run: Caffe's ``include`` and ``exclude`` rules."""

from __future__ import annotations

from dataclasses import dataclass

from converter.caffe_pb2 import LayerParameter, NetStateRule, Phase
from weights import Refused


@dataclass(frozen=True)
class State:
    """Caffe's NetState: what the rules are held against. ``phase`` is TEST or TRAIN."""

    phase: str = "TEST"
    level: int = 0
    stages: tuple[str, ...] = ()


def runs(layer: LayerParameter, state: State) -> bool:
    """Returns whether a layer runs in ``state`` (Caffe's FilterNet). Raises Refused where it has both kinds."""
    if layer.include and layer.exclude:
        raise Refused(f"layer '{layer.name}': has both include and exclude rules; Caffe accepts one kind")
    if layer.include:
        return any(_holds(rule, state) for rule in layer.include)
    return not any(_holds(rule, state) for rule in layer.exclude)


def _holds(rule: NetStateRule, state: State) -> bool:
    if rule.HasField("phase") and Phase.Name(rule.phase) != state.phase:
        return False
    if rule.HasField("min_level") and state.level < rule.min_level:
        return False
    if rule.HasField("max_level") and state.level > rule.max_level:
        return False
    return set(rule.stage) <= set(state.stages) and not set(rule.not_stage) & set(state.stages)
