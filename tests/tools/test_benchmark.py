"""tools.benchmark: its ONNX and PyTorch forms compute the same, its tables have every row. Nothing asserts a speed."""

from __future__ import annotations

import csv
import importlib.util
import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from converter import convert
from converter.port import Port
from graphs import run_reference
from tools.benchmark import conversion, inference
from tools.benchmark.__main__ import main
from tools.benchmark.conversion import Row
from tools.benchmark.engines import ENGINES, Setting
from tools.benchmark.processes import run_process
from tools.benchmark.subject import Subject, prepare
from tools.benchmark.turns import Plan, largest_difference, measure
from weights import Refused

INSTALLED = [engine.name for engine in ENGINES if importlib.util.find_spec(engine.module)]

WITH_ONNX_FORM = (
    "batchnorm",
    "concat_axis2",
    "concat_channels",
    "conv_basic",
    "conv_depthwise",
    "conv_dilated",
    "conv_group2",
    "conv_rect",
    "conv_stride2_pad1",
    "dropout_test",
    "eltwise_max",
    "eltwise_prod",
    "eltwise_sum",
    "eltwise_sum_coeff",
    "flatten",
    "in_place_chain",
    "inner_product_axis2",
    "inner_product_from_4d",
    "inner_product_nobias",
    "lrn_alexnet",
    "lrn_k2_n3",
    "lrn_strong",
    "mini_alexnet",
    "mini_resnet",
    "pool_ave_2x2_odd",
    "pool_ave_3x2_pad1",
    "pool_global_ave",
    "pool_max_3x2_pad1",
    "pool_max_clip_last",
    "pool_max_floor",
    "relu",
    "relu_leaky",
    "scale",
    "scale_bias",
    "shared_parameters",
    "softmax",
    "v1_layers",
)


@pytest.fixture
def onnx_values() -> Callable[[Port, dict[str, np.ndarray]], dict[str, np.ndarray]]:
    """Returns a function that runs a port's ONNX form in ONNX Runtime: every layer's value, by the graph's name."""
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    from tools.benchmark.onnx_model import onnx_model

    def run(port: Port, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        model = onnx_model(port)
        onnx.checker.check_model(model, full_check=True)
        told = {output.name for output in model.graph.output}
        for node in model.graph.node:
            if node.output[0] not in told:
                model.graph.output.add(name=node.output[0])
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, inputs)))

    return run


def files(case: Path) -> list[Path]:
    return [path for path in (case / "net.prototxt", case / "weights.caffemodel") if path.exists()]


def named_reference(port: Port, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the reference's value of every layer's top, by the graph's name."""
    values = run_reference(port.shapes, port.arrays(), inputs)
    return {
        name: values[layer.node.name, top]
        for layer, names in zip(port.shapes, port.names.tops)
        for top, name in zip(layer.node.tops, names)
    }


class TestOnnxForm:
    @pytest.mark.parametrize("case", WITH_ONNX_FORM)
    def test_computes_what_the_reference_computes(self, case, golden, onnx_values, agree, rng):
        port = convert(*files(golden / case))
        assert port.shapes.free_batch
        shapes = port.network.inputs.items()
        inputs = {blob: rng.standard_normal((3, *shape[1:]), dtype=np.float32) for blob, shape in shapes}
        got, expected = onnx_values(port, inputs), named_reference(port, inputs)
        compared = [name for name in expected if name not in inputs]
        assert compared
        for name in compared:
            agree(got[name], expected[name], 2e-5, name)

    @pytest.mark.parametrize("pool", ["MAX", "AVE"])
    def test_pools_with_any_overhang(self, pool, tmp_path, onnx_values, agree, rng):
        layers = []
        for kernel, stride, pad, rounding in itertools.product((2, 3), (1, 2, 3), (0, 1), ("CEIL", "FLOOR")):
            layers.append(
                f'layer {{ name: "{kernel}{stride}{pad}{rounding}" type: "Pooling" bottom: "x" '
                f'top: "{kernel}{stride}{pad}{rounding}" pooling_param {{ pool: {pool} kernel_size: {kernel} '
                f"stride: {stride} pad: {pad} round_mode: {rounding} }} }}"
            )
        definition = tmp_path / "net.prototxt"
        shape = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 7 dim: 11 } } }'
        definition.write_text("\n".join([shape, *layers]))
        port = convert(definition)
        inputs = {"x": rng.standard_normal((2, 3, 7, 11), dtype=np.float32) - 9}  # a zero would win every maximum
        got, expected = onnx_values(port, inputs), named_reference(port, inputs)
        assert len(got) == len(layers) or pool == "AVE"  # padded averages have a value within the layer
        for name in port.network.outputs:
            agree(got[name], expected[name], 1e-5, name)

    def test_refuses_every_layer_that_has_none(self, golden):
        pytest.importorskip("onnx")
        from tools.benchmark.onnx_model import onnx_model

        with pytest.raises(Refused, match=r"layer 'y' \(LRN\): norm_region WITHIN_CHANNEL has no ONNX form here"):
            onnx_model(convert(golden / "lrn_within" / "net.prototxt"))
        with pytest.raises(Refused, match=r"layer 'y' \(MVN\): type MVN has no ONNX form here"):
            onnx_model(convert(golden / "mvn" / "net.prototxt"))

    def test_needs_weights(self, golden):
        pytest.importorskip("onnx")
        from tools.benchmark.onnx_model import onnx_model

        with pytest.raises(Refused, match="needs weights"):
            onnx_model(convert(golden / "mini_alexnet" / "net.prototxt"))


class TestInference:
    def test_all_installed_engines_have_a_row_and_agree(self, golden, tmp_path, capsys):
        table = tmp_path / "runs.csv"
        net = map(str, files(golden / "mini_alexnet"))
        code = main(["inference", *net, "--batch", "1", "3", "--turns", "2", "--runs", "2", "--csv", str(table)])
        printed = capsys.readouterr().out
        assert code == 0
        assert "TensorFlow" in INSTALLED
        for engine in INSTALLED:
            assert sum(line.strip().startswith(engine) for line in printed.splitlines()) == 2, printed
        with open(table, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert {row["engine"] for row in rows} == set(INSTALLED)
        assert len(rows) == len(INSTALLED) * 2 * 2 * 2
        assert all(float(row["largest_difference"]) < 1e-5 and float(row["seconds"]) > 0 for row in rows)

    def test_a_frozen_graph_alone_is_timed_alone(self, golden, tmp_path):
        frozen = tmp_path / "port.pb"
        convert(*files(golden / "mini_alexnet")).save(frozen)
        measured, skipped = measure(prepare([str(frozen)], tmp_path), Plan((2,), 1, 1, Setting(1)))
        assert [one.engine for one in measured] == ["TensorFlow"]
        assert len(skipped) == len(ENGINES) - 1
        reasons = {skipped[one.name] for one in ENGINES[1:] if importlib.util.find_spec(one.module)}
        assert reasons <= {"needs the definition and the weights too"}

    @pytest.mark.skipif(len(INSTALLED) < 2, reason="needs an engine to compare with")
    def test_another_network_in_the_frozen_graph_is_noticed(self, golden, tmp_path, capsys):
        frozen, sources = tmp_path / "port.pb", files(golden / "mini_alexnet")
        port = convert(*sources)
        doubled = {name: replace(one, array=one.caffe * 2) for name, one in port.parameters.items()}
        replace(port, parameters=doubled).save(frozen)
        arguments = ["inference", *map(str, sources), str(frozen), "--batch", "1", "--turns", "1", "--runs", "1"]
        assert main(arguments) == 1
        assert "DIFFERS" in capsys.readouterr().out

    @pytest.mark.skipif("OpenCV" not in INSTALLED, reason="needs OpenCV")
    def test_an_engine_that_fails_is_skipped_and_says_why(self, golden, tmp_path):
        subject = prepare([str(path) for path in files(golden / "mini_alexnet")], tmp_path)
        broken = tmp_path / "broken.caffemodel"
        broken.write_bytes(b"\x00not a caffemodel")
        measured, skipped = measure(replace(subject, weights=broken), Plan((1,), 1, 1, Setting(1)))
        assert "OpenCV" not in {one.engine for one in measured}
        assert skipped["OpenCV"]

    def test_refuses_what_it_can_t_measure(self, golden, tmp_path, capsys):
        absent = str(tmp_path / "absent.pb")
        assert main(["inference", absent]) == 2
        assert main(["inference", absent, absent]) == 2
        assert main(["inference", str(golden / "mini_alexnet" / "net.prototxt")]) == 2
        assert main(["inference", absent, "--csv", str(tmp_path / "absent" / "runs.csv")]) == 2
        assert main(["inference", absent, "--batch", "0"]) == 2
        error = capsys.readouterr().err
        assert "Traceback" not in error
        assert "'0' is not a count of 1 or more" in error

    def test_refuses_a_batch_that_the_graph_has_not(self):
        subject = Subject({"data": (4, 3, 7, 5)})
        assert subject.seeded_inputs(4)["data"].shape == (4, 3, 7, 5)
        with pytest.raises(Refused, match="input 'data' has 4 as its first axis in this graph, not 1"):
            subject.seeded_inputs(1)


class TestLargestDifference:
    def test_is_a_share_of_the_largest_magnitude(self):
        judge = np.array([1.0, -4.0])
        assert largest_difference([judge + np.array([0, 0.02])], [judge]) == pytest.approx(0.005)

    @pytest.mark.parametrize("value", [[], [np.zeros(3)], [np.array([1.0, math.nan])]], ids=["none", "shape", "nan"])
    def test_is_infinite_where_nothing_can_be_said(self, value):
        assert largest_difference(value, [np.array([1.0, 2.0])]) == math.inf

    def test_is_infinite_where_there_is_nothing_to_compare(self):
        assert largest_difference([], []) == math.inf


class TestConversion:
    @pytest.mark.slow
    def test_the_table_has_all_rows(self, golden, capsys):
        definition, weights = files(golden / "mini_alexnet")
        assert main(["conversion", str(definition), str(weights), "--runs", "1"]) == 0
        printed = capsys.readouterr().out
        wanted = ["-o .npz, time", "-o .npz, peak memory", "-o .npz, TensorFlow", "-o .pb, time", "-o .pb, peak memory"]
        for what in [*wanted, "--help, time", "a wrong file name, time"]:
            assert sum(line.strip().startswith(what) for line in printed.splitlines()) == 1, printed
        assert "not imported" in printed

    def test_refuses_what_does_not_convert(self, golden, tmp_path, capsys):
        definition = golden / "mini_alexnet" / "net.prototxt"
        assert main(["conversion", str(definition), str(tmp_path / "absent.caffemodel")]) == 2
        assert "absent.caffemodel: no such file" in capsys.readouterr().err

    def test_a_command_that_fails_meets_no_target(self):
        import sys

        spent = conversion.Spent((run_process([sys.executable, "-c", "raise SystemExit(3)"]),))
        assert spent.codes == {3}
        assert spent.peak > 1e6
        assert conversion._quick_row("--help", spent, code=0).is_met is False
        assert Row("what", "", "", "").cells()[-1] == "-"


def test_the_headline_says_what_oneDNN_does(monkeypatch):
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    assert "TF_ENABLE_ONEDNN_OPTS=0" in inference.headline(Plan())[0]
