"""Every field of a definition is used, noted or refused, and what is left out has Caffe's default."""

from __future__ import annotations

import dataclasses

import pytest

from converter.caffe_pb2 import LayerParameter, NetParameter
from converter.describe import Request, describe
from converter.prototxt import parse_prototxt
from converter.rules import State, runs
from graphs import LAYERS, Filler
from graphs.layers.data import Input
from weights import Refused

DATA = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 5 dim: 7 } } }\n'
PARAMETER_MESSAGES = [
    field.name
    for field in LayerParameter.DESCRIPTOR.fields
    if field.message_type is not None and field.name.endswith("_param")
]

# Where Caffe (or the fork that has the layer) asks whether a field is set at all, so that a default is not the same.
ASKED = {"normalization", "pad_h", "pad_w", "concat_dim", "slice_dim", "Pooling.pad", "Pooling.stride"}
ASKED |= {"Interp.height", "Interp.width", "Interp.zoom_factor", "Interp.shrink_factor", "Upsample.scale"}


def described(text: str, **request):
    return describe(parse_prototxt(DATA + text), Request(**request))


def only(text: str, **request):
    """Returns the definition of the one layer after the input."""
    return described(text, **request).network.nodes[1].layer


def reasons(text: str, **request) -> list[str]:
    with pytest.raises(Refused) as refusal:
        described(text, **request)
    return list(refusal.value.reasons)


def is_repeated(field) -> bool:
    return field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED


@pytest.mark.parametrize("type_name", sorted(LAYERS))
def test_defaults_are_the_schemas(type_name):
    definition = LAYERS[type_name]
    schema = {
        field.name: field
        for message in definition.messages
        for field in LayerParameter.DESCRIPTOR.fields_by_name[message].message_type.fields
    }
    for field in dataclasses.fields(definition):
        if definition is Input and field.name == "transform_param":
            continue  # a message of the layer itself
        assert field.name in schema, f"{type_name} has {field.name}, which Caffe's message does not"
        said = schema[field.name]
        if {field.name, f"{type_name}.{field.name}"} & ASKED:
            assert field.default is None
        elif is_repeated(said):
            assert field.default == ()
        elif said.message_type is not None:
            assert field.default is None or field.default == field.default.__class__()
        elif said.enum_type is not None:
            assert field.default == said.enum_type.values_by_number[said.default_value].name
        elif said.has_default_value:
            assert field.default == pytest.approx(said.default_value, rel=1e-6, abs=0)
        else:  # Caffe asks whether it is set, or demands it
            assert field.default is None or field.default == said.default_value


@pytest.mark.parametrize("type_name", sorted(LAYERS))
def test_without_effect_names_fields_that_there_are(type_name):
    definition = LAYERS[type_name]
    schema = {
        field.name
        for message in definition.messages
        for field in LayerParameter.DESCRIPTOR.fields_by_name[message].message_type.fields
    }
    assert definition.without_effect <= schema
    assert not definition.without_effect & {field.name for field in dataclasses.fields(definition)}


def test_filler_has_the_schemas_defaults():
    schema = LayerParameter.DESCRIPTOR.fields_by_name["bias_param"].message_type.fields_by_name["filler"].message_type
    assert [field.name for field in dataclasses.fields(Filler)] == [field.name for field in schema.fields]
    for field in dataclasses.fields(Filler):
        said = schema.fields_by_name[field.name]
        expected = said.enum_type.values_by_number[said.default_value].name if said.enum_type else said.default_value
        assert field.default == expected


@pytest.mark.parametrize("type_name", sorted(LAYERS))
def test_parameters_of_another_layer_are_noted(type_name):
    """As Caffe, whose layers read their own messages alone."""
    definition = LAYERS[type_name]
    foreign = [name for name in PARAMETER_MESSAGES if name not in definition.messages]
    if definition is Input:
        foreign.remove("transform_param")
    message = NetParameter()
    layer = message.layer.add(name="y", type=type_name, bottom=["x"], top=["y"])
    plain = describe(message, Request())
    for name in foreign:
        getattr(layer, name).SetInParent()
    described = describe(message, Request())
    assert described.network == plain.network
    assert set(described.notes) - set(plain.notes) == {
        f"layer 'y' ({type_name}): {name} has no effect; Caffe does not read it in a layer of this type"
        for name in foreign
    }


def test_a_parameter_of_another_layer_in_a_message_that_both_read_is_noted():
    message = NetParameter()
    layer = message.layer.add(name="y", type="Im2col", bottom=["x"], top=["y"])
    layer.convolution_param.num_output = 5
    layer.convolution_param.kernel_size.append(3)
    described = describe(message, Request())
    assert described.notes == (
        "layer 'y' (Im2col): convolution_param.num_output has no effect; Caffe does not read it in a layer of "
        "this type",
    )


@pytest.mark.parametrize("type_name", sorted(LAYERS))
def test_a_parameter_that_no_definition_has_is_refused(type_name):
    definition = LAYERS[type_name]
    known = {field.name for field in dataclasses.fields(definition)} | definition.without_effect | definition.unread
    for name in definition.messages:
        for field in LayerParameter.DESCRIPTOR.fields_by_name[name].message_type.fields:
            if field.name in known or field.message_type is not None or is_repeated(field):
                continue
            message = NetParameter()
            layer = message.layer.add(name="y", type=type_name, bottom=["x"], top=["y"])
            setattr(getattr(layer, name), field.name, field.default_value)  # set, be it to the default
            with pytest.raises(Refused, match=f"{field.name}: is not supported by this converter"):
                describe(message, Request())


def test_field_of_a_fork_in_a_binary_definition():
    message = NetParameter()
    layer = message.layer.add(name="y", type="ReLU", bottom=["x"], top=["y"])
    layer.relu_param.negative_slope = 0.5
    forked = layer.SerializeToString() + b"\xf2\xb6\x01\x02\x08\x01"  # field 2926, two bytes
    message.layer[0].ParseFromString(forked)
    with pytest.raises(Refused, match=r"layer 'y' \(ReLU\): 2926: is no field of a layer that this converter knows"):
        describe(message, Request())
    inner = NetParameter()
    inner.layer.add(name="y", type="ReLU", bottom=["x"], top=["y"]).relu_param.ParseFromString(b"\x4a\x01x")
    with pytest.raises(Refused, match=r"ReLUParameter\.9: field of that number is unknown"):
        describe(inner, Request())


def test_values_arrive_as_people_wrote_them():
    norm = only('layer { name: "y" type: "LRN" bottom: "data" top: "y" lrn_param { alpha: 0.0001 local_size: 3 } }')
    assert (norm.local_size, norm.alpha, norm.beta, norm.k) == (3, 0.0001, 0.75, 1.0)
    assert norm.norm_region == "ACROSS_CHANNELS"
    region = 'layer { name: "y" type: "LRN" bottom: "data" top: "y" lrn_param { norm_region: WITHIN_CHANNEL } }'
    assert only(region).norm_region == "WITHIN_CHANNEL"
    conv = only(
        'layer { name: "y" type: "Convolution" bottom: "data" top: "y" convolution_param { num_output: 5 '
        'kernel_size: 3 kernel_size: 2 weight_filler { type: "xavier" variance_norm: AVERAGE } engine: CUDNN } }'
    )
    assert conv.kernel_size == (3, 2)
    assert conv.weight_filler == Filler(type="xavier", variance_norm="AVERAGE")
    assert conv.bias_filler == Filler()
    eltwise = 'layer { name: "y" type: "Eltwise" bottom: "data" bottom: "data" top: "y" eltwise_param { %s } }'
    assert only(eltwise % "coeff: 0.1 coeff: -2").coeff == (0.1, -2.0)
    assert only(eltwise % "operation: MAX").operation == "MAX"


def test_what_only_training_reads_changes_nothing():
    plain = 'layer { name: "y" type: "ReLU" bottom: "data" top: "y" %s }'
    assert only(plain % "loss_weight: 1 propagate_down: false param { lr_mult: 2 decay_mult: 0 }") == only(plain % "")


FORK = b"\xca\xbb\x1f\x00"
"""Field 64441 of a fork's LayerParameter, empty."""


def of_a_fork(*names: str) -> NetParameter:
    message = parse_prototxt('layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 } } }')
    for name in names:
        message.layer.add(name=name, type="ReLU", bottom=["x"], top=[name]).MergeFromString(FORK)
    return message


def test_every_refusal_of_every_layer_at_once():
    message = of_a_fork("a", "c")
    message.layer[1].relu_param.MergeFromString(FORK)
    message.layer.add(name="b", type="Foo", bottom=["a"], top=["b"])
    with pytest.raises(Refused) as refusal:
        describe(message, Request())
    assert [reason.split(": ")[:2] for reason in refusal.value.reasons] == [
        ["layer 'b'", "type Foo is not supported; register a definition of it (graphs.layer), or take the layer out"],
        ["layer 'a' (ReLU)", "ReLUParameter.64441"],
        ["layer 'a' (ReLU)", "64441"],
        ["layer 'c' (ReLU)", "64441"],
    ]


def test_allow_passes_over_a_field_by_name_or_by_layer_and_says_so():
    for waiver in ("64441", "a.64441"):
        assert describe(of_a_fork("a"), Request(allow=frozenset({waiver}))).waived == ("a.64441",)
    with pytest.raises(Refused) as refusal:
        describe(of_a_fork("a", "b"), Request(allow=frozenset({"b.64441"})))
    assert refusal.value.reasons == (
        "layer 'a' (ReLU): 64441: is no field of a layer that this converter knows (a fork's?); take it out, or pass "
        "over it with --allow 64441",
    )


def test_several_softmax_losses_have_each_their_own_probabilities():
    """As in BVLC's GoogLeNet, where one `prob` would be the first of three."""
    scores = "".join(
        f'layer {{ name: "{name}" type: "ReLU" bottom: "data" top: "{name}" }}'
        f'layer {{ name: "{name}/loss" type: "SoftmaxWithLoss" bottom: "{name}" bottom: "label" top: "{name}/loss" }}'
        for name in ("a", "b")
    )
    network = described(scores).network
    added = {node.name: node.bottoms for node in network.nodes if node.layer.type == "Softmax"}
    assert added == {"a/loss/prob": ("a",), "b/loss/prob": ("b",)}
    assert {"a/loss/prob", "b/loss/prob"} <= set(network.outputs)


def test_two_losses_of_the_same_scores_have_one_prob():
    loss = 'layer {{ name: "{0}" type: "SoftmaxWithLoss" bottom: "data" bottom: "label" top: "{0}" }}'
    losses = loss.format("a") + loss.format("b")
    assert [node.name for node in described(losses).network.nodes if node.layer.type == "Softmax"] == ["prob"]


@pytest.mark.parametrize(
    ("rules", "state", "expected"),
    [
        ("", State("TEST"), True),
        ("include { phase: TEST }", State("TEST"), True),
        ("include { phase: TRAIN }", State("TEST"), False),
        ("include { phase: TRAIN } include { phase: TEST }", State("TEST"), True),
        ("exclude { phase: TRAIN }", State("TEST"), True),
        ("exclude { phase: TEST }", State("TEST"), False),
        ("include { min_level: 2 }", State("TEST", level=1), False),
        ("include { min_level: 2 }", State("TEST", level=2), True),
        ("include { max_level: 2 }", State("TEST", level=3), False),
        ("include { min_level: 1 max_level: 3 }", State("TEST", level=2), True),
        ("include { stage: 'a' }", State("TEST"), False),
        ("include { stage: 'a' }", State("TEST", stages=("a", "b")), True),
        ("include { stage: 'a' stage: 'b' }", State("TEST", stages=("a",)), False),
        ("include { not_stage: 'a' }", State("TEST", stages=("a",)), False),
        ("include { not_stage: 'a' }", State("TEST", stages=("b",)), True),
        ("exclude { phase: TEST stage: 'a' }", State("TEST"), True),
        ("exclude { phase: TEST stage: 'a' }", State("TEST", stages=("a",)), False),
        ("include { }", State("TRAIN"), True),
        ("exclude { }", State("TRAIN"), False),
    ],
)
def test_rules_as_caffe_filters_its_nets(rules, state, expected):
    layer = parse_prototxt(f'layer {{ name: "a" type: "ReLU" {rules} }}').layer[0]
    assert runs(layer, state) is expected


def test_include_and_exclude_together():
    text = 'layer { name: "a" type: "ReLU" bottom: "data" top: "a" include { } exclude { } }'
    assert reasons(text) == ["layer 'a': has both include and exclude rules; Caffe accepts one kind"]


def test_a_net_of_which_nothing_runs():
    with pytest.raises(Refused, match="no layer runs in phase TEST; all are ruled out by include or exclude"):
        describe(parse_prototxt('layer { name: "a" type: "ReLU" include { phase: TRAIN } }'), Request())
