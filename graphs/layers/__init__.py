"""The layer definitions, one file for each tight family; importing this package registers them all."""

from graphs.layers import (  # noqa: F401
    convolution,
    data,
    elementwise,
    eltwise,
    inner_product,
    lrn,
    normalization,
    pooling,
    shaping,
    softmax,
)
