"""Caffe's text format: .prototxt <-> NetParameter."""

from __future__ import annotations

import re

from google.protobuf import text_format
from google.protobuf.message import Message

from converter.caffe_pb2 import NetParameter, SolverParameter
from weights import Refused


def parse_prototxt(text: str) -> NetParameter:
    """Returns the message that a definition holds, as it is spelled there.

    Raises Refused with line and column where the text is no network definition.
    """
    message = NetParameter()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise Refused(*([_solver(text)] if _solver(text) else _reasons(text, NetParameter))) from error
    if not (message.layer or message.layers):
        raise Refused("holds no layers; expected a network definition (layer { ... })")
    return message


def parse_solver(text: str) -> SolverParameter:
    """Returns the message that a solver's definition holds, as it is spelled there.

    Raises Refused with line and column where the text is none.
    """
    message = SolverParameter()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise Refused(*([_network(text)] if _network(text) else _reasons(text, SolverParameter))) from error
    return message


def print_prototxt(message: NetParameter) -> str:
    """Returns the message as text."""
    return text_format.MessageToString(message, use_short_repeated_primitives=False)


def _solver(text: str) -> str:
    """Returns what to say of a solver's definition, "" of any other text."""
    solver = SolverParameter()
    try:
        text_format.Parse(text, solver)
    except text_format.ParseError:
        return ""
    named = solver.net or solver.train_net
    way_out = f"; give the definition that it names, {named}" if named else "; give the network's definition"
    return "is a solver's definition, not a network's" + way_out


def _network(text: str) -> str:
    """Returns what to say of a network's definition, "" of any other text."""
    try:
        parse_prototxt(text)
    except Refused:
        return ""
    return "is a network's definition, not a solver's; give the solver that names it (net: ...)"


MOST_FIELDS = 20
"""Unknown fields of one text that are named."""


def _reasons(text: str, message: type[Message]) -> list[str]:
    """Returns a line for each field of ``text`` that the schema does not have, and one for what else ends its
    reading."""
    reasons: list[str] = []
    while len(reasons) < MOST_FIELDS:
        try:
            text_format.Parse(text, message())
            return reasons
        except text_format.ParseError as error:
            reasons.append(_reason(error))
            rest = _without_field(text, error) if "has no field named" in str(error) else ""
        if not rest:
            return reasons
        text = rest
    return [*reasons, f"has more than {MOST_FIELDS} such fields"]


_TOKEN = re.compile(
    r"""(?:\s|\#[^\n]*)*("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|[{}<>\[\]:;,]|[^\s\#{}<>\[\]:;,"']+)"""
)
"""A token of the text format, after spaces and comments."""


def _without_field(text: str, error: text_format.ParseError) -> str:
    """Returns ``text`` with the field at which it stopped blanked, so that all else stays in its place; "" where the
    field has no end."""
    line, column = error.GetLine() or 1, error.GetColumn() or 1
    start = sum(len(one) + 1 for one in text.split("\n")[: line - 1]) + column - 1
    name = _TOKEN.match(text, start)
    depth, position, previous = 0, name.end() if name else start, ""
    while found := _TOKEN.match(text, position):
        token = found[1]
        if not previous and token not in (":", "{", "<"):
            return ""
        is_value = depth or previous in ("", ":") or token in ("{", "<", "[")
        if not is_value and not (token[0] in "\"'" and previous[0] in "\"'"):  # strings side by side are one
            break
        closes = token in ("}", ">", "]")
        depth += 1 if token in ("{", "<", "[") else -1 if closes else 0
        position, previous = found.end(), token
        if closes and not depth:
            break
    if depth or not previous:
        return ""
    return text[:start] + re.sub(r"[^\n]", " ", text[start:position]) + text[position:]


def _reason(error: text_format.ParseError) -> str:
    text = re.sub(r"^\d+:\d+ : ", "", str(error))
    text = re.sub(r"^'.*?': ", "", text, flags=re.DOTALL)
    unknown = re.fullmatch(r'Message type "caffeport\.(\w+)" has no field named "(.*)"\.', text)
    if unknown:
        message, name = unknown.groups()
        text = f"{message} has no field '{name}'; mend its spelling or take it out"
    place = f"line {error.GetLine()}, column {error.GetColumn()}: " if error.GetLine() else ""
    return place + " ".join(text.replace("caffeport.", "").split())
