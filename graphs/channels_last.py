"""From Caffe's N, C, H, W to TensorFlow's N, H, W, C and back: blobs of rank 4 and more have axis 1 at the end."""

from __future__ import annotations

from typing import Any

from weights import Shape


def channels_last(shape: Shape) -> Shape:
    """Returns a blob's shape in the graph."""
    return shape if len(shape) < 4 else (shape[0], *shape[2:], shape[1])


def graph_axis(axis: int, rank: int) -> int:
    """Returns where Caffe's ``axis`` (0 to rank - 1) of a blob lies in the graph."""
    if rank < 4 or axis == 0:
        return axis
    return rank - 1 if axis == 1 else axis - 1


def to_caffe_order(tf: Any, x: Any, shape: Shape) -> Any:
    """Returns the tensor of a blob of that shape in Caffe's order."""
    if not is_moved(shape):
        return x
    rank = len(shape)
    return tf.transpose(x, [0, rank - 1, *range(1, rank - 1)])


def reshaped(tf: Any, x: Any, shape: Shape, wanted: Shape, name: str | None = None) -> Any:
    """Returns the tensor of a blob of that shape as one of ``wanted``, its values in Caffe's order.

    TensorFlow's optimizer takes transpositions apart wrongly where reshapes that change nothing lie between them, and
    loses the last one; so there are none of these.
    """
    held = shape if is_moved(shape) else channels_last(shape)
    if shape == wanted:
        return tf.identity(x, name=name)
    x = to_caffe_order(tf, x, shape)
    if not is_moved(wanted):
        target = channels_last(wanted)
        return tf.identity(x, name=name) if held == target else tf.reshape(x, list(target), name=name)
    return _moved(tf, x if held == wanted else tf.reshape(x, list(wanted)), wanted, name)


def in_graph_order(tf: Any, x: Any, shape: Shape, name: str | None = None) -> Any:
    """Returns a tensor that is in Caffe's order, with ``shape``, in the graph's; the last operation bears ``name``."""
    if not is_moved(shape):
        return tf.reshape(x, list(channels_last(shape)), name=name)
    return _moved(tf, tf.reshape(x, list(shape)), shape, name)


def _moved(tf: Any, x: Any, shape: Shape, name: str | None) -> Any:
    """Returns a tensor of that shape, in Caffe's order, in the graph's."""
    return tf.transpose(x, [0, *range(2, len(shape)), 1], name=name)


def is_moved(shape: Shape) -> bool:
    """Returns whether the graph's order of a blob's values differs from Caffe's."""
    if len(shape) < 4:
        return False
    return shape[1] != 1 and any(size != 1 for size in shape[2:])


def is_picture(shape: Shape, axis: int) -> bool:
    """Returns whether a blob with channels on ``axis`` lies in the graph as batch, spatial axes, channels: N, H, W, C
    or N, D, H, W, C."""
    return len(shape) >= 4 and axis == 1


def as_picture(tf: Any, x: Any, shape: Shape, axis: int) -> Any:
    """Returns the tensor of a blob of that shape as batch, two or more spatial axes, channels: all axes before
    ``axis``, which has the channels, are the batch, those after it are spatial."""
    if is_picture(shape, axis):
        return x
    order, rank = _picture_order(shape, axis), len(shape)
    places = [graph_axis(one, rank) for one in order]
    if places != list(range(rank)):
        x = tf.transpose(x, places)
    spatial = shape[axis + 1 :]
    return tf.reshape(x, [1 if axis == 0 else -1, *(1,) * (2 - len(spatial)), *spatial, shape[axis]])


def from_picture(tf: Any, y: Any, shape: Shape, axis: int, name: str | None = None) -> Any:
    """Returns what undoes ``as_picture``: a blob of that shape in the graph's order. The last operation bears
    ``name``, where there is one at all."""
    if is_picture(shape, axis):
        return y
    order, rank = _picture_order(shape, axis), len(shape)
    places = [order.index(one) for one in channels_last(tuple(range(rank)))]
    is_moved = places != list(range(rank))
    y = tf.reshape(y, [shape[one] for one in order], name=None if is_moved else name)
    return tf.transpose(y, places, name=name) if is_moved else y


def _picture_order(shape: Shape, axis: int) -> list[int]:
    return [*range(axis), *range(axis + 1, len(shape)), axis]
