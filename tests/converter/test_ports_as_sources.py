"""A port of this project as the only source: its manifest holds the definition, the graph its weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from converter import convert
from converter.__main__ import main


@pytest.fixture
def demo(root: Path) -> Path:
    return root / "tools" / "demo"


@pytest.mark.parametrize("ending", [".pb", ".ckpt"])
def test_a_port_converts_back_to_what_it_came_from(demo: Path, tmp_path: Path, ending: str):
    convert(demo / "digits.prototxt", demo / "digits.caffemodel").save(tmp_path / f"digits{ending}")
    port = convert(tmp_path / f"digits{ending}")
    port.save(tmp_path / "back.caffemodel")
    port.save(tmp_path / "back.prototxt")
    assert (tmp_path / "back.caffemodel").read_bytes() == (demo / "digits.caffemodel").read_bytes()
    assert (tmp_path / "back.prototxt").read_text() == (demo / "digits.prototxt").read_text()


def test_the_manifest_says_which_variable_is_which_parameter(demo: Path, tmp_path: Path):
    convert(demo / "digits.prototxt", demo / "digits.caffemodel").save(tmp_path / "digits.pb")
    layers = {layer["name"]: layer for layer in json.loads((tmp_path / "digits.pb.json").read_text())["layers"]}
    assert layers["fc8"]["variables"] == {"weights": "fc8/weights", "biases": "fc8/biases"}
    assert "variables" not in layers["prob"]


def test_classes_go_into_the_manifest_and_come_back(demo: Path, tmp_path: Path):
    port = convert(demo / "digits.prototxt", demo / "digits.caffemodel")
    assert port.classes == ()
    replace(port, classes=("zero", "één")).save(tmp_path / "named.pb")
    assert json.loads((tmp_path / "named.pb.json").read_text(encoding="utf-8"))["classes"] == ["zero", "één"]
    assert convert(tmp_path / "named.pb").classes == ("zero", "één")


def test_a_definition_beside_a_port_goes_first(demo: Path, tmp_path: Path):
    convert(demo / "digits.prototxt", demo / "digits.caffemodel").save(tmp_path / "digits.pb")
    (tmp_path / "digits.pb.json").write_text("{}")
    port = convert(demo / "digits.prototxt", tmp_path / "digits.pb")
    expected = convert(demo / "digits.prototxt", demo / "digits.caffemodel")
    np.testing.assert_array_equal(port.parameters["fc8/weights"].caffe, expected.parameters["fc8/weights"].caffe)


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        (None, "{pb}: no definition among the sources; give the net's .prototxt too\n"),
        ('{"layers": []}', "{pb}: its manifest holds no definition; give the net's .prototxt too\n"),
        ("[1]", "{pb}.json: is no manifest of a port: it holds no object\n"),
        ("{", "{pb}.json: is no manifest of a port: Expecting property name enclosed in double quotes: line 1 column "),
    ],
)
def test_a_port_without_its_definition(demo: Path, tmp_path: Path, capsys, manifest: str | None, message: str):
    path = tmp_path / "digits.pb"
    convert(demo / "digits.prototxt", demo / "digits.caffemodel").save(path)
    (tmp_path / "digits.pb.json").unlink()
    if manifest is not None:
        (tmp_path / "digits.pb.json").write_text(manifest)
    assert main([str(path)]) == 2
    assert capsys.readouterr().err.startswith(message.format(pb=path))
