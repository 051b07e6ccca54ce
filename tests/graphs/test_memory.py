"""Blobs that share memory in Caffe, as values of their own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from graphs import infer, run_reference
from graphs.layers.arithmetic import Power
from graphs.layers.data import Input, Parameter
from graphs.layers.elementwise import ReLU, Split
from graphs.layers.shaping import Concat, Flatten, Reshape
from graphs.layers.slicing import Slice
from graphs.memory import as_defined, unshared
from graphs.network import Network, Node, ParamSpec
from weights import Refused

X = Node("x", Input(((2, 3, 5, 7),)), (), ("x",))
DOUBLED = Power(scale=2)


def last_of(network: Network, x: np.ndarray) -> dict[str, np.ndarray]:
    shapes = infer(network)
    values = run_reference(shapes, [[] for _ in shapes], {"x": x})
    return {top: value for (_, top), value in values.items()}


@pytest.mark.parametrize(
    "view", [Flatten(), Flatten(axis=2), Reshape(shape=(0, 0, -1)), Reshape(shape=(-1,)), Split(), Concat(), Slice()]
)
def test_who_reads_the_memory_later_finds_what_was_left_in_it(view, rng):
    network = Network(
        "net",
        (
            X,
            Node("t", DOUBLED, ("x",), ("t",)),
            Node("v", view, ("t",), ("v",)),
            Node("before", DOUBLED, ("t",), ("before",)),
            Node("r", ReLU(), ("v",), ("v",)),
            Node("after", DOUBLED, ("t",), ("after",)),
        ),
    )
    changed, (note,) = unshared(network)
    assert note == (
        "layer 'r' (ReLU): changes 'v' in place, whose memory Caffe shares with 't'; layers after it read what it "
        "leaves there, as 't_r'"
    )
    x = rng.standard_normal((2, 3, 5, 7))
    values = last_of(changed, x)
    np.testing.assert_array_equal(values["before"], 4 * x)
    np.testing.assert_array_equal(values["after"], 4 * np.maximum(x, 0))
    assert changed.outputs == network.outputs
    assert as_defined(changed) == network
    assert infer(changed).free_batch


def test_two_names_changed_one_after_the_other(rng):
    network = Network(
        "net",
        (
            X,
            Node("t", DOUBLED, ("x",), ("t",)),
            Node("s", Split(), ("t",), ("f", "g")),
            Node("r", ReLU(), ("g",), ("g",)),  # also changes f and t
            Node("p", Power(shift=1), ("f",), ("f",)),  # also changes g and t
            Node("a", DOUBLED, ("t",), ("a",)),
            Node("b", DOUBLED, ("g",), ("b",)),
            Node("c", DOUBLED, ("f",), ("c",)),
        ),
    )
    changed, notes = unshared(network)
    assert len(notes) == 4
    assert as_defined(changed) == network
    x = rng.standard_normal((2, 3, 5, 7))
    values = last_of(changed, x)
    for name in "abc":
        np.testing.assert_array_equal(values[name], 2 * (np.maximum(2 * x, 0) + 1))


def test_nothing_is_changed_where_nobody_reads_the_memory_again():
    network = Network("net", (X, Node("f", Flatten(), ("x",), ("f",)), Node("r", ReLU(), ("f",), ("f",))))
    assert unshared(network) == (network, ())


def test_an_output_that_would_change_after_it_was_made():
    nodes = (X, Node("s", Split(), ("x",), ("a", "b")), Node("r", ReLU(), ("a",), ("a",)))
    with pytest.raises(Refused) as refused:
        unshared(Network("net", nodes))
    assert refused.value.reasons == (
        "layer 'r' (ReLU): changes 'a' in place, whose memory Caffe shares with 'b', an output of the network, which "
        "would change after it was made; give the top another name",
    )


def test_training_is_refused():
    nodes = (
        X,
        Node("f", Flatten(), ("x",), ("f",)),
        Node("r", ReLU(), ("f",), ("f",)),
        Node("y", DOUBLED, ("x",), ("y",)),
    )
    with pytest.raises(Refused, match="what Caffe learns then is not its derivative: give the top another name"):
        unshared(Network("net", nodes, "TRAIN"))


def test_many_layers_take_no_time():
    nodes = [X]
    for place in range(20000):
        nodes.append(Node(f"f{place}", Split(), (nodes[-1].tops[0],), (f"f{place}",)))
        nodes.append(Node(f"r{place}", ReLU(), (f"f{place}",), (f"f{place}",)))
    network = Network("net", tuple(nodes))
    assert unshared(network) == (network, ())


def test_in_place_on_a_parameter():
    nodes = (
        X,
        Node("p", Parameter(shape=(2, 3)), (), ("p",)),
        Node("v", Flatten(), ("p",), ("v",)),
        Node("r", ReLU(), ("v",), ("v",)),
    )
    changed, (note,) = unshared(Network("net", nodes))
    assert changed.nodes == nodes
    what = "layer 'r' (ReLU): changes 'v' in place, which is the parameter of layer 'p' (Parameter) itself in Caffe"
    assert note == f"{what}; what is computed here is Caffe's first pass, from which each later one there goes on"
    named = (X, replace(nodes[1], specs=(ParamSpec("w"),)), *nodes[2:])
    for network in (Network("net", nodes, "TRAIN"), Network("net", named)):
        with pytest.raises(Refused) as refusal:
            unshared(network)
        assert refusal.value.reasons == (
            f"{what}, and so changed by every pass, for all that read it; give the top another name",
        )


def test_a_scalar_that_is_read_later():
    nodes = (
        Node("x", Input(((),)), (), ("x",)),
        Node("s", Split(), ("x",), ("s",)),
        Node("r", ReLU(), ("s",), ("s",)),
        Node("y", DOUBLED, ("x",), ("y",)),
    )
    changed, _ = unshared(Network("net", nodes))
    shapes = infer(changed)
    y = run_reference(shapes, [[] for _ in shapes], {"x": np.float32(-3)})["y", "y"]
    assert y.shape == ()
    assert y == 0
