"""Where a network's values come from, and where they end: Input, Parameter, Silence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphs.channels_last import channels_last
from graphs.layer import MANY, Layer, ParameterSpec, Site, Tensor, layer, spell
from weights import Layout, Shape


@dataclass(frozen=True)
class Transform:
    """Caffe's TransformationParameter: what is done to a picture before it is fed.

    The mean is subtracted first (``mean_value`` per channel, B, G, R; or the array in ``mean_file``), then all is
    multiplied by ``scale``.
    """

    scale: float = 1.0
    mirror: bool = False
    crop_size: int = 0
    mean_file: str = ""
    mean_value: tuple[float, ...] = ()
    force_color: bool = False
    force_gray: bool = False


@layer("Input", "input_param")
@dataclass(frozen=True)
class Input(Layer):
    """Blobs that are fed. ``shape`` has one shape for each top, or one for all of them; ``transform_param`` is what
    the definition states of their preprocessing, which no graph does."""

    bottoms = (0, 0)
    tops = (1, MANY)

    shape: tuple[Shape, ...] = ()
    transform_param: Transform | None = None

    def shapes(self, tops: int) -> list[Shape]:
        """Returns the shape of each of ``tops`` blobs. Raises ValueError where they are not as many, or not sizes."""
        if len(self.shape) not in (1, tops):
            raise ValueError(f"has {len(self.shape)} shapes for {tops} tops; expected one for each, or one for all")
        for shape in self.shape:
            if any(size < 1 for size in shape):
                raise ValueError(f"shape {'x'.join(map(str, shape))} has an axis below 1")
        return list(self.shape if len(self.shape) == tops else self.shape * tops)

    def with_batch(self, more: int) -> Input:
        """Returns the layer with each first axis ``more`` larger."""
        return replace(self, shape=tuple((s[0] + more, *s[1:]) if s else s for s in self.shape))


@layer("Parameter", "parameter_param")
@dataclass(frozen=True)
class Parameter(Layer):
    """A trained blob of its own, for other layers to read."""

    bottoms = (0, 0)

    shape: Shape = ()

    def top_shapes(self) -> Shape:
        if any(size < 1 for size in self.shape):
            raise ValueError(f"shape {spell(self.shape)} has an axis below 1")
        return self.shape

    def parameters(self) -> tuple[ParameterSpec, ...]:
        order = channels_last(tuple(range(len(self.shape))))
        return (ParameterSpec("weights", Layout(self.shape, order=order)),)

    def reference(self, values: np.ndarray) -> np.ndarray:
        return values

    def emit(self, tf: Any, site: Site, values: Tensor) -> Tensor:
        return tf.identity(values, name=site.name)


@layer("Silence")
@dataclass(frozen=True)
class Silence(Layer):
    """Reads blobs, so that they are no outputs of the network, and makes nothing."""

    bottoms = (1, MANY)
    tops = (0, 0)

    def top_shapes(self, *bottoms: Shape) -> list[Shape]:
        return []

    def reference(self, *bottoms: np.ndarray) -> list[np.ndarray]:
        return []

    def emit(self, tf: Any, site: Site, *bottoms: Tensor) -> list[Tensor]:
        return []
