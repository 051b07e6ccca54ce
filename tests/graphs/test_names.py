"""Every name that Caffe allows becomes one that TensorFlow accepts, once, and the graph bears it."""

from __future__ import annotations

import pytest

from graphs.emit import build
from graphs.layers.data import Input
from graphs.layers.elementwise import ReLU, Split
from graphs.layers.inner_product import InnerProduct
from graphs.names import allowed, name_values
from graphs.network import Network, Node, ParamSpec, infer
from graphs.tensorflow1 import tensorflow1


def network(*layers, blob="data"):
    """Returns a net of those nodes on an input of 2x3."""
    return Network("names", (Node("input", Input(shape=((2, 3),)), (), (blob,)), *layers))


def chain(*names, blob="data"):
    """Returns a net of fully connected layers of those names, one after the other."""
    tops = [f"top{index}" for index in range(len(names))]
    return network(
        *(
            Node(name, InnerProduct(num_output=3), (bottom,), (top,))
            for name, bottom, top in zip(names, [blob, *tops], tops)
        ),
        blob=blob,
    )


def in_tensorflow(net):
    """Builds the net; returns its names and those of the graph's operations."""
    tf = tensorflow1("the tests")
    shapes = infer(net)
    names = name_values(shapes)
    with tf.Graph().as_default() as graph:
        build(net, shapes, names, tf, lambda name, spec: tf.placeholder(tf.float32, spec.layout.tensorflow, name=name))
        return names, {operation.name for operation in graph.get_operations()}


NASTY = [
    "conv1",
    "fire2/expand1x1",
    "conv1/weights",
    "",
    "/",
    "//a//b/",
    "_leading",
    "-leading",
    ">leading",
    "\\leading",
    "a b",
    "a:0",
    "a^b",
    "1st",
    ".dot",
    "卷积",
    "é",
    "ü/ö",
    "q\"uo'te",
    "{0} %s $x",
    "new\nline",
    "nul\0",
    "x" * 500,
    "weights",
    "save",
    "import",
    "..",
    "a/../b",
]


@pytest.mark.parametrize("name", NASTY)
def test_tensorflow_bears_it(name):
    names, operations = in_tensorflow(chain(name))
    assert {*names.tops[-1], *names.variables[-1], *names.tops[0]} <= operations


@pytest.mark.parametrize("name", NASTY)
def test_tensorflow_bears_it_as_a_blob(name):
    names, operations = in_tensorflow(chain("fc", blob=name))
    assert {*names.tops[-1], *names.tops[0]} <= operations


def test_all_of_them_in_one_net():
    names, operations = in_tensorflow(chain(*NASTY))
    made = [name for group in (*names.tops, *names.variables) for name in group]
    assert len({name.lower() for name in made}) == len(made)
    assert set(made) <= operations


def test_names_that_tensorflow_allows_stay_as_they_are():
    names, _ = in_tensorflow(chain("conv1", "fire2/expand1x1", "Mixed_5b.x-y"))
    assert names.tops == (("data",), ("conv1",), ("fire2/expand1x1",), ("Mixed_5b.x-y",))
    assert names.variables[1] == ("conv1/weights", "conv1/biases")
    assert names.mapped == {}


def test_names_that_differ_in_case_alone_are_told_apart():
    names, operations = in_tensorflow(chain("Conv", "conv", "CONV"))
    tops = [name for group in names.tops[1:] for name in group]
    assert tops == ["Conv", "conv_1", "CONV_2"]
    assert set(tops) <= operations
    assert names.mapped["conv"] == "conv_1"


def test_a_layer_named_like_a_placeholder_makes_way():
    names, operations = in_tensorflow(chain("data"))
    assert names.tops == (("data",), ("data_1",))
    assert {"data", "data_1"} <= operations


def test_a_layer_named_like_a_variable():
    names, operations = in_tensorflow(chain("conv1", "conv1/weights"))
    assert names.variables[1] == ("conv1/weights", "conv1/biases")
    assert names.tops[2] == ("conv1/weights_1",)
    assert set(names.tops[2]) <= operations


def test_a_layer_under_another_layers_name():
    names, operations = in_tensorflow(chain("a", "a/b", "a/b/c"))
    assert {"a", "a/b", "a/b/c"} <= operations
    assert names.mapped == {}


def test_several_tops_are_named_after_layer_and_top():
    net = network(Node("s", Split(), ("data",), ("one", "two")), Node("r", ReLU(), ("one",), ("one",)))
    names, operations = in_tensorflow(net)
    assert names.tops == (("data",), ("s/one", "s/two"), ("r",))
    assert {"s/one", "s/two", "r"} <= operations


def test_shared_parameters_are_one_variable():
    specs = (ParamSpec("w"), ParamSpec("b"))
    net = network(
        Node("fc1", InnerProduct(num_output=3), ("data",), ("x",), specs),
        Node("fc2", InnerProduct(num_output=3), ("x",), ("y",), specs[:1]),
    )
    names, operations = in_tensorflow(net)
    assert names.variables[1:] == (("fc1/weights", "fc1/biases"), ("fc1/weights", "fc2/biases"))
    assert "fc2/weights" not in operations


def test_allowed_changes_nothing_but_what_it_must():
    assert allowed("fire2/expand1x1.a-b>c\\d_e") == "fire2/expand1x1.a-b>c\\d_e"
    assert allowed("a b:c") == "a_b_c"
