"""AlexNet with batch normalization, as the flower-recognition post has it."""

from __future__ import annotations

from typing import Any

from graphs.alexnet.blocks import (
    HE,
    Endpoints,
    assemble,
    batch_norm,
    conv,
    dense,
    dropout,
    max_pool,
    relu,
    softmax,
)
from graphs.layer import Tensor


def batchnorm(
    images: Tensor,
    keep_prob: Any = 1.0,
    num_classes: int = 17,
    seed: Tensor | None = None,
    is_training: Any = False,
) -> Endpoints:
    """Returns the endpoints of the AlexNet that tells the 17 flowers of Oxford's data set, with batch normalization
    in the place of LRN.

    Source: the flower-recognition post, which trains with ``keep_prob`` 0.6. Input: N, 224, 224, 3; R, G, B from 0 to
    1. First weights: He's; biases 0.

        conv1   11x11x96 / 4 SAME   N, 56, 56, 96       pool1 2x2 / 2, norm1    N, 28, 28, 96
        conv2   5x5x256 SAME        N, 28, 28, 256      pool2 2x2 / 2, norm2    N, 14, 14, 256
        conv3   3x3x384 SAME        N, 14, 14, 384      norm3
        conv4   3x3x384 SAME        N, 14, 14, 384      norm4
        conv5   3x3x256 SAME        N, 14, 14, 256      pool5 2x2 / 2, norm5    N, 7, 7, 256, which is 12544
        fc6, fc7    4096            fc8    1000         fc9     num_classes, the logits, without ReLU

    ``is_training``, a boolean or a scalar boolean tensor, says whether the batch's own mean and variance normalize.
    Variables: ``w_c1``, ``b_c1``, ... ``b_c5``; ``w_f1``, ``b_f1``, ... ``b_f3``; ``w_out``, ``b_out``; of the
    normalizations ``batch_normalization/gamma``, ``/beta``, ``/moving_mean``, ``/moving_variance``,
    ``batch_normalization_1/gamma``, ... ``batch_normalization_4/moving_variance``.

    The post flattened to 28 * 28 * 256 where 7 * 7 * 256 arrives, so that 16 pictures came out as one; misspelt names,
    so that a variable was made and another one read; left dropout and the batch's statistics on at evaluation.
    """
    rows = [
        conv("conv1", 96, 11, stride=4, padding="SAME", weights=HE, variables=("w_c1", "b_c1")),
        relu("relu1"),
        max_pool("pool1", 2, 2),
        batch_norm("norm1", "batch_normalization", is_training),
        conv("conv2", 256, 5, padding="SAME", weights=HE, variables=("w_c2", "b_c2")),
        relu("relu2"),
        max_pool("pool2", 2, 2),
        batch_norm("norm2", "batch_normalization_1", is_training),
        conv("conv3", 384, 3, padding="SAME", weights=HE, variables=("w_c3", "b_c3")),
        relu("relu3"),
        batch_norm("norm3", "batch_normalization_2", is_training),
        conv("conv4", 384, 3, padding="SAME", weights=HE, variables=("w_c4", "b_c4")),
        relu("relu4"),
        batch_norm("norm4", "batch_normalization_3", is_training),
        conv("conv5", 256, 3, padding="SAME", weights=HE, variables=("w_c5", "b_c5")),
        relu("relu5"),
        max_pool("pool5", 2, 2),
        batch_norm("norm5", "batch_normalization_4", is_training),
        dense("fc6", 4096, weights=HE, variables=("w_f1", "b_f1")),
        relu("relu6"),
        dropout("drop6", keep_prob, seed),
        dense("fc7", 4096, weights=HE, variables=("w_f2", "b_f2")),
        relu("relu7"),
        dropout("drop7", keep_prob, seed),
        dense("fc8", 1000, weights=HE, variables=("w_f3", "b_f3")),
        relu("relu8"),
        dense("fc9", num_classes, weights=HE, variables=("w_out", "b_out")),
        softmax("prob"),
    ]
    return assemble(images, rows)
