"""BatchReindex and Filter: which items come out, and how the batch stays free."""

from __future__ import annotations

import numpy as np
import pytest

from graphs import infer
from graphs.layers.data import Input
from graphs.layers.eltwise import Eltwise
from graphs.layers.inner_product import InnerProduct
from graphs.layers.selection import BatchReindex, Filter
from graphs.layers.shaping import Flatten, Reshape
from graphs.network import Network, Node
from weights import Refused

SIZES = (5, 3, 2, 7, 4)


def test_batch_reindex(rng, agree_everywhere):
    places = np.array([4.0, 0, 0, 2, 1, 4, 3])
    cases = {}
    for rank in range(1, 6):
        x = rng.standard_normal(SIZES[:rank])
        cases[f"rank {rank}"] = (BatchReindex(), [x, places], np.stack([x[4], x[0], x[0], x[2], x[1], x[4], x[3]]))
    agree_everywhere(cases)


def test_filter(rng, agree_everywhere):
    cases = {}
    for rank in range(1, 6):
        x, selector = rng.standard_normal(SIZES[:rank]), np.array([0, 1, 0.5, 0, -3])
        for ones in range(4):
            bottoms = [x, selector.reshape(5, *(1,) * ones)]
            cases[f"rank {rank}, selector of rank {1 + ones}"] = (Filter(), bottoms, x[[1, 2, 4]])
        other = rng.standard_normal(SIZES[:2])
        cases[f"rank {rank}, two bottoms"] = (Filter(), [x, other, selector], [x[[1, 2, 4]], other[[1, 2, 4]]])
    agree_everywhere(cases)


def test_filter_may_pass_on_nothing(run_layer):
    assert run_layer(Filter(), [np.ones((5, 3, 2, 7)), np.zeros(5)]).shape == (0, 3, 2, 7)


def net(*more, batch=5):
    inputs = Node("x", Input(((batch, 3, 2, 7),)), (), ("x",)), Node("s", Input(((batch,),)), (), ("s",))
    return Network("n", (*inputs, *more))


def test_layers_behind_a_filter_take_any_number_of_items():
    shapes = infer(
        net(
            Node("f", Filter(), ("x", "s"), ("f",)),
            Node("flat", Flatten(), ("f",), ("flat",)),
            Node("y", InnerProduct(num_output=11), ("flat",), ("y",)),
        )
    )
    assert [layer.open_tops for layer in shapes.layers[2:]] == [((-1, 3, 2, 7),), ((-1, 42),), ((-1, 11),)]


def test_a_filter_in_a_net_of_a_fixed_batch():
    shapes = infer(
        net(
            Node("f", Filter(), ("x", "s"), ("f",)),
            Node("y", Reshape(shape=(5, -1)), ("x",), ("y",)),
            Node("flat", Flatten(), ("f",), ("flat",)),
        )
    )
    assert not shapes.free_batch
    tops = [layer.open_tops[0] for layer in shapes]
    assert tops == [(5, 3, 2, 7), (5,), (-1, 3, 2, 7), (5, 42), (-1, 42)]


@pytest.mark.parametrize(
    "reader",
    [
        Node("y", Reshape(shape=(5, -1)), ("f",), ("y",)),
        Node("y", Eltwise(), ("f", "x"), ("y",)),  # TensorFlow would spread a single item over all of x
    ],
)
def test_a_filter_before_a_layer_that_fixes_the_number_of_items_is_refused(reader):
    with pytest.raises(Refused) as refused:
        infer(net(Node("f", Filter(), ("x", "s"), ("f",)), reader))
    assert refused.value.reasons == (
        "layer 'f' (Filter): values decide how many items its tops have, but another layer fixes the number of items",
    )


@pytest.mark.parametrize(
    ("layer", "tops", "bottoms", "reason"),
    [
        (Filter(), 1, [(5, 3), (5, 2), (5,)], "has 1 tops for 3 bottoms; expected a top for each but the selector"),
        (Filter(), 2, [(5, 3), (5,)], "has 2 tops for 2 bottoms; expected a top for each but the selector"),
        (Filter(), 1, [(5, 3), (5, 2)], "its selector, the last bottom, has the shape 5x2; expected one value an item"),
        (Filter(), 1, [(5, 3), (4, 1)], "its bottom of shape 5x3 has not as many items as its selector, 4x1"),
        (Filter(), 1, [(5, 3)], "has 1 bottom blobs; expected 2 or more"),
        (BatchReindex(), 1, [(5, 3), (5, 1)], "its bottoms have the shapes 5x3 and 5x1; expected a batch and one axis"),
    ],
)
def test_refuses(layer, tops, bottoms, reason):
    inputs = [Node(f"x{place}", Input((shape,)), (), (f"x{place}",)) for place, shape in enumerate(bottoms)]
    names, tops = tuple(node.name for node in inputs), tuple(f"y{place}" for place in range(tops))
    with pytest.raises(Refused) as refused:
        infer(Network("n", (*inputs, Node("y", layer, names, tops))))
    assert reason in str(refused.value)
