"""Layers whose weights are left out are drawn and learn, whatever the definition says of fillers."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from converter import convert
from tools.finetune.__main__ import main
from tools.train_demo import read_digits

pytest.importorskip("fsspec")
pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two of the demo's digits as x.npy and y.npy, 127 pictures."""
    seen, _ = read_digits()
    chosen = np.flatnonzero(seen.labels < 2)[:127]
    place = tmp_path_factory.mktemp("pairs")
    np.save(place / "x.npy", np.moveaxis(seen.pictures[chosen], 1, -1))
    np.save(place / "y.npy", seen.labels[chosen])
    return place


@pytest.fixture(scope="module")
def deploy(demo: Path) -> str:
    """The demo's definition as people deploy one: without a filler."""
    text, count = re.subn(r"\s*(weight|bias)_filler \{.*?\}", "", (demo / "digits.prototxt").read_text(), flags=re.S)
    assert count == 8
    return text


class Tuning:
    """A folder in which the demo is tuned after what ``text`` describes."""

    def __init__(self, folder: Path, demo: Path, pairs: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.demo, self.pairs, self.capsys = folder, demo, pairs, capsys

    def __call__(self, text: str, *options: str) -> tuple[list[float], list[str]]:
        """Returns the loss before and after each epoch, and the notes."""
        definition, weights = self.folder / "deploy.prototxt", self.folder / "digits.caffemodel"
        definition.write_text(text)
        weights.write_bytes((self.demo / "digits.caffemodel").read_bytes())
        words = [str(definition), str(weights), "--data", str(self.pairs), "--validation", str(self.pairs),
                 "--epochs", "3", "--learning-rate", "0.01", "--output-data-dir", str(self.folder)]  # fmt: skip
        assert main([*words, *options, "-o", str(self.folder / "out.pb")]) == 0
        metrics = json.loads((self.folder / "metrics.json").read_text())
        losses = [metrics["before"]["loss"], *(one["validation"]["loss"] for one in metrics["epochs"])]
        return losses, self.capsys.readouterr().err.replace(f"{self.folder}/", "").splitlines()

    def weights(self, layer: str) -> np.ndarray:
        return convert(self.folder / "out.pb").parameters[f"{layer}/weights"].caffe


@pytest.fixture
def tuning(tmp_path: Path, demo: Path, pairs: Path, capsys: pytest.CaptureFixture[str]) -> Tuning:
    return Tuning(tmp_path, demo, pairs, capsys)


@pytest.mark.parametrize(
    "words", [("--skip-layers", "fc8", "fc7", "--train-layers", "fc8", "fc7"), ("--skip-layers", "fc7")]
)
def test_a_skipped_layer_of_a_deploy_file_is_drawn_and_learns(tuning: Tuning, deploy: str, words: tuple[str, ...]):
    losses, notes = tuning(deploy, *words)
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.3 < losses[0]
    assert tuning.weights("fc7").std() > 0.05
    for layer in ("fc7", "fc8"):
        assert (
            f"note: layer '{layer}' (InnerProduct): states no filler for its weights; their first values are xavier's"
            in notes
        )
    said = "not loaded; values come from its fillers (weights xavier, as none is stated, biases constant)"
    assert f"note: digits.caffemodel: layer 'fc7' (InnerProduct): {said}" in notes


def test_the_seed_decides_what_a_skipped_layer_begins_with(tuning: Tuning, deploy: str):
    found = []
    for seed in ("5", "5", "6"):
        run = tuning.folder / f"run{len(found)}"
        tuning(deploy, "--skip-layers", "fc7", "--train-layers", "fc8", "--learning-rate", "1e-30", "--seed", seed,
               "--run", str(run))  # fmt: skip
        found.append(tuning.weights("fc7"))
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


def test_a_stated_filler_is_taken(tuning: Tuning, demo: Path):
    text = (demo / "digits.prototxt").read_text()
    place = text.index('name: "fc7"')
    stated = text[place:].replace('type: "xavier"', 'type: "gaussian" std: 0.03', 1)
    assert stated != text[place:]
    tuning(text[:place] + stated, "--skip-layers", "fc7", "--learning-rate", "1e-30")
    assert tuning.weights("fc7").std() == pytest.approx(0.03, rel=0.05)  # of 16,384


def test_a_filler_that_states_zeros_is_taken_and_said(tuning: Tuning, deploy: str):
    place = deploy.index('name: "fc7"')
    zeros = deploy[place:].replace("num_output: 128", 'num_output: 128 weight_filler { type: "constant" }', 1)
    assert zeros != deploy[place:]
    losses, notes = tuning(deploy[:place] + zeros, "--skip-layers", "fc7")
    said = "its weights begin at 0, as its filler says; behind a ReLU they stay 0"
    assert f"note: layer 'fc7' (InnerProduct): {said}" in notes
    assert not tuning.weights("fc7").any()  # as Caffe has it
    assert losses == pytest.approx([np.log(2)] * 4, abs=1e-3)


def test_new_weights_that_the_definition_freezes_are_said(tuning: Tuning, deploy: str):
    place = deploy.index('name: "fc7"')
    frozen = deploy[place:].replace('name: "fc7"', 'name: "fc7" param { lr_mult: 0 } param { lr_mult: 0 }', 1)
    _, notes = tuning(deploy[:place] + frozen, "--skip-layers", "fc7")
    said = "its weights are new, but its lr_mult is 0, so that they stay as they were drawn"
    assert f"note: layer 'fc7' (InnerProduct): {said}" in notes


def test_there_must_be_weights_to_skip_layers_in(demo: Path, pairs: Path, tmp_path: Path, capsys):
    words = [str(demo / "digits.prototxt"), "--skip-layers", "fc7", "--data", str(pairs)]
    assert main([*words, "-o", str(tmp_path / "out.pb")]) == 2
    reason = "there are no weights to skip them in; give the file of weights too"
    assert capsys.readouterr().err == f"--skip-layers: {reason}\n"
