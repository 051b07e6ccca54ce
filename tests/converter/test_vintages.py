"""Definitions of every vintage, in every phase: they describe the network that Caffe would run."""

from __future__ import annotations

import numpy as np
import pytest

import converter
from converter.describe import Request, describe
from converter.prototxt import parse_prototxt, print_prototxt
from converter.upgrade import upgrade
from weights import Refused

V0 = """
name: "old"
input: "data" input_dim: 2 input_dim: 3 input_dim: 17 input_dim: 13
layers { layer { name: "pad1" type: "padding" pad: 2 } bottom: "data" top: "pad1" }
layers { layer { name: "conv1" type: "conv" num_output: 8 kernelsize: 5 stride: 2 group: 1 biasterm: true
                 weight_filler { type: "gaussian" std: 0.01 } blobs_lr: 1. blobs_lr: 2. weight_decay: 1. }
         bottom: "pad1" top: "conv1" }
layers { layer { name: "relu1" type: "relu" } bottom: "conv1" top: "conv1" }
layers { layer { name: "pool1" type: "pool" pool: AVE kernelsize: 3 stride: 2 } bottom: "conv1" top: "pool1" }
layers { layer { name: "norm1" type: "lrn" local_size: 3 alpha: 0.01 beta: 0.5 k: 2 } bottom: "pool1" top: "norm1" }
layers { layer { name: "fc" type: "innerproduct" num_output: 7 biasterm: false } bottom: "norm1" top: "fc" }
layers { layer { name: "drop" type: "dropout" dropout_ratio: 0.3 } bottom: "fc" top: "fc" }
layers { layer { name: "prob" type: "softmax" } bottom: "fc" top: "prob" }
"""

V2 = """
name: "old"
layer { name: "input" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 17 dim: 13 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1" param { lr_mult: 1 decay_mult: 1 }
        param { lr_mult: 2 }
        convolution_param { num_output: 8 bias_term: true pad: 2 kernel_size: 5 group: 1 stride: 2
                            weight_filler { type: "gaussian" std: 0.01 } } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
        pooling_param { pool: AVE kernel_size: 3 stride: 2 } }
layer { name: "norm1" type: "LRN" bottom: "pool1" top: "norm1" lrn_param { local_size: 3 alpha: 0.01 beta: 0.5 k: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "norm1" top: "fc"
        inner_product_param { num_output: 7 bias_term: false } }
layer { name: "drop" type: "Dropout" bottom: "fc" top: "fc" dropout_param { dropout_ratio: 0.3 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""


def test_a_net_of_2013_is_the_one_that_today_s_spelling_describes():
    assert upgrade(parse_prototxt(V0)) == parse_prototxt(V2)


def test_v0_refuses_a_parameter_that_its_type_does_not_take():
    text = V0.replace('type: "relu"', 'type: "relu" kernelsize: 3').replace('type: "softmax"', 'type: "softmax" pad: 1')
    with pytest.raises(Refused) as refused:
        upgrade(parse_prototxt(text))
    assert refused.value.reasons == (
        "layer 'relu1' (relu): kernel_size: a layer of type ReLU does not take it",
        "layer 'prob' (softmax): pad: a layer of type Softmax does not take it",
    )


def test_v0_padding_before_anything_but_a_window_is_refused():
    text = V0.replace('name: "relu1" type: "relu" } bottom: "conv1"', 'name: "relu1" type: "relu" } bottom: "pad1"')
    with pytest.raises(Refused, match=r"layer 'relu1' .* reads the padding layer 'pad1'; only conv and pool can"):
        upgrade(parse_prototxt(text))


V1_DATA = """
layers { name: "data" type: DATA top: "data" top: "label" data_param { batch_size: 5 scale: 0.5 mean_file: "m"
         crop_size: 11 mirror: true } include { phase: TRAIN } }
layers { name: "data" type: DATA top: "data" top: "label" data_param { batch_size: 3 crop_size: 11 }
         include { phase: TEST } }
layers { name: "fc" type: INNER_PRODUCT bottom: "data" top: "fc" inner_product_param { num_output: 7 }
         param: "w" param: "b" blobs_lr: 1 blobs_lr: 2 }
layers { name: "loss" type: SOFTMAX_LOSS bottom: "fc" bottom: "label" }
layers { name: "accuracy" type: ACCURACY bottom: "fc" bottom: "label" top: "accuracy" include { phase: TEST } }
"""


def test_transformations_that_moved():
    layer = upgrade(parse_prototxt(V1_DATA)).layer[0]
    assert (layer.transform_param.scale, layer.transform_param.mean_file) == (0.5, "m")
    assert (layer.transform_param.crop_size, layer.transform_param.mirror) == (11, True)
    assert [field.name for field, _ in layer.data_param.ListFields()] == ["batch_size"]


def described(text: str, **request):
    return describe(upgrade(parse_prototxt(text)), Request(**request))


@pytest.mark.parametrize(("phase", "batch", "layers"), [("TRAIN", 5, 4), ("TEST", 3, 5)])
def test_data_layers_become_placeholders(phase, batch, layers, tmp_path):
    (tmp_path / "net.prototxt").write_text(V1_DATA)
    port = converter.convert(tmp_path / "net.prototxt", phase=phase)
    assert port.network.inputs == {"data": (batch, 3, 11, 11), "label": (batch,)}
    names = [node.name for node in port.network.nodes]
    assert len(names) == layers
    assert "prob" in names
    assert ("accuracy" in names) == (phase == "TEST")
    assert {"fc", "prob", "loss"} <= set(port.network.outputs)
    assert [spec.name for spec in port.network.nodes[1].specs] == ["w", "b"]
    assert port.notes[0].endswith(
        f"layer 'data' (Data): 3 channels are assumed; say otherwise with --input-shape data={batch},3,11,11"
    )


def test_input_shape_overrides_what_a_data_layer_says(tmp_path):
    (tmp_path / "net.prototxt").write_text(V1_DATA)
    port = converter.convert(tmp_path / "net.prototxt", input_shapes={"data": (2, 1, 5, 7)})
    assert port.network.inputs == {"data": (2, 1, 5, 7), "label": (2,)}
    assert not port.notes


def test_a_data_layer_that_does_not_say_its_shape():
    text = (
        'layer { name: "d" type: "HDF5Data" top: "a" top: "b" } layer { name: "r" type: "ReLU" bottom: "a" top: "r" }'
    )
    with pytest.raises(Refused) as refused:
        described(text)
    assert refused.value.reasons == tuple(
        f"layer 'd' (HDF5Data): does not say the shape of blob '{blob}'; give it: --input-shape {blob}=1,3,227,227"
        for blob in "ab"
    )
    network = described(text, inputs={"a": (2, 3), "b": (2,)}).network
    assert network.inputs == {"a": (2, 3), "b": (2,)}


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        ('type: "ImageData" image_data_param { batch_size: 2 new_height: 13 new_width: 11 }', (2, 3, 13, 11)),
        ('type: "ImageData" image_data_param { new_height: 5 new_width: 7 is_color: false }', (1, 1, 5, 7)),
        ('type: "MemoryData" memory_data_param { batch_size: 7 channels: 2 height: 5 width: 3 }', (7, 2, 5, 3)),
        ('type: "DummyData" dummy_data_param { shape { dim: 2 dim: 5 } }', (2, 5)),
        ('type: "DummyData" dummy_data_param { num: 2 channels: 3 height: 5 width: 7 }', (2, 3, 5, 7)),
        ('type: "WindowData" window_data_param { batch_size: 3 } transform_param { crop_size: 11 }', (3, 3, 11, 11)),
        ('type: "Data" data_param { batch_size: 3 } transform_param { crop_size: 7 force_gray: true }', (3, 1, 7, 7)),
        (
            'type: "Data" data_param { batch_size: 3 } transform_param { crop_size: 5 mean_value: 1 mean_value: 2 }',
            (3, 2, 5, 5),
        ),
    ],
)  # fmt: skip
def test_every_data_layer_says_its_shape_in_its_own_way(layer, expected):
    text = f'layer {{ name: "d" top: "d" {layer} }} layer {{ name: "r" type: "ReLU" bottom: "d" top: "r" }}'
    assert described(text).network.inputs == {"d": expected}


def test_levels_and_stages():
    from converter.rules import State

    text = """
    layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 } } }
    layer { name: "level" type: "ReLU" bottom: "x" top: "level" include { min_level: 2 max_level: 4 } }
    layer { name: "stage" type: "ReLU" bottom: "x" top: "stage" include { stage: "a" not_stage: "b" } }
    layer { name: "either" type: "ReLU" bottom: "x" top: "either" include { stage: "b" } include { phase: TRAIN } }
    layer { name: "never" type: "ReLU" bottom: "x" top: "never" exclude { stage: "a" } exclude { stage: "b" } }
    """

    def names(**state) -> list[str]:
        return [node.name for node in described(text, state=State(**state)).network.nodes[1:]]

    assert names() == ["never"]
    assert names(level=3) == ["level", "never"]
    assert names(level=5, stages=("a",)) == ["stage"]
    assert names(stages=("a", "b")) == ["either"]
    assert names(phase="TRAIN") == ["either", "never"]


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
@pytest.mark.parametrize("net", ["alexnet", "caffenet"])
def test_the_published_train_val(shared, phase, net, tmp_path):
    port = converter.convert(shared / f"models/{net}/train_val.prototxt", phase=phase)
    batch = 256 if phase == "TRAIN" else 50
    assert port.network.inputs == {"data": (batch, 3, 227, 227), "label": (batch,)}
    assert port.shapes.free_batch
    expected = ["fc8", "prob", "loss"] if phase == "TRAIN" else ["fc8", "accuracy", "prob", "loss"]
    assert sorted(port.network.outputs) == sorted(expected)
    deploy = converter.convert(shared / f"models/{net}/deploy.prototxt")
    by_name = {layer.node.name: layer for layer in port.shapes}
    for layer in deploy.shapes:  # the same network but for its ends
        if layer.node.name != "data":
            assert by_name[layer.node.name].node.layer.type == layer.node.layer.type
            assert by_name[layer.node.name].tops[0][1:] == layer.tops[0][1:]


def test_a_definition_written_and_read_again_is_the_same(golden):
    from converter.describe import message_of

    for case in sorted(golden.iterdir()):
        message = upgrade(parse_prototxt((case / "net.prototxt").read_text()))
        try:
            network = describe(message, Request()).network
        except Refused:
            continue
        again = describe(parse_prototxt(print_prototxt(message_of(network))), Request()).network
        assert again == network, case.name


def test_dropout_drops_in_train_only(tmp_path):
    import graphs

    (tmp_path / "net.prototxt").write_text(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 1 dim: 10007 } } }'
        'layer { name: "y" type: "Dropout" bottom: "x" top: "y" dropout_param { dropout_ratio: 0.25 } }'
    )
    x = np.ones((1, 10007), np.float32)
    for phase in ("TEST", "TRAIN"):
        converter.convert(tmp_path / "net.prototxt", phase=phase).save(tmp_path / "net.pb")
        y = graphs.load(tmp_path / "net.pb").run({"x": x})["y"]
        if phase == "TEST":
            assert np.array_equal(y, x)
        else:
            assert abs((y == 0).mean() - 0.25) < 0.03
            assert np.allclose(y[y != 0], 1 / 0.75)
