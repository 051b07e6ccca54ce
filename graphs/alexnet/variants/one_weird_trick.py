"""The AlexNet of "One weird trick": the benchmark notebook's, and torchvision's."""

from __future__ import annotations

from typing import Any

from graphs.alexnet.blocks import HE, Endpoints, assemble, conv, dense, dropout, lrn, max_pool, relu, softmax
from graphs.layer import Tensor


def one_weird_trick(
    images: Tensor,
    keep_prob: Any = 1.0,
    num_classes: int = 1000,
    seed: Tensor | None = None,
    has_lrn: bool = True,
    conv1_padding: str | int = "SAME",
) -> Endpoints:
    """Returns the endpoints of the single-column AlexNet of Krizhevsky 2014 (arXiv 1404.5997).

    Source: the notebook that times forward and backward passes. Input: N, 224, 224, 3; R, G, B, the mean taken off.
    First weights: He's, since the notebook measures no learning; biases 0.

        conv1   11x11x64 / 4 SAME       N, 56, 56, 64       pool1   N, 27, 27, 64
        conv2   5x5x192 SAME            N, 27, 27, 192      pool2   N, 13, 13, 192
        conv3   3x3x384 SAME            N, 13, 13, 384
        conv4   3x3x256 SAME            N, 13, 13, 256
        conv5   3x3x256 SAME            N, 13, 13, 256      pool5   N, 6, 6, 256
        fc6, fc7    4096                fc8     num_classes, the logits, without ReLU

    LRN, before pool1 and pool2, has radius 4, bias 1, alpha 0.001 / 9, beta 0.75; ``has_lrn`` leaves it out.
    Dropout is before fc6 and fc7, as ``torchvision`` has it. Variables: ``conv1/weights``, ``conv1/biases``, ...
    ``fc8/biases``.

    Originals of this kind put a ReLU on the logits, under which a negative one is 0 and has no gradient.
    """
    rows = [
        conv("conv1", 64, 11, stride=4, padding=conv1_padding, weights=HE),
        relu("relu1"),
        lrn("norm1", radius=4, alpha=0.001 / 9),
        max_pool("pool1", 3, 2),
        conv("conv2", 192, 5, padding="SAME", weights=HE),
        relu("relu2"),
        lrn("norm2", radius=4, alpha=0.001 / 9),
        max_pool("pool2", 3, 2),
        conv("conv3", 384, 3, padding="SAME", weights=HE),
        relu("relu3"),
        conv("conv4", 256, 3, padding="SAME", weights=HE),
        relu("relu4"),
        conv("conv5", 256, 3, padding="SAME", weights=HE),
        relu("relu5"),
        max_pool("pool5", 3, 2),
        dropout("drop5", keep_prob, seed),
        dense("fc6", 4096, weights=HE),
        relu("relu6"),
        dropout("drop6", keep_prob, seed),
        dense("fc7", 4096, weights=HE),
        relu("relu7"),
        dense("fc8", num_classes, weights=HE),
        softmax("prob"),
    ]
    return assemble(images, [row for row in rows if has_lrn or not row.name.startswith("norm")])


def torchvision(images: Tensor, keep_prob: Any = 1.0, num_classes: int = 1000, seed: Tensor | None = None) -> Endpoints:
    """Returns the endpoints of ``one_weird_trick`` as ``torchvision.models.alexnet`` computes it.

    There is no LRN, and conv1 pads 2 zeros on every side, where SAME would pad 3 and 4: N, 55, 55, 64, and 27 again
    from pool1 on. ``converter.pretrained`` loads its ``state_dict``. Input: N, 224, 224, 3; R, G, B from 0 to 1, the
    mean (0.485, 0.456, 0.406) taken off, divided by (0.229, 0.224, 0.225).
    """
    return one_weird_trick(images, keep_prob, num_classes, seed, has_lrn=False, conv1_padding=2)
