"""Every field of a layer changes what it computes, or how it is trained, or is refused: none is ignored."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from graphs.layer import Filler, Layer, listed
from graphs.layers import activation, arithmetic
from graphs.layers.bias import Bias
from graphs.layers.data import Parameter
from graphs.layers.deconvolution import Deconvolution
from graphs.layers.embed import Embed
from graphs.layers.im2col import Im2col
from graphs.layers.mvn import MVN
from graphs.layers.reduction import ArgMax, Reduction
from graphs.layers.shaping import Reshape
from graphs.layers.slicing import Crop, Slice, Tile
from graphs.layers.spp import SPP

PICTURE = (2, 3, 12, 12)
DRAWN = Filler(type="gaussian", std=0.3)
LAYERS: dict[str, tuple[Layer, list[tuple[int, ...]], dict[str, Any]]] = {
    "PReLU": (activation.PReLU(), [PICTURE], {"filler": DRAWN, "channel_shared": True}),
    "ReLU6": (activation.ReLU6(), [PICTURE], {"threshold": 0.5}),
    "ELU": (activation.ELU(), [PICTURE], {"alpha": 0.5}),
    "Sigmoid": (activation.Sigmoid(), [PICTURE], {}),
    "TanH": (activation.TanH(), [PICTURE], {}),
    "Swish": (activation.Swish(), [PICTURE], {"beta": 0.5}),
    "BNLL": (activation.BNLL(), [PICTURE], {}),
    "AbsVal": (arithmetic.AbsVal(), [PICTURE], {}),
    "Power": (arithmetic.Power(), [PICTURE], {"power": 2, "scale": 0.5, "shift": 0.5}),
    "Exp": (arithmetic.Exp(), [PICTURE], {"base": 2, "scale": 0.5, "shift": 0.5}),
    "Log": (arithmetic.Log(shift=9), [PICTURE], {"base": 2, "scale": 0.5, "shift": 8}),
    "Clip": (arithmetic.Clip(min=-1, max=1), [PICTURE], {"min": -0.5, "max": 0.5}),
    "Threshold": (arithmetic.Threshold(), [PICTURE], {"threshold": 0.5}),
    "Bias": (Bias(), [(2, 3, 3, 3)], {"axis": 2, "num_axes": 2, "filler": DRAWN}),
    "Slice": (Slice(), [(2, 6, 12, 12)], {"axis": 2, "slice_dim": 2, "slice_point": (1, 2)}),
    "Crop": (Crop(), [PICTURE, (1, 2, 5, 7)], {"axis": 1, "offset": (2,)}),
    "Tile": (Tile(tiles=2), [PICTURE], {"axis": 2, "tiles": 3}),
    "Reshape": (Reshape(shape=(0, -1)), [(2, 2, 3)], {"shape": (0, -1, 1), "axis": 1, "num_axes": 2}),
    "Reduction": (Reduction(), [PICTURE], {"operation": "MEAN", "axis": 1, "coeff": 0.5}),
    "ArgMax": (ArgMax(), [PICTURE], {"out_max_val": True, "top_k": 2, "axis": 1}),
    "MVN": (MVN(), [PICTURE], {"normalize_variance": False, "across_channels": True, "eps": 0.5}),
    "Embed": (
        Embed(num_output=3, input_dim=5),
        [(2, 3)],
        {"num_output": 4, "input_dim": 6, "bias_term": False, "weight_filler": DRAWN, "bias_filler": DRAWN},
    ),
    "SPP": (SPP(pyramid_height=2), [PICTURE], {"pyramid_height": 1, "pool": "AVE"}),
    "Parameter": (Parameter(shape=(2, 3)), [], {"shape": (3, 2)}),
}
WINDOWS = {
    "pad": (2,),
    "kernel_size": (2,),
    "stride": (3,),
    "pad_h": 2,
    "pad_w": 2,
    "kernel_h": 2,
    "kernel_w": 2,
    "stride_h": 3,
    "stride_w": 3,
    "axis": 2,
    "dilation": (2,),
}
LAYERS["Im2col"] = (Im2col(kernel_size=(3,), stride=(2,), pad=(1,)), [PICTURE], WINDOWS)
LAYERS["Im2col by halves"] = (
    Im2col(kernel_h=3, kernel_w=3, stride_h=2, stride_w=2, pad_h=1, pad_w=1),
    [PICTURE],
    WINDOWS,
)
WEIGHTED = {
    **WINDOWS,
    "num_output": 9,
    "bias_term": False,
    "group": 3,
    "weight_filler": DRAWN,
    "bias_filler": DRAWN,
}
LAYERS["Deconvolution"] = (
    Deconvolution(num_output=6, kernel_size=(3,), stride=(2,), pad=(1,)),
    [PICTURE],
    WEIGHTED,
)
LAYERS["Deconvolution by halves"] = (
    Deconvolution(num_output=6, kernel_h=3, kernel_w=3, stride_h=2, stride_w=2, pad_h=1, pad_w=1),
    [PICTURE],
    WEIGHTED,
)


def observed(layer: Layer, shapes: list[tuple[int, ...]]) -> list[Any] | str:
    """Returns all that a layer does: its parameters and its tops of drawn values, or the reason why it refuses."""
    rng = np.random.default_rng(7)
    bottoms = [rng.standard_normal(shape) for shape in shapes]
    if isinstance(layer, Embed):
        bottoms = [rng.integers(0, 5, shape) for shape in shapes]
    more = {"tops": 3 if isinstance(layer, Slice) else len(shapes)} if layer.counts_tops else {}
    try:
        tops = listed(layer.top_shapes(*shapes, **more))
    except ValueError as error:
        return str(error)
    specs = layer.parameters(*shapes)
    arrays = [np.asarray(rng.standard_normal(spec.layout.caffe)) for spec in specs]
    made = listed(layer.reference(*bottoms, *arrays, **more))
    assert [top.shape for top in made] == tops
    return [*specs, *tops, *(top.tolist() for top in made)]


@pytest.mark.parametrize("name", LAYERS)
def test_every_field_counts(name):
    layer, shapes, changes = LAYERS[name]
    assert set(changes) == {field.name for field in fields(layer)}
    before = observed(layer, shapes)
    assert not isinstance(before, str), before
    for field, value in changes.items():
        assert observed(replace(layer, **{field: value}), shapes) != before, f"{field} is ignored"
