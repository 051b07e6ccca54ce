"""Nothing is ignored silently: every field of every layer's message, changed, changes the numbers, is noted or is
refused."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format

import graphs
from converter.caffe_pb2 import LayerParameter, NetParameter
from converter.describe import Request, describe
from converter.fields import is_repeated
from graphs import infer
from graphs.fillers import filled
from graphs.reference import run_reference
from weights import Refused

# Parameters that choose how Caffe computes, trains, draws or stores, never what it computes in TEST.
WITHOUT_EFFECT = {
    "engine",  # which library
    "force_nd_im2col",  # which loop
    "debug_info",  # logging
    "stable_prod_grad",  # backward only
    "momentum",  # training only (BN)
    *("save_output_param", "save_file", "visualize", "visualize_threshold"),  # files and windows
}

# Fields that change what training leaves behind, not what is computed: tests/tools/training holds them.
OF_TRAINING = {("BatchNorm", "moving_average_fraction")}

# Types of which something is noted whatever their fields say.
NOTED = {"LSTM", "RNN"}

PICTURE = (("x", (2, 4, 11, 7)),)
WEIGHTS = 'weight_filler { type: "gaussian" std: 0.5 } bias_filler { type: "gaussian" }'
RECURRENT = (("x", (3, 2, 5)), ("cont", (3, 2)))
PRIORS = (("f", (1, 8, 3, 5)), ("x", (1, 3, 29, 31)))
DETECTION = (("loc", (1, 4 * 7)), ("conf", (1, 3 * 7)), ("prior", (1, 2, 4 * 7)))

# type -> (inputs, the layer's parameters) in which each field has something to say; several where one can't.
BASES: dict[str, list[tuple[tuple[tuple[str, tuple[int, ...]], ...], str]]] = {
    "Accuracy": [((("x", (5, 4)), ("label", (5,))), "accuracy_param { }")],
    "ArgMax": [(PICTURE, "argmax_param { top_k: 2 }")],
    "BN": [(PICTURE, 'bn_param { slope_filler { type: "gaussian" } bias_filler { type: "gaussian" } }')],
    "BatchNorm": [(PICTURE, "batch_norm_param { }")],
    "Bias": [(PICTURE, 'bias_param { filler { type: "gaussian" } }')],
    "Clip": [(PICTURE, "clip_param { min: -0.5 max: 0.5 }")],
    "Concat": [((("x", (2, 3, 5, 7)), ("x2", (2, 3, 5, 7))), "concat_param { }")],
    "ContrastiveLoss": [((("x", (5, 3)), ("x2", (5, 3)), ("label", (5,))), "contrastive_loss_param { margin: 4 }")],
    "Convolution": [
        (PICTURE, f"convolution_param {{ num_output: 4 kernel_size: 3 {WEIGHTS} }}"),
        (PICTURE, f"convolution_param {{ num_output: 4 kernel_h: 3 kernel_w: 3 stride_h: 1 stride_w: 1 {WEIGHTS} }}"),
        (PICTURE, f"convolution_param {{ num_output: 4 kernel_size: 3 pad_h: 0 pad_w: 0 {WEIGHTS} }}"),
    ],
    "Crop": [((("x", (2, 3, 11, 7)), ("x2", (2, 3, 5, 5))), "crop_param { }")],
    "DetectionOutput": [
        (DETECTION, "detection_output_param { num_classes: 3 nms_param { } confidence_threshold: 0.1 }")
    ],
    "Eltwise": [((("x", (2, 3)), ("x2", (2, 3))), "eltwise_param { }")],
    "ELU": [(PICTURE, "elu_param { }")],
    "Embed": [((("x", (5,)),), f"embed_param {{ input_dim: 9 num_output: 3 {WEIGHTS} }}")],
    "Exp": [(PICTURE, "exp_param { }")],
    "Flatten": [(PICTURE, "flatten_param { }")],
    "HingeLoss": [((("x", (5, 4)), ("label", (5,))), "hinge_loss_param { }")],
    "InfogainLoss": [
        ((("x", (5, 4)), ("label", (5,)), ("h", (1, 1, 4, 4))), "infogain_loss_param { } loss_param { }"),
        ((("x", (5, 4)), ("label", (5,)), ("h", (1, 1, 4, 4))), "loss_param { ignore_label: 1 }"),
    ],
    "InnerProduct": [(PICTURE, f"inner_product_param {{ num_output: 5 {WEIGHTS} }}")],
    "Input": [((), "input_param { shape { dim: 2 dim: 3 } }")],
    "Interp": [
        (PICTURE, "interp_param { height: 13 width: 17 }"),
        (PICTURE, "interp_param { zoom_factor: 2 }"),
        (PICTURE, "interp_param { shrink_factor: 2 }"),
    ],
    "LRN": [(PICTURE, "lrn_param { local_size: 3 alpha: 2 }")],
    "LSTM": [(RECURRENT, f"recurrent_param {{ num_output: 3 {WEIGHTS} }}")],
    "Log": [(PICTURE, "log_param { shift: 9 }")],
    "MVN": [(PICTURE, "mvn_param { }")],
    "Normalize": [(PICTURE, 'norm_param { scale_filler { type: "gaussian" } }')],
    "PReLU": [(PICTURE, 'prelu_param { filler { type: "gaussian" } }')],
    "Parameter": [((), "parameter_param { shape { dim: 2 dim: 3 } }")],
    "Permute": [(PICTURE, "permute_param { order: 0 order: 2 order: 3 order: 1 }")],
    "Pooling": [
        (PICTURE, "pooling_param { kernel_size: 3 stride: 3 pad: 1 }"),
        (PICTURE, "pooling_param { kernel_h: 3 kernel_w: 3 stride_h: 3 stride_w: 3 pad_h: 0 pad_w: 0 }"),
        (PICTURE, "pooling_param { kernel_size: 2 stride: 2 }"),
    ],
    "Power": [(PICTURE, "power_param { power: 2 shift: 1 }")],
    "PriorBox": [
        (PRIORS, "prior_box_param { min_size: 7 max_size: 11 aspect_ratio: 2 variance: 0.1 }"),
        (PRIORS, "prior_box_param { min_size: 7 img_h: 29 img_w: 31 step_h: 9 step_w: 6 }"),
    ],
    "RNN": [(RECURRENT, f"recurrent_param {{ num_output: 3 {WEIGHTS} }}")],
    "ROIPooling": [((("x", (2, 3, 13, 11)), ("rois", (5, 5))), "roi_pooling_param { pooled_h: 3 pooled_w: 2 }")],
    "ReLU": [(PICTURE, "relu_param { }")],
    "ReLU6": [(PICTURE, "relu6_param { threshold: 0.5 }")],
    "Reduction": [(PICTURE, "reduction_param { }")],
    "Reshape": [(PICTURE, "reshape_param { shape { dim: 0 dim: -1 } }")],
    "SPP": [(PICTURE, "spp_param { pyramid_height: 2 }")],
    "Scale": [
        (PICTURE, 'scale_param { filler { type: "gaussian" } bias_term: true bias_filler { type: "gaussian" } }'),
    ],
    "ShuffleChannel": [(PICTURE, "shuffle_channel_param { group: 2 }")],
    "SigmoidCrossEntropyLoss": [
        ((("x", (5, 4)), ("t", (5, 4))), "loss_param { }"),
        ((("x", (5, 4)), ("t", (5, 4))), "loss_param { ignore_label: 1 }"),
    ],
    "Slice": [
        ((("x", (2, 4, 6)),), "slice_param { }"),
        ((("x", (2, 4, 6)),), "slice_param { axis: 2 slice_point: 2 }"),
    ],
    "Softmax": [(PICTURE, "softmax_param { }")],
    "SoftmaxWithLoss": [
        ((("x", (5, 4, 3)), ("label", (5, 3))), "softmax_param { } loss_param { }"),
        ((("x", (5, 4, 3)), ("label", (5, 3))), "loss_param { ignore_label: 1 }"),
    ],
    "Swish": [(PICTURE, "swish_param { }")],
    "Threshold": [(PICTURE, "threshold_param { }")],
    "Tile": [(PICTURE, "tile_param { tiles: 2 }")],
    "Upsample": [((("x", (2, 3, 5, 7)),), "upsample_param { scale: 2 }")],
}
SAME_MESSAGE = {
    "ConvolutionDepthwise": "Convolution",
    "DepthwiseConvolution": "Convolution",
    "Deconvolution": "Convolution",
    "Im2col": "Convolution",
}
TOPS = {"Slice": ("y", "z")}


def net(type_name: str, inputs: Any, parameters: str) -> NetParameter:
    message = NetParameter()
    for name, shape in inputs:
        layer = message.layer.add(name=name, type="Input", top=[name])
        layer.input_param.shape.add(dim=shape)
    layer = message.layer.add(name="y", type=type_name, bottom=[name for name, _ in inputs])
    layer.top.extend(TOPS.get(type_name, ("y",)))
    text_format.Parse(parameters, layer)
    return message


def outcome(message: NetParameter, always: Collection[str] = ()) -> list[np.ndarray] | str:
    """What the net computes with parameters from its fillers, in float64; or why it is refused, or what is noted beside
    what ``always`` is."""
    try:
        network = describe(message, Request()).network
        shapes = infer(network)
        arrays = [[filled(spec, seed=spec.name) for spec in layer.parameters] for layer in shapes]
    except Refused as refused:
        return str(refused)
    noted = [note for note in shapes.notes() if note not in always]
    if noted:
        return "; ".join(noted)
    rng = np.random.default_rng(11)
    inputs = {}
    for blob, shape in network.inputs.items():
        inputs[blob] = rng.integers(0, 3, shape) if blob in ("label", "cont", "t") else rng.normal(0, 1, shape)
        if blob == "rois":
            inputs[blob] = np.array(
                [[0, 1, 1, 7, 9], [1, 0, 2, 5, 5], [0, 3, 0, 8, 4], [1, 1, 1, 2, 2], [0, 4, 4, 9, 11]]
            )
        if blob == "prior":
            inputs[blob] = np.sort(rng.uniform(0, 1, shape), axis=2)
        if message.layer[-1].type == "Embed":
            inputs[blob] = rng.integers(0, 8, shape)
    values = run_reference(shapes, arrays, inputs)
    return [value for (layer, _), value in values.items() if layer == "y"]


def mutations(message: Any, field: Any) -> Iterator[Any]:
    """Yields copies of a layer's parameter message with ``field`` set to something else."""
    for value in values_for(message, field):
        changed = type(message)()
        changed.CopyFrom(message)
        if field.message_type is not None:
            target = getattr(changed, field.name)
            (target.add() if is_repeated(field) else target).MergeFrom(value)
        elif is_repeated(field):
            getattr(changed, field.name).append(value)
            yield changed
            changed = type(message)()
            changed.CopyFrom(message)
            changed.ClearField(field.name)
            getattr(changed, field.name).extend([value] * max(1, len(getattr(message, field.name))))
        else:
            setattr(changed, field.name, value)
        yield changed


def values_for(message: Any, field: Any) -> list[Any]:
    now = getattr(message, field.name)
    if field.message_type is not None:
        texts = {
            "FillerParameter": ['type: "constant" value: 0.3', "value: 0.7"],
            "BlobShape": ["dim: 3 dim: 3", "dim: 2"],
            "NonMaximumSuppressionParameter": ["nms_threshold: 0.05", "top_k: 1"],
        }[field.message_type.name]
        return [text_format.Parse(text, field.message_type._concrete_class()) for text in texts]
    if field.enum_type is not None:
        return [value.number for value in field.enum_type.values if is_repeated(field) or value.number != now]
    if field.cpp_type == field.CPPTYPE_BOOL:
        return [True, False]  # also what is the default: some fields matter by being set
    if field.cpp_type == field.CPPTYPE_STRING:
        return ["other"]
    if is_repeated(field):
        return [1, 2, 3]
    return [now + 1, now + 2, 0, 3] if field.cpp_type != field.CPPTYPE_FLOAT else [now * 2 + 0.25, 0.3, 3.0]


def has_an_effect(type_name: str, field: Any) -> bool:
    """Whether some change of the field changes the numbers, is noted or is refused, in one of the type's bases."""
    for inputs, parameters in BASES[type_name]:
        message = net(type_name, inputs, parameters)
        always = list(infer(describe(message, Request()).network).notes()) if type_name in NOTED else []
        before = outcome(message, always)
        assert not isinstance(before, str), f"{type_name}: the base itself is refused: {before}"
        owner = next(name for name in graphs.LAYERS[type_name].messages if holds(name, field))
        for changed in mutations(getattr(message.layer[-1], owner), field):
            mutated = net(type_name, inputs, parameters)
            getattr(mutated.layer[-1], owner).CopyFrom(changed)
            after = outcome(mutated, always)
            if isinstance(after, str) or not same(before, after):
                return True
    return False


def holds(name: str, field: Any) -> bool:
    return LayerParameter.DESCRIPTOR.fields_by_name[name].message_type is field.containing_type


def same(before: list[np.ndarray], after: list[np.ndarray]) -> bool:
    return len(before) == len(after) and all(
        one.shape == other.shape and np.allclose(one, other, rtol=1e-12, atol=0, equal_nan=True)
        for one, other in zip(before, after)
    )


def fields_of(type_name: str) -> list[Any]:
    messages = graphs.LAYERS[type_name].messages
    return [field for name in messages for field in LayerParameter.DESCRIPTOR.fields_by_name[name].message_type.fields]


ALL = [(name, field) for name in graphs.LAYERS if name in BASES for field in fields_of(name)]


@pytest.mark.parametrize(("type_name", "field"), ALL, ids=[f"{name}.{field.name}" for name, field in ALL])
def test_every_field_changes_the_numbers_or_is_noted_or_refused(type_name, field):
    if field.name in graphs.LAYERS[type_name].without_effect:
        assert field.name in WITHOUT_EFFECT
        return
    if (type_name, field.name) in OF_TRAINING:
        return
    assert has_an_effect(type_name, field), f"{type_name} takes {field.name} and ignores it"


def test_every_layer_with_parameters_is_tried():
    untried = {name for name, one in graphs.LAYERS.items() if one.messages} - BASES.keys() - SAME_MESSAGE.keys()
    assert untried <= {"Dropout", "Sigmoid", "TanH"}, untried  # without a parameter that TEST uses


def test_an_unknown_field_of_a_binary_definition_is_refused():
    layer = LayerParameter(name="y", type="ReLU", bottom=["x"], top=["y"])
    layer.relu_param.SetInParent()
    layer.relu_param.MergeFromString(b"\xa8\x06\x01")  # field 101, a number
    with pytest.raises(Refused, match=r"ReLUParameter.101: field of that number is unknown \(a fork's\?\)"):
        describe(NetParameter(layer=[layer]), Request())
