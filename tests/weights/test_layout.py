"""A layout moves every value to its place and back."""

from __future__ import annotations

import numpy as np
import pytest

from weights import Layout


@pytest.fixture
def numbered():
    """Returns a function that makes an array whose values are all different."""
    return lambda shape: np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def test_convolution(numbered):
    caffe = numbered((7, 5, 3, 2))  # outputs, inputs, height, width
    moved = Layout(caffe.shape, order=(2, 3, 1, 0)).to_tensorflow(caffe)
    assert moved.shape == (3, 2, 5, 7)
    for o, i, h, w in np.ndindex(*caffe.shape):
        assert moved[h, w, i, o] == caffe[o, i, h, w]


def test_fully_connected_after_channels_moved(numbered):
    caffe = numbered((11, 5 * 3 * 2))  # outputs, then C, H, W in one axis
    layout = Layout(caffe.shape, view=(11, 5, 3, 2), order=(2, 3, 1, 0), tensorflow=(3 * 2 * 5, 11))
    moved = layout.to_tensorflow(caffe)
    assert moved.shape == (30, 11)
    for o in range(11):
        for c, h, w in np.ndindex(5, 3, 2):
            assert moved[(h * 2 + w) * 5 + c, o] == caffe[o, (c * 3 + h) * 2 + w]


LAYOUTS = [
    Layout((7,)),
    Layout(()),
    Layout((1,), tensorflow=()),
    Layout((7, 5), order=(1, 0)),
    Layout((7, 5, 3, 2), order=(2, 3, 1, 0)),
    Layout((7, 5, 3, 2), order=(3, 0, 2, 1)),
    Layout((6, 1, 3, 2), view=(3, 2, 3, 2), order=(2, 3, 0, 1)),
    Layout((11, 30), view=(11, 5, 3, 2), order=(2, 3, 1, 0), tensorflow=(30, 11)),
    Layout((3,), view=(1, 3, 1, 1), order=(0, 2, 3, 1), tensorflow=(3,)),
    Layout((1031, 1021), order=(1, 0)),  # above a million values another loop moves them
    Layout((67, 3, 71, 73), view=(67, 3, 71 * 73), order=(2, 1, 0)),
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: f"{layout.caffe}-{layout.tensorflow}")
def test_there_and_back_is_the_same_to_the_last_bit(layout, numbered):
    caffe = numbered(layout.caffe)
    moved = layout.to_tensorflow(caffe)
    assert moved.shape == layout.tensorflow
    assert moved.flags.c_contiguous
    back = layout.to_caffe(moved)
    assert back.shape == layout.caffe
    assert back.flags.c_contiguous
    np.testing.assert_array_equal(back, caffe)
    assert layout.size == caffe.size


def test_large_arrays_move_like_small_ones(numbered):
    caffe = numbered((67, 3, 71, 73))
    moved = Layout(caffe.shape, order=(2, 3, 1, 0)).to_tensorflow(caffe)
    for o, i, h, w in [(0, 0, 0, 0), (66, 2, 70, 72), (64, 1, 13, 41), (63, 2, 5, 7)]:
        assert moved[h, w, i, o] == caffe[o, i, h, w]
    np.testing.assert_array_equal(np.sort(moved, axis=None), caffe.reshape(-1))


def test_shapes_that_hold_other_counts_are_no_layout():
    with pytest.raises(ValueError, match="does not hold as many values"):
        Layout((2, 3), view=(2, 4))
    with pytest.raises(ValueError, match="does not hold as many values"):
        Layout((2, 3), tensorflow=(7,))
