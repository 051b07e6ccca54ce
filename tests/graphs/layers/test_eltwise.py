"""Eltwise over two and three bottoms, a value at a time."""

from __future__ import annotations

import numpy as np
import pytest

from graphs.layers.eltwise import Eltwise


def literal(bottoms, operation, coeff):
    y = np.empty_like(bottoms[0])
    for index in np.ndindex(*y.shape):
        values = [float(bottom[index]) for bottom in bottoms]
        if operation == "SUM":
            y[index] = sum(c * value for c, value in zip(coeff or [1] * len(values), values))
        elif operation == "MAX":
            y[index] = max(values)
        else:
            y[index] = 1
            for value in values:
                y[index] *= value
    return y


@pytest.mark.parametrize(
    ("operation", "coeff"),
    [
        ("SUM", ()),
        ("SUM", (1, 1, 1)),
        ("SUM", (1, -1, 1)),
        ("SUM", (0.5, -2, 3)),
        ("SUM", (0, 0, 1)),
        ("PROD", ()),
        ("MAX", ()),
    ],
)
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (2, 3, 5), (2,)])
def test_reference_and_graph(operation, coeff, count, shape, rng, run_layer, agree):
    bottoms = [rng.standard_normal(shape) - 1 for _ in range(count)]
    layer = Eltwise(operation=operation, coeff=coeff[:count])
    expected = literal(bottoms, operation, coeff[:count])
    agree(layer.reference(*bottoms), expected, 1e-14, "reference")
    agree(run_layer(layer, bottoms), expected, 1e-6, "graph")


def test_max_ignores_coeff_as_caffe_does(rng, run_layer):
    bottoms = [rng.standard_normal((2, 3)) for _ in range(2)]
    layer = Eltwise(operation="MAX", coeff=(1, -2))
    assert list(layer.notes((2, 3), (2, 3))) == ["sets coeff, which Caffe ignores with operation MAX"]
    np.testing.assert_array_equal(run_layer(layer, bottoms), np.float32(np.maximum(*bottoms)))
    np.testing.assert_array_equal(layer.reference(*bottoms), np.maximum(*bottoms))


def test_of_equal_values_caffes_own_learns(gradient):
    """The second of the first two, and of the others one that is larger than all before it."""
    a, b, c = np.float32([[1, 2, 2, 0, 1]]), np.float32([[1, 2, 1, 0, 3]]), np.float32([[1, 3, 2, -1, 3]])
    slopes = [gradient(Eltwise(operation="MAX"), [a, b, c], bottom=place).ravel().tolist() for place in range(3)]
    assert slopes == [[0, 0, 1, 0, 0], [1, 0, 0, 1, 1], [0, 1, 0, 0, 0]]


def test_another_batch_than_the_definitions(rng, run_layer, agree):
    bottoms = [rng.standard_normal((5, 3, 2, 7)) for _ in range(3)]
    expected = literal(bottoms, "SUM", (0.5, -2, 3))
    agree(run_layer(Eltwise(coeff=(0.5, -2, 3)), bottoms, defined=[(2, 3, 2, 7)] * 3), expected, 1e-6)


@pytest.mark.parametrize(
    ("layer", "shapes", "reason"),
    [
        (Eltwise(), [(2, 3), (2, 5)], "its bottoms have the shapes 2x3, 2x5; Caffe wants one shape"),
        (
            Eltwise(operation="PROD", coeff=(1, 2)),
            [(2, 3)] * 2,
            "sets coeff beside operation PROD, which Caffe refuses",
        ),
        (Eltwise(coeff=(1, 2)), [(2, 3)] * 3, "has 2 coeff values for 3 bottoms; Caffe wants one for each"),
    ],
)
def test_refuses_what_caffe_refuses(layer, shapes, reason):
    with pytest.raises(ValueError, match=reason):
        layer.top_shapes(*shapes)
