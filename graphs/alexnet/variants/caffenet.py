"""Caffe's bvlc_reference_caffenet."""

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
    lrn,
    max_pool,
    relu,
    softmax,
)
from graphs.layer import Tensor


def caffenet(images: Tensor, keep_prob: Any = 1.0, num_classes: int = 1000, seed: Tensor | None = None) -> Endpoints:
    """Returns the endpoints of BVLC's CaffeNet: ``bvlc`` with pooling before normalization.

    Source: ``bvlc_reference_caffenet/train_val.prototxt`` of Caffe's model zoo, whose fillers are its first weights;
    where bvlc_alexnet starts biases at 0.1, this starts them at 1. Input: N, 227, 227, 3; B, G, R, 0 to 255, the mean
    taken off.

        conv1   11x11x96 / 4 VALID      N, 55, 55, 96       pool1, norm1    N, 27, 27, 96
        conv2   5x5x256 SAME, 2 groups  N, 27, 27, 256      pool2, norm2    N, 13, 13, 256
        conv3   3x3x384 SAME            N, 13, 13, 384
        conv4   3x3x384 SAME, 2 groups  N, 13, 13, 384
        conv5   3x3x256 SAME, 2 groups  N, 13, 13, 256      pool5           N, 6, 6, 256
        fc6, fc7    4096                fc8     num_classes, the logits, without ReLU

    Variables: ``conv1/weights``, ``conv1/biases``, ... ``fc8/biases``.

    What was wrong in ports, and is right here, is as for ``bvlc``. The two differ in no shape and no variable's name,
    so that each loads the other's weights: a wrong pairing shows in its outputs alone.
    """
    small, smaller, ones = gaussian(0.01), gaussian(0.005), constant(1.0)
    rows = [
        conv("conv1", 96, 11, stride=4, weights=small),
        relu("relu1"),
        max_pool("pool1", 3, 2),
        lrn("norm1", radius=2, alpha=2e-5),
        conv("conv2", 256, 5, padding=2, group=2, weights=small, biases=ones),
        relu("relu2"),
        max_pool("pool2", 3, 2),
        lrn("norm2", radius=2, alpha=2e-5),
        conv("conv3", 384, 3, padding=1, weights=small),
        relu("relu3"),
        conv("conv4", 384, 3, padding=1, group=2, weights=small, biases=ones),
        relu("relu4"),
        conv("conv5", 256, 3, padding=1, group=2, weights=small, biases=ones),
        relu("relu5"),
        max_pool("pool5", 3, 2),
        dense("fc6", 4096, weights=smaller, biases=ones),
        relu("relu6"),
        dropout("drop6", keep_prob, seed),
        dense("fc7", 4096, weights=smaller, biases=ones),
        relu("relu7"),
        dropout("drop7", keep_prob, seed),
        dense("fc8", num_classes, weights=small),
        softmax("prob"),
    ]
    return assemble(images, rows)
