"""The same network in every form that a port can have computes the same numbers, in TensorFlow without this project."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from converter import convert

CASES = (
    "mini_alexnet",
    "mini_resnet",
    "conv_depthwise",
    "lrn_within",
    "pool_ave_3x2_pad1",
    "shared_parameters",
    "in_place_chain",
)

# Runs in a folder of its own with Python's -I, so that nothing but installed packages can be imported.
PLAIN_TENSORFLOW = """
import importlib.util, json, os, sys

for name in ("converter", "graphs", "weights", "tools"):
    sys.modules[name] = None  # an import of it fails, should this project be installed

import numpy as np
import tensorflow.compat.v1 as tf


def channels_last(array):
    return np.moveaxis(array, 1, -1) if array.ndim >= 4 else array


def channels_first(array):
    return np.moveaxis(array, -1, 1) if array.ndim >= 4 else array


def fed(manifest, recorded):
    return {one["tensor"]: channels_last(recorded["input/" + one["blob"]]) for one in manifest["inputs"]}


def fetched(session, manifest, recorded):
    tensors = {"output/" + one["blob"]: one["tensor"] for one in manifest["outputs"]}
    for layer in manifest["layers"]:
        tensors.update({f"layer/{layer['name']}/{top['blob']}": top["tensor"] for top in layer["tops"]})
    values = session.run(tensors, fed(manifest, recorded))
    return {name: channels_first(value) for name, value in values.items()}


def frozen(case, manifest, recorded):
    definition = tf.GraphDef()
    with open(case + ".pb", "rb") as file:
        definition.ParseFromString(file.read())
    with tf.Graph().as_default(), tf.Session() as session:
        tf.import_graph_def(definition, name="")
        return fetched(session, manifest, recorded)


def checkpoint(case, manifest, recorded):
    with tf.Graph().as_default(), tf.Session() as session:
        saver = tf.train.import_meta_graph(case + ".ckpt.meta")
        if saver is not None:  # a network without parameters
            saver.restore(session, "./" + case + ".ckpt")
        return fetched(session, manifest, recorded)


def source(weights):
    def run(case, manifest, recorded):
        spec = importlib.util.spec_from_file_location(case, case + ".py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        with tf.Graph().as_default(), tf.Session() as session:
            tensors = module.build()
            for name, tensor in tensors.items():
                assert tensor.name == name + ":0", (name, tensor)
            module.load(session, "./" + case + weights)
            return fetched(session, manifest, recorded)
    return run


forms = {"pb": frozen, "ckpt": checkpoint, "py+npz": source(".npz"), "py+ckpt": source(".ckpt")}
for case in sys.argv[1:]:
    recorded = dict(np.load(case + ".reference.npz"))
    for form, run in forms.items():
        manifest = json.load(open(f"{case}.{form.split('+')[0]}.json", encoding="utf-8"))
        np.savez(f"{case}.{form}.result.npz", **run(case, manifest, recorded))
"""


@pytest.fixture(scope="module")
def results(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with each case in each form, and CASE.FORM.result.npz with what TensorFlow computes of it."""
    folder = tmp_path_factory.mktemp("forms")
    for case in CASES:
        sources = [path for path in (golden / case).iterdir() if path.suffix in (".prototxt", ".caffemodel")]
        port = convert(*sources)
        for ending in (".pb", ".ckpt", ".py", ".npz"):
            port.save(folder / (case + ending))
        (folder / f"{case}.reference.npz").write_bytes((golden / case / "reference.npz").read_bytes())
    (folder / "run.py").write_text(PLAIN_TENSORFLOW)
    subprocess.run([sys.executable, "-I", "run.py", *CASES], cwd=folder, check=True, capture_output=True, text=True)
    return folder


def values(results: Path, case: str, form: str) -> dict[str, np.ndarray]:
    with np.load(results / f"{case}.{form}.result.npz") as arrays:
        return dict(arrays)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("form", ["pb", "ckpt", "py+npz", "py+ckpt"])
def test_form_computes_what_caffe_did(results, golden, agree, case, form):
    got = values(results, case, form)
    with np.load(golden / case / "reference.npz") as recorded:
        names = [name for name in recorded.files if not name.startswith("input/")]
        assert names
        for name in names:
            agree(got[name], recorded[name], 2e-5, f"{form} of {case}, {name}")


@pytest.mark.parametrize("case", CASES)
def test_forms_agree_with_each_other_to_the_last_bits(results, agree, case):
    frozen = values(results, case, "pb")
    for form in ("ckpt", "py+npz", "py+ckpt"):
        others = values(results, case, form)
        assert set(others) == set(frozen)
        for name, expected in frozen.items():
            agree(others[name], expected, 1e-6, f"{form} of {case}, {name}")


def test_manifest_names_inputs_outputs_and_layers(results):
    manifest = json.loads((results / "mini_alexnet.pb.json").read_text())
    assert manifest["inputs"] == [{"blob": "data", "tensor": "data:0", "shape": [None, 3, 67, 67], "dtype": "float32"}]
    assert manifest["outputs"] == [{"blob": "prob", "tensor": "prob:0"}]
    in_place = [layer for layer in manifest["layers"] if layer["name"] == "relu_conv1"]
    assert [(top["blob"], top["tensor"]) for top in in_place[0]["tops"]] == [("conv1", "relu_conv1:0")]
    assert {source["name"] for source in manifest["sources"]} == {"net.prototxt", "weights.caffemodel"}
