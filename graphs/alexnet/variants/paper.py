"""AlexNet as the from-scratch notebook reads the paper."""

from __future__ import annotations

from typing import Any

from graphs.alexnet.blocks import (
    Endpoints,
    assemble,
    constant,
    conv,
    dense,
    dropout,
    gaussian,
    kernel_and_bias,
    lrn,
    max_pool,
    relu,
    softmax,
)
from graphs.layer import Tensor


def paper(images: Tensor, keep_prob: Any = 1.0, num_classes: int = 1000, seed: Tensor | None = None) -> Endpoints:
    """Returns the endpoints of the notebook that builds Krizhevsky et al. 2012 from scratch: strides where the paper
    pools, pools that overlap wholly, and no pool after conv5.

    Input: N, 224, 224, 3; R, G, B, the mean taken off. First weights, as the paper says: N(0, 0.01); biases 1 in
    conv2, conv4 and conv5, else 0.

        conv1   11x11x96 / 4 SAME       N, 56, 56, 96       pool1 2x2 / 1   N, 55, 55, 96
        conv2   5x5x256 / 2 SAME        N, 28, 28, 256      pool2 2x2 / 1   N, 27, 27, 256
        conv3   3x3x384 / 2 VALID       N, 13, 13, 384
        conv4   3x3x384 SAME            N, 13, 13, 384
        conv5   3x3x256 SAME            N, 13, 13, 256, which is 43264
        fc6, fc7    4096                fc8     num_classes, the logits, without ReLU

    LRN, before each pool, has radius 5, bias 2, alpha 1e-4, beta 0.75. Variables: ``conv_layer_1/conv2d/kernel``,
    ``conv_layer_1/conv2d/bias``, ... ``conv_layer_5/conv2d/bias``, ``fc_layer_1/dense/kernel``, ...
    ``fc_layer_2/dense/bias``, ``softmax_layer/dense/kernel``, ``softmax_layer/dense/bias``.

    Originals of this kind flattened to another size than what arrives, and multiplied weight decay by the learning
    rate once more than the optimizer does: here the flattened size follows from the shapes, and no graph holds a
    decay. The paper's update, w - lr * (gradient + 0.0005 * w), is the loss plus 0.0005 / 2 * sum of w^2, by plain
    gradient descent.
    """
    narrow, ones = gaussian(0.01), constant(1.0)
    rows = [
        conv("conv1", 96, 11, stride=4, padding="SAME", weights=narrow, variables=_conv(1)),
        relu("relu1"),
        lrn("norm1", radius=5, alpha=1e-4, bias=2.0),
        max_pool("pool1", 2, 1),
        conv("conv2", 256, 5, stride=2, padding="SAME", weights=narrow, biases=ones, variables=_conv(2)),
        relu("relu2"),
        lrn("norm2", radius=5, alpha=1e-4, bias=2.0),
        max_pool("pool2", 2, 1),
        conv("conv3", 384, 3, stride=2, weights=narrow, variables=_conv(3)),
        relu("relu3"),
        conv("conv4", 384, 3, padding="SAME", weights=narrow, biases=ones, variables=_conv(4)),
        relu("relu4"),
        conv("conv5", 256, 3, padding="SAME", weights=narrow, biases=ones, variables=_conv(5)),
        relu("relu5"),
        dense("fc6", 4096, weights=narrow, variables=kernel_and_bias("fc_layer_1/dense")),
        relu("relu6"),
        dropout("drop6", keep_prob, seed),
        dense("fc7", 4096, weights=narrow, variables=kernel_and_bias("fc_layer_2/dense")),
        relu("relu7"),
        dropout("drop7", keep_prob, seed),
        dense("fc8", num_classes, weights=narrow, variables=kernel_and_bias("softmax_layer/dense")),
        softmax("prob"),
    ]
    return assemble(images, rows)


def _conv(number: int) -> tuple[str, str]:
    return kernel_and_bias(f"conv_layer_{number}/conv2d")
