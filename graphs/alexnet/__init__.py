"""AlexNet, in each of the forms that people meet it in: readable, trainable, under their checkpoints' names.

endpoints = graphs.alexnet.bvlc(images, keep_prob, num_classes=17)
endpoints["logits"], endpoints["prob"], endpoints["pool5"]

Every function adds its network to the default graph and returns named endpoints, the same names throughout: ``convN``
and ``fcN`` before the activation, ``reluN``, ``normN`` (local response or batch normalization), ``poolN``, ``dropN``,
``logits`` (the last ``fcN``) and ``prob``; N is the number of the convolution or fully connected layer that it
follows. ``FAMILY`` has them by name, with what a tool needs to know of each.
"""

from graphs.alexnet.blocks import Endpoints
from graphs.alexnet.family import FAMILY, Preprocessing, Variant
from graphs.alexnet.variants.batchnorm import batchnorm
from graphs.alexnet.variants.bvlc import bvlc
from graphs.alexnet.variants.caffenet import caffenet
from graphs.alexnet.variants.one_weird_trick import one_weird_trick, torchvision
from graphs.alexnet.variants.paper import paper
from graphs.alexnet.variants.ungrouped import ungrouped

__all__ = [
    "FAMILY",
    "Endpoints",
    "Preprocessing",
    "Variant",
    "batchnorm",
    "bvlc",
    "caffenet",
    "one_weird_trick",
    "paper",
    "torchvision",
    "ungrouped",
]
