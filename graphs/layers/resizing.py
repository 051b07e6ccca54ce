"""Layers of forks that make pictures larger or smaller: Interp (DeepLab, PSPNet), Upsample (YOLO ports, SegNet)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.layer import Layer, Site, Tensor, layer, spell
from graphs.layers import windows
from graphs.layers.windows import Pair
from weights import Shape


@layer("Interp", "interp_param")
@dataclass(frozen=True)
class Interp(Layer):
    """DeepLab's InterpLayer: bilinear interpolation between the picture's corner pixels, which keep their places.

    ``pad_beg`` and ``pad_end`` are 0 or less: what is cut off above and left, below and right. Then the size is
    ``height`` by ``width``, or 1 + (size - 1) / ``shrink_factor`` rounded down, or 1 + (size - 1) * ``zoom_factor``;
    of the last two given together the shrinking comes first.
    """

    note = "bilinear, corners aligned (DeepLab, PSPNet)"

    height: int | None = None
    width: int | None = None
    zoom_factor: int | None = None
    shrink_factor: int | None = None
    pad_beg: int = 0
    pad_end: int = 0

    def top_shapes(self, x: Shape) -> Shape:
        return (*x[:2], *self._out(x))

    def _out(self, x: Shape) -> Pair:
        cut = windows.spatial(x)
        if self.pad_beg > 0 or self.pad_end > 0:
            raise ValueError(f"pad_beg is {self.pad_beg} and pad_end {self.pad_end}; 0 or less (cropping) is supported")
        height, width = (size + self.pad_beg + self.pad_end for size in cut)
        if min(height, width) < 1:
            raise ValueError(f"pad_beg {self.pad_beg} and pad_end {self.pad_end} leave nothing of {spell(x)}")
        has_size, has_factor = ((self.height, self.width), (self.zoom_factor, self.shrink_factor))
        given = [value for value in (*has_size, *has_factor) if value is not None]
        if given and min(given) < 1:
            raise ValueError("a height, width, zoom_factor or shrink_factor is below 1")
        if self.height is not None and self.width is not None and has_factor == (None, None):
            return self.height, self.width
        if has_factor == (None, None) or has_size != (None, None):
            raise ValueError("expected height and width, or zoom_factor, or shrink_factor, to say its size")
        shrink, zoom = self.shrink_factor or 1, self.zoom_factor or 1
        return ((height - 1) // shrink) * zoom + 1, ((width - 1) // shrink) * zoom + 1

    def reference(self, x: np.ndarray) -> np.ndarray:
        height, width = x.shape[2:]
        out = self._out(x.shape)
        x = x[:, :, -self.pad_beg : height + self.pad_end, -self.pad_beg : width + self.pad_end]
        return _between_corners(_between_corners(x, 2, out[0]), 3, out[1])

    def emit(self, tf: Any, site: Site, x: Tensor) -> Tensor:
        if self.pad_beg or self.pad_end:
            height, width = (size + self.pad_beg + self.pad_end for size in windows.spatial(site.bottom))
            x = tf.slice(x, [0, -self.pad_beg, -self.pad_beg, 0], [-1, height, width, -1])
        return tf.image.resize_bilinear(x, list(site.top[2:]), align_corners=True, name=site.name)


def _between_corners(x: np.ndarray, axis: int, size: int) -> np.ndarray:
    """Returns ``size`` values evenly spread over ``axis``, from its first to its last."""
    last = x.shape[axis] - 1
    step = np.float32(last) / np.float32(size - 1) if size > 1 else np.float32(0)
    places = np.arange(size, dtype=np.float32) * step  # in float32 whatever the values are, as in Caffe
    below = np.minimum(np.floor(places).astype(int), last)
    share = (places - below).astype(x.dtype).reshape(-1, *(1 for _ in x.shape[axis + 1 :]))
    return x.take(below, axis) * (1 - share) + x.take(np.minimum(below + 1, last), axis) * share


@layer("Upsample", "upsample_param")
@dataclass(frozen=True)
class Upsample(Layer):
    """Two forks' UpsampleLayer.

    With one bottom (YOLO ports) every pixel is repeated ``scale`` times down and right. With a second bottom (SegNet),
    the mask of a max-pooling, every value goes back to the place h * W + w that the mask has for it, and the last one
    stays where several go to one; all other places are 0. There the size is ``upsample_h`` by ``upsample_w``, or the
    bottom's times ``scale`` (or ``scale_h``, ``scale_w``), one less with ``pad_out_h``, ``pad_out_w``.
    """

    bottoms = (1, 2)
    note = "nearest (YOLO ports), or by a pooling mask (SegNet)"

    scale: int | None = None
    scale_h: int | None = None
    scale_w: int | None = None
    pad_out_h: bool = False
    pad_out_w: bool = False
    upsample_h: int | None = None
    upsample_w: int | None = None

    def top_shapes(self, x: Shape, *mask: Shape) -> Shape:
        windows.spatial(x)
        if mask and mask[0] != x:
            raise ValueError(f"its mask has the shape {spell(mask[0])}; expected that of its first bottom, {spell(x)}")
        if not mask and self._is_set("scale_h", "scale_w", "pad_out_h", "pad_out_w", "upsample_h", "upsample_w"):
            raise ValueError("sets more than scale, which needs a mask, SegNet's second bottom; it has one bottom")
        return (*x[:2], *self._out(x))

    def _is_set(self, *names: str) -> bool:
        return any(getattr(self, name) not in (None, False) for name in names)

    def _out(self, x: Shape) -> Pair:
        if self.upsample_h is not None and self.upsample_w is not None:
            if self._is_set("scale", "scale_h", "scale_w", "pad_out_h", "pad_out_w"):
                raise ValueError("sets upsample_h and upsample_w, and a scale or pad_out beside; expected one of them")
            return self.upsample_h, self.upsample_w
        if self._is_set("upsample_h", "upsample_w"):
            raise ValueError("sets only one of upsample_h and upsample_w; expected both")
        scales = windows.pair(self.scale, self.scale_h, self.scale_w, "scale", 2)
        if min(scales) < 1:
            raise ValueError(f"scale is {spell(scales)}; expected 1 or more")
        cuts = int(self.pad_out_h), int(self.pad_out_w)
        if any(cut and scale != 2 for cut, scale in zip(cuts, scales)):
            raise ValueError(f"pad_out_h and pad_out_w need scale 2; it is {spell(scales)}")
        return x[2] * scales[0] - cuts[0], x[3] * scales[1] - cuts[1]

    def reference(self, x: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        height, width = self._out(x.shape)
        if mask is None:
            return x.repeat(height // x.shape[2], axis=2).repeat(width // x.shape[3], axis=3)
        y = np.zeros((*x.shape[:2], height * width), x.dtype)
        for n, c, h, w in np.ndindex(*x.shape):
            y[n, c, int(mask[n, c, h, w])] = x[n, c, h, w]
        return y.reshape(*x.shape[:2], height, width)

    def emit(self, tf: Any, site: Site, x: Tensor, mask: Tensor | None = None) -> Tensor:
        size = list(site.top[2:])
        if mask is None:  # a pixel's middle lies well within the one that it comes from
            return tf.image.resize_nearest_neighbor(x, size, half_pixel_centers=True, name=site.name)
        _, channels, height, width = site.bottom
        # Places in the flattened top: N, channel, mask, so that a picture's channel is one run of places.
        values, places = (tf.reshape(tf.transpose(part, [0, 3, 1, 2]), [-1, height * width]) for part in (x, mask))
        area = size[0] * size[1]
        runs = tf.gather(tf.shape(values), 0)
        first = tf.multiply(tf.expand_dims(tf.range(runs), 1), area)
        places = tf.reshape(tf.add(tf.cast(places, tf.int32), first), [-1])
        values = tf.reshape(values, [-1])
        # Where several values go to one place, only the last one may.
        order = tf.range(tf.size(values))
        count = tf.multiply(runs, area)
        last = tf.gather(tf.math.unsorted_segment_max(order, places, count), places)
        values = tf.where(tf.equal(order, last), values, tf.zeros_like(values))
        flat = tf.scatter_nd(tf.expand_dims(places, 1), values, tf.expand_dims(count, 0))
        return tf.transpose(tf.reshape(flat, [-1, channels, *size]), [0, 2, 3, 1], name=site.name)
