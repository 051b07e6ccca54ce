"""Which of a file's layers is which of the network's, where they do not bear the same names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from converter.roles import COUNTERS, Key, meaning
from graphs.layer import ParameterSpec
from weights.stored import ArrayLike, Stored

Groups = dict[str, dict[Key, ArrayLike]]
"""A file's layer -> its arrays by position or by name."""

_JOINTS = "_.-"
"""What stands between layer and parameter where both are one name: ``conv1_1_W``, ``conv1.weight``."""


@dataclass(frozen=True)
class Grouped:
    """A file's arrays by layer, and why some can't be told, if any; ``numbered`` are layers whose arrays are called by
    numbers in a format that does not say what these mean."""

    groups: Groups
    numbered: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def grouped(stored: Stored, declared: Mapping[str, Sequence[ParameterSpec]]) -> Grouped:
    """Returns a file's arrays by layer, names that join layer and parameter taken apart; ``declared`` has the network's
    layers with their parameters."""
    if stored.is_caffes:
        return Grouped({name: dict(held) for name, held in stored.layers.items()})
    groups: Groups = {}
    problems: list[str] = []
    for name, held in stored.layers.items():
        is_joined = list(held) == [0] and len(declared.get(name, ())) != 1
        apart = list(_apart(name, declared)) if is_joined else []
        if len(apart) > 1:
            may_be = " or ".join(f"'{part}' of layer '{layer}'" for layer, part in apart)
            problems.append(f"array '{name}' may be {may_be}; name it LAYER/PARAMETER")
            continue
        layer, arrays = (apart[0][0], {apart[0][1]: held[0]}) if apart else (name, dict(held))
        if is_joined and not apart and meaning(name.rpartition(".")[2]) and "." in name:
            layer, _, part = name.rpartition(".")
            arrays = {part: held[0]}
        arrays = {_without(layer, key): array for key, array in arrays.items() if key not in COUNTERS}
        into = groups.setdefault(layer, {})
        problems += [f"layer '{layer}': has two arrays '{part}' there" for part in arrays if part in into]
        into.update(arrays)
    numbered = []
    for name, arrays in groups.items():
        if any(isinstance(key, str) for key in arrays) and all(str(key).isdecimal() for key in arrays):
            numbered.append(name)
            groups[name] = {int(key): array for key, array in sorted(arrays.items(), key=lambda one: int(one[0]))}
    return Grouped(groups, tuple(numbered), tuple(problems))


def _without(layer: str, key: Key) -> Key:
    """Returns an array's name without its layer's, which some repeat in it: ``conv1/conv1_W``."""
    last = layer.rpartition("/")[2]
    rest = str(key).removeprefix(last)
    return rest[1:] if rest != key and rest[:1] in tuple(_JOINTS) and meaning(rest[1:]) else key


def _apart(name: str, declared: Mapping[str, Sequence[ParameterSpec]]) -> Iterator[tuple[str, str]]:
    """Yields each (layer, parameter) that a name may join."""
    for index, character in enumerate(name):
        specs = declared.get(name[:index], ()) if character in _JOINTS else ()
        part = name[index + 1 :]
        is_position = part.isdecimal() and int(part) < len(specs)
        if specs and (is_position or meaning(part) or part in {spec.name for spec in specs}):
            yield name[:index], part


@dataclass(frozen=True)
class Placed:
    """``groups`` is network's layer -> file's, where their names differ; ``problems`` say what can't be told."""

    groups: dict[str, str]
    problems: dict[str, str]


def placed(layers: Collection[str], free: Collection[str]) -> Placed:
    """Returns which of the file's layers ``free`` is which of the network's ``layers``, neither having a namesake.

    Names agree but for case and for what stands between words, as others write ``inception_3a_1x1`` for
    ``inception_3a/1x1``, or the file's has a scope before it. Of several layers a file's goes to the one of the longest
    name; where it is still one of several, nobody knows.
    """
    candidates: dict[str, list[str]] = {}
    by_plain: dict[str, list[str]] = {}
    for layer in layers:
        by_plain.setdefault(_plain(layer), []).append(layer)
    for group in free:
        for ending in map(_plain, _endings(group)):
            if ending in by_plain:
                for layer in by_plain[ending]:
                    candidates.setdefault(layer, []).append(group)
                break
    claims = Counter(group for groups in candidates.values() for group in groups)
    sure = {layer: groups[0] for layer, groups in candidates.items() if len(groups) == 1 and claims[groups[0]] == 1}
    return Placed(
        sure,
        {
            layer: f"may be any of {', '.join(repr(group) for group in groups[:8])} there"
            if len(groups) > 1
            else f"may be {groups[0]!r} there, and so may another layer"
            for layer, groups in candidates.items()
            if layer not in sure
        },
    )


def _plain(name: str) -> str:
    return re.sub(r"[^\w]", "_", name).lower()


def _endings(name: str) -> Iterator[str]:
    """Yields a name, then what is left of it without its first scopes: ``a/b.c``, ``b.c``, ``c``."""
    yield name
    for index, character in enumerate(name):
        if character in "/.":
            yield name[index + 1 :]
