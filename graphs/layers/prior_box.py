"""PriorBox: the boxes that SSD's predictions are offsets of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.layer import Layer, Site, Tensor, layer
from graphs.layers import windows
from weights import Shape


@layer("PriorBox", "prior_box_param")
@dataclass(frozen=True)
class PriorBox(Layer):
    """SSD's PriorBoxLayer: boxes around each cell of the first bottom, in shares of the second, which is a picture.

    For each min_size: a square of it; if there is a max_size, a square of their geometric mean; and a box of the same
    area for each aspect_ratio, with ``flip`` also for one upon it. Sizes in pixels are cut to whole numbers, as SSD's
    code does. The top is 1, 2, boxes * 4: the boxes (xmin, ymin, xmax, ymax) and beneath them their variances.
    """

    bottoms = (2, 2)
    note = "SSD"

    min_size: tuple[float, ...] = ()
    max_size: tuple[float, ...] = ()
    aspect_ratio: tuple[float, ...] = ()
    flip: bool = True
    clip: bool = False
    variance: tuple[float, ...] = ()
    img_size: int | None = None
    img_h: int | None = None
    img_w: int | None = None
    step: float | None = None
    step_h: float | None = None
    step_w: float | None = None
    offset: float = 0.5

    def top_shapes(self, x: Shape, picture: Shape) -> Shape:
        height, width = windows.spatial(x)
        windows.spatial(picture)
        self._check()
        self._picture(picture)
        self._steps(x, picture)
        return (1, 2, height * width * len(self._sizes()) * 4)

    def _check(self) -> None:
        if not self.min_size or min(self.min_size) < 1:
            raise ValueError(f"min_size is {_spelled(self.min_size)}; expected one or more, of 1 or more")
        if self.max_size and len(self.max_size) != len(self.min_size):
            raise ValueError(f"has {len(self.max_size)} max_size for {len(self.min_size)} min_size; expected as many")
        if any(large <= small for small, large in zip(self.min_size, self.max_size)):
            raise ValueError(f"max_size {_spelled(self.max_size)} is not above min_size {_spelled(self.min_size)}")
        if any(ratio <= 0 for ratio in self.aspect_ratio):
            raise ValueError(f"aspect_ratio is {_spelled(self.aspect_ratio)}; expected more than 0")
        if len(self.variance) not in (0, 1, 4) or any(value <= 0 for value in self.variance):
            raise ValueError(f"variance is {_spelled(self.variance)}; expected one or four, more than 0")

    def _picture(self, picture: Shape) -> tuple[int, int]:
        """Returns the picture's (height, width) in pixels."""
        height, width = _either(self.img_size, self.img_h, self.img_w, "img_size", "img_h and img_w")
        return windows.spatial(picture) if height is None or width is None else (int(height), int(width))

    def _steps(self, x: Shape, picture: Shape) -> tuple[float, float]:
        """Returns a cell's (height, width) in pixels of the picture."""
        down, right = _either(self.step, self.step_h, self.step_w, "step", "step_h and step_w")
        if down is not None and right is not None:
            return down, right
        (height, width), (rows, columns) = self._picture(picture), windows.spatial(x)
        return height / rows, width / columns

    def _sizes(self) -> list[tuple[float, float]]:
        """Returns the (width, height) of each of a cell's boxes in pixels."""
        ratios: list[float] = []
        for ratio in self.aspect_ratio:
            if all(abs(ratio - known) >= 1e-6 for known in (1.0, *ratios)):
                ratios += (ratio, 1 / ratio) if self.flip else (ratio,)
        ratios = [ratio for ratio in ratios if abs(ratio - 1) >= 1e-6]
        sizes = []
        for index, small in enumerate(map(int, self.min_size)):
            sizes.append((float(small), float(small)))
            if self.max_size:
                mean = math.sqrt(small * int(self.max_size[index]))
                sizes.append((mean, mean))
            sizes += [(small * math.sqrt(ratio), small / math.sqrt(ratio)) for ratio in ratios]
        return sizes

    def reference(self, x: np.ndarray, picture: np.ndarray) -> np.ndarray:
        height, width = self._picture(picture.shape)
        down, right = self._steps(x.shape, picture.shape)
        boxes = []
        for row, column in np.ndindex(*x.shape[2:]):
            middle_x, middle_y = (column + self.offset) * right, (row + self.offset) * down
            for w, h in self._sizes():
                boxes += [(middle_x - w / 2) / width, (middle_y - h / 2) / height]
                boxes += [(middle_x + w / 2) / width, (middle_y + h / 2) / height]
        values = np.clip(boxes, 0, 1) if self.clip else np.array(boxes)
        variances = self.variance or (0.1,)
        return np.stack([values, np.resize(variances, values.shape)])[None].astype(x.dtype)

    def emit(self, tf: Any, site: Site, x: Tensor, picture: Tensor) -> Tensor:
        rows, columns = windows.spatial(site.bottom)
        height, width = self._picture(site.bottoms[1])
        down, right = self._steps(site.bottom, site.bottoms[1])
        sizes = self._sizes()
        middles = [
            tf.multiply(tf.add(tf.range(float(count)), self.offset), step / size)
            for count, step, size in ((columns, right, width), (rows, down, height))
        ]
        x = tf.tile(tf.reshape(middles[0], [1, columns, 1]), [rows, 1, 1])
        y = tf.tile(tf.reshape(middles[1], [rows, 1, 1]), [1, columns, 1])
        half_x, half_y = [w / 2 / width for w, _ in sizes], [h / 2 / height for _, h in sizes]
        corners = [tf.subtract(x, half_x), tf.subtract(y, half_y), tf.add(x, half_x), tf.add(y, half_y)]
        boxes = tf.reshape(tf.stack(corners, axis=3), [1, 1, site.top[2]])
        if self.clip:
            boxes = tf.minimum(tf.maximum(boxes, 0.0), 1.0)
        variances = list(self.variance or (0.1,))
        spread = tf.reshape(tf.tile(variances, [site.top[2] // len(variances)]), [1, 1, site.top[2]])
        return tf.concat([boxes, spread], axis=1, name=site.name)


def _either(
    both: float | None, h: float | None, w: float | None, name: str, names: str
) -> tuple[float, float] | tuple[None, None]:
    """Returns (height, width) given once for both or each by itself, None where neither is given."""
    if h is not None or w is not None:
        if both is not None:
            raise ValueError(f"sets both {name} and one of {names}; expected one spelling")
        if h is None or w is None:
            raise ValueError(f"sets only one of {names}; expected both")
    elif both is not None:
        h = w = both
    if h is None or w is None:
        return None, None
    if min(h, w) <= 0:
        raise ValueError(f"{name} is {h:g}x{w:g}; expected more than 0")
    return h, w


def _spelled(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values) or "not given"
