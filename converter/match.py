"""Which of a file's arrays is which of the network's parameters: by meaning, never by a chance of order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np

from converter.fused_batch_norm import Unit, is_within, stands_for, units
from converter.layer_names import Groups, grouped, placed
from converter.roles import Fits, Key, assign, meaning
from graphs.layer import ParameterSpec, spell
from graphs.names import Names, allowed
from graphs.network import Inferred, Shapes
from weights.stored import ArrayLike, Stored

Place = tuple[str, Key]
"""A file's layer, and its array's position or name."""


@dataclass(frozen=True)
class Held:
    """A parameter and the array that the file has for it."""

    layer: Inferred
    variable: str
    spec: ParameterSpec
    array: ArrayLike


@dataclass(frozen=True)
class Matched:
    """The arrays of a network's parameters, in its order; what the user should know of how they were found; what could
    not be told, a line for each layer; and the file's layers that none of the network's is."""

    held: tuple[Held, ...]
    notes: tuple[str, ...]
    problems: tuple[str, ...]
    left: tuple[str, ...]


def match(shapes: Shapes, names: Names, stored: Stored, fits: Fits, skip: Collection[str] = ()) -> Matched:
    """Returns the array of every parameter of every layer, but those in ``skip``.

    A file's layers are found by their names, else by this project's own for the network's variables, else by names that
    leave no doubt; a layer's arrays by ``assign``. A batch normalization that the file has in one is told apart into
    Caffe's BatchNorm and Scale. A parameter that an earlier layer shares need not be stored again.
    """
    rows = [
        _Row(layer, variables)
        for layer, variables in zip(shapes, names.variables)
        if layer.parameters and layer.node.name not in skip
    ]
    scopes = {_place(variable)[0] for variables in names.variables for variable in variables}
    matching = _Matching(rows, {layer.node.name for layer in shapes}, scopes, stored, fits)
    problems, notes = _without_parameters(shapes, stored)
    matching.problems += problems
    matching.notes += notes
    return matching.matched(units(shapes))


def _without_parameters(shapes: Shapes, stored: Stored) -> tuple[list[str], list[str]]:
    """Returns a problem for each layer that has no parameters while the file has weights of it, as where ReLU stands
    for PReLU, and a note on what may as well be any constant, as frozen graphs have them."""
    problems, others = [], []
    for layer in shapes:
        held = {} if layer.parameters else stored.layers.get(layer.node.name, {})
        known = [array for key, array in held.items() if stored.is_caffes or (meaning(key) and array.shape)]
        if known:
            found = " and ".join(spell(tuple(array.shape)) for array in known)
            problems.append(f"{layer.node}: has {len(known)} blobs there ({found}); it has no parameters")
        elif held:
            others.append(f"'{layer.node.name}' ({', '.join(map(str, held))})")
    shown = ", ".join(others[:8]) + (" ..." if len(others) > 8 else "")
    return problems, [f"arrays of layers that have no parameters are left out: {shown}"] if others else []


@dataclass
class _Row:
    """A layer on its way to its arrays: ``places`` has where each parameter's lies, None where nobody knows yet."""

    layer: Inferred
    variables: tuple[str, ...]
    group: str | None = None
    places: list[Place | None] = field(default_factory=list)
    problem: str = ""

    @property
    def name(self) -> str:
        return self.layer.node.name

    @property
    def groups(self) -> list[str]:
        """The file's layers that have, or should have, its arrays."""
        found = [self.group, *(place[0] for place in self.places if place is not None)]
        return list(dict.fromkeys(name for name in found if name is not None))


class _Matching:
    """Fills in rows, step by step."""

    def __init__(self, rows: list[_Row], layers: set[str], scopes: set[str], stored: Stored, fits: Fits) -> None:
        self.rows, self.layers, self.scopes, self.stored, self.fits = rows, layers, scopes, stored, fits
        self.by_name = {row.name: row for row in rows}
        found = grouped(stored, {row.name: row.layer.parameters for row in rows})
        self.groups: Groups = found.groups
        self.problems = list(found.problems)
        self.notes: list[str] = list(stored.notes)
        self.used: dict[Place, str] = {}
        self.owners: dict[str, str] = {}
        for row in rows:
            for variable in row.variables:
                self.owners.setdefault(variable, row.name)
        self.numbered = found.numbered

    def matched(self, units: Collection[Unit]) -> Matched:
        self._by_plan()
        self._place()
        for row in self.rows:
            if row.group is not None and not row.places:
                self._assign(row)
        for row in self.rows:
            row.places = row.places or [None] * len(row.variables)
        for unit in units:
            self._unite(unit)
        held = self._held()
        for row in self.rows:
            if row.problem:
                self.problems.append(f"{row.layer.node}: {row.problem}")
        known = {*self.layers, *self.scopes, *(place[0] for place in self.used)}
        left = [group for group in self.groups if group not in known]
        if left and any("has no weights there" in problem for problem in self.problems):
            self.problems.append(self._besides(left))
        return Matched(tuple(held), tuple(self.notes), tuple(self.problems), tuple(left))

    def _by_plan(self) -> None:
        """Finds layers whose variables this project named, also where it had to tell names apart by a number."""
        planned: set[Place] = {_place(variable) for row in self.rows for variable in row.variables}
        for row in self.rows:
            own = [_place(variable) for variable in row.variables if self.owners[variable] == row.name]
            namesakes = {(row.name, key) for key in self.stored.layers.get(row.name, ())}
            if own and namesakes <= planned and all(self._stored(place) is not None for place in own):
                row.group = own[0][0]
                row.places = [_place(v) if self.owners[v] == row.name else None for v in row.variables]
                self._use(row)
        scopes = Counter(row.group for row in self.rows if row.places)
        for scope in (scope for scope, count in scopes.items() if count > 1):
            twins = " and ".join(f"'{row.name}'" for row in self.rows if row.places and row.group == scope)
            self.notes.append(f"{twins} are all '{scope}' there, told apart as this project numbers them in that order")

    def _stored(self, place: Place) -> ArrayLike | None:
        layer, key = place
        known = self.groups.get(layer, {}).get(key)
        return known if known is not None else self.stored.layers.get(layer, {}).get(key)

    def _place(self) -> None:
        left = [row for row in self.rows if not row.places]
        for row in left:
            scopes = [_place(v)[0] for v in row.variables if self.owners[v] == row.name]
            known = row.name if row.name in self.groups else None
            if not self.stored.is_caffes:  # a variable's scope may have a name of its own
                others = [s for s in scopes if s in self.groups and s not in self.layers and s != allowed(row.name)]
                known = known or next(iter(others), None)
            row.group = known
        if self.stored.is_caffes:
            return
        claimed = {row.group for row in self.rows}
        lost = [row for row in left if row.group is None and any(self.owners[v] == row.name for v in row.variables)]
        free = [name for name in self.groups if name not in self.layers and name not in claimed]
        found = placed([row.name for row in lost], free)
        for row in lost:
            row.group, row.problem = found.groups.get(row.name), found.problems.get(row.name, "")
        if found.groups:
            shown = ", ".join(f"'{group}' as '{name}'" for name, group in list(found.groups.items())[:8])
            more = " ..." if len(found.groups) > 8 else ""
            self.notes.append(f"layers are taken by names that differ, since no other can be meant: {shown}{more}")

    def _assign(self, row: _Row) -> None:
        assert row.group is not None
        assigned = assign(row.layer.parameters, self.groups[row.group], self.fits)
        row.places = [None if key is None else (row.group, key) for key in assigned.keys]
        row.problem = assigned.problem and f"{assigned.problem}; {self._listed(row)}"
        if assigned.by_shape:
            told = ", ".join(
                f"'{key}' as its {spec.name}"
                for spec, key in zip(row.layer.parameters, assigned.keys)
                if key in assigned.by_shape
            )
            self.notes.append(f"{row.layer.node}: only its shape tells {told}")
        self._use(row)

    def _use(self, row: _Row) -> None:
        for place in row.places:
            if place is not None and self.used.setdefault(place, row.name) != row.name:
                row.problem = f"'{place[1]}' of '{place[0]}' there is taken by layer '{self.used[place]}' as well"

    def _unite(self, unit: Unit) -> None:
        """Takes what is missing of BatchNorm and Scale from where the file has all of a batch normalization."""
        around = [self.by_name[name] for name in (unit.batch_norm, unit.scale, unit.before) if name in self.by_name]
        claimed = {row.group for row in self.rows}
        bases = {row.group or row.name for row in around}
        groups = {row.group for row in around if row.group}
        groups |= {name for name in self.groups if name not in self.layers | claimed and is_within(name, bases)}
        before = self.by_name[unit.before].group if unit.before in self.by_name else None
        taken = []
        for row in around:
            for index, (variable, spec) in enumerate(zip(row.variables, row.layer.parameters)):
                is_open = row.places[index] is None and not row.problem and self.owners[variable] == row.name
                if row.name == unit.before or not is_open:
                    continue
                found = [one for one in self._left(groups) if stands_for(one[1], spec, is_before=one[0] == before)]
                if len(found) > 1:
                    row.problem = f"{_spelled(found)} there may both be its {spec.name}"
                elif found:
                    row.places[index] = found[0]
                    self.used[found[0]] = row.name
                    taken.append(f"{spec.name} of '{row.name}' from {_spelled(found)}")
        if taken:
            self.notes.append(f"a batch normalization that the file has in one is told apart: {', '.join(taken)}")

    def _left(self, groups: Collection[str]) -> list[Place]:
        return [(one, key) for one in sorted(groups) for key in self.groups.get(one, ()) if (one, key) not in self.used]

    def _held(self) -> list[Held]:
        """Returns each parameter's array; what is missing is an owner's, or the definition's own, or a problem."""
        given: set[str] = set()
        told: set[str] = set()
        defaults: dict[str, list[str]] = {}
        held: list[Held] = []
        for row in self.rows:
            missing, own = [], []
            for variable, spec, place in zip(row.variables, row.layer.parameters, row.places):
                array = None if place is None else self._stored(place)
                if array is None and variable not in given:
                    if spec.otherwise is None or not any(place and isinstance(place[1], str) for place in row.places):
                        missing.append(spec)
                        continue
                    array = np.full(spec.layout.caffe, spec.otherwise, np.float32)
                    defaults.setdefault(f"{spec.name} {spec.otherwise:g}", []).append(f"'{row.name}'")
                if array is not None:
                    given.add(variable)
                    own.append(Held(row.layer, variable, spec, array))
            left = self._left(set(row.groups) - told)
            told.update(row.groups)
            if not row.problem and (missing or left):
                row.problem = self._misfit(row, missing, left)
            held += [] if row.problem else own
        for value, layers in defaults.items():
            shown = ", ".join(layers[:8]) + (" ..." if len(layers) > 8 else "")
            self.notes.append(f"{value} is assumed, where arrays have names and none has this one: {shown}")
        placed_groups = {row.group for row in self.rows}
        numbered = [name for name in self.numbered if name in placed_groups]
        if numbered:
            first = f"'{numbered[0]}'" + (f" and {len(numbered) - 1} more" if len(numbered) > 1 else "")
            self.notes.append(f"arrays that are called by numbers are taken as Caffe numbers its blobs: {first}")
        return held

    def _misfit(self, row: _Row, missing: list[ParameterSpec], left: list[Place]) -> str:
        """Returns what is wrong with what the file has of a layer."""
        expected = " and ".join(spell(spec.layout.caffe) for spec in row.layer.parameters)
        arrays = [array for name in row.groups for array in self.groups.get(name, {}).values()]
        if not arrays:
            return f"has no weights there; expected {expected}"
        if all(isinstance(key, int) for name in row.groups for key in self.groups.get(name, ())):
            found = " and ".join(spell(tuple(array.shape)) for array in arrays)
            return f"has {len(arrays)} blobs there ({found}); expected {len(row.variables)} ({expected})"
        reason = (
            f"its {' and '.join(spec.name for spec in missing)} can't be told there"
            if missing
            else f"{' and '.join(repr(key) for _, key in left)} there is none of its parameters"
        )
        return f"{reason}; {self._listed(row)}"

    def _listed(self, row: _Row) -> str:
        """Returns what the file has under a layer's name beside what the layer has."""
        found = ", ".join(
            f"'{key}' ({spell(tuple(array.shape))})"
            for name in row.groups
            for key, array in self.groups.get(name, {}).items()
        )
        expected = ", ".join(f"{spec.name} ({spell(spec.layout.caffe)})" for spec in row.layer.parameters)
        return f"the file has {found}; expected {expected}"

    def _besides(self, left: list[str]) -> str:
        """Returns the line on what the file has, where layers were not found."""
        shown = [
            f"'{group}' ({', '.join(spell(tuple(array.shape)) for array in self.groups[group].values())})"
            for group in left[:8]
        ]
        return f"layers there that the network does not have: {', '.join(shown)}{' ...' if len(left) > 8 else ''}"


def _place(variable: str) -> Place:
    layer, slash, part = variable.rpartition("/")
    return (layer, part) if slash else (variable, 0)


def _spelled(places: list[Place]) -> str:
    return " and ".join(f"'{group}/{key}'" for group, key in places)
