"""Layers of 2013: ``layers { layer { type: "conv" kernelsize: 11 } }`` with separate padding layers -> today's."""

from __future__ import annotations

from typing import Any

from converter.caffe_pb2 import LayerParameter, ParamSpec, V0LayerParameter, V1LayerParameter
from weights import Refused

# V0's type -> today's type and the message that holds its parameters.
TYPES = {
    "accuracy": ("Accuracy", "accuracy_param"),
    "bnll": ("BNLL", ""),
    "concat": ("Concat", "concat_param"),
    "conv": ("Convolution", "convolution_param"),
    "data": ("Data", "data_param"),
    "dropout": ("Dropout", "dropout_param"),
    "euclidean_loss": ("EuclideanLoss", ""),
    "flatten": ("Flatten", ""),
    "hdf5_data": ("HDF5Data", "hdf5_data_param"),
    "hdf5_output": ("HDF5Output", "hdf5_output_param"),
    "im2col": ("Im2col", "convolution_param"),
    "images": ("ImageData", "image_data_param"),
    "infogain_loss": ("InfogainLoss", "infogain_loss_param"),
    "innerproduct": ("InnerProduct", "inner_product_param"),
    "lrn": ("LRN", "lrn_param"),
    "multinomial_logistic_loss": ("MultinomialLogisticLoss", ""),
    "pool": ("Pooling", "pooling_param"),
    "relu": ("ReLU", "relu_param"),
    "sigmoid": ("Sigmoid", "sigmoid_param"),
    "softmax": ("Softmax", "softmax_param"),
    "softmax_loss": ("SoftmaxWithLoss", ""),
    "split": ("Split", ""),
    "tanh": ("TanH", "tanh_param"),
    "window_data": ("WindowData", "window_data_param"),
}

# V0 wrote all parameters of all types into one message; those whose names changed since.
RENAMED = {
    "biasterm": "bias_term",
    "kernelsize": "kernel_size",
    "batchsize": "batch_size",
    "shuffle_images": "shuffle",
    "det_fg_threshold": "fg_threshold",
    "det_bg_threshold": "bg_threshold",
    "det_fg_fraction": "fg_fraction",
    "det_context_pad": "context_pad",
    "det_crop_mode": "crop_mode",
}
TRANSFORM = {"scale": "scale", "meanfile": "mean_file", "cropsize": "crop_size", "mirror": "mirror"}
_COMMON = {"name", "type", "blobs", "blobs_lr", "weight_decay"}


def from_v0(layers: list[V1LayerParameter]) -> list[LayerParameter]:
    """Returns V0's layers as today's; a padding layer becomes the ``pad`` of the convolution or pooling that reads it.

    Raises Refused naming each layer that has a parameter which its type does not take, or that reads a padding layer
    and can't pad.
    """
    upgraded: list[LayerParameter] = []
    problems: list[str] = []
    padding = {old.top[0]: old for old in layers if old.layer.type == "padding" and old.top}
    for old in layers:
        if old.layer.type == "padding":
            continue
        try:
            upgraded.append(_layer(old, padding))
        except Refused as refused:
            problems += refused.within(f"layer '{old.layer.name}' ({old.layer.type})").reasons
    if problems:
        raise Refused(*problems)
    return upgraded


def _layer(old: V1LayerParameter, padding: dict[str, V1LayerParameter]) -> LayerParameter:
    inner = old.layer
    if inner.type not in TYPES:
        raise Refused(f"type '{inner.type}' is not one of Caffe's of 2013")
    type_name, message = TYPES[inner.type]
    layer = LayerParameter(name=inner.name, type=type_name, bottom=old.bottom, top=old.top)
    for field, value in inner.ListFields():
        if field.name in TRANSFORM:
            setattr(layer.transform_param, TRANSFORM[field.name], value)
        elif field.name == "hdf5_output_param":
            layer.hdf5_output_param.CopyFrom(value)
        elif field.name not in _COMMON:
            _move(layer, message, RENAMED.get(field.name, field.name), value)
    layer.param.extend(rate_specs(inner))
    for index, bottom in enumerate(layer.bottom):
        if bottom in padding:
            if inner.type not in ("conv", "pool"):
                raise Refused(f"reads the padding layer '{padding[bottom].layer.name}'; only conv and pool can")
            _move(layer, message, "pad", padding[bottom].layer.pad)
            layer.bottom[index] = padding[bottom].bottom[0]
    return layer


def _move(layer: LayerParameter, message: str, name: str, value: Any) -> None:
    """Sets parameter ``name`` of the layer's own message. Raises Refused where the message has none of that name."""
    target = getattr(layer, message) if message else None
    field = target.DESCRIPTOR.fields_by_name.get(name) if target is not None else None
    if target is None or field is None:
        raise Refused(f"{name}: a layer of type {layer.type} does not take it")
    if field.message_type is not None:
        getattr(target, name).CopyFrom(value)
    elif name in ("pad", "kernel_size", "stride") and message == "convolution_param":  # given once per axis today
        getattr(target, name).append(value)
    else:
        setattr(target, name, value)


def rate_specs(old: V0LayerParameter | V1LayerParameter) -> list[ParamSpec]:
    """Returns today's ``param`` entries for ``blobs_lr`` and ``weight_decay``."""
    specs = [ParamSpec() for _ in range(max(len(old.blobs_lr), len(old.weight_decay)))]
    for spec, rate in zip(specs, old.blobs_lr):
        spec.lr_mult = rate
    for spec, decay in zip(specs, old.weight_decay):
        spec.decay_mult = decay
    return specs
