"""Parameter, Silence, and what a network makes of them."""

from __future__ import annotations

import numpy as np
import pytest

from converter import convert
from graphs import infer, run_reference
from graphs.layers.bias import Bias
from graphs.layers.data import Input, Parameter, Silence
from graphs.network import Network, Node
from weights import Refused


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (2, 3, 5), (2, 3, 5, 7), (2, 3, 5, 7, 11)])
def test_a_parameter_is_its_blob(shape, rng, agree_everywhere):
    values = np.asarray(rng.standard_normal(shape))
    agree_everywhere({"a blob": (Parameter(shape=shape), [], values, values)})


def test_a_parameter_leaves_the_batch_free(rng, agree):
    nodes = (
        Node("x", Input(((2, 3, 5, 7),)), (), ("x",)),
        Node("p", Parameter(shape=(3, 5)), (), ("p",)),
        Node("y", Bias(), ("x", "p"), ("y",)),
    )
    shapes = infer(Network("n", nodes))
    assert [layer.open_tops for layer in shapes.layers] == [((-1, 3, 5, 7),), ((3, 5),), ((-1, 3, 5, 7),)]
    x, p = rng.standard_normal((4, 3, 5, 7)), rng.standard_normal((3, 5))
    agree(run_reference(shapes, [[], [p], []], {"x": x})["y", "y"], x + p[None, :, :, None], 1e-15)


def test_a_parameter_without_values_is_refused():
    with pytest.raises(Refused, match=r"layer 'p' \(Parameter\): shape 3x0 has an axis below 1"):
        infer(Network("n", (Node("p", Parameter(shape=(3, 0)), (), ("p",)),)))


SILENCED = """
layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 3 dim: 5 dim: 7 } } }
layer { name: "s" type: "Slice" bottom: "x" top: "a" top: "b" top: "c" }
layer { name: "hush" type: "Silence" bottom: "a" bottom: "c" }
"""


def test_what_silence_reads_is_no_output(tmp_path, rng, graph_values, agree):
    path = tmp_path / "net.prototxt"
    path.write_text(SILENCED)
    port = convert(path)
    assert port.network.outputs == ("b",)
    x = rng.standard_normal((11, 3, 5, 7)).astype(np.float32)
    values = graph_values(port, {"x": x})
    assert set(values) == {("x", "x"), ("s", "a"), ("s", "b"), ("s", "c")}
    for place, top in enumerate("abc"):
        agree(values["s", top], x[:, place : place + 1], 0)
    assert set(run_reference(port.shapes, port.arrays(), {"x": x})) == set(values)
    port.save(tmp_path / "net.py")
    module = {"__name__": "printed"}
    exec((tmp_path / "net.py").read_text(), module)
    assert module["OUTPUTS"] == ["s/b"]


def test_silence_has_no_tops():
    nodes = Node("x", Input(((2, 3),)), (), ("x",)), Node("y", Silence(), ("x",), ("y",))
    with pytest.raises(Refused, match="has 1 top blobs; expected 0"):
        infer(Network("n", nodes))
