"""Shapes through a network: what does not fit is said, all of it, and the batch is free where Caffe's rules let it."""

from __future__ import annotations

import pytest

from graphs.layers.arithmetic import AbsVal
from graphs.layers.convolution import Convolution
from graphs.layers.data import Input
from graphs.layers.elementwise import ReLU, Split
from graphs.layers.eltwise import Eltwise
from graphs.layers.inner_product import InnerProduct
from graphs.layers.lrn import LRN
from graphs.layers.mvn import MVN
from graphs.layers.normalization import BatchNorm, Scale
from graphs.layers.pooling import Pooling
from graphs.layers.selection import BatchReindex
from graphs.layers.shaping import Concat, Flatten
from graphs.layers.softmax import Softmax
from graphs.layers.spp import SPP
from graphs.network import Network, Node, infer
from weights import Refused

CONV = Convolution(num_output=3, kernel_size=(1,))
DATA = Node("data", Input(shape=((2, 3, 11, 13),)), (), ("data",))


def reasons(*nodes: Node) -> list[str]:
    with pytest.raises(Refused) as refusal:
        infer(Network("net", nodes))
    return list(refusal.value.reasons)


def test_shapes_by_caffes_rules():
    shapes = infer(
        Network(
            "net",
            (
                DATA,
                Node("conv", Convolution(num_output=5, kernel_size=(3,), stride=(2,)), ("data",), ("c",)),
                Node("relu", ReLU(), ("c",), ("c",)),
                Node("pool", Pooling(kernel_size=2, stride=2), ("c",), ("p",)),
                Node("fc", InnerProduct(num_output=7), ("p",), ("f",)),
            ),
        )
    )
    tops = {layer.node.name: layer.tops for layer in shapes}
    assert tops == {  # (11 - 3) // 2 + 1 = 5, (13 - 3) // 2 + 1 = 6; 5 / 2 rounds up to 3
        "data": ((2, 3, 11, 13),),
        "conv": ((2, 5, 5, 6),),
        "relu": ((2, 5, 5, 6),),
        "pool": ((2, 5, 3, 3),),
        "fc": ((2, 7),),
    }
    specs = {layer.node.name: [spec.layout.caffe for spec in layer.parameters] for layer in shapes}
    assert specs["conv"] == [(5, 3, 3, 3), (5,)]
    assert specs["fc"] == [(7, 45), (7,)]


def test_a_bottom_that_nobody_makes():
    (reason,) = reasons(DATA, Node("y", ReLU(), ("dta",), ("y",)))
    assert reason.startswith("layer 'y' (ReLU): bottom 'dta' is made by no layer")


def test_layers_out_of_order():
    (reason,) = reasons(DATA, Node("b", ReLU(), ("a",), ("b",)), Node("a", ReLU(), ("data",), ("a",)))
    assert reason.startswith("layer 'b' (ReLU): bottom 'a' is made further down, by layer 'a'; ")


def test_a_layer_that_reads_itself():
    (reason,) = reasons(DATA, Node("a", ReLU(), ("a",), ("a",)))
    assert reason == "layer 'a' (ReLU): bottom 'a' is its own top, and no layer before it makes it"


def test_a_top_made_twice():
    (reason,) = reasons(DATA, Node("a", ReLU(), ("data",), ("x",)), Node("b", ReLU(), ("data",), ("x",)))
    assert reason == "layer 'b' (ReLU): top 'x' was made before, by layer 'a', and is not changed in place"


def test_all_that_does_not_fit_is_said_at_once_and_once():
    found = reasons(
        DATA,
        Node("pool", Pooling(kernel_size=17), ("data",), ("p",)),
        Node("after", ReLU(), ("p",), ("q",)),  # its bottom's reason was given
        Node("sum", Eltwise(), ("data",), ("s",)),
        Node("two", ReLU(), ("data", "data"), ("t",)),
        Node("conv", Convolution(kernel_size=(3,)), ("data",), ("c",)),
        Node("lost", ReLU(), ("nowhere",), ("l",)),
    )
    assert [reason.split(":")[0] for reason in found] == [
        "layer 'pool' (Pooling)",
        "layer 'sum' (Eltwise)",
        "layer 'two' (ReLU)",
        "layer 'conv' (Convolution)",
        "layer 'lost' (ReLU)",
    ]
    assert found[1].endswith("has 1 bottom blobs; expected 2 or more")
    assert found[2].endswith("has 2 bottom blobs; expected 1")


def test_blobs_larger_than_caffe_can_count():
    grows = Convolution(num_output=2**20, kernel_size=(1,), pad=(99,))
    (reason,) = reasons(DATA, Node("c", grows, ("data",), ("c",)))
    assert "has more values than Caffe can count, 2,147,483,647" in reason


def free(*nodes: Node) -> bool:
    return infer(Network("net", (DATA, *nodes))).free_batch


class TestFreeBatch:
    def test_where_pictures_pass_side_by_side(self):
        assert free(Node("c", Convolution(num_output=5, kernel_size=(3,)), ("data",), ("c",)))
        assert free(Node("f", Flatten(), ("data",), ("f",)))
        assert free(Node("c", Concat(axis=2), ("data", "data"), ("c",)))

    def test_where_pictures_are_joined_along_the_first_axis(self):
        assert free(Node("f", Flatten(axis=0, end_axis=1), ("data",), ("f",)))
        assert free(Node("c", Concat(axis=0), ("data", "data"), ("c",)))

    def test_not_where_weights_span_the_batch(self):
        assert not free(Node("fc", InnerProduct(num_output=5, axis=0), ("data",), ("f",)))

    def test_placeholders_of_a_fixed_batch_keep_it(self):
        shapes = infer(Network("net", (DATA, Node("f", InnerProduct(num_output=5, axis=0), ("data",), ("f",)))))
        assert [layer.open_tops for layer in shapes] == [((2, 3, 11, 13),), ((5,),)]

    def test_placeholders_of_a_free_batch_leave_it_open(self):
        shapes = infer(Network("net", (DATA, Node("f", Flatten(), ("data",), ("f",)))))
        assert [layer.open_tops for layer in shapes] == [((-1, 3, 11, 13),), ((-1, 429),)]


class TestOutputs:
    def outputs(self, *nodes: Node) -> tuple[str, ...]:
        return Network("net", (DATA, *nodes)).outputs

    def test_the_blobs_that_nobody_reads(self):
        assert self.outputs(Node("s", Split(), ("data",), ("a", "b")), Node("r", ReLU(), ("a",), ("c",))) == ("b", "c")

    def test_a_blob_changed_in_place_is_one_output(self):
        assert self.outputs(Node("a", ReLU(), ("data",), ("x",)), Node("b", ReLU(), ("x",), ("x",))) == ("x",)

    def test_inputs_that_nobody_reads_are_none(self):
        assert self.outputs() == ()


@pytest.mark.parametrize(
    "layer",
    [
        Eltwise(),
        Eltwise(operation="MAX"),
        LRN(),
        AbsVal(),
        Pooling(kernel_size=1),
        InnerProduct(num_output=13, axis=3),
        Split(),
        Flatten(axis=3),
    ],
)
def test_a_layer_that_caffe_lets_read_what_it_overwrote(layer):
    bottoms = ("data", "data") if isinstance(layer, Eltwise) else ("data",)
    node = Node("y", layer, bottoms, ("data",))
    assert reasons(DATA, node) == [
        f"{node}: changes 'data' in place, but Caffe's layer reads what it has overwritten there; give its top a name "
        "of its own"
    ]


def test_in_place_over_what_is_read_again():
    rows, places = (Node(name, Input((shape,)), (), (name,)) for name, shape in (("x", (3, 5)), ("places", (3,))))
    ending = (
        "changes 'x' in place, but Caffe's layer reads what it has overwritten there; give its top a name of its own"
    )
    reindexed = Node("y", BatchReindex(), ("x", "places"), ("x",))
    assert reasons(rows, places, reindexed) == [f"{reindexed}: {ending}"]
    picture, pooled = Node("x", Input(((3, 5, 1, 1),)), (), ("x",)), Node("y", SPP(pyramid_height=1), ("x",), ("x",))
    assert reasons(picture, pooled) == [f"{pooled}: {ending}"]
    # Without spatial axes, Caffe multiplies the bottom where it lies, whatever the kernel.
    convolved = Node("y", Convolution(num_output=5, kernel_size=(2,)), ("x",), ("x",))
    assert reasons(rows, convolved) == [f"{convolved}: {ending}"]


def test_layers_that_work_in_place():
    for layer in (Eltwise(operation="PROD"), LRN(norm_region="WITHIN_CHANNEL"), Softmax(), MVN(), BatchNorm(), Scale()):
        bottoms = ("data", "data") if isinstance(layer, Eltwise) else ("data",)
        infer(Network("net", (DATA, Node("y", layer, bottoms, ("data",)))))


def test_in_place_on_a_blob_that_another_layer_reads():
    assert reasons(
        DATA,
        Node("a", ReLU(), ("data",), ("a",)),
        Node("b", Pooling(kernel_size=2), ("a",), ("b",)),
        Node("c", ReLU(), ("a",), ("a",)),
    ) == [
        "layer 'c' (ReLU): changes 'a' in place, which layer 'b' (Pooling) reads too; Caffe refuses that (top produced "
        "by multiple sources): give its top a name of its own"
    ]


def test_in_place_at_another_bottom():
    (reason,) = reasons(
        DATA, Node("a", ReLU(), ("data",), ("a",)), Node("y", Eltwise(operation="PROD"), ("data", "a"), ("a",))
    )
    assert reason == "layer 'y' (Eltwise): top 'a' was made before, by layer 'a', and is not changed in place"


def test_in_place_to_another_shape():
    flat = Node("x", Input(((5, 7),)), (), ("x",))
    assert reasons(flat, Node("y", MVN(), ("x",), ("x",))) == [
        "layer 'y' (MVN): changes 'x' in place from 5x7 to 5x7x1x1; give its top a name of its own"
    ]


def test_a_name_used_twice():
    without_weights = Node("y", ReLU(), ("data",), ("a",)), Node("y", Pooling(kernel_size=2), ("a",), ("b",))
    infer(Network("net", (DATA, *without_weights)))
    assert reasons(DATA, Node("y", ReLU(), ("data",), ("a",)), Node("y", CONV, ("a",), ("b",))) == [
        "layer 'y': the name is used 2 times, so its weights can't be told apart"
    ]
