"""SageMaker's script mode with its data in a bucket: a real S3 API on loopback (moto's server)."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tools.finetune.__main__ import main
from tools.train_demo import CLASSES, read_digits

s3fs = pytest.importorskip("s3fs")
boto3 = pytest.importorskip("boto3")
moto = pytest.importorskip("moto.server")
Image = pytest.importorskip("PIL.Image")
pytest.importorskip("sklearn")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """A bucket ``digits`` with a folder for each of three classes, and the only credentials that this process has."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    server = moto.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "tests",
        "AWS_SECRET_ACCESS_KEY": "tests",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    client = boto3.client("s3")
    client.create_bucket(Bucket="digits")
    seen, _ = read_digits()
    for digit in (2, 3, 5):
        for place in np.flatnonzero(seen.labels == digit)[:7]:
            held = io.BytesIO()
            Image.fromarray(seen.pictures[place, 0]).save(held, "PNG")
            client.put_object(Bucket="digits", Key=f"train/{CLASSES[digit]}/{place}.png", Body=held.getvalue())
    yield client
    server.stop()
    s3fs.S3FileSystem.clear_instance_cache()


def in_sagemaker(monkeypatch: pytest.MonkeyPatch, demo_port: Path, folder: Path) -> None:
    """Sets the environment of SageMaker's container, its training channel in the bucket."""
    hyperparameters = {"model": str(demo_port), "epochs": "2", "batch": 5, "train-layers": "fc8 fc7", "threads": 1}
    for name, value in {
        "SM_CHANNEL_TRAINING": "s3://digits/train",
        "SM_CHANNEL_VALIDATION": "s3://digits/train",
        "SM_MODEL_DIR": str(folder / "model"),
        "SM_OUTPUT_DATA_DIR": str(folder / "output"),
        "SM_HPS": json.dumps(hyperparameters),
    }.items():
        monkeypatch.setenv(name, value)


def test_the_model_and_the_metrics_are_where_sagemaker_looks(bucket, demo_port: Path, tmp_path: Path, monkeypatch):
    in_sagemaker(monkeypatch, demo_port, tmp_path)
    assert main([]) == 0
    assert (tmp_path / "model" / "1" / "saved_model.pb").is_file()
    assert json.loads((tmp_path / "model" / "1.json").read_text())["classes"] == ["five", "three", "two"]
    metrics = json.loads((tmp_path / "output" / "metrics.json").read_text())
    assert metrics["after"]["count"] == 21
    assert [epoch["step"] for epoch in metrics["epochs"]] == [5, 10]


def test_without_credentials_it_says_so_in_one_line(bucket, demo_port: Path, tmp_path: Path, monkeypatch, capsys):
    in_sagemaker(monkeypatch, demo_port, tmp_path)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    s3fs.S3FileSystem.clear_instance_cache()
    assert main([]) == 2
    error = capsys.readouterr().err
    assert error.startswith("s3://digits/train: ")
    assert "credentials" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "model" / "1").exists()


def test_a_hyperparameter_that_is_no_argument(demo_port: Path, tmp_path: Path, monkeypatch, capsys):
    in_sagemaker(monkeypatch, demo_port, tmp_path)
    monkeypatch.setenv("SM_HPS", '{"epoch": 3}')
    assert main([]) == 2
    assert capsys.readouterr().err == "SM_HPS: hyperparameter 'epoch': is no argument; is 'epochs' meant?\n"
