"""Caffe's data layers as placeholders: what they say of their blobs' shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from converter.caffe_pb2 import LayerParameter
from weights import Refused, Shape

Shaped = tuple[list[Shape | None], str]
"""A layer's tops' shapes, None where it does not say, and what was assumed ("" if nothing)."""


def input_shapes(layer: LayerParameter, given: Mapping[str, Shape]) -> tuple[tuple[Shape, ...], str]:
    """Returns the shapes of a data layer's tops, N, C, H, W and N for labels, and a note on what was assumed.

    ``given`` overrides what the layer says, by blob. Raises Refused where neither says a blob's shape.
    """
    shapes, assumed = DATA_LAYERS[layer.type](layer)
    shapes += [None] * (len(layer.top) - len(shapes))
    first = given.get(layer.top[0], ()) if layer.top else ()
    if first and shapes[1:2] and shapes[1] is not None and len(shapes[1]) == 1:
        shapes[1] = first[:1]  # as many labels as pictures
    known = [given.get(top, shape) for top, shape in zip(layer.top, shapes)]
    missing = [top for top, shape in zip(layer.top, known) if shape is None]
    if missing:
        raise Refused(
            *(f"does not say the shape of blob '{top}'; give it: --input-shape {top}=1,3,227,227" for top in missing)
        )
    is_assumed = bool(assumed) and layer.top[0] not in given
    return tuple(shape for shape in known if shape is not None), assumed if is_assumed else ""


def _pictures(batch: int, height: int, width: int, layer: LayerParameter, channels: int = 0) -> Shaped:
    """Returns shapes for a blob of pictures and one of labels; ``channels`` is 0 where the layer does not say."""
    transform, assumed = layer.transform_param, ""
    if transform.crop_size:
        height = width = transform.crop_size
    if transform.force_gray or transform.force_color:
        channels = 1 if transform.force_gray else 3
    elif not channels and len(transform.mean_value) > 1:
        channels = len(transform.mean_value)
    elif not channels:
        channels, assumed = 3, "3 channels are assumed"
    pictures = (batch, channels, height, width) if height and width else None
    return [pictures, (batch,)], assumed


def _data(layer: LayerParameter) -> Shaped:
    return _pictures(layer.data_param.batch_size or 1, 0, 0, layer)


def _image_data(layer: LayerParameter) -> Shaped:
    message = layer.image_data_param
    channels = 3 if message.is_color else 1
    return _pictures(message.batch_size or 1, message.new_height, message.new_width, layer, channels)


def _window_data(layer: LayerParameter) -> Shaped:
    return _pictures(layer.window_data_param.batch_size or 1, 0, 0, layer, 3)


def _memory_data(layer: LayerParameter) -> Shaped:
    message = layer.memory_data_param
    batch = message.batch_size or 1
    return [(batch, message.channels, message.height, message.width), (batch,)], ""


def _dummy_data(layer: LayerParameter) -> Shaped:
    message = layer.dummy_data_param
    shapes = [tuple(shape.dim) for shape in message.shape]
    shapes = shapes or list(zip(message.num, message.channels, message.height, message.width))
    return list(shapes * len(layer.top) if len(shapes) == 1 else shapes), ""


def _hdf5_data(layer: LayerParameter) -> Shaped:
    return [], ""


DATA_LAYERS: dict[str, Callable[[LayerParameter], Shaped]] = {
    "Data": _data,
    "DummyData": _dummy_data,
    "HDF5Data": _hdf5_data,
    "ImageData": _image_data,
    "MemoryData": _memory_data,
    "WindowData": _window_data,
}
"""Type -> what reads its shapes."""
