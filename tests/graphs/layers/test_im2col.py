"""Im2col against Caffe's loop, one value at a time."""

from __future__ import annotations

import numpy as np
import pytest

from graphs.layers.im2col import Im2col


def literal(x, kernel, stride, pad, dilation):
    batch, channels, height, width = x.shape
    out = [
        (size + 2 * p - (d * (k - 1) + 1)) // s + 1
        for size, k, s, p, d in zip((height, width), kernel, stride, pad, dilation)
    ]
    y = np.zeros((batch, channels * kernel[0] * kernel[1], *out))
    for channel in range(y.shape[1]):
        j, i, c = channel % kernel[1], channel // kernel[1] % kernel[0], channel // (kernel[0] * kernel[1])
        for h in range(out[0]):
            for w in range(out[1]):
                row, column = h * stride[0] - pad[0] + i * dilation[0], w * stride[1] - pad[1] + j * dilation[1]
                if 0 <= row < height and 0 <= column < width:
                    y[:, channel, h, w] = x[:, c, row, column]
    return y


SIZES = {
    "plain": ((3, 2), (1, 1), (0, 0), (1, 1)),
    "one by one": ((1, 1), (1, 1), (0, 0), (1, 1)),
    "strided": ((3, 2), (2, 3), (0, 0), (1, 1)),
    "padded": ((3, 2), (1, 1), (2, 1), (1, 1)),
    "dilated": ((3, 2), (1, 1), (0, 0), (2, 3)),
    "all at once": ((2, 3), (3, 2), (1, 2), (3, 2)),
}


def test_im2col(rng, agree_everywhere):
    cases = {}
    for name, (kernel, stride, pad, dilation) in SIZES.items():
        for channels in (1, 5):
            x = rng.standard_normal((2, channels, 7, 11))
            layer = Im2col(kernel_size=kernel, stride=stride, pad=pad, dilation=dilation)
            cases[f"{name}, {channels} channels"] = (layer, [x], literal(x, kernel, stride, pad, dilation))
    x = rng.standard_normal((2, 3, 7, 11))
    halves = Im2col(kernel_h=3, kernel_w=2, stride_h=2, stride_w=1, pad_w=1)
    cases["spelled by halves"] = (halves, [x], literal(x, (3, 2), (2, 1), (0, 1), (1, 1)))
    agree_everywhere(cases, tolerance=1e-7, exact=0)


@pytest.mark.parametrize(
    ("layer", "shape", "reason"),
    [
        (Im2col(), (2, 3, 5, 7), "kernel_size is given 0 times; Caffe wants it once"),
        (Im2col(kernel_size=(6,)), (2, 3, 5, 7), "kernel 6x6 with pad 0x0 and dilation 1x1 is larger than its bottom"),
        (Im2col(kernel_size=(2,), kernel_h=2, kernel_w=2), (2, 3, 5, 7), "sets both kernel_size and kernel_h or"),
        (Im2col(kernel_size=(2,), pad=(1,), pad_h=1), (2, 3, 5, 7), "sets both pad and pad_h or pad_w"),
    ],
)
def test_refuses(layer, shape, reason):
    with pytest.raises(ValueError, match=reason):
        layer.top_shapes(shape)
