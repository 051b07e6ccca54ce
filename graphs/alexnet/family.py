"""The family by name, with what a tool needs to know of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from graphs.alexnet.blocks import Endpoints
from graphs.alexnet.variants.batchnorm import batchnorm
from graphs.alexnet.variants.bvlc import bvlc
from graphs.alexnet.variants.caffenet import caffenet
from graphs.alexnet.variants.one_weird_trick import one_weird_trick, torchvision
from graphs.alexnet.variants.paper import paper
from graphs.alexnet.variants.ungrouped import ungrouped
from graphs.layer import Tensor


@dataclass(frozen=True)
class Preprocessing:
    """How a picture of 0 to 255 is fed: its channels in ``order``, each (value - mean) * scale."""

    order: str
    mean: tuple[float, float, float]
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)


IMAGENET_BGR = Preprocessing("BGR", (104.00699, 116.66877, 122.67891))
"""The channels' means of Caffe's ILSVRC 2012 mean picture, which Caffe subtracts."""
IMAGENET_RGB = Preprocessing("RGB", (122.67891, 116.66877, 104.00699))
"""The same for networks that take red first."""
TORCHVISION = Preprocessing(
    "RGB", (255 * 0.485, 255 * 0.456, 255 * 0.406), (1 / (255 * 0.229), 1 / (255 * 0.224), 1 / (255 * 0.225))
)
"""torchvision's mean and standard deviation, which it states for pictures of 0 to 1."""
UNIT_RGB = Preprocessing("RGB", (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255))
"""From 0 to 1."""


@dataclass(frozen=True)
class Variant:
    """One of the family.

    ``size`` is the height and width of its pictures, ``num_classes`` how many its source has, ``head`` the endpoint
    whose weights change with them, ``dropouts`` the endpoints that ``keep_prob`` works on, ``keep_prob`` what its
    source trains with, ``initial`` its first weights in words (``tf.global_variables_initializer`` draws them).
    """

    name: str
    function: Callable[..., Endpoints]
    size: int
    preprocessing: Preprocessing
    initial: str
    num_classes: int = 1000
    head: str = "fc8"
    dropouts: tuple[str, ...] = ("drop6", "drop7")
    keep_prob: float = 0.5
    normalizes_batches: bool = False

    def build(
        self,
        images: Tensor,
        keep_prob: Any = 1.0,
        num_classes: int | None = None,
        is_training: Any = False,
        seed: Tensor | None = None,
    ) -> Endpoints:
        """Adds the network to the default graph and returns its endpoints.

        ``images`` are N, H, W, C of float32. ``keep_prob``, a number or a scalar tensor, is the probability with which
        dropout keeps a value, 1 for none. ``is_training``, a boolean or a scalar boolean tensor, says whether batch
        normalization uses the batch's statistics; what moves its averages is then in UPDATE_OPS. ``seed``, two
        integers, fixes what dropout drops. Raises Refused where the pictures do not fit.
        """
        training = {"is_training": is_training} if self.normalizes_batches else {}
        return self.function(images, keep_prob, num_classes or self.num_classes, seed=seed, **training)


_CAFFE = "gaussian 0.01, of fc6 and fc7 0.005; biases {}, but 0 in conv1, conv3 and fc8"
_HE = "normal with variance 2 / fan_in; biases 0"

_VARIANTS = (
    Variant("bvlc", bvlc, 227, IMAGENET_BGR, _CAFFE.format(0.1)),
    Variant("caffenet", caffenet, 227, IMAGENET_BGR, _CAFFE.format(1)),
    Variant("ungrouped", ungrouped, 224, IMAGENET_RGB, "uniform within sqrt(6 / (fan_in + fan_out)); biases 0"),
    Variant("paper", paper, 224, IMAGENET_RGB, "gaussian 0.01; biases 1 in conv2, conv4 and conv5, else 0"),
    Variant("one_weird_trick", one_weird_trick, 224, IMAGENET_RGB, _HE, dropouts=("drop5", "drop6")),
    Variant("torchvision", torchvision, 224, TORCHVISION, _HE, dropouts=("drop5", "drop6")),
    Variant(
        "batchnorm", batchnorm, 224, UNIT_RGB, _HE, num_classes=17, head="fc9", keep_prob=0.6, normalizes_batches=True
    ),
)

FAMILY: Mapping[str, Variant] = MappingProxyType({one.name: one for one in _VARIANTS})
"""Name -> variant."""
