"""Weights of every format go into the family's graphs; what does not fit is said, all of it at once."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converter.pretrained import load_pretrained, pretrained
from graphs.alexnet import FAMILY, Endpoints, bvlc, one_weird_trick, torchvision
from graphs.tensorflow1 import tensorflow1
from weights import Refused

SIDE = 67
"""Height and width of pictures that leave fc6 one place of pool5, so that files stay small."""
FORMATS = (".npz", ".npy", ".safetensors", ".caffemodel", ".caffemodel.h5", ".ckpt", ".pb")


@pytest.fixture
def tf():
    module = tensorflow1("the tests")
    with module.Graph().as_default():
        yield module


def small(tf: Any, name: str = "bvlc", classes: int = 7) -> Endpoints:
    return FAMILY[name].build(tf.placeholder(tf.float32, [None, SIDE, SIDE, 3], "images"), 1.0, classes)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> dict[str, Path]:
    """A small AlexNet's weights, seeded, in every format that the converter writes."""
    import converter
    from converter.outputs import save

    folder = tmp_path_factory.mktemp("alexnet")
    (folder / "net.prototxt").write_text(DEFINITION)
    rng = np.random.default_rng(3)
    shapes = {
        "conv1": (96, 3, 11, 11),
        "conv2": (256, 48, 5, 5),
        "conv3": (384, 256, 3, 3),
        "conv4": (384, 192, 3, 3),
        "conv5": (256, 192, 3, 3),
        "fc6": (4096, 256),
        "fc7": (4096, 4096),
        "fc8": (7, 4096),
    }
    arrays = {}
    for layer, shape in shapes.items():
        fan = np.prod(shape[1:])
        arrays[f"{layer}/weights"] = (rng.standard_normal(shape, np.float32) * np.float32((2 / fan) ** 0.5)).astype(
            "f4"
        )
        arrays[f"{layer}/biases"] = rng.standard_normal(shape[0], np.float32)
    np.savez(folder / "caffe.npz", **arrays)
    port = converter.convert(folder / "net.prototxt", folder / "caffe.npz", weights_layout="caffe")
    for ending in FORMATS:
        save(port, folder / f"w{ending}")
    return {ending: folder / f"w{ending}" for ending in FORMATS}


def _layers() -> str:
    shape = f"input_param {{ shape {{ dim: 1 dim: 3 dim: {SIDE} dim: {SIDE} }} }}"
    text = f'name: "small" layer {{ name: "data" type: "Input" top: "data" {shape} }}\n'
    bottom = "data"

    def layer(name: str, kind: str, parameters: str = "") -> None:
        nonlocal text, bottom
        text += f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{name}" {parameters} }}\n'
        bottom = name

    def conv(number: int, outputs: int, kernel: int, rest: str) -> None:
        layer(
            f"conv{number}",
            "Convolution",
            f"convolution_param {{ num_output: {outputs} kernel_size: {kernel} {rest} }}",
        )
        layer(f"relu{number}", "ReLU")

    def squeeze(number: int) -> None:
        layer(f"norm{number}", "LRN", "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }")
        layer(f"pool{number}", "Pooling", "pooling_param { pool: MAX kernel_size: 3 stride: 2 }")

    conv(1, 96, 11, "stride: 4")
    squeeze(1)
    conv(2, 256, 5, "pad: 2 group: 2")
    squeeze(2)
    conv(3, 384, 3, "pad: 1")
    conv(4, 384, 3, "pad: 1 group: 2")
    conv(5, 256, 3, "pad: 1 group: 2")
    layer("pool5", "Pooling", "pooling_param { pool: MAX kernel_size: 3 stride: 2 }")
    for number, outputs in ((6, 4096), (7, 4096), (8, 7)):
        layer(f"fc{number}", "InnerProduct", f"inner_product_param {{ num_output: {outputs} }}")
        if number < 8:
            layer(f"relu{number}", "ReLU")
    layer("prob", "Softmax")
    return text


DEFINITION = _layers()


@pytest.fixture(scope="module")
def expected(model) -> tuple[np.ndarray, np.ndarray]:
    """Two pictures, and the logits that the converter's frozen graph computes of them."""
    import graphs

    pictures = np.random.default_rng(5).uniform(-120, 120, (2, SIDE, SIDE, 3)).astype(np.float32)
    frozen = graphs.load(model[".pb"])
    logits = frozen.run({"data": pictures}, fetch=["fc8"])["fc8"]
    frozen.close()
    return pictures, logits


@pytest.mark.parametrize("ending", FORMATS)
def test_every_format_is_loaded(tf, model, expected, agree, ending):
    pictures, logits = expected
    endpoints = small(tf)
    with tf.Session() as session:
        load_pretrained(session, model[ending], endpoints)
        agree(session.run(endpoints["logits"], {"images:0": pictures}), logits, 1e-6)


def test_skipped_layers_keep_what_they_have(tf, model):
    endpoints = small(tf, classes=5)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        before = session.run(list(endpoints.variables["fc8"]))
        notes = load_pretrained(session, model[".npz"], endpoints, skip_layers=("fc8",))
        after = session.run(list(endpoints.variables["fc8"]))
        with np.load(model[".npz"]) as stored:
            np.testing.assert_array_equal(session.run(endpoints.variables["fc7"][0]), stored["fc7/weights"])
    assert notes == ()
    for one, other in zip(before, after):
        np.testing.assert_array_equal(one, other)


def test_variables_in_a_scope_are_loaded(tf, model):
    with tf.variable_scope("student"):
        endpoints = small(tf)
    with tf.Session() as session, np.load(model[".npz"]) as stored:
        load_pretrained(session, model[".npz"], endpoints)
        np.testing.assert_array_equal(session.run(endpoints.variables["conv1"][1]), stored["conv1/biases"])


def test_missing_surplus_and_misshaped_are_all_listed(tf, model, tmp_path):
    with np.load(model[".npz"]) as stored:
        arrays = dict(stored)
    del arrays["conv2/weights"], arrays["conv2/biases"]
    arrays["fc8_flickr/weights"] = np.zeros((4096, 20), np.float32)
    arrays["conv9/weights"] = np.zeros((2, 3), np.float32)
    arrays["conv5/weights"] = arrays["conv5/weights"][..., :-1]
    np.savez(tmp_path / "w.npz", **arrays)
    with pytest.raises(Refused) as refused:
        pretrained(tmp_path / "w.npz", small(tf, classes=20))
    place = str(tmp_path / "w.npz")
    assert refused.value.reasons == (
        f"{place}: layer 'conv2' (Convolution): has no weights there; expected 256x48x5x5 and 256",
        f"{place}: layer 'conv5' (Convolution): its weights have the shape 3x3x192x255 there; expected 256x192x3x3 "
        "(or 3x3x192x256 in TensorFlow's layout)",
        f"{place}: layer 'fc8' (InnerProduct): its weights have the shape 4096x7 there; expected 20x4096 (or 4096x20 "
        "in TensorFlow's layout)",
        f"{place}: layer 'fc8' (InnerProduct): its biases have the shape 7 there; expected 20",
        f"{place}: layer 'fc8_flickr': the network has no such layer; to leave it out, name it in skip_layers",
        f"{place}: layer 'conv9': the network has no such layer; to leave it out, name it in skip_layers",
    )


def test_surplus_layers_may_be_skipped_by_name(tf, model, tmp_path):
    with np.load(model[".npz"]) as stored:
        arrays = {name.replace("fc8", "fc8_flickr"): array for name, array in stored.items()}
    np.savez(tmp_path / "w.npz", **arrays)
    endpoints = small(tf, classes=20)
    bound = pretrained(tmp_path / "w.npz", endpoints, skip_layers=("fc8", "fc8_flickr"))
    assert list(bound.parameters)[-1] == "fc7/biases"
    with pytest.raises(
        Refused, match=r"layer 'fc9': neither the network nor the file has it.*; the network has conv1, "
    ):
        pretrained(tmp_path / "w.npz", endpoints, skip_layers=("fc8", "fc8_flickr", "fc9"))


def test_a_definition_is_no_weights(tf, tmp_path):
    (tmp_path / "net.prototxt").write_text(DEFINITION)
    with pytest.raises(Refused, match=r"net.prototxt: is a definition; give a file of weights"):
        pretrained(tmp_path / "net.prototxt", small(tf))


@pytest.mark.parametrize("name", ["ungrouped", "paper", "batchnorm"])
def test_checkpoints_of_other_names_are_loaded(tf, name, tmp_path):
    """Also with an optimizer's slots and counters beside the variables."""
    endpoints = small(tf, name)
    loss = tf.reduce_sum(endpoints["logits"][:, :1])
    step = tf.train.get_or_create_global_step()
    tf.train.AdamOptimizer().minimize(loss, step, var_list=list(endpoints.variables["conv1"]))
    with tf.Session() as session:
        tf.set_random_seed(3)
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, str(tmp_path / "w.ckpt"))
        expected = {row: session.run(list(held)) for row, held in endpoints.variables.items()}
    with tf.Graph().as_default(), tf.Session() as session:
        again = small(tf, name)
        load_pretrained(session, tmp_path / "w.ckpt", again)
        for row, held in again.variables.items():
            for one, other in zip(session.run(list(held)), expected[row]):
                np.testing.assert_array_equal(one, other)


def torchvisions(torch: Any, features: int, classes: int) -> Any:
    """Returns torchvision's AlexNet, from its published table of layers, seeded; ``features`` is pool5's size."""
    torch.manual_seed(7)
    nn = torch.nn
    return nn.Sequential(
        OrderedDict(
            features=nn.Sequential(
                nn.Conv2d(3, 64, kernel_size=11, stride=4, padding=2),
                nn.ReLU(),
                nn.MaxPool2d(kernel_size=3, stride=2),
                nn.Conv2d(64, 192, kernel_size=5, padding=2),
                nn.ReLU(),
                nn.MaxPool2d(kernel_size=3, stride=2),
                nn.Conv2d(192, 384, kernel_size=3, padding=1),
                nn.ReLU(),
                nn.Conv2d(384, 256, kernel_size=3, padding=1),
                nn.ReLU(),
                nn.Conv2d(256, 256, kernel_size=3, padding=1),
                nn.ReLU(),
                nn.MaxPool2d(kernel_size=3, stride=2),
            ),
            avgpool=nn.AdaptiveAvgPool2d((features, features)),
            flatten=nn.Flatten(),
            classifier=nn.Sequential(
                nn.Dropout(),
                nn.Linear(256 * features * features, 4096),
                nn.ReLU(),
                nn.Dropout(),
                nn.Linear(4096, 4096),
                nn.ReLU(),
                nn.Linear(4096, classes),
            ),
        )
    ).eval()


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_torchvisions_alexnet_computes_what_torch_computes(tf, tmp_path, agree, rng, form):
    torch = pytest.importorskip("torch")
    net = torchvisions(torch, features=6, classes=1000 if form == "zip" else 11)
    path = tmp_path / ("alexnet.safetensors" if form == "safetensors" else "alexnet.pth")
    if form == "safetensors":
        pytest.importorskip("safetensors.torch").save_file(net.state_dict(), path)
    else:
        torch.save(net.state_dict(), path, _use_new_zipfile_serialization=form == "zip")
    pictures = rng.normal(size=(2, 224, 224, 3)).astype(np.float32)
    with torch.no_grad():
        x = torch.from_numpy(np.moveaxis(pictures, -1, 1).copy())
        places = {"conv1": 0, "pool1": 2, "conv3": 6, "pool5": 12}
        seen = {}
        for index, layer in enumerate(net.features):
            x = layer(x)
            seen.update({name: np.moveaxis(x.numpy(), 1, -1).copy() for name, at in places.items() if at == index})
        seen["logits"] = net.classifier(net.flatten(net.avgpool(x))).numpy()
    endpoints = torchvision(tf.constant(pictures), 1.0, 1000 if form == "zip" else 11)
    with tf.Session() as session:
        load_pretrained(session, path, endpoints)
        values = session.run({name: endpoints[name] for name in seen})
    path.unlink()
    for name, expected in seen.items():
        agree(values[name], expected, 1e-5, name)


def test_torchvisions_weights_into_another_alexnet_are_refused(tf, tmp_path):
    """The shapes would fit the notebook's graph, whose LRN and SAME padding compute something else."""
    torch = pytest.importorskip("torch")
    torch.save(torchvisions(torch, features=1, classes=7).state_dict(), tmp_path / "a.pth")
    images = tf.placeholder(tf.float32, [None, SIDE, SIDE, 3])
    told = "a.pth: is torchvision's AlexNet, without LRN and with conv1 padded by 2; build alexnet.torchvision"
    for keywords in ({}, {"has_lrn": False}, {"conv1_padding": 2}):
        with pytest.raises(Refused, match=told), tf.variable_scope("", reuse=tf.AUTO_REUSE):
            pretrained(tmp_path / "a.pth", one_weird_trick(images, 1.0, 7, **keywords))
    with tf.variable_scope("", reuse=tf.AUTO_REUSE):
        pretrained(tmp_path / "a.pth", one_weird_trick(images, 1.0, 7, has_lrn=False, conv1_padding=2))
    with pytest.raises(Refused, match=told), tf.variable_scope("bvlc"):
        pretrained(tmp_path / "a.pth", bvlc(images, 1.0, 7))


def test_a_new_head_on_torchvisions_weights(tf, tmp_path):
    torch = pytest.importorskip("torch")
    net = torchvisions(torch, features=1, classes=7)
    torch.save(net.state_dict(), tmp_path / "a.pth")
    endpoints = torchvision(tf.placeholder(tf.float32, [None, SIDE, SIDE, 3]), 1.0, 5)
    bound = pretrained(tmp_path / "a.pth", endpoints, skip_layers=("fc8",))
    assert list(bound.parameters)[-2:] == ["fc7/weights", "fc7/biases"]
    with pytest.raises(Refused, match=r"a.pth: layer 'fc8' \(InnerProduct\): its weights have the shape 7x4096 there"):
        pretrained(tmp_path / "a.pth", endpoints)
