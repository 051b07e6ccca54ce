"""SageMaker's variables stand for arguments that are not given."""

from __future__ import annotations

import argparse
import json

import pytest

from tools.finetune.sagemaker import defaults, from_environment, own_arguments
from weights import Refused

ENVIRONMENT = {
    "SM_CHANNEL_TRAINING": "/opt/ml/input/data/training",
    "SM_CHANNEL_VALIDATION": "/opt/ml/input/data/validation",
    "SM_MODEL_DIR": "/opt/ml/model",
    "SM_OUTPUT_DATA_DIR": "/opt/ml/output/data",
    "SM_CHANNELS": '["training","validation"]',
    "SM_NUM_GPUS": "0",
    "PATH": "/bin",
}


@pytest.fixture
def parser():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data")
    parser.add_argument("--validation")
    parser.add_argument("--model-dir")
    parser.add_argument("--output-data-dir")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--train-layers", nargs="+", default=[])
    parser.add_argument("model", nargs="*")
    parser.add_argument("-o", "--output", action="append", default=[])
    parser.add_argument("--mirror", action=argparse.BooleanOptionalAction)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--optimizer", choices=("sgd", "adam"), default="sgd")
    return parser


def parsed(parser, hyperparameters, argv=(), environment=ENVIRONMENT):
    environment = {**environment, "SM_HPS": json.dumps(hyperparameters)}
    parser.set_defaults(**defaults(parser, environment))
    return parser.parse_args(argv)


def test_outside_of_sagemaker_nothing_changes(parser):
    assert from_environment({"PATH": "/bin"}) == {}
    assert defaults(parser, {"PATH": "/bin"}) == {}


def test_channels_and_folders_are_defaults(parser):
    arguments = parsed(parser, {})
    assert arguments.data == "/opt/ml/input/data/training"
    assert arguments.validation == "/opt/ml/input/data/validation"
    assert arguments.model_dir == "/opt/ml/model"
    assert arguments.output_data_dir == "/opt/ml/output/data"


@pytest.mark.parametrize("layers", [["fc8", "fc7"], "fc8 fc7"])
@pytest.mark.parametrize("dash", ["-", "_"])
def test_hyperparameters_are_defaults_of_their_type(parser, layers, dash):
    given = {
        f"learning{dash}rate": 0.001, "epochs": "7", f"train{dash}layers": layers, "mirror": False, "resume": "true",
        "optimizer": "adam", "model": "bvlc", "output": "a.pb b.pb",
    }  # fmt: skip
    arguments = parsed(parser, given)
    assert (arguments.learning_rate, arguments.epochs, arguments.optimizer) == (0.001, 7, "adam")
    assert (arguments.mirror, arguments.resume) == (False, True)
    assert (arguments.train_layers, arguments.model, arguments.output) == (["fc8", "fc7"], ["bvlc"], ["a.pb", "b.pb"])


def test_arguments_go_before_hyperparameters_and_these_before_channels(parser):
    given = {"epochs": 7, "learning_rate": 0.1, "data": "s3://bucket/train.txt"}
    arguments = parsed(parser, given, ["--epochs", "3"])
    assert (arguments.epochs, arguments.learning_rate, arguments.data) == (3, 0.1, "s3://bucket/train.txt")


def test_what_the_container_adds_is_passed_over(parser):
    given = {"model_dir": "s3://bucket/job/model", "sagemaker_program": "finetune.py", "epochs": 2}
    arguments = parsed(parser, given)
    assert (arguments.model_dir, arguments.epochs) == ("/opt/ml/model", 2)


def test_what_the_container_repeats_as_arguments_is_left_out(parser):
    given = {
        "epochs": 7,
        "mirror": True,
        "train_layers": ["fc8", "fc7"],
        "model_dir": "s3://bucket/job/model",
        "o": "a",
    }
    repeated = [
        "--epochs", "7", "--mirror", "True", "--model_dir", "s3://bucket/job-1/model", "-o", "a",
        "--train_layers", "['fc8', 'fc7']",
    ]  # fmt: skip
    environment = {"SM_HPS": json.dumps(given)}
    assert own_arguments(repeated, environment) == []
    assert own_arguments(["bvlc", *repeated, "--resume"], environment) == ["bvlc", "--resume"]
    other = ["--epochs", "3", "--batch", "7", "--model-dir", "here"]
    assert own_arguments(other, environment) == other
    assert own_arguments(repeated, {}) == repeated


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"lerning_rate": 1}, "hyperparameter 'lerning_rate': is no argument; is 'learning_rate' meant?"),
        ({"epochs": "ten"}, "hyperparameter 'epochs': invalid int value: 'ten'"),
        ({"epochs": 1.5}, "hyperparameter 'epochs': invalid int value: '1.5'"),
        ({"mirror": "perhaps"}, "hyperparameter 'mirror': is 'perhaps'; expected true or false"),
        ({"optimizer": "lbfgs"}, "hyperparameter 'optimizer': is 'lbfgs'; expected one of sgd, adam"),
    ],
)
def test_a_wrong_hyperparameter_is_refused(parser, given, reason):
    with pytest.raises(Refused) as refused:
        parsed(parser, given)
    assert refused.value.reasons == (f"SM_HPS: {reason}",)


def test_an_unknown_hyperparameter_like_no_argument_names_them_all(parser):
    with pytest.raises(Refused, match=r"'xyz': is no argument; these are: data, validation, model_dir, "):
        parsed(parser, {"xyz": 1})


def test_every_wrong_hyperparameter_is_named(parser):
    with pytest.raises(Refused) as refused:
        parsed(parser, {"xyz": 1, "epochs": "ten"})
    assert len(refused.value.reasons) == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [("{", "SM_HPS: is no JSON: "), ("[1]", "SM_HPS: is a JSON list; expected an object of hyperparameters")],
)
def test_hyperparameters_that_are_no_object_are_refused(text, reason):
    with pytest.raises(Refused) as refused:
        from_environment({"SM_HPS": text})
    assert str(refused.value).startswith(reason)
