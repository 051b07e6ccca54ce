"""Slice, Crop and Tile against Caffe's loops, on every axis of every rank."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from graphs import infer
from graphs.layers.data import Input
from graphs.layers.slicing import Crop, Slice, Tile
from graphs.network import Network, Node
from weights import Refused

SIZES = (6, 4, 10, 8, 12)


def cut(x, axis, points):
    """Returns the parts, value by value: each goes to the part that its place along the axis falls into."""
    bounds = [0, *points, x.shape[axis]]
    parts = []
    for start, end in itertools.pairwise(bounds):
        part = np.empty((*x.shape[:axis], end - start, *x.shape[axis + 1 :]))
        for index in np.ndindex(*part.shape):
            part[index] = x[(*index[:axis], index[axis] + start, *index[axis + 1 :])]
        parts.append(part)
    return parts


def test_slice(rng, agree_everywhere):
    free, fixed = {}, {}
    for rank in range(1, 6):
        x = rng.standard_normal(SIZES[:rank])
        for axis in range(rank):
            size = x.shape[axis]
            points, halves = cut(x, axis, (1, 3)), cut(x, axis, (size // 2,))
            for spelled in (axis, axis - rank):
                what = f"rank {rank}, axis {spelled}"
                free[f"{what}, at points"] = (Slice(axis=spelled, slice_point=(1, 3)), [x], points)
                free[f"{what}, whole"] = (Slice(axis=spelled), [x], [x])
                (fixed if axis == 0 else free)[f"{what}, halves"] = (Slice(axis=spelled), [x], halves)
            free[f"rank {rank}, slice_dim {axis}"] = (Slice(slice_dim=axis, slice_point=(1, 3)), [x], points)
    agree_everywhere(free)
    agree_everywhere(fixed, free=False)  # one item more can't be halved


def refusal_of(layer, tops, *bottoms):
    inputs = [Node(f"x{place}", Input((shape,)), (), (f"x{place}",)) for place, shape in enumerate(bottoms)]
    names = tuple(node.name for node in inputs)
    with pytest.raises(Refused) as refused:
        infer(Network("n", (*inputs, Node("y", layer, names, tuple(f"y{place}" for place in range(tops))))))
    return str(refused.value)


@pytest.mark.parametrize(
    ("layer", "tops", "reason"),
    [
        (Slice(), 3, "its 3 tops can't share the 4 along its axis evenly; set slice_point"),
        (Slice(slice_point=(1, 2)), 2, "has 2 tops and 2 slice_point; expected one less than tops"),
        (Slice(slice_point=(2, 2)), 3, "slice_point 2, 2 does not rise from above 0 to below 4"),
        (Slice(slice_point=(0, 2)), 3, "slice_point 0, 2 does not rise"),
        (Slice(slice_point=(4,)), 2, "slice_point 4 does not rise from above 0 to below 4"),
        (Slice(slice_dim=0, axis=2), 2, "sets both axis and slice_dim"),
        (Slice(axis=-5), 2, "axis -5 is not one of a bottom of shape 2x4x5x7"),
        (Slice(slice_dim=4), 2, "axis 4 is not one of a bottom of shape 2x4x5x7"),
    ],
)
def test_slice_refuses(layer, tops, reason):
    assert reason in refusal_of(layer, tops, (2, 4, 5, 7))


def cropped(x, like, axis, offsets):
    shape = tuple(like[a] if a >= axis else x.shape[a] for a in range(x.ndim))
    start = [offsets[a - axis] if a >= axis else 0 for a in range(x.ndim)]
    y = np.empty(shape)
    for index in np.ndindex(*shape):
        y[index] = x[tuple(i + s for i, s in zip(index, start))]
    return y


def test_crop(rng, agree_everywhere):
    cases = {}
    smaller = (5, 3, 7, 4, 6)
    for rank in range(1, 6):
        x, like = rng.standard_normal(SIZES[:rank]), rng.standard_normal(smaller[:rank])
        for axis in range(rank):
            room = rank - axis
            each = tuple(size - less - (size - less) // 2 for size, less in zip(SIZES[axis:rank], smaller[axis:rank]))
            for spelled in (axis, axis - rank):
                what = f"rank {rank}, axis {spelled}"
                for offset, offsets in (((), (0,) * room), ((1,), (1,) * room), (each, each)):
                    expected = cropped(x, like.shape, axis, offsets)
                    cases[f"{what}, offset {offset}"] = (Crop(axis=spelled, offset=offset), [x, like], expected)
    bigger = rng.standard_normal((3, 2, 5, 4, 7))
    x = rng.standard_normal((6, 4, 10, 8))
    cases["a second bottom of more axes"] = (Crop(axis=1), [x, bigger], cropped(x, bigger.shape, 1, (0, 0, 0)))
    cases["and along the batch"] = (Crop(axis=0, offset=(1,)), [x, bigger], cropped(x, bigger.shape, 0, (1, 1, 1, 1)))
    agree_everywhere(cases)


@pytest.mark.parametrize(
    ("layer", "like", "reason"),
    [
        (Crop(), (2, 4, 6, 7), "on axis 2, the second bottom's size 6 from offset 0 on is more than its first"),
        (Crop(offset=(1, 3)), (2, 4, 3, 5), "on axis 3, the second bottom's size 5 from offset 3 on is more"),
        (Crop(offset=(1, 1, 1)), (2, 4, 3, 5), "has 3 offset values for the 2 axes of 2x4x5x7 from axis 2 on"),
        (Crop(axis=4), (2, 4, 3, 5), "axis 4 is not one of a bottom of shape 2x4x5x7"),
        (Crop(), (2, 4, 3), "its second bottom, 2x4x3, has fewer axes than its first, 2x4x5x7"),
    ],
)
def test_crop_refuses(layer, like, reason):
    assert reason in refusal_of(layer, 1, (2, 4, 5, 7), like)


def test_tile(rng, agree_everywhere):
    cases = {}
    for rank in range(1, 6):
        x = rng.standard_normal((2, 3, 5, 7, 4)[:rank])
        for axis in range(rank):
            outer, inner = int(np.prod(x.shape[:axis])), int(np.prod(x.shape[axis:]))
            flat = x.reshape(outer, inner)
            rows = [flat[o] for o in range(outer) for _ in range(3)]
            expected = np.concatenate(rows).reshape(*x.shape[:axis], 3 * x.shape[axis], *x.shape[axis + 1 :])
            for spelled in (axis, axis - rank):
                cases[f"rank {rank}, axis {spelled}"] = (Tile(axis=spelled, tiles=3), [x], expected)
        cases[f"rank {rank}, once"] = (Tile(axis=0, tiles=1), [x], x)
    agree_everywhere(cases)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (Tile(), "tiles is not set; Caffe wants 1 or more"),
        (Tile(tiles=0), "tiles is 0; Caffe wants 1 or more"),
        (Tile(axis=4, tiles=2), "axis 4 is not one of a bottom of shape 2x4x5x7"),
    ],
)
def test_tile_refuses(layer, reason):
    assert reason in refusal_of(layer, 1, (2, 4, 5, 7))
