"""Arrays find their layers, from files of any age; all that does not fit is said at once."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from converter import convert
from converter.port import Port
from weights import Refused

NET = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 5 dim: 7 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 4 kernel_size: 2 } }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param { num_output: 11 } }
"""
SHAPES = {"conv": [(4, 3, 2, 2), (4,)], "fc": [(11, 4 * 4 * 6), (11,)]}


def number(value: int) -> bytes:
    """Returns a varint, written out here so that it shares no code with what reads it."""
    out = b""
    while value > 127:
        out += bytes([value % 128 + 128])
        value //= 128
    return out + bytes([value])


def field(tag: int, payload: bytes) -> bytes:
    return number(tag << 3 | 2) + number(len(payload)) + payload


def small(tag: int, value: int) -> bytes:
    return number(tag << 3) + number(value)


def shape(array: np.ndarray) -> bytes:
    return field(7, field(1, b"".join(map(number, array.shape))))


def packed(array: np.ndarray) -> bytes:
    return shape(array) + field(5, array.astype("<f4").tobytes())


def model(layers: dict[str, list[bytes]]) -> bytes:
    return field(1, b"net") + b"".join(
        field(100, field(1, name.encode()) + b"".join(field(7, blob) for blob in blobs))
        for name, blobs in layers.items()
    )


@pytest.fixture
def arrays(rng) -> dict[str, list[np.ndarray]]:
    return {name: [rng.standard_normal(size).astype(np.float32) for size in sizes] for name, sizes in SHAPES.items()}


@pytest.fixture
def port(tmp_path: Path) -> Callable[..., Port]:
    """Returns a function that converts a .caffemodel's bytes with a definition."""

    def port(data: bytes, definition: str = NET) -> Port:
        (tmp_path / "net.prototxt").write_text(definition)
        (tmp_path / "w.caffemodel").write_bytes(data)
        return convert(tmp_path / "net.prototxt", tmp_path / "w.caffemodel")

    return port


@pytest.fixture
def reasons(port, tmp_path) -> Callable[..., list[str]]:
    def reasons(data: bytes, definition: str = NET) -> list[str]:
        with pytest.raises(Refused) as refusal:
            port(data, definition)
        prefix = f"{tmp_path / 'w.caffemodel'}: "
        assert all(reason.startswith(prefix) for reason in refusal.value.reasons)
        return [reason.removeprefix(prefix) for reason in refusal.value.reasons]

    return reasons


def legacy(array: np.ndarray) -> bytes:
    """Returns a blob as Caffe wrote it before 2014: four axes, the numbers of a matrix in the last two."""
    four = (1,) * (4 - array.ndim) + array.shape
    return b"".join(small(tag, size) for tag, size in enumerate(four, 1)) + field(5, array.tobytes())


WRITERS: dict[str, Callable[[np.ndarray], bytes]] = {
    "packed": packed,
    "numbers before the shape": lambda a: field(5, a.tobytes()) + shape(a),
    "four axes": legacy,
    "in two runs": lambda a: shape(a) + field(5, a.tobytes()[:8]) + field(5, a.tobytes()[8:]),
    "a tag before each number": lambda a: shape(a) + b"".join(b"\x2d" + struct.pack("<f", v) for v in a.ravel()),
    "double": lambda a: shape(a) + field(8, a.astype("<f8").tobytes()),
    "double, a tag before each": lambda a: shape(a) + b"".join(b"\x41" + struct.pack("<d", v) for v in a.ravel()),
    "with gradients": lambda a: packed(a) + field(6, np.ones_like(a).tobytes()),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_every_way_that_caffe_wrote_numbers(writer, port, arrays):
    made = port(model({name: [WRITERS[writer](a) for a in group] for name, group in arrays.items()}))
    assert list(made.parameters) == ["conv/weights", "conv/biases", "fc/weights", "fc/biases"]
    for (name, parameter), expected in zip(made.parameters.items(), [*arrays["conv"], *arrays["fc"]]):
        assert parameter.caffe.dtype == np.float32, name
        np.testing.assert_array_equal(parameter.caffe, expected, err_msg=name)
    doubles = [note for note in made.notes if "stored as float64; the graph holds float32" in note]
    assert len(doubles) == (4 if writer.startswith("double") else 0)


def test_all_that_does_not_fit_at_once(reasons, arrays):
    wrong = {
        "conv": [packed(arrays["conv"][0].reshape(4, 3, 4, 1)), packed(arrays["conv"][1])],
        "fc": [packed(arrays["fc"][0])],
    }
    assert reasons(model(wrong)) == [
        "layer 'fc' (InnerProduct): has 1 blobs there (11x96); expected 2 (11x96 and 11)",
        "layer 'conv' (Convolution): its weights have the shape 4x3x4x1 there; expected 4x3x2x2",
    ]


def test_layers_without_weights(reasons):
    assert reasons(model({"other": [packed(np.ones(3, np.float32))]})) == [
        "layer 'conv' (Convolution): has no weights there; expected 4x3x2x2 and 4",
        "layer 'fc' (InnerProduct): has no weights there; expected 11x96 and 11",
        "layers there that the network does not have: 'other' (3)",
    ]


def test_a_transposed_matrix_is_not_taken(reasons, arrays):
    turned = {"conv": list(map(packed, arrays["conv"])), "fc": [packed(arrays["fc"][0].T), packed(arrays["fc"][1])]}
    (reason,) = reasons(model(turned))
    assert reason == "layer 'fc' (InnerProduct): its weights have the shape 96x11 there; expected 11x96"


def test_layers_that_the_definition_lacks_are_noted(port, arrays):
    more = {name: list(map(packed, group)) for name, group in arrays.items()}
    more["loss3"] = [packed(np.ones(3, np.float32))]
    made = port(model(more))
    (note,) = made.notes
    assert note.endswith("weights of 1 layers that the definition does not have are left out: 'loss3'")


SHARED = """
layer { name: "a" type: "Input" top: "a" input_param { shape { dim: 2 dim: 3 } } }
layer { name: "one" type: "InnerProduct" bottom: "a" top: "b" param { name: "w" } param { name: "b" }
        inner_product_param { num_output: 3 } }
layer { name: "two" type: "InnerProduct" bottom: "b" top: "c" param { name: "w" } param { name: "b" }
        inner_product_param { num_output: 3 } }
"""


def test_shared_parameters_are_stored_once_or_twice(port, rng):
    weights, biases = rng.standard_normal((3, 3)).astype("f4"), rng.standard_normal(3).astype("f4")
    blobs = [packed(weights), packed(biases)]
    for layers in ({"one": blobs}, {"one": blobs, "two": blobs}):
        made = port(model(layers), SHARED)
        assert list(made.parameters) == ["one/weights", "one/biases"]
        assert made.notes == ()
        np.testing.assert_array_equal(made.parameters["one/weights"].caffe, weights)


def test_shared_parameters_that_contradict_each_other_are_noted(port, rng):
    """Caffe loads layers in the file's order, whatever the network's."""
    first, last = rng.standard_normal((2, 3, 3)).astype("f4")
    biases = packed(np.zeros(3, np.float32))
    for layers, values in ((("one", "two"), (first, last)), (("two", "one"), (first, last))):
        held = {layer: [packed(weights), biases] for layer, weights in zip(layers, values)}
        made = port(model(held), SHARED)
        (note,) = made.notes
        assert f"layer '{layers[1]}' (InnerProduct): shares one/weights, but stores other values" in note
        np.testing.assert_array_equal(made.parameters["one/weights"].caffe, last)
