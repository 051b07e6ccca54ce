"""Blobs as Caffe stores them: of no axes, shared, stored twice; and files that Caffe reads back."""

from __future__ import annotations

from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from converter import convert
from converter.caffemodel import parse_caffemodel
from graphs import run_reference
from tests.converter.test_bind import field, model, packed, small
from weights import Refused

FAULTS = Path(__file__).parent.parent / "golden"
SCALARS = ("scalar_blob_bias_num_axes0", "scalar_blob_prelu_shared", "scalar_blob_scale_num_axes0")
FORMATS = ("caffemodel", "caffemodel.h5", "npz", "npy", "safetensors", "ckpt", "pb")


def computes(port, case: Path, agree) -> None:
    """Holds a port's reference against what Caffe recorded."""
    with np.load(case / "reference.npz") as recorded:
        inputs = {name.removeprefix("input/"): recorded[name] for name in recorded.files if name.startswith("input/")}
        made = run_reference(port.shapes, port.arrays(), inputs, np.float64)
        expected = {name: recorded[name] for name in recorded.files if name.startswith("layer/")}
    assert expected
    for (layer, top), value in made.items():
        if f"layer/{layer}/{top}" in expected:
            agree(value, expected[f"layer/{layer}/{top}"], 2e-5, layer)


@pytest.mark.parametrize("case", [*SCALARS, "h5_shared_weights_own_bias"])
@pytest.mark.parametrize("file", ["weights.caffemodel", "weights.caffemodel.h5"])
def test_caffe_computes_the_same(case, file, agree):
    folder = FAULTS / case
    if not (folder / file).exists():
        pytest.skip("Caffe wrote none")
    computes(convert(folder / "net.prototxt", folder / file), folder, agree)


@pytest.mark.parametrize("case", [*SCALARS, "h5_shared_weights_own_bias"])
@pytest.mark.parametrize("ending", FORMATS)
def test_they_go_through_every_format(case, ending, tmp_path):
    definition, weights = FAULTS / case / "net.prototxt", FAULTS / case / "weights.caffemodel"
    port = convert(definition, weights)
    port.save(tmp_path / f"w.{ending}")
    again = convert(definition, tmp_path / f"w.{ending}")
    assert {n: (p.caffe.shape, p.caffe.tobytes()) for n, p in again.parameters.items()} == {
        n: (p.caffe.shape, p.caffe.tobytes()) for n, p in port.parameters.items()
    }


@pytest.mark.parametrize("case", SCALARS)
def test_a_blob_of_no_axes_is_written_as_caffe_writes_it(case, tmp_path):
    """Caffe refuses a blob of one axis in its place, so the very blobs are held against each other."""
    folder = FAULTS / case
    port = convert(folder / "net.prototxt", folder / "weights.caffemodel")
    port.save(tmp_path / "w.caffemodel")
    port.save(tmp_path / "w.caffemodel.h5")
    caffes, ours = (
        parse_caffemodel(p.read_bytes()) for p in (folder / "weights.caffemodel", tmp_path / "w.caffemodel")
    )
    assert [array.shape for array in ours.blobs["y"]] == [()] * len(caffes.blobs["y"])
    for value in caffes.blobs["y"]:
        assert field(7, field(5, value.astype("<f4").tobytes())) in (tmp_path / "w.caffemodel").read_bytes()
    with h5py.File(tmp_path / "w.caffemodel.h5") as file:
        for index, value in enumerate(caffes.blobs["y"]):
            assert file[f"data/y/{index}"].shape == ()
            assert file[f"data/y/{index}"][()] == value


@pytest.mark.parametrize("case", ["scalar_blob_prelu_shared", "scalar_blob_scale_num_axes0"])
def test_cv2_reads_a_blob_of_no_axes_back(case, tmp_path, agree):
    folder = FAULTS / case
    port = convert(folder / "net.prototxt", folder / "weights.caffemodel")
    port.save(tmp_path / "w.caffemodel")
    port.save(tmp_path / "w.prototxt")
    net = cv2.dnn.readNetFromCaffe(str(tmp_path / "w.prototxt"), str(tmp_path / "w.caffemodel"))
    with np.load(folder / "reference.npz") as recorded:
        net.setInput(recorded["input/data"], "data")
        agree(net.forward(), recorded["output/y"], 2e-5)


PRELU = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "y" type: "PReLU" bottom: "x" top: "y" prelu_param { channel_shared: true } }
"""


@pytest.fixture
def net(tmp_path) -> Path:
    (tmp_path / "net.prototxt").write_text(PRELU)
    return tmp_path / "net.prototxt"


VALUE = np.array([0.25], "<f4")


@pytest.mark.parametrize(
    "blob",
    [
        field(5, VALUE.tobytes()),
        field(7, b"") + field(5, VALUE.tobytes()),
        packed(VALUE),
        b"".join(small(tag, 1) for tag in range(1, 5)) + field(5, VALUE.tobytes()),
    ],
    ids=["without a shape", "an empty shape", "one axis", "four axes"],
)
def test_every_form_of_one_number(net, tmp_path, blob):
    (tmp_path / "w.caffemodel").write_bytes(model({"y": [blob]}))
    assert convert(net, tmp_path / "w.caffemodel").parameters["y/slopes"].caffe == np.float32(0.25)


@pytest.mark.parametrize(("count", "values"), [(0, b""), (3, np.ones(3, "<f4").tobytes())])
def test_a_blob_without_a_shape_has_one_value(net, tmp_path, count, values):
    (tmp_path / "w.caffemodel").write_bytes(model({"y": [field(5, values)]}))
    with pytest.raises(Refused, match=f"layer 'y': a blob of shape scalar needs 1 values; {count} are stored"):
        convert(net, tmp_path / "w.caffemodel")


def test_the_old_fields_go_before_the_shape(net, tmp_path):
    """As in Caffe's Blob::FromProto."""
    blob = small(1, 2) + small(2, 1) + small(3, 1) + small(4, 1) + packed(VALUE)
    (tmp_path / "w.caffemodel").write_bytes(model({"y": [blob]}))
    with pytest.raises(Refused, match="a blob of shape 2x1x1x1 needs 2 values; 1 are stored"):
        convert(net, tmp_path / "w.caffemodel")


def test_one_number_is_no_mean_picture(net, tmp_path):
    (tmp_path / "mean.binaryproto").write_bytes(field(5, VALUE.tobytes()))
    np.save(tmp_path / "mean.npy", np.float32(104))
    for name in ("mean.binaryproto", "mean.npy"):
        with pytest.raises(
            Refused, match=rf"{name}: holds one number; expected a mean picture, \(3, H, W\), or a mean"
        ):
            convert(net, tmp_path / name)


# ------------------------------------------------------------------ shared parameters


def test_a_shared_blob_is_written_once_and_the_others_keep_their_numbers(tmp_path):
    folder = FAULTS / "h5_shared_weights_own_bias"
    convert(folder / "net.prototxt", folder / "weights.caffemodel").save(tmp_path / "w.caffemodel.h5")
    with h5py.File(tmp_path / "w.caffemodel.h5") as ours, h5py.File(folder / "weights.caffemodel.h5") as caffes:
        for layer in ("p", "q"):
            assert list(ours[f"data/{layer}"]) == list(caffes[f"data/{layer}"])
            for index, array in caffes[f"data/{layer}"].items():
                np.testing.assert_array_equal(ours[f"data/{layer}/{index}"], array)


def test_a_blob_that_is_not_shared_may_not_be_missing(tmp_path):
    folder = FAULTS / "h5_shared_weights_own_bias"
    (tmp_path / "net.prototxt").write_text((folder / "net.prototxt").read_text().replace('param { name: "w" }', ""))
    with pytest.raises(Refused, match=r"layer 'q' \(InnerProduct\): has 1 blobs there \(3\); expected 2 \(3x5 and 3\)"):
        convert(tmp_path / "net.prototxt", folder / "weights.caffemodel.h5")


# ------------------------------------------------------------------ names and layers

FC = """
layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: 2 dim: 7 }} }} }}
layer {{ name: "{0}" type: "InnerProduct" bottom: "x" top: "y" inner_product_param {{ num_output: 5 }} }}
layer {{ name: "{1}" type: "InnerProduct" bottom: "y" top: "z" inner_product_param {{ num_output: 5 }} }}
"""


def test_hdf5_has_no_layer_with_a_slash(tmp_path, rng):
    (tmp_path / "net.prototxt").write_text(FC.format("a/b", "a/c"))
    held = {"a/b": [packed(rng.normal(size=(5, 7))), packed(rng.normal(size=5))]}
    held["a/c"] = [packed(rng.normal(size=(5, 5))), packed(rng.normal(size=5))]
    (tmp_path / "w.caffemodel").write_bytes(model(held))
    port = convert(tmp_path / "net.prototxt", tmp_path / "w.caffemodel")
    for ending in (".caffemodel.h5", ".h5"):
        with pytest.raises(Refused) as refusal:
            port.save(tmp_path / f"out{ending}")
        assert str(refusal.value) == (
            f"{tmp_path / 'out'}{ending}: layer 'a/b' (InnerProduct) and 1 more: HDF5 takes a slash in a name for a "
            "group within a group, so Caffe writes no such file and passes over these layers where it reads one; "
            "write a .caffemodel"
        )
    with h5py.File(tmp_path / "old.caffemodel.h5", "w") as file:  # as this project once wrote it
        for name, blobs in zip(("a/b", "a/c"), port.arrays()[1:]):
            file[f"data/{name}/0"], file[f"data/{name}/1"] = blobs
    again = convert(tmp_path / "net.prototxt", tmp_path / "old.caffemodel.h5")
    assert again.parameters["a/c/biases"].caffe.tobytes() == port.parameters["a/c/biases"].caffe.tobytes()
    (note,) = again.notes
    assert "layers of 2 names with a slash ('a/b') are nested groups there" in note
    assert "Caffe itself passes over such layers without a word: write a .caffemodel for it" in note


def test_a_layer_without_weights_may_have_a_slash(golden, tmp_path):
    text = (golden / "batchnorm" / "net.prototxt").read_text()
    (tmp_path / "net.prototxt").write_text(text + 'layer { name: "a/r" type: "ReLU" bottom: "y" top: "r" }')
    port = convert(tmp_path / "net.prototxt", golden / "batchnorm" / "weights.caffemodel")
    port.save(tmp_path / "w.caffemodel.h5")
    assert convert(tmp_path / "net.prototxt", tmp_path / "w.caffemodel.h5").notes == ()


def test_of_a_layer_that_is_stored_twice_caffe_takes_the_last(net, tmp_path):
    twice = model({"y": [packed(VALUE)]}) + model({"y": [packed(VALUE + 1)]})
    (tmp_path / "w.caffemodel").write_bytes(twice)
    port = convert(net, tmp_path / "w.caffemodel")
    assert port.parameters["y/slopes"].caffe == np.float32(1.25)
    assert port.notes[-1].endswith(
        "layer 'y': several layers there bear that name; Caffe takes the last, and so does the port"
    )


def test_weights_of_a_layer_that_has_none_are_refused(net, tmp_path):
    """A ReLU in the place of the PReLU that was trained."""
    net.write_text(PRELU.replace("PReLU", "ReLU").replace("prelu_param { channel_shared: true }", ""))
    (tmp_path / "w.caffemodel").write_bytes(model({"y": [packed(VALUE)]}))
    with pytest.raises(Refused, match=r"layer 'y' \(ReLU\): has 1 blobs there \(1\); it has no parameters"):
        convert(net, tmp_path / "w.caffemodel")
