"""The family by name, with what a tool needs to know of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from graphs.alexnet.blocks import Endpoints
from graphs.alexnet.variants.bvlc import bvlc
from graphs.alexnet.variants.caffenet import caffenet
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


_VARIANTS = (
    Variant(
        "bvlc", bvlc, 227, IMAGENET_BGR, "gaussian 0.01, fc6 and fc7 0.005; biases 0.1, but 0 in conv1, conv3, fc8"
    ),
    Variant(
        "caffenet",
        caffenet,
        227,
        IMAGENET_BGR,
        "gaussian 0.01, fc6 and fc7 0.005; biases 1, but 0 in conv1, conv3, fc8",
    ),
)

FAMILY: Mapping[str, Variant] = MappingProxyType({one.name: one for one in _VARIANTS})
"""Name -> variant."""
