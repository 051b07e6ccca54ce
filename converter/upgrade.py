"""Every older spelling of a definition becomes today's: NetParameter -> NetParameter.

The rules are those of Caffe's own upgrade of networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from converter.caffe_pb2 import LayerParameter, NetParameter, ParamSpec, V1LayerParameter
from converter.upgrade_v0 import from_v0, rate_specs
from weights import Refused

V1_TYPES = {
    "ABSVAL": "AbsVal",
    "ACCURACY": "Accuracy",
    "ARGMAX": "ArgMax",
    "BNLL": "BNLL",
    "CONCAT": "Concat",
    "CONTRASTIVE_LOSS": "ContrastiveLoss",
    "CONVOLUTION": "Convolution",
    "DATA": "Data",
    "DECONVOLUTION": "Deconvolution",
    "DROPOUT": "Dropout",
    "DUMMY_DATA": "DummyData",
    "ELTWISE": "Eltwise",
    "EUCLIDEAN_LOSS": "EuclideanLoss",
    "EXP": "Exp",
    "FLATTEN": "Flatten",
    "HDF5_DATA": "HDF5Data",
    "HDF5_OUTPUT": "HDF5Output",
    "HINGE_LOSS": "HingeLoss",
    "IM2COL": "Im2col",
    "IMAGE_DATA": "ImageData",
    "INFOGAIN_LOSS": "InfogainLoss",
    "INNER_PRODUCT": "InnerProduct",
    "LRN": "LRN",
    "MEMORY_DATA": "MemoryData",
    "MULTINOMIAL_LOGISTIC_LOSS": "MultinomialLogisticLoss",
    "MVN": "MVN",
    "POOLING": "Pooling",
    "POWER": "Power",
    "RELU": "ReLU",
    "SIGMOID": "Sigmoid",
    "SIGMOID_CROSS_ENTROPY_LOSS": "SigmoidCrossEntropyLoss",
    "SILENCE": "Silence",
    "SLICE": "Slice",
    "SOFTMAX": "Softmax",
    "SOFTMAX_LOSS": "SoftmaxWithLoss",
    "SPLIT": "Split",
    "TANH": "TanH",
    "THRESHOLD": "Threshold",
    "WINDOW_DATA": "WindowData",
}
"""V1's enumerated type -> today's type name."""


def upgrade(message: NetParameter) -> NetParameter:
    """Returns the definition as today's Caffe would write it, without blobs: layers of V0 and V1 become layers,
    ``input`` with ``input_dim`` or ``input_shape`` an Input layer, and preprocessing moves to ``transform_param``.

    Raises Refused where a definition mixes vintages in a way that Caffe refuses too.
    """
    today = NetParameter(name=message.name)
    if message.HasField("state"):
        today.state.CopyFrom(message.state)
    if message.input and (message.input_dim or message.input_shape):
        today.layer.append(_input_layer(message))
    elif message.input_dim or message.input_shape:
        raise Refused('gives input_dim or input_shape without input; name the blob with input: "data"')
    if message.layer and message.layers:
        raise Refused("has both 'layer' and 'layers' entries; Caffe accepts one vintage in a file")
    for layer in message.layer:
        today.layer.add().CopyFrom(layer)
        del today.layer[-1].blobs[:]
    if any(old.HasField("layer") for old in message.layers):
        today.layer.extend(from_v0(list(message.layers)))
    else:
        today.layer.extend(_each(_from_v1, message.layers))
    for layer in today.layer:
        _move_transform(layer)
    return today


def _each(
    change: Callable[[V1LayerParameter], LayerParameter], layers: Iterable[V1LayerParameter]
) -> list[LayerParameter]:
    """Returns the changed layers. Raises Refused with the reasons of all that can't be."""
    changed: list[LayerParameter] = []
    problems: list[str] = []
    for layer in layers:
        try:
            changed.append(change(layer))
        except Refused as refused:
            problems += refused.reasons
    if problems:
        raise Refused(*problems)
    return changed


def _input_layer(message: NetParameter) -> LayerParameter:
    layer = LayerParameter(name="input", type="Input", top=message.input)
    if message.input_shape and message.input_dim:
        raise Refused("gives both input_shape and input_dim; Caffe accepts one spelling")
    if message.input_dim:
        if len(message.input_dim) != 4 * len(message.input):
            raise Refused(
                f"gives {len(message.input_dim)} input_dim values for {len(message.input)} inputs; expected 4 for each"
            )
        for start in range(0, len(message.input_dim), 4):
            layer.input_param.shape.add(dim=message.input_dim[start : start + 4])
    else:
        if len(message.input_shape) != len(message.input):
            raise Refused(
                f"gives {len(message.input_shape)} input_shape entries for {len(message.input)} inputs; "
                "expected one for each"
            )
        layer.input_param.shape.extend(message.input_shape)
    return layer


def _from_v1(old: V1LayerParameter) -> LayerParameter:
    type_name = V1LayerParameter.LayerType.Name(old.type)
    if type_name not in V1_TYPES:
        raise Refused(f"layer '{old.name}': has no type; expected one such as CONVOLUTION")
    layer = LayerParameter(name=old.name, type=V1_TYPES[type_name], bottom=old.bottom, top=old.top)
    layer.loss_weight.extend(old.loss_weight)
    layer.include.extend(old.include)
    layer.exclude.extend(old.exclude)
    for field, value in old.ListFields():
        if field.name.endswith("_param"):
            getattr(layer, field.name).CopyFrom(value)
    layer.param.extend(_specs(old))
    return layer


def _specs(old: V1LayerParameter) -> list[ParamSpec]:
    """Returns today's ``param`` entries: rates, and the names and checks of shared parameters."""
    specs = rate_specs(old)
    specs += [ParamSpec() for _ in range(max(len(old.param), len(old.blob_share_mode)) - len(specs))]
    for spec, name in zip(specs, old.param):
        spec.name = name
    for spec, mode in zip(specs, old.blob_share_mode):
        spec.share_mode = mode
    return specs


def _move_transform(layer: LayerParameter) -> None:
    """Moves what data layers once said of preprocessing into ``transform_param`` (Caffe's data upgrade)."""
    for name in ("data_param", "image_data_param", "window_data_param"):
        if layer.HasField(name):
            message = getattr(layer, name)
            for field in ("scale", "mean_file", "crop_size", "mirror"):
                if message.HasField(field):
                    setattr(layer.transform_param, field, getattr(message, field))
                    message.ClearField(field)
