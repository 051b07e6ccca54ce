"""Frozen graphs, loaded and run from Python."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import graphs
from converter import convert
from weights import Refused


@pytest.fixture(scope="module")
def recorded(golden):
    with np.load(golden / "mini_alexnet" / "reference.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def saved(golden, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("frozen") / "net.pb"
    case = golden / "mini_alexnet"
    convert(case / "net.prototxt", case / "weights.caffemodel").save(path)
    return path


@pytest.fixture(scope="module")
def graph(saved):
    graph = graphs.load(saved)
    yield graph
    graph.close()


def test_outputs_by_blob_in_either_layout(graph, recorded, agree):
    data = recorded["input/data"]
    for got in (graph.run({"data": data}, layout="caffe"), graph.run({"data": np.moveaxis(data, 1, -1)})):
        assert list(got) == ["prob"]
        agree(got["prob"], recorded["output/prob"], 2e-5)


def test_a_layer_by_its_name_also_where_caffe_ran_it_in_place(graph, recorded, agree):
    got = graph.run({"data": recorded["input/data"]}, ["conv1", "relu_conv1", "fc6"], layout="caffe")
    agree(got["conv1"], recorded["layer/conv1/conv1"], 2e-5)
    agree(got["relu_conv1"], recorded["layer/relu_conv1/conv1"], 2e-5)
    agree(got["fc6"], recorded["layer/fc6/fc6"], 2e-5)
    in_graph = graph.run({"data": np.moveaxis(recorded["input/data"], 1, -1)}, ["conv1"])["conv1"]
    agree(np.moveaxis(in_graph, -1, 1), recorded["layer/conv1/conv1"], 2e-5)


def test_any_number_of_pictures(graph, recorded, agree):
    pictures = recorded["input/data"][[0, 1, 0, 1, 1]]
    got = graph.run({"data": pictures}, layout="caffe")["prob"]
    agree(got, recorded["output/prob"][[0, 1, 0, 1, 1]], 2e-5)


def test_what_is_fed_wrongly_is_refused(graph, recorded):
    with pytest.raises(Refused, match="input 'data' is not fed; got dta"):
        graph.run({"dta": recorded["input/data"]})
    with pytest.raises(Refused, match=r"input 'data' has the shape \(2, 3, 67, 67\); expected \(N, 67, 67, 3\)"):
        graph.run({"data": recorded["input/data"]})
    with pytest.raises(Refused, match="'pr0b' is no output, layer or tensor of this graph"):
        graph.run({"data": recorded["input/data"]}, ["pr0b"], layout="caffe")
    with pytest.raises(Refused, match="layout 'nchw' is unknown"):
        graph.run({"data": recorded["input/data"]}, layout="nchw")


def test_without_its_manifest(saved, tmp_path, recorded, agree):
    (tmp_path / "bare.pb").write_bytes(saved.read_bytes())
    graph = graphs.load(tmp_path / "bare.pb")
    assert graph.inputs == {"data": "data:0"}
    assert graph.outputs == {"prob": "prob:0"}
    agree(graph.run({"data": recorded["input/data"]}, layout="caffe")["prob"], recorded["output/prob"], 2e-5)
    graph.close()


def test_manifest_is_json_in_caffes_layout(saved):
    manifest = json.loads(Path(f"{saved}.json").read_text())
    by_name = {layer["name"]: layer for layer in manifest["layers"]}
    assert by_name["conv1"]["type"] == "Convolution"
    assert by_name["conv1"]["tops"][0]["shape"] == [None, 12, 15, 15]


@pytest.mark.parametrize("content", [b"", b"layer { }", b"\xff" * 100, b"\0" * 100])
def test_what_is_no_graph(tmp_path, content):
    (tmp_path / "net.pb").write_bytes(content)
    with pytest.raises(Refused, match="is no frozen graph: "):
        graphs.load(tmp_path / "net.pb")


def test_a_file_that_is_missing(tmp_path):
    with pytest.raises(Refused, match="No such file or directory"):
        graphs.load(tmp_path / "net.pb")
