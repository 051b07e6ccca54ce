"""Caffe's text format: .prototxt <-> NetParameter."""

from __future__ import annotations

import re

from google.protobuf import text_format

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
        raise Refused(_solver(text) or _reason(error)) from error
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
        raise Refused(_network(text) or _reason(error)) from error
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


def _reason(error: text_format.ParseError) -> str:
    text = re.sub(r"^\d+:\d+ : ", "", str(error))
    text = re.sub(r"^'.*?': ", "", text, flags=re.DOTALL)
    unknown = re.fullmatch(r'Message type "caffeport\.(\w+)" has no field named "(.*)"\.', text)
    if unknown:
        message, name = unknown.groups()
        text = f"{message} has no field '{name}'; mend its spelling or take it out"
    place = f"line {error.GetLine()}, column {error.GetColumn()}: " if error.GetLine() else ""
    return place + " ".join(text.replace("caffeport.", "").split())
