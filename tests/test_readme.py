"""The README says what is true: its layer table, its commands, its snippets."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import converter
import graphs
from tools import layer_table

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_layer_table_is_the_registry_s():
    assert layer_table.with_table(README) == README, "run: python -m tools.layer_table README.md"


def test_the_table_has_every_type_of_bvlc_caffe():
    assert len(layer_table.BVLC) == len(set(layer_table.BVLC)) == 61
    assert all(f"\n| {name} |" in README for name in layer_table.BVLC)


def test_the_quick_start_is_two_commands_of_one_line_each():
    blocks = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) == 2
    assert all(block.count("\n") == 1 for block in blocks)
    assert "-m pytest" in blocks[1]


def test_files_that_the_quick_start_names_are_there():
    block = re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL)[0]
    for name in re.findall(r"tools/demo/[\w./]+(?=\s)", block):
        assert (ROOT / name).exists(), name
    assert list((ROOT / "tools/demo/pictures").glob("*.png"))


def snippets(containing: str) -> str:
    found = [block for block in re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL) if containing in block]
    assert len(found) == 1
    return found[0]


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """The demo under the names that the README's snippets use, in the current folder."""
    for name, source in (("deploy.prototxt", "digits.prototxt"), ("weights.caffemodel", "digits.caffemodel")):
        (tmp_path / name).write_bytes((ROOT / "tools/demo" / source).read_bytes())
    monkeypatch.chdir(tmp_path)
    return converter.convert("deploy.prototxt", "weights.caffemodel")


def pictures_for(port) -> np.ndarray:
    (_, channels, height, width) = port.network.inputs["data"]
    return np.random.default_rng(7).uniform(0, 255, (3, channels, height, width)).astype(np.float32)


def test_the_snippets_run_and_agree(demo):
    nchw = pictures_for(demo)
    names = {"pictures": np.moveaxis(nchw, 1, -1), "pictures_nchw": nchw}
    demo.save("alexnet.pb")
    plain = dict(names)
    exec(snippets("GraphDef.FromString"), plain)
    python = dict(names)
    exec(snippets("converter.convert"), python)
    assert np.abs(plain["prob"] - python["values"]["prob", "prob"]).max() < 1e-5
    exec(snippets("graphs.load"), dict(names))


def test_a_layer_of_one_s_own_as_the_readme_has_it(tmp_path):
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 5 } } }'
        'layer { name: "y" type: "Square" bottom: "x" top: "y" }'
    )
    try:
        exec(snippets('@layer("Square")'), {"__name__": "readme"})
        port = converter.convert(tmp_path / "net.prototxt")
        port.save(tmp_path / "net.pb")
        x = np.arange(10, dtype=np.float32).reshape(2, 5)
        assert np.array_equal(graphs.load(tmp_path / "net.pb").run({"x": x})["y"], x * x)
    finally:
        graphs.LAYERS.pop("Square", None)


def test_help_shows_an_example_first():
    shown = subprocess.run([sys.executable, "-m", "converter", "--help"], capture_output=True, text=True, cwd=ROOT)
    assert shown.returncode == 0
    assert shown.stdout.index("python -m converter deploy.prototxt") < shown.stdout.index("options:")
