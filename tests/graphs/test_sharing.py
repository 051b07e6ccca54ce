"""Parameters shared by layers that lay them differently in the graph."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from graphs import infer
from graphs.emit import build
from graphs.layers.activation import PReLU
from graphs.layers.data import Input
from graphs.layers.inner_product import InnerProduct
from graphs.layers.normalization import Scale
from graphs.layers.recurrent import LSTM
from graphs.names import name_values
from graphs.network import Network, Node, ParamSpec
from graphs.sharing import relaid
from graphs.tensorflow1 import tensorflow1
from weights import Layout, Refused


def run(first, second, shapes, arrays, share_mode="STRICT"):
    """Returns what two layers of a graph make of ones, their parameters shared; in Caffe's layout."""
    tf = tensorflow1("the tests")
    count = len(first.parameters(shapes[0]))
    own = tuple(ParamSpec(f"w{place}", share_mode=share_mode) for place in range(count))
    network = Network(
        "net",
        (
            Node("a", Input((shapes[0],)), (), ("a",)),
            Node("b", Input((shapes[1],)), (), ("b",)),
            Node("p", first, ("a",), ("p",), own),
            Node("q", second, ("b",), ("q",), own),
        ),
    )
    inferred = infer(network)
    names = name_values(inferred)
    assert names.variables[2] == names.variables[3]
    values = dict(zip(names.variables[2], arrays))
    rng = np.random.default_rng(7)
    bottoms = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    with tf.Graph().as_default(), tf.Session() as session:
        emitted = build(
            network,
            inferred,
            names,
            tf,
            lambda name, spec: tf.constant(spec.layout.to_tensorflow(values[name]), name=name),
        )
        feeds = {
            one.tops[0]: np.moveaxis(bottom, 1, -1) if bottom.ndim >= 4 else bottom
            for one, bottom in zip(emitted, bottoms)
        }
        made = session.run([one.tops[0] for one in emitted[2:]], feeds)
    return bottoms, [np.moveaxis(value, -1, 1) if value.ndim >= 4 else value for value in made]


SHAPES = [(2, 3), (2, 3, 5), (2, 3, 5, 7), (2, 3, 2, 5, 7)]


@pytest.mark.parametrize("one", SHAPES)
@pytest.mark.parametrize("other", SHAPES)
def test_a_factor_of_channels_over_blobs_of_any_two_ranks(one, other):
    factor = np.float32([2, -3, 5])
    bottoms, tops = run(Scale(), Scale(), (one, other), [factor])
    for x, top in zip(bottoms, tops):
        np.testing.assert_array_equal(top, x * factor.reshape(3, *(1 for _ in x.shape[2:])))


def test_slopes_over_blobs_of_two_and_of_three_axes():
    slopes = np.float32([0.5, -0.25, 2])
    bottoms, tops = run(PReLU(), PReLU(), ((2, 3, 3), (2, 3)), [slopes])
    for x, top in zip(bottoms, tops):
        np.testing.assert_array_equal(top, np.where(x > 0, x, x * slopes.reshape(3, *(1 for _ in x.shape[2:]))))


@pytest.mark.parametrize("shapes", [((2, 3, 5, 7), (4, 105)), ((4, 105), (2, 3, 5, 7)), ((2, 3, 5, 7), (2, 7, 3, 5))])
def test_a_matrix_over_pictures_and_over_rows(shapes):
    matrix = np.random.default_rng(5).standard_normal((11, 105)).astype(np.float32)
    layer = InnerProduct(num_output=11, bias_term=False)
    bottoms, tops = run(layer, layer, shapes, [matrix])
    for x, top in zip(bottoms, tops):
        np.testing.assert_allclose(top, x.reshape(len(x), -1) @ matrix.T, rtol=1e-4, atol=1e-4)


def test_as_many_values_in_another_shape_where_the_definition_is_permissive():
    matrix = np.random.default_rng(5).standard_normal((11, 105)).astype(np.float32)
    first, second = InnerProduct(num_output=11, bias_term=False), InnerProduct(num_output=35, bias_term=False)
    bottoms, tops = run(first, second, ((2, 3, 5, 7), (4, 33)), [matrix], "PERMISSIVE")
    np.testing.assert_allclose(tops[0], bottoms[0].reshape(2, 105) @ matrix.T, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(tops[1], bottoms[1] @ matrix.reshape(35, 33).T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("share_mode", "shape", "reason"),
    [
        ("STRICT", (4, 33), "Caffe wants the same shape"),
        ("PERMISSIVE", (4, 34), "Caffe wants as many values"),
    ],
)
def test_what_caffe_does_not_share(share_mode, shape, reason):
    layers = InnerProduct(num_output=11, bias_term=False), InnerProduct(num_output=35, bias_term=False)
    with pytest.raises(Refused) as refused:
        run(*layers, ((2, 105), shape), [np.zeros((11, 105))], share_mode)
    assert refused.value.reasons == (
        f"layer 'q' (InnerProduct): shares its weights (35x{shape[1]}) as 'w0' with layer 'p' (InnerProduct), where "
        f"they are 11x105; {reason}",
    )


def test_a_parameter_that_lies_alike_is_taken_as_it_is():
    layout = Layout((3, 5), order=(1, 0))
    assert relaid(None, "x", layout, Layout((3, 5), order=(1, 0))) == "x"


def test_what_a_recurrent_layer_reads_at_every_step_can_be_no_other_layer_s():
    own = (ParamSpec(), ParamSpec(), ParamSpec("w"))
    inputs = [Node(name, Input((shape,)), (), (name,)) for name, shape in (("x", (3, 2, 5)), ("cont", (3, 2)))]
    layers = [Node(name, LSTM(num_output=4), ("x", "cont"), (name,), own) for name in ("first", "second")]
    with pytest.raises(Refused) as refusal:
        infer(Network("net", (*inputs, *layers), "TRAIN"))
    assert refusal.value.reasons == (
        "layer 'second' (LSTM): shares its W_hc as 'w' with layer 'first' (LSTM), but from its second step on Caffe's "
        "layer reads its own in TRAIN, as its filler made it; let it have one of its own",
    )
    infer(Network("net", (*inputs, *layers)))
    infer(Network("net", (*inputs, *(replace(node, specs=(ParamSpec("w"),)) for node in layers)), "TRAIN"))
