"""tools.benchmark training: every engine's row, the same gradients in each, the files. Nothing asserts a speed."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from converter import convert
from graphs.layer import Filler, ParameterSpec
from tools.benchmark.__main__ import main
from tools.benchmark.engines import ENGINES, Setting
from tools.benchmark.parameters import is_trained, parameters_of
from tools.benchmark.training import prepare
from tools.benchmark.training_engines import PyTorchTraining, TensorFlowTraining
from weights import Layout, Refused

INSTALLED = [engine.name for engine in ENGINES if importlib.util.find_spec(engine.module)]
WITH_GRADIENTS = [name for name in INSTALLED if name in ("TensorFlow", "PyTorch")]


def rows_of(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


class TestTheTable:
    @pytest.mark.slow
    def test_has_every_engine_forward_and_those_with_gradients_backward(self, golden, tmp_path, capsys):
        pytest.importorskip("matplotlib")
        pytest.importorskip("PIL")
        from PIL import Image

        case, table, picture = golden / "mini_alexnet", tmp_path / "steps.csv", tmp_path / "steps.png"
        files = [str(case / "net.prototxt"), str(case / "weights.caffemodel")]
        argv = ["training", *files, "--batch", "2", "--steps", "3", "--csv", str(table), "--plot", str(picture)]
        assert main(argv) == 0
        printed = capsys.readouterr().out
        assert "net: 3 steps to warm up, then 3" in printed
        for engine in INSTALLED:
            lines = [line for line in printed.splitlines() if f" {engine} " in line]
            expected = 2 if engine in WITH_GRADIENTS else 1
            assert sum("forward" in line for line in lines) == expected, printed
        rows = rows_of(table)
        assert len(rows) == 3 * (len(INSTALLED) + len(WITH_GRADIENTS))
        assert {row["pass"] for row in rows} == {"forward", "forward-backward"}
        assert all(float(row["seconds"]) > 0 and float(row["largest_difference"]) < 2e-5 for row in rows)
        with Image.open(picture) as drawn:
            assert drawn.format == "PNG"
            assert min(drawn.size) > 200
            assert len(np.unique(np.asarray(drawn.convert("RGB")).reshape(-1, 3), axis=0)) > 10

    @pytest.mark.slow
    def test_of_one_of_the_family_is_tensorflows_own(self, tmp_path, capsys):
        table = tmp_path / "steps.csv"
        assert main(["training", "caffenet", "--batch", "1", "--steps", "1", "--csv", str(table)]) == 0
        assert {row["engine"] for row in rows_of(table)} == {"TensorFlow"}
        assert "OpenCV: skipped, " in capsys.readouterr().out

    def test_refuses_what_it_can_t_measure(self, golden, tmp_path, capsys):
        definition = str(golden / "mini_alexnet" / "net.prototxt")
        for argv, told in (
            (["vgg"], "vgg: is no file, and none of the family: bvlc, caffenet, "),
            ([definition, "--plot", str(tmp_path / "absent" / "a.png")], "absent does not exist; make it first"),
            ([definition, "--steps", "0"], "'0' is not a count of 1 or more"),
            ([definition, "--device", "tpu"], "'tpu' is no device; expected cpu, gpu or gpu:N"),
            ([str(tmp_path / "absent.prototxt")], "absent.prototxt: No such file"),
        ):
            assert main(["training", *argv]) == 2
            error = capsys.readouterr().err
            assert told in error
            assert "Traceback" not in error

    def test_a_plot_needs_matplotlib(self, monkeypatch, capsys):
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
        assert main(["training", "bvlc", "--plot", "a.png"]) == 2
        assert "--plot needs matplotlib, which is not installed: pip install 'caffeport[benchmark]'" in (
            capsys.readouterr().err
        )


@pytest.mark.parametrize("case", ["mini_alexnet", "mini_resnet", "conv_group2"])
def test_both_engines_have_the_same_gradients(case, golden, tmp_path, agree):
    pytest.importorskip("torch")
    files = [path for path in (golden / case / "net.prototxt", golden / case / "weights.caffemodel") if path.exists()]
    subject = prepare([str(path) for path in files], tmp_path)
    port = convert(*files)
    layouts = {name: layout for name, (layout, _) in parameters_of(port).items() if is_trained(name)}
    assert layouts
    inputs = subject.seeded_inputs(3)
    ours, theirs = TensorFlowTraining(subject, Setting(1)), PyTorchTraining(subject, Setting(1))
    ours.feed(inputs)
    theirs.feed(inputs)
    got, expected = ours.session.run(ours.gradients), theirs._gradients()
    assert len(got) == len(expected) == len(layouts)
    for (name, layout), one, other in zip(layouts.items(), got, expected):
        agree(one, layout.to_tensorflow(other.numpy()), 2e-5, name)
    assert ours.gradient_norms() == pytest.approx([float(np.linalg.norm(one)) for one in got], rel=1e-5)
    assert theirs.gradient_norms() == pytest.approx(ours.gradient_norms(), rel=1e-5)


class TestFirstValues:
    def test_are_the_ports_own(self, golden):
        port = convert(golden / "conv_basic" / "net.prototxt", golden / "conv_basic" / "weights.caffemodel")
        for name, (layout, array) in parameters_of(port).items():
            assert np.array_equal(array, port.parameters[name].caffe)
            assert layout == port.parameters[name].layout

    def test_without_weights_no_layer_is_zero_and_all_engines_get_the_same(self, golden):
        port = convert(golden / "mini_resnet" / "net.prototxt")
        once, again = parameters_of(port), parameters_of(port)
        for name, (_, array) in once.items():
            assert np.array_equal(array, again[name][1])
            part = name.rpartition("/")[2]
            if array.ndim > 1:
                fan_in = array.size / len(array)
                assert array.std() == pytest.approx((2 / fan_in) ** 0.5, rel=0.2), name
            if part in ("variance", "scale_factor"):
                assert (array == 1).all()

    def test_a_filler_that_the_definition_gives_is_kept(self):
        from tools.benchmark.parameters import _first_values

        spec = ParameterSpec("weights", Layout((13, 7)), Filler("constant", value=0.5))
        assert (_first_values(spec, "conv1/weights") == 0.5).all()


def test_gradients_are_refused_where_there_are_none(golden, tmp_path):
    from tools.benchmark.engines import TensorFlow
    from tools.benchmark.turns import start

    frozen = tmp_path / "port.pb"
    convert(golden / "conv_basic" / "net.prototxt", golden / "conv_basic" / "weights.caffemodel").save(frozen)
    from tools.benchmark.subject import alone, opened

    with start(TensorFlow, alone(opened(frozen)), Setting(1)) as worker, pytest.raises(Refused, match="no gradients"):
        worker.time(1, "forward-backward")
