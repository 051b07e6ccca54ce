"""Ports made by other people's recipes, rebuilt from their published description: audited, their faults named.

The structure, sizes of windows and numbers are the recipes' own, as their repositories have them (guerzh/tf_weights,
kratzert/finetune_alexnet_with_tensorflow at the commits named below); there are fewer channels, and the weights are
seeded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from graphs.tensorflow1 import tensorflow1
from tests.tools.faulty_graphs import Truth, pictures, read, seeded, true
from tools.recording import Key, Preprocessing, whole
from tools.validate.comparison import TOLERANCE, differ
from tools.validate.diagnosis import Diagnosis, diagnose_all, scene_of

MEAN = (104.00699, 116.66877, 122.67892)
"""ILSVRC 2012's, B, G, R: what Caffe's AlexNet was trained with."""


def _convolution(name: str, bottom: str, count: int, size: int, more: str) -> str:
    return (
        f'layer {{ name: "{name}" type: "Convolution" bottom: "{bottom}" top: "{name}" '
        f"convolution_param {{ num_output: {count} kernel_size: {size} {more} }} }}\n"
        f'layer {{ name: "relu_{name}" type: "ReLU" bottom: "{name}" top: "{name}" }}\n'
    )


def _norm_and_pool(number: int) -> str:
    return (
        f'layer {{ name: "norm{number}" type: "LRN" bottom: "conv{number}" top: "norm{number}" '
        "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 } }\n"
        f'layer {{ name: "pool{number}" type: "Pooling" bottom: "norm{number}" top: "pool{number}" '
        "pooling_param { pool: MAX kernel_size: 3 stride: 2 } }\n"
    )


def _dense(name: str, bottom: str, count: int) -> str:
    return (
        f'layer {{ name: "{name}" type: "InnerProduct" bottom: "{bottom}" top: "{name}" '
        f"inner_product_param {{ num_output: {count} }} }}\n"
    )


DEFINITION = "".join(
    (
        'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 227 dim: 227 } } }\n',
        _convolution("conv1", "data", 12, 11, "stride: 4"),
        _norm_and_pool(1),
        _convolution("conv2", "pool1", 16, 5, "pad: 2 group: 2"),
        _norm_and_pool(2),
        _convolution("conv3", "pool2", 20, 3, "pad: 1"),
        _convolution("conv4", "conv3", 20, 3, "pad: 1 group: 2"),
        _convolution("conv5", "conv4", 16, 3, "pad: 1 group: 2"),
        'layer { name: "pool5" type: "Pooling" bottom: "conv5" top: "pool5" '
        "pooling_param { pool: MAX kernel_size: 3 stride: 2 } }\n",
        _dense("fc6", "pool5", 32),
        'layer { name: "relu6" type: "ReLU" bottom: "fc6" top: "fc6" }\n',
        'layer { name: "drop6" type: "Dropout" bottom: "fc6" top: "fc6" dropout_param { dropout_ratio: 0.5 } }\n',
        _dense("fc7", "fc6", 32),
        'layer { name: "relu7" type: "ReLU" bottom: "fc7" top: "fc7" }\n',
        'layer { name: "drop7" type: "Dropout" bottom: "fc7" top: "fc7" dropout_param { dropout_ratio: 0.5 } }\n',
        _dense("fc8", "fc7", 10),
        'layer { name: "prob" type: "Softmax" bottom: "fc8" top: "prob" }\n',
    )
)


@pytest.fixture(scope="module")
def photographs() -> np.ndarray:
    """R, G, B of 0..255, as people read them; (N, H, W, 3)."""
    return pictures(3, 227, np.random.default_rng(227))[:, ::-1].transpose(0, 2, 3, 1).astype(np.float32)


@pytest.fixture(scope="module")
def truth(photographs) -> Truth:
    rng = np.random.default_rng(2012)
    shapes = read(DEFINITION)
    fed = photographs[..., ::-1].transpose(0, 3, 1, 2) - np.reshape(MEAN, (3, 1, 1))
    return true(shapes, seeded(shapes, fed, rng), fed, Preprocessing(mean=np.array(MEAN), stated_by="the definition"))


Weights = dict[str, tuple[np.ndarray, np.ndarray]]


def in_tensorflow_layout(truth: Truth) -> Weights:
    """Returns what bvlc_alexnet.npy has: layer -> (weights, biases), converted rightly."""
    found = {}
    for layer, arrays in zip(truth.shapes, truth.arrays):
        if arrays:
            weights, biases = arrays
            if layer.node.name == "fc6":
                weights = weights.reshape(len(weights), 16, 6, 6).transpose(0, 2, 3, 1).reshape(len(weights), -1)
            order = (2, 3, 1, 0) if weights.ndim == 4 else (1, 0)
            found[layer.node.name] = (np.ascontiguousarray(weights.transpose(order)), biases)
    return found


def convolution(
    tf: Any, x: Any, parameters: tuple[np.ndarray, np.ndarray], step: int, padding: str, group: int = 1
) -> Any:
    """Both recipes' function ``conv``: split, convolve, concatenate, add the biases."""
    kernel, biases = map(tf.constant, parameters)
    parts = zip(tf.split(x, group, axis=3), tf.split(kernel, group, axis=3))
    return tf.nn.bias_add(tf.concat([tf.nn.conv2d(a, k, [1, step, step, 1], padding) for a, k in parts], 3), biases)


def guerzhoy(tf: Any, photographs: np.ndarray, weights: Weights, swaps: bool) -> dict[Key, Any]:
    """myalexnet_forward: conv1 SAME; each picture's own mean; no channel swap, and in myalexnet_forward_newtf one that
    overwrites what it is to move."""
    prepared = []
    for picture in photographs:
        im1 = picture.copy()
        im1 = im1 - im1.mean()
        if swaps:
            im1[:, :, 0], im1[:, :, 2] = im1[:, :, 2], im1[:, :, 0]
        prepared.append(im1)
    t: dict[str, Any] = {"data": tf.placeholder_with_default(np.float32(prepared), [None, None, None, 3])}
    t["conv1"] = convolution(tf, t["data"], weights["conv1"], 4, "SAME")
    t["relu_conv1"] = tf.nn.relu(t["conv1"])
    t["norm1"] = tf.nn.local_response_normalization(t["relu_conv1"], depth_radius=2, alpha=2e-05, beta=0.75, bias=1.0)
    t["pool1"] = tf.nn.max_pool2d(t["norm1"], 3, 2, "VALID")
    t["conv2"] = convolution(tf, t["pool1"], weights["conv2"], 1, "SAME", 2)
    t["relu_conv2"] = tf.nn.relu(t["conv2"])
    t["norm2"] = tf.nn.local_response_normalization(t["relu_conv2"], depth_radius=2, alpha=2e-05, beta=0.75, bias=1.0)
    t["pool2"] = tf.nn.max_pool2d(t["norm2"], 3, 2, "VALID")
    return by_key(the_rest(tf, t, weights, lambda x: x))


VGG_MEAN = np.array([123.68, 116.779, 103.939], np.float32)
"""R, G, B; kratzert's second pipeline subtracts it, and then turns the channels: rightly, but of another data set."""

FIRST_MEAN = np.array([124.0, 117.0, 104.0], np.float32)
"""R, G, B; his first pipeline, and the notebook of the same repository: 104, 117, 124 of OpenCV's B, G, R."""


@dataclass(frozen=True)
class Version:
    """What alexnet.py and the pipeline beside it had at a commit."""

    commit: str
    alpha: float
    pool_first: bool
    mean: np.ndarray


VERSIONS = [
    Version("79dc39d of 2017-02", 2e-05, True, FIRST_MEAN),
    Version("91a3525 of 2017-06", 2e-05, True, VGG_MEAN),
    Version("d428d1e of 2017-12", 1e-05, False, VGG_MEAN),
    Version("9390d37 of 2018-05", 1e-04, False, VGG_MEAN),
    Version("3e2b50e of 2018-08", 2e-05, False, VGG_MEAN),
]


def kratzert(
    tf: Any, photographs: np.ndarray, weights: Weights, version: Version, keep_prob: float = 1
) -> dict[Key, Any]:
    """finetune_alexnet_with_tensorflow: another alpha, or pooling before normalizing; another mean; dropout by a
    ``keep_prob`` that is fed."""
    prepared = (photographs - version.mean)[..., ::-1]
    t: dict[str, Any] = {"data": tf.placeholder_with_default(prepared, [None, None, None, 3])}

    def norm_and_pool(number: int) -> None:
        norm, pool, x = f"norm{number}", f"pool{number}", t[f"relu_conv{number}"]
        for name in (pool, norm) if version.pool_first else (norm, pool):
            if name == pool:
                x = tf.nn.max_pool2d(x, 3, 2, "VALID")
            else:
                x = tf.nn.local_response_normalization(x, depth_radius=2, alpha=version.alpha, beta=0.75, bias=1.0)
            t[name] = x
        t[f"below_conv{number + 1}"] = x

    t["conv1"] = convolution(tf, t["data"], weights["conv1"], 4, "VALID")
    t["relu_conv1"] = tf.nn.relu(t["conv1"])
    norm_and_pool(1)
    t["conv2"] = convolution(tf, t["below_conv2"], weights["conv2"], 1, "SAME", 2)
    t["relu_conv2"] = tf.nn.relu(t["conv2"])
    norm_and_pool(2)
    t["pool2"], kept = t["below_conv3"], t["pool2"]
    the_rest(tf, t, weights, lambda x: tf.nn.dropout(x, rate=1 - keep_prob, seed=3))
    t["pool2"] = kept
    return by_key(t)


def the_rest(tf: Any, t: dict[str, Any], weights: Weights, dropout: Any) -> dict[str, Any]:
    """What both have in common from conv3 on."""
    for name, below, group in (("conv3", "pool2", 1), ("conv4", "relu_conv3", 2), ("conv5", "relu_conv4", 2)):
        t[name] = convolution(tf, t[below], weights[name], 1, "SAME", group)
        t[f"relu_{name}"] = tf.nn.relu(t[name])
    t["pool5"] = tf.nn.max_pool2d(t["relu_conv5"], 3, 2, "VALID")
    flat = tf.reshape(t["pool5"], [-1, 6 * 6 * 16])
    for number, below in ((6, flat), (7, "drop6"), (8, "drop7")):
        x = t[below] if isinstance(below, str) else below
        t[f"fc{number}"] = tf.nn.xw_plus_b(x, *weights[f"fc{number}"])
        if number < 8:
            t[f"relu{number}"] = tf.nn.relu(t[f"fc{number}"])
            t[f"drop{number}"] = dropout(t[f"relu{number}"])
    t["prob"] = tf.nn.softmax(t["fc8"])
    return t


def by_key(tensors: dict[str, Any]) -> dict[Key, Any]:
    """Returns tensors by layer and top; Caffe runs ReLU and Dropout in place."""
    tops = {"relu6": "fc6", "relu7": "fc7", "drop6": "fc6", "drop7": "fc7"}
    return {
        ("", "data") if name == "data" else (name, tops.get(name, name.removeprefix("relu_"))): tensor
        for name, tensor in tensors.items()
    }


def audited(truth: Truth, build: Any) -> dict[str, Diagnosis]:
    """Runs a graph layer by layer, each fed the truth's own bottoms (its pictures are its own), and returns layer ->
    diagnosis of all that differ."""
    tf = tensorflow1("the tests")
    scenes = []
    with tf.Graph().as_default(), tf.Session() as session:
        tensors = build(tf)
        for key, expected in truth.values.items():
            bottoms = truth.steps[key[0]].bottoms if key[0] else ()
            feeds = {tensors[one]: truth.values[one] for one in bottoms}
            feeds = {tensor: np.moveaxis(one, 1, -1) if one.ndim == 4 else one for tensor, one in feeds.items()}
            got = session.run(tensors[key], feeds)
            got = np.moveaxis(got, -1, 1) if got.ndim == 4 else got
            if not differ(got, whole(expected)).passes(TOLERANCE):
                scenes.append(scene_of(truth.steps, truth.values, key, got, preprocessing=truth.preprocessing))
    found = {scene.target[0]: diagnosis for scene, diagnosis in zip(scenes, diagnose_all(scenes))}
    print("", *found.values(), sep="\n")
    return found


def mistakes(found: dict[str, Diagnosis]) -> dict[str, str]:
    return {layer: one.mistake for layer, one in found.items()}


@pytest.mark.parametrize("swaps", [False, True], ids=["myalexnet_forward", "myalexnet_forward_newtf"])
def test_guerzhoys_graph(truth, photographs, swaps):
    found = audited(truth, lambda tf: guerzhoy(tf, photographs, in_tensorflow_layout(truth), swaps))
    assert mistakes(found) == {"": "channel order + another mean", "conv1": "SAME for explicit padding"}
    overwrites = "as a swap does that overwrites what it is to move" in found[""].explanation
    assert overwrites == swaps
    assert "subtracts each picture's own mean, one number" in found[""].explanation
    assert "Caffe has VALID" in found["conv1"].explanation


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.commit)
def test_kratzerts_versions(truth, photographs, version):
    found = audited(truth, lambda tf: kratzert(tf, photographs, in_tensorflow_layout(truth), version))
    norms = {1e-05: ["alpha"], 1e-04: ["alpha for alpha/n"], 2e-05: []}[version.alpha]
    norms += ["norm and pool swapped"] * version.pool_first
    expected = {"": "another mean"}
    expected |= {layer: name for layer in ("norm1", "norm2") for name in norms}
    if version.pool_first:
        expected |= dict.fromkeys(("pool1", "conv2", "pool2", "conv3"), "follows")
    assert mistakes(found) == expected
    spelled = ", ".join(f"{value:g}" for value in version.mean[::-1])
    assert spelled in found[""].explanation
    if version.alpha == 1e-05:
        assert "multiplies the sum of squares by 1e-05; Caffe's are" in found["norm1"].explanation
        assert "alpha / 5 = 2e-05" in found["norm1"].explanation


def test_kratzerts_dropout_where_keep_prob_is_left_at_a_half(truth, photographs):
    found = audited(truth, lambda tf: kratzert(tf, photographs, in_tensorflow_layout(truth), VERSIONS[-1], 0.5))
    assert mistakes(found) == {"": "another mean", "drop6": "dropout left on", "drop7": "dropout left on"}


def test_an_opencv_picture_with_a_mean_in_red_green_blue_order(truth, photographs):
    """No recipe's, but a slip that is easily made between kratzert's two pipelines."""
    version = Version("", 1e-05, True, VGG_MEAN[::-1])
    found = audited(truth, lambda tf: kratzert(tf, photographs, in_tensorflow_layout(truth), version))
    assert found[""].mistake == "another mean + mean reordered"
    assert "103.939, 116.779, 123.68, the other way round" in found[""].explanation
    assert found["norm1"].mistake == found["norm2"].mistake == "norm and pool swapped + alpha"


def test_two_faults_in_one_layer_are_told_together(truth, photographs):
    """conv1 where the graph prepares the pictures by itself: SAME, and channels the other way round."""

    def build(tf: Any) -> dict[Key, Any]:
        tensors = guerzhoy(tf, photographs, in_tensorflow_layout(truth), swaps=True)
        turned = tf.reverse(tensors["", "data"], [3])
        conv1 = convolution(tf, turned, in_tensorflow_layout(truth)["conv1"], 4, "SAME")
        return {**tensors, ("conv1", "conv1"): conv1}

    found = audited(truth, build)
    assert found["conv1"].mistake == "SAME for explicit padding + channel order"
