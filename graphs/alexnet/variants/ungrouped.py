"""AlexNet without groups, as the tf.estimator notebook has it."""

from __future__ import annotations

from typing import Any

from graphs.alexnet.blocks import (
    GLOROT,
    Endpoints,
    assemble,
    conv,
    dense,
    dropout,
    kernel_and_bias,
    lrn,
    max_pool,
    relu,
    softmax,
)
from graphs.layer import Tensor


def ungrouped(images: Tensor, keep_prob: Any = 1.0, num_classes: int = 1000, seed: Tensor | None = None) -> Endpoints:
    """Returns the endpoints of Krizhevsky et al. 2012 on one device, so that no convolution is split.

    Source: the notebook that trains AlexNet through ``tf.estimator`` and ``tf.layers``; for its ``model_fn`` see
    ``graphs.alexnet.estimator``. Input: N, 224, 224, 3; R, G, B. First weights: Glorot's, as ``tf.layers`` draws them.

        conv1   11x11x96 / 4 VALID      N, 54, 54, 96       pool1   N, 26, 26, 96
        conv2   5x5x256 SAME            N, 26, 26, 256      pool2   N, 12, 12, 256
        conv3   3x3x384 SAME            N, 12, 12, 384
        conv4   3x3x384 SAME            N, 12, 12, 384
        conv5   3x3x256 SAME            N, 12, 12, 256      pool5   N, 5, 5, 256, which is 6400
        fc6, fc7    4096                fc8     num_classes, the logits, without ReLU

    LRN has radius 5, bias 2, alpha 1e-4, beta 0.75. Variables: ``conv2d/kernel``, ``conv2d/bias``,
    ``conv2d_1/kernel``, ... ``conv2d_4/bias``, ``dense/kernel``, ... ``dense_2/bias``.

    Originals of this kind left dropout on at evaluation, gave it the probability to keep where ``tf.layers.dropout``
    wants the rate of what is dropped, put a ReLU on the logits, and took the argmax over the batch: ``keep_prob`` is
    what is kept, 1 unless it is given, and axis 1 of ``logits`` and ``prob`` has the classes.
    """
    rows = [
        conv("conv1", 96, 11, stride=4, weights=GLOROT, variables=kernel_and_bias("conv2d")),
        relu("relu1"),
        lrn("norm1", radius=5, alpha=1e-4, bias=2.0),
        max_pool("pool1", 3, 2),
        conv("conv2", 256, 5, padding="SAME", weights=GLOROT, variables=kernel_and_bias("conv2d_1")),
        relu("relu2"),
        lrn("norm2", radius=5, alpha=1e-4, bias=2.0),
        max_pool("pool2", 3, 2),
        conv("conv3", 384, 3, padding="SAME", weights=GLOROT, variables=kernel_and_bias("conv2d_2")),
        relu("relu3"),
        conv("conv4", 384, 3, padding="SAME", weights=GLOROT, variables=kernel_and_bias("conv2d_3")),
        relu("relu4"),
        conv("conv5", 256, 3, padding="SAME", weights=GLOROT, variables=kernel_and_bias("conv2d_4")),
        relu("relu5"),
        max_pool("pool5", 3, 2),
        dense("fc6", 4096, weights=GLOROT, variables=kernel_and_bias("dense")),
        relu("relu6"),
        dropout("drop6", keep_prob, seed),
        dense("fc7", 4096, weights=GLOROT, variables=kernel_and_bias("dense_1")),
        relu("relu7"),
        dropout("drop7", keep_prob, seed),
        dense("fc8", num_classes, weights=GLOROT, variables=kernel_and_bias("dense_2")),
        softmax("prob"),
    ]
    return assemble(images, rows)
