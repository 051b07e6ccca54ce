"""Every variant runs forward and backward at its full size, learns, and treats training and evaluation apart."""

from __future__ import annotations

import numpy as np
import pytest

from graphs.alexnet import FAMILY, batchnorm, bvlc
from graphs.alexnet.blocks import Endpoints

RATES = {
    "bvlc": 1e-3,
    "caffenet": 1e-4,
    "ungrouped": 1e-3,
    "paper": 1e-2,
    "one_weird_trick": 1e-4,
    "torchvision": 1e-3,
    "batchnorm": 1e-3,
}


@pytest.fixture(scope="module")
def photographs(shared) -> np.ndarray:
    """Two photographs, N, 227, 227, 3; B, G, R, 0 to 255."""
    with np.load(shared / "models" / "squeezenet" / "input.npz") as arrays:
        return np.moveaxis(arrays["bgr"][:2], 1, -1).astype(np.float32)


def prepared(name: str, photographs: np.ndarray) -> np.ndarray:
    """Returns photographs as the variant takes them."""
    variant = FAMILY[name]
    ordered = photographs if variant.preprocessing.order == "BGR" else photographs[..., ::-1]
    cropped = ordered[:, : variant.size, : variant.size]
    return (cropped - np.float32(variant.preprocessing.mean)) * np.float32(variant.preprocessing.scale)


@pytest.mark.parametrize("name", [pytest.param(one, marks=pytest.mark.slow) for one in FAMILY])
def test_forward_and_backward_on_a_real_batch(tf, name, photographs):
    tf.set_random_seed(11)
    labels = tf.constant([0, 2])
    endpoints = FAMILY[name].build(tf.constant(prepared(name, photographs)), 1.0, 3, is_training=True)
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=endpoints["logits"]))
    trained = tf.trainable_variables()
    gradients = tf.gradients(loss, trained)
    assert all(gradient is not None for gradient in gradients)
    sizes = [tf.reduce_max(tf.abs(gradient)) for gradient in gradients]
    steps = [one.assign_sub(RATES[name] * gradient) for one, gradient in zip(trained, gradients)]
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        largest, before = session.run([sizes, loss])
        assert np.isfinite(largest).all()
        assert min(largest) > 0, [one.op.name for one, size in zip(trained, largest) if not size > 0]
        for _ in range(3):
            session.run([step.op for step in steps])
        after = session.run(loss)
    assert after < before


def small(tf, name: str, *arguments, **keywords) -> Endpoints:
    """Returns a variant on pictures of 67 by 67, whose weights are few."""
    tf.set_random_seed(3)
    return FAMILY[name].build(tf.placeholder(tf.float32, [None, 67, 67, 3], "images"), *arguments, 5, **keywords)


@pytest.fixture
def pictures(rng) -> np.ndarray:
    return rng.uniform(-100, 100, (3, 67, 67, 3)).astype(np.float32)


@pytest.mark.parametrize("name", FAMILY)
def test_keep_prob_is_fed_and_is_off_at_one(tf, name, pictures):
    keep = tf.placeholder_with_default(1.0, [])
    endpoints = small(tf, name, keep)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        first, second = (session.run(endpoints["logits"], {"images:0": pictures}) for _ in range(2))
        np.testing.assert_array_equal(first, second)
        for one in FAMILY[name].dropouts:
            bottom = endpoints[{"drop5": "pool5"}.get(one, one.replace("drop", "relu"))]
            before, after = session.run([bottom, endpoints[one]], {"images:0": pictures})
            np.testing.assert_array_equal(before, after)
            dropped = session.run([bottom, endpoints[one]], {"images:0": pictures, keep: 0.5})
            assert not np.array_equal(*dropped)


def test_a_seed_fixes_what_is_dropped_at_each_step(tf, pictures):
    step = tf.placeholder(tf.int64, [])
    endpoints = small(tf, "bvlc", 0.5, seed=tf.stack([tf.constant(7, tf.int64), step]))
    fed = np.ones((3, 4096), np.float32)
    feeds = {endpoints["relu6"]: fed, endpoints["relu7"]: fed}
    fetched = [endpoints["drop6"], endpoints["drop7"]]
    with tf.Session() as session:
        first, again, later = (session.run(fetched, {**feeds, step: number}) for number in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first[0], later[0])
    assert not np.array_equal(first[0], first[1]), "both dropouts drop the same places"


def test_batch_statistics_normalize_in_training_and_move_the_averages(tf, pictures):
    is_training = tf.placeholder(tf.bool, [])
    endpoints = small(tf, "batchnorm", 1.0, is_training=is_training)
    updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    gamma, beta, mean, variance = endpoints.variables["norm1"]
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        pooled, normal = session.run(
            [endpoints["pool1"], endpoints["norm1"]], {"images:0": pictures, is_training: True}
        )
        own = pooled.mean((0, 1, 2)), pooled.var((0, 1, 2))
        np.testing.assert_allclose(normal, (pooled - own[0]) / np.sqrt(own[1] + 1e-3), atol=2e-4)
        session.run(updates, {"images:0": pictures, is_training: True})
        np.testing.assert_allclose(session.run(mean), 0.01 * own[0], rtol=1e-4)
        np.testing.assert_allclose(session.run(variance), 0.99 + 0.01 * own[1], rtol=1e-4)
        kept = session.run([mean, variance])
        session.run(updates, {"images:0": pictures, is_training: False})
        np.testing.assert_array_equal(kept, session.run([mean, variance]))
        evaluated = session.run(endpoints["norm1"], {"images:0": pictures, is_training: False})
        np.testing.assert_allclose(evaluated, (pooled - kept[0]) / np.sqrt(kept[1] + 1e-3), rtol=1e-4, atol=1e-4)
        alone = session.run(endpoints["prob"], {"images:0": pictures[:1], is_training: False})
        among = session.run(endpoints["prob"], {"images:0": pictures, is_training: False})[:1]
        np.testing.assert_allclose(alone, among, atol=1e-5)


def test_batch_normalization_decided_when_built(tf):
    images = tf.placeholder(tf.float32, [None, 67, 67, 3])
    batchnorm(images, 1.0, 5, is_training=False)
    assert not tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    with tf.variable_scope("", reuse=True):
        batchnorm(images, 1.0, 5, is_training=True)
    assert len(tf.get_collection(tf.GraphKeys.UPDATE_OPS)) == 10


@pytest.mark.parametrize(
    ("name", "std", "ones"),
    [
        ("paper", {"conv4": 0.01, "fc7": 0.01, "fc8": 0.01}, {"conv2": 1, "conv4": 1, "conv5": 1}),
        ("bvlc", {"conv4": 0.01, "fc7": 0.005}, dict.fromkeys(("conv2", "conv4", "conv5", "fc6", "fc7"), 0.1)),
        ("caffenet", {"conv4": 0.01, "fc7": 0.005}, dict.fromkeys(("conv2", "conv4", "conv5", "fc6", "fc7"), 1)),
        ("ungrouped", {"conv4": (2 / (9 * 768)) ** 0.5, "fc7": (2 / 8192) ** 0.5}, {}),
        ("batchnorm", {"conv4": (2 / (9 * 384)) ** 0.5, "fc7": (2 / 4096) ** 0.5}, {}),
    ],
)
def test_first_values_are_as_the_source_says(tf, name, std, ones):
    endpoints = small(tf, name, 1.0)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for row, variables in endpoints.variables.items():
            if row.startswith(("conv", "fc")):
                np.testing.assert_allclose(session.run(variables[1]), ones.get(row, 0), atol=1e-7, err_msg=row)
        for row, expected in std.items():
            weights = session.run(endpoints.variables[row][0])
            assert weights.std() == pytest.approx(expected, rel=0.02), row
            assert abs(weights.mean()) < 0.02 * expected, row


@pytest.mark.parametrize("name", ["bvlc", "caffenet"])
def test_first_values_are_those_of_caffes_own_definition(tf, shared, name):
    """The fillers of train_val.prototxt, as the converter reads them, are what the family's rows declare."""
    from converter import convert

    folder = {"bvlc": "alexnet", "caffenet": "caffenet"}[name]
    port = convert(
        shared / "models" / folder / "train_val.prototxt",
        phase="TRAIN",
        input_shapes={"data": (1, 3, 227, 227), "label": (1,)},
    )
    stated = {layer.node.name: layer.parameters for layer in port.shapes if layer.parameters}
    endpoints = bvlc if name == "bvlc" else FAMILY[name].function
    built = endpoints(tf.placeholder(tf.float32, [None, 227, 227, 3]))
    declared = {layer.node.name: layer.parameters for layer in built.shapes if layer.parameters}
    assert declared == stated
