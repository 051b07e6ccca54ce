"""SageMaker's script mode: what its container says in the environment, as defaults of the command line.

Names and meanings are those of the SageMaker training toolkit: a channel is a folder of data, SM_HPS the
hyperparameters as JSON, SM_MODEL_DIR what becomes the model, SM_OUTPUT_DATA_DIR what else is kept.
"""

from __future__ import annotations

import argparse
import difflib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from weights import Refused

ARGUMENTS = {
    "SM_CHANNEL_TRAINING": "data",
    "SM_CHANNEL_VALIDATION": "validation",
    "SM_MODEL_DIR": "model_dir",
    "SM_OUTPUT_DATA_DIR": "output_data_dir",
}
"""Variable -> the argument that it is a default of."""

OF_THE_CONTAINER = ("model_dir",)
"""What TensorFlow's container adds to the hyperparameters by itself: a place in S3, which no script asked for."""


def from_environment(environment: Mapping[str, str]) -> Mapping[str, Any]:
    """Returns argument -> value, as SageMaker's variables give them, {} outside of SageMaker; hyperparameters go
    before channels and folders, and their names may be written with "-" or "_".

    Raises Refused where SM_HPS is no JSON object.
    """
    folders = {argument: environment[name] for name, argument in ARGUMENTS.items() if environment.get(name)}
    named = {name.replace("-", "_"): value for name, value in _hyperparameters(environment).items()}
    asked = {
        name: value
        for name, value in named.items()
        if name not in OF_THE_CONTAINER and not name.startswith("sagemaker_")
    }
    return {**folders, **asked}


def own_arguments(argv: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    """Returns ``argv`` without what the container put there: each hyperparameter again, as ``--name value`` in a
    spelling that no parser is made for ("--train_layers ['fc8']", "--mirror True"). Arguments with other values stay.

    Raises Refused where SM_HPS is no JSON object.
    """
    given = _hyperparameters(environment)
    own: list[str] = []
    left = list(argv)
    while left:
        name, dashes, text = left[0].lstrip("-"), left[0][:1] == "-", "".join(left[1:2])
        repeated = name in given and (name in OF_THE_CONTAINER or text == str(given[name]))
        if dashes and repeated:
            del left[:2]
        else:
            own.append(left.pop(0))
    return own


def _hyperparameters(environment: Mapping[str, str]) -> dict[str, Any]:
    try:
        given = json.loads(environment.get("SM_HPS") or "{}")
    except ValueError as error:
        raise Refused(f"SM_HPS: is no JSON: {error}") from error
    if not isinstance(given, dict):
        raise Refused(f"SM_HPS: is a JSON {type(given).__name__}; expected an object of hyperparameters")
    return given


def defaults(parser: argparse.ArgumentParser, environment: Mapping[str, str]) -> dict[str, Any]:
    """Returns what ``parser.set_defaults`` takes so that SageMaker's variables stand for arguments that are not given.

    Values become what the parser would make of them. Raises Refused with every hyperparameter that is no argument, or
    has a value that its argument does not take.
    """
    listed = parser._actions  # argparse has no public list of its arguments
    actions = {action.dest: action for action in listed if action.dest != "help"}
    found: dict[str, Any] = {}
    problems: list[str] = []
    for name, value in from_environment(environment).items():
        try:
            if name not in actions:
                raise Refused(_unknown(name, list(actions)))
            found[name] = _converted(parser, actions[name], value)
        except Refused as refused:
            problems += refused.within(f"SM_HPS: hyperparameter '{name}'").reasons
    if problems:
        raise Refused(*problems)
    return found


def _unknown(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"is no argument; is '{close[0]}' meant?" if close else f"is no argument; these are: {', '.join(known)}"


def _converted(parser: argparse.ArgumentParser, action: argparse.Action, value: Any) -> Any:
    """Returns a hyperparameter, which may be text or JSON's own, as the argument ``action`` has it."""
    if action.nargs == 0:  # a switch
        switch = {"true": True, "1": True, "false": False, "0": False}.get(str(value).lower())
        if switch is None:
            raise Refused(f"is '{value}'; expected true or false")
        return switch
    if action.nargs in (None, "?") and not isinstance(action, argparse._AppendAction):
        return _one(parser, action, value)
    values = value if isinstance(value, list) else str(value).split()
    return [_one(parser, action, one) for one in values]


def _one(parser: argparse.ArgumentParser, action: argparse.Action, value: Any) -> Any:
    text = value if isinstance(value, str) else json.dumps(value)
    try:
        converted = parser._get_value(action, text)
    except argparse.ArgumentError as error:
        raise Refused(str(error.message)) from error
    if action.choices is not None and converted not in action.choices:
        raise Refused(f"is '{text}'; expected one of {', '.join(map(str, action.choices))}")
    return converted
