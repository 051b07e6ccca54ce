"""What the tables of the AlexNet family are made of: rows, each a layer definition of the converter's with a name."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from graphs.alexnet.training_layers import BatchNormalization, KeepDropout, SameConvolution
from graphs.fillers import initializer
from graphs.layer import Filler, Layer, ParameterSpec, Site, Tensor, Zeros
from graphs.layers.convolution import Convolution
from graphs.layers.data import Input
from graphs.layers.elementwise import ReLU
from graphs.layers.inner_product import InnerProduct
from graphs.layers.lrn import LRN
from graphs.layers.pooling import Pooling
from graphs.layers.softmax import Softmax
from graphs.names import Names
from graphs.network import Inferred, Network, Node, Shapes, infer
from graphs.tensorflow1 import tensorflow1
from weights import Refused

ZEROS = Zeros()
"""First values: all 0."""


def constant(value: float) -> Filler:
    """Returns the rule for first values that are all the same."""
    return Filler("constant", value=value)


def gaussian(std: float) -> Filler:
    """Returns the rule for normally distributed first values around 0."""
    return Filler("gaussian", std=std)


GLOROT = Filler("xavier", variance_norm="AVERAGE")
"""First values: uniform within sqrt(6 / (fan_in + fan_out)), the default of ``tf.layers``."""
HE = Filler("msra")
"""First values: normal with variance 2 / fan_in (He et al. 2015)."""


@dataclass(frozen=True)
class Row:
    """One row of a network's table: it reads the row above.

    ``variables`` has the names of its parameters' variables in the order in which ``layer`` declares them; a gradient
    moves the first ``trained`` of them.
    """

    name: str
    layer: Layer
    variables: tuple[str, ...] = ()
    trained: int = 2


def conv(
    name: str,
    outputs: int,
    kernel: int,
    stride: int = 1,
    padding: str | int = "VALID",
    group: int = 1,
    weights: Filler = ZEROS,
    biases: Filler = ZEROS,
    variables: tuple[str, str] | None = None,
) -> Row:
    """Returns a square convolution with biases. ``padding``: VALID, TensorFlow's SAME, or zeros on every side.

    ``variables`` are ``NAME/weights`` and ``NAME/biases`` unless they are named.
    """
    definition = SameConvolution if padding == "SAME" else Convolution
    return Row(
        name,
        definition(
            num_output=outputs,
            kernel_size=(kernel,),
            stride=(stride,),
            pad=(padding,) if isinstance(padding, int) else (),
            group=group,
            weight_filler=weights,
            bias_filler=biases,
        ),
        variables or _weights_and_biases(name),
    )


def dense(
    name: str,
    outputs: int,
    weights: Filler = ZEROS,
    biases: Filler = ZEROS,
    variables: tuple[str, str] | None = None,
) -> Row:
    """Returns a fully connected layer with biases; a picture is flattened in H, W, C order, whatever its size.

    ``variables`` are ``NAME/weights`` and ``NAME/biases`` unless they are named.
    """
    definition = InnerProduct(num_output=outputs, weight_filler=weights, bias_filler=biases)
    return Row(name, definition, variables or _weights_and_biases(name))


def _weights_and_biases(scope: str) -> tuple[str, str]:
    return f"{scope}/weights", f"{scope}/biases"


def kernel_and_bias(scope: str) -> tuple[str, str]:
    """Returns what ``tf.layers`` calls the variables of a layer in that scope."""
    return f"{scope}/kernel", f"{scope}/bias"


def relu(name: str) -> Row:
    """Returns max(x, 0)."""
    return Row(name, ReLU())


def lrn(name: str, radius: int, alpha: float, beta: float = 0.75, bias: float = 1.0) -> Row:
    """Returns local response normalization as ``tf.nn.lrn`` takes it; Caffe's alpha is this one times its n."""
    size = 2 * radius + 1
    return Row(name, LRN(local_size=size, alpha=alpha * size, beta=beta, k=bias))


def max_pool(name: str, kernel: int, stride: int) -> Row:
    """Returns square max-pooling whose windows all lie within the picture (VALID). At the sizes of ``bvlc`` and
    ``caffenet`` Caffe's rounding up gives the same."""
    return Row(name, Pooling(kernel_size=kernel, stride=stride, round_mode="FLOOR"))


def dropout(name: str, keep_prob: Any, seed: Tensor | None) -> Row:
    """Returns dropout that keeps each value with probability ``keep_prob``, and is off at 1. See ``KeepDropout``."""
    return Row(name, KeepDropout(keep_prob, seed, zlib.crc32(name.encode()) >> 1))


def batch_norm(name: str, scope: str, is_training: Any) -> Row:
    """Returns batch normalization, its variables named as ``tf.layers.batch_normalization`` names them."""
    variables = tuple(f"{scope}/{part}" for part in ("gamma", "beta", "moving_mean", "moving_variance"))
    return Row(name, BatchNormalization(is_training), variables)


def softmax(name: str) -> Row:
    """Returns exp(x) by its sum over the classes: the last row, so that the row above holds the logits."""
    return Row(name, Softmax())


@dataclass(frozen=True, eq=False)
class Endpoints(Mapping[str, Tensor]):
    """What a family function built: the tensor of every row under the row's name, in order, and the last dense row's
    under ``logits`` too.

    ``variables`` is row -> its variables, weights first. ``shapes`` and ``names`` say of each row what the
    converter's say of a port's layers, so that weights are bound to both alike.
    """

    tensors: Mapping[str, Tensor]
    variables: Mapping[str, tuple[Tensor, ...]]
    shapes: Shapes
    names: Names

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)


def assemble(images: Tensor, rows: Sequence[Row]) -> Endpoints:
    """Adds the rows to the default graph, one upon the other, on ``images`` (N, H, W, C; only N may be unknown).

    Operations bear the rows' names and variables theirs, within the scopes that are open; a second network in the
    same graph makes other operations, and shares the variables where the scope says ``reuse``. Raises Refused where
    the pictures do not fit.
    """
    tf = tensorflow1("building a graph")
    if images.dtype != tf.float32:
        raise Refused(f"images are of type {images.dtype.name}; expected float32: tf.cast(images, tf.float32)")
    shapes = _inferred(images, rows)
    variables = {
        row.name: tuple(
            _variable(tf, name, spec, is_trained=index < row.trained)
            for index, (name, spec) in enumerate(zip(row.variables, layer.parameters))
        )
        for row, layer in zip(rows, shapes)
    }
    operations = [tf.get_default_graph().unique_name(row.name) for row in rows]
    tensors: dict[str, Tensor] = {}
    below = images
    for row, layer, operation in zip(rows, shapes, operations):
        if isinstance(row.layer, Softmax):
            tensors["logits"] = below
        # A name that ends in a slash is taken as it stands.
        site = Site((operation + "/",), layer.open_bottoms, layer.open_tops)
        below = tensors[row.name] = row.layer.emit(tf, site, below, *variables[row.name])
    names = Names(tuple((row.name,) for row in rows), tuple(row.variables for row in rows))
    return Endpoints(tensors, {name: held for name, held in variables.items() if held}, shapes, names)


def _variable(tf: Any, name: str, spec: ParameterSpec, is_trained: bool) -> Tensor:
    first = initializer(tf, spec)
    return tf.get_variable(name, spec.layout.tensorflow, tf.float32, initializer=first, trainable=is_trained)


def _inferred(images: Tensor, rows: Sequence[Row]) -> Shapes:
    """Returns each row's shapes, its parameters called as its variables are."""
    pictures = images.shape.as_list() if images.shape.rank == 4 else []
    if not all(pictures[1:]) or not pictures:
        raise Refused(f"images have the shape {images.shape}; expected N, H, W, C, with H, W and C known")
    _, height, width, channels = pictures
    tops = ("images", *(row.name for row in rows))
    nodes = (
        Node("images", Input(shape=((1, channels, height, width),)), (), ("images",)),
        *(Node(row.name, row.layer, (bottom,), (row.name,)) for row, bottom in zip(rows, tops)),
    )
    shapes = infer(Network("AlexNet", nodes))
    return replace(shapes, layers=tuple(map(_renamed, shapes.layers[1:], rows)))


def _renamed(layer: Inferred, row: Row) -> Inferred:
    specs = (replace(spec, name=name.rpartition("/")[2]) for spec, name in zip(layer.parameters, row.variables))
    return replace(layer, parameters=tuple(specs))
