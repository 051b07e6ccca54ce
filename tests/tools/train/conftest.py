"""A small training, written out: net, solver, data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tools.train.__main__ import main

NET = """
name: "small"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 6 dim: 3 dim: 11 dim: 7 } } }
layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 6 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  convolution_param { num_output: 5 kernel_size: 3 weight_filler { type: "msra" } } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "bn" batch_norm_param { moving_average_fraction: 0.8 } }
layer { name: "relu" type: "ReLU" bottom: "bn" top: "bn" }
layer { name: "drop" type: "Dropout" bottom: "bn" top: "drop" dropout_param { dropout_ratio: 0.4 } }
layer { name: "fc" type: "InnerProduct" bottom: "drop" top: "fc"
  inner_product_param { num_output: 4 weight_filler { type: "xavier" } } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "fc" bottom: "label" top: "accuracy" include { phase: TEST } }
"""
SOLVER = """
net: "net.prototxt"
base_lr: 0.01
lr_policy: "fixed"
max_iter: 12
random_seed: 7
snapshot_prefix: "small"
snapshot_after_train: false
"""


class Trainer:
    """A folder with net.prototxt, solver.prototxt and run.npz, in which the command line runs."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.net, self.solver = folder, NET, SOLVER
        rng = np.random.default_rng(5)
        self.arrays = {
            "data": rng.standard_normal((12, 6, 3, 11, 7)).astype(np.float32),
            "label": rng.integers(0, 4, (12, 6)).astype(np.float32),
        }
        self.write()

    def write(self, solver: str = "", net: str = NET, base: str = SOLVER, **arrays: np.ndarray) -> None:
        """Writes the three files; ``solver`` is added to what the solver says."""
        (self.folder / "net.prototxt").write_text(net)
        (self.folder / "solver.prototxt").write_text(base + solver)
        self.save("run.npz", **{**self.arrays, **arrays})

    def save(self, name: str, **arrays: np.ndarray) -> None:
        """Writes an .npz."""
        np.savez(self.folder / name, **arrays)

    def __call__(self, *more: str, data: str = "run.npz") -> int:
        """Trains; returns the exit code."""
        return main(["--solver", "solver.prototxt", "--data", data, *more])


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trainer:
    monkeypatch.chdir(tmp_path)
    return Trainer(tmp_path)


@pytest.fixture
def refused(train: Trainer, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Returns a function that trains what can't be trained: the lines that say why."""

    def run(*more: str, **keywords: str) -> list[str]:
        capsys.readouterr()
        assert train(*more, **keywords) == 2
        return [line for line in capsys.readouterr().err.splitlines() if not line.startswith("note: ")]

    return run
