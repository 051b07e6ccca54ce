"""Every variant has the shapes and the variables that its source prints."""

from __future__ import annotations

import pytest

import graphs.alexnet
from graphs.alexnet import FAMILY
from tests.graphs.alexnet.published import SHAPES, VARIABLES, parsed
from weights import Refused


@pytest.mark.parametrize("name", FAMILY)
class TestEveryVariant:
    def test_has_the_published_shapes(self, tf, name):
        size = {"bvlc": 227, "caffenet": 227}.get(name, 224)
        assert FAMILY[name].size == size
        endpoints = FAMILY[name].build(tf.placeholder(tf.float32, [None, size, size, 3]))
        assert list(endpoints) == list(parsed(SHAPES[name]))
        assert {key: tensor.shape.as_list()[1:] for key, tensor in endpoints.items()} == parsed(SHAPES[name])
        assert all(tensor.shape.as_list()[0] is None for tensor in endpoints.values())

    def test_has_the_published_variables(self, tf, name):
        size = FAMILY[name].size
        endpoints = FAMILY[name].build(tf.placeholder(tf.float32, [None, size, size, 3]))
        expected = parsed(VARIABLES[name])
        assert {one.op.name: one.shape.as_list() for one in tf.global_variables()} == expected
        moved = {one.op.name for one in tf.trainable_variables()}
        assert moved == {one for one in expected if "moving_" not in one}
        held = [variable.op.name for row in endpoints.variables.values() for variable in row]
        assert held == list(expected)

    def test_the_head_has_as_many_outputs_as_classes(self, tf, name):
        variant = FAMILY[name]
        endpoints = variant.build(tf.placeholder(tf.float32, [None, 67, 67, 3]), num_classes=23)
        assert endpoints["logits"].shape.as_list() == endpoints["prob"].shape.as_list() == [None, 23]
        assert endpoints[variant.head] is endpoints["logits"]
        assert [one.shape.as_list()[-1] for one in endpoints.variables[variant.head]] == [23, 23]

    def test_its_operations_bear_its_endpoints_names(self, tf, name):
        endpoints = FAMILY[name].build(tf.placeholder(tf.float32, [None, 67, 67, 3]), tf.placeholder(tf.float32, []))
        assert all(tensor.name == f"{key}:0" for key, tensor in endpoints.items() if key != "logits")

    def test_the_function_is_what_the_registry_builds(self, tf, name):
        function = getattr(graphs.alexnet, name)
        images = tf.placeholder(tf.float32, [None, 67, 67, 3])
        endpoints = function(images, 0.5, num_classes=5)
        assert FAMILY[name].function is function
        assert [key for key in endpoints if key.startswith("drop")] == list(FAMILY[name].dropouts)


def test_the_table_is_whole():
    assert set(FAMILY) == set(SHAPES) == set(VARIABLES)


def test_two_networks_share_variables_where_the_scope_says_so(tf):
    images = tf.placeholder(tf.float32, [None, 67, 67, 3])
    one = graphs.alexnet.bvlc(images, 0.5, 5)
    with tf.variable_scope("", reuse=True):
        other = graphs.alexnet.bvlc(images, 1.0, 5)
    with tf.name_scope("tower"), tf.variable_scope("", reuse=True):
        third = graphs.alexnet.bvlc(images, 1.0, 5)
    assert len(tf.global_variables()) == 16
    assert [endpoints["pool5"].name for endpoints in (one, other, third)] == ["pool5:0", "pool5_1:0", "tower/pool5:0"]
    with tf.variable_scope("student"):
        apart = graphs.alexnet.bvlc(images, 1.0, 5)
    assert apart.variables["conv1"][0].op.name == "student/conv1/weights"
    assert len(tf.global_variables()) == 32


@pytest.mark.parametrize("shape", [[None, 227, 227], [None, None, None, 3], None])
def test_pictures_of_unknown_size_are_refused(tf, shape):
    with pytest.raises(Refused, match=r"images have the shape .*; expected N, H, W, C, with H, W and C known"):
        graphs.alexnet.bvlc(tf.placeholder(tf.float32, shape))


def test_pictures_that_are_too_small_are_refused(tf):
    with pytest.raises(Refused, match=r"layer 'conv1' \(Convolution\): kernel 11x11 .* is larger than its bottom"):
        graphs.alexnet.bvlc(tf.placeholder(tf.float32, [None, 7, 7, 3]))


@pytest.mark.parametrize("keep_prob", [0, 1.5, -0.5])
def test_keep_prob_is_a_probability(tf, keep_prob):
    with pytest.raises(Refused, match=r"keep_prob is .*; expected above 0 and at most 1, which is no dropout"):
        graphs.alexnet.bvlc(tf.placeholder(tf.float32, [None, 67, 67, 3]), keep_prob)
