"""Arrays under other people's names: each goes to the parameter that it means, or is refused; none by its order."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import numpy as np
import pytest

from converter import convert
from converter.port import Port
from weights import Refused

CONV = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 3 dim: 7 dim: 5 } } }
layer { name: "conv1_1" type: "Convolution" bottom: "data" top: "c"
        convolution_param { num_output: 4 kernel_h: 3 kernel_w: 2 } }
"""
BATCH_NORM = """
layer { name: "bn1" type: "BatchNorm" bottom: "c" top: "c" }
layer { name: "scale1" type: "Scale" bottom: "c" top: "c" scale_param { bias_term: true } }
"""
FC = """layer { name: "fc6" type: "InnerProduct" bottom: "c" top: "fc6" inner_product_param { num_output: 11 } }"""
NET = CONV + BATCH_NORM + FC
SCALE = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 5 dim: 3 dim: 2 } } }
layer { name: "scale1" type: "Scale" bottom: "data" top: "y" scale_param { bias_term: true } }
"""
SHAPES = {
    "conv1_1": {"weights": (4, 3, 3, 2), "biases": (4,)},
    "bn1": {"mean": (4,), "variance": (4,), "scale_factor": (1,)},
    "scale1": {"weights": (4,), "biases": (4,)},
    "fc6": {"weights": (11, 80), "biases": (11,)},
}

Arrays = dict[str, np.ndarray]


@pytest.fixture
def arrays(rng) -> Arrays:
    """The net's parameters as Caffe has them; BatchNorm's third is 1."""
    made = {f"{layer}/{role}": draw(rng, *size) for layer, roles in SHAPES.items() for role, size in roles.items()}
    return {**made, "bn1/scale_factor": np.ones(1, np.float32)}


def draw(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.uniform(0.5, 1.5, shape).astype(np.float32)


@pytest.fixture
def port(tmp_path) -> Callable[..., Port]:
    """Returns a function that converts a definition with the arrays of an .npz, or with a file."""

    def port(definition: str, weights: Mapping[str, np.ndarray] | Path) -> Port:
        (tmp_path / "net.prototxt").write_text(definition)
        if isinstance(weights, Path):
            return convert(tmp_path / "net.prototxt", weights)
        np.savez(tmp_path / "w.npz", **weights)
        return convert(tmp_path / "net.prototxt", tmp_path / "w.npz")

    return port


@pytest.fixture
def reasons(port, tmp_path) -> Callable[..., list[str]]:
    def reasons(definition: str, weights: Mapping[str, np.ndarray] | Path) -> list[str]:
        with pytest.raises(Refused) as refusal:
            port(definition, weights)
        return [reason.partition(": ")[2] for reason in refusal.value.reasons]

    return reasons


def notes(port: Port) -> list[str]:
    return [note.partition(": ")[2] for note in port.notes]


def check(port: Port, expected: Mapping[str, np.ndarray]) -> None:
    assert list(port.parameters) == list(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(port.parameters[name].caffe, array, err_msg=name)


def in_tensorflow(arrays: Arrays) -> Arrays:
    """Returns the arrays as TensorFlow lays them out, by literal loops."""
    conv, fc = np.zeros((3, 2, 3, 4), np.float32), np.zeros((80, 11), np.float32)
    for y, x, i, o in np.ndindex(conv.shape):
        conv[y, x, i, o] = arrays["conv1_1/weights"][o, i, y, x]
    for c, y, x, o in np.ndindex(4, 5, 4, 11):
        fc[(y * 4 + x) * 4 + c, o] = arrays["fc6/weights"][o, (c * 5 + y) * 4 + x]
    return {**arrays, "conv1_1/weights": conv, "fc6/weights": fc}


# ------------------------------------------------------------------ a layer's arrays

PAIRS = [
    ("weights", "biases"),
    ("weights_1", "biases_1"),
    ("gamma", "beta"),
    ("kernel", "bias"),
    ("weight", "bias"),
    ("w", "b"),
    ("W", "b"),
    ("scale", "offset"),
    ("scale", "shift"),
    ("scale", "bias"),
    ("Gamma", "Beta"),
    ("kernel_2:0", "bias_2:0"),
]


@pytest.mark.parametrize(("weights", "biases"), PAIRS)
@pytest.mark.parametrize("reverse", [False, True])
def test_the_order_of_names_says_nothing(port, rng, weights, biases, reverse):
    first, second = draw(rng, 5), draw(rng, 5)
    held = {f"scale1/{weights}": first, f"scale1/{biases}": second}
    if reverse:
        held = dict(reversed(held.items()))
    made = port(SCALE, held)
    check(made, {"scale1/weights": first, "scale1/biases": second})
    assert made.notes == ()


def test_a_checkpoint_is_sorted_by_name(port, rng, tmp_path):
    import tensorflow.compat.v1 as tf

    first, second = draw(rng, 5), draw(rng, 5)
    with tf.Graph().as_default(), tf.Session() as session:
        tf.get_variable("scale1/gamma", initializer=first)
        tf.get_variable("scale1/beta", initializer=second)
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, str(tmp_path / "foreign.ckpt"))
    check(port(SCALE, tmp_path / "foreign.ckpt"), {"scale1/weights": first, "scale1/biases": second})


def test_segnets_bn_under_tensorflows_names(port, rng):
    net = SCALE.replace('"Scale"', '"BN"').replace("scale_param { bias_term: true }", "bn_param { frozen: true }")
    gamma, beta, mean, variance = (draw(rng, 5) for _ in range(4))
    held = {"beta": beta, "gamma": gamma, "moving_mean": mean, "moving_variance": variance}
    made = port(net, {f"scale1/{name}": array for name, array in held.items()})
    roles = {"slope": gamma, "bias": beta, "mean": mean, "variance": variance}
    check(made, {f"scale1/{role}": array[None] for role, array in roles.items()})


def test_a_slope_is_called_alpha(port, rng):
    net = SCALE.replace('"Scale"', '"PReLU"').replace("scale_param { bias_term: true }", "")
    slopes = draw(rng, 5)
    for name in ("scale1/alpha", "scale1/alpha:0", "scale1.weight", "scale1"):
        check(port(net, {name: slopes}), {"scale1/slopes": slopes})


def test_unknown_names_that_only_shapes_tell_are_noted(port, rng, arrays):
    net = CONV + FC.replace('"c"', '"data"').replace("11", "13")
    held = {
        "conv1_1/q": arrays["conv1_1/biases"],
        "conv1_1/p": arrays["conv1_1/weights"],
        "fc6/weights": draw(rng, 13, 105),
        "fc6/theta": draw(rng, 13),
    }
    made = port(net, held)
    np.testing.assert_array_equal(made.parameters["conv1_1/weights"].caffe, held["conv1_1/p"])
    np.testing.assert_array_equal(made.parameters["fc6/biases"].caffe, held["fc6/theta"])
    assert notes(made) == [
        "layer 'conv1_1' (Convolution): only its shape tells 'p' as its weights, 'q' as its biases",
        "layer 'fc6' (InnerProduct): only its shape tells 'theta' as its biases",
    ]


def test_unknown_names_of_one_shape_are_refused_beside_what_was_expected(reasons, rng):
    assert reasons(SCALE, {"scale1/p": draw(rng, 5), "scale1/q": draw(rng, 5)}) == [
        "layer 'scale1' (Scale): its weights and biases can't be told there; the file has 'p' (5), 'q' (5); "
        "expected weights (5), biases (5)"
    ]


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("kernel", "w"), "'kernel' and 'w' may both be its weights"),
        (("weights", "mean"), "its biases can't be told there"),
        (("weights", "std"), "its biases can't be told there"),
        (("weights", "biases", "extra"), "'extra' there is none of its parameters"),
        (("weights", "weights_1", "biases"), "'weights_1' there is none of its parameters"),
    ],
)
def test_names_that_contradict_each_other(reasons, rng, names, reason):
    held = {f"scale1/{name}": draw(rng, 5) for name in names}
    has = ", ".join(f"'{name}' (5)" for name in names)
    assert reasons(SCALE, held) == [
        f"layer 'scale1' (Scale): {reason}; the file has {has}; expected weights (5), biases (5)"
    ]


BATCH_NORM_ALONE = """
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 2 dim: 5 dim: 3 dim: 2 } } }
layer { name: "bn1" type: "BatchNorm" bottom: "data" top: "y" }
"""


@pytest.mark.parametrize("name", ["std", "moving_stddev", "whatever"])
def test_a_deviation_is_no_variance(reasons, rng, name):
    assert reasons(BATCH_NORM_ALONE, {"bn1/mean": draw(rng, 5), f"bn1/{name}": draw(rng, 5)}) == [
        f"layer 'bn1' (BatchNorm): its variance can't be told there; the file has 'mean' (5), '{name}' (5); "
        "expected mean (5), variance (5), scale_factor (1)"
    ]


def test_a_recurrent_layers_arrays_are_not_told_by_shapes(reasons, golden, tmp_path):
    """PyTorch's gates have another order in arrays of the same shapes."""
    stored = convert(golden / "lstm" / "net.prototxt", golden / "lstm" / "weights.caffemodel")
    names = ["lstm/weight_ih", "lstm/bias", "lstm/weight_hh"]
    held = dict(zip(names, (parameter.caffe for parameter in stored.parameters.values())))
    layer = next(iter(stored.parameters)).partition("/")[0]
    (reason,) = reasons(
        (golden / "lstm" / "net.prototxt").read_text(), {n.replace("lstm", layer): a for n, a in held.items()}
    )
    assert "its W_xc and b_c and W_hc can't be told there; the file has 'weight_ih'" in reason


def test_a_slope_for_a_layer_without_one_is_refused(reasons, port, rng):
    net = SCALE.replace('"Scale"', '"ReLU"').replace("scale_param { bias_term: true }", "")
    reason = "layer 'scale1' (ReLU): has 1 blobs there (5); it has no parameters"
    assert reasons(net, {"scale1/alpha": draw(rng, 5)}) == [reason]
    made = port(net, {"scale1/alpha": np.float32(0.1)})  # it may be any constant of a graph
    assert notes(made) == ["arrays of layers that have no parameters are left out: 'scale1' (alpha)"]


# ------------------------------------------------------------------ batch normalization in one

FUSED = {
    "kaffe": ("bn1/mean", "bn1/variance", "bn1/scale", "bn1/offset"),
    "MMdnn": ("bn1/mean", "bn1/var", "bn1/scale", "bn1/bias"),
    "PyTorch": ("bn1.running_mean", "bn1.running_var", "bn1.weight", "bn1.bias"),
    "tf.layers": ("bn1/moving_mean", "bn1/moving_variance", "bn1/gamma", "bn1/beta"),
    "under Scale's name": ("scale1/moving_mean", "scale1/moving_variance", "scale1/gamma", "scale1/beta"),
    "under the convolution's": ("conv1_1/moving_mean", "conv1_1/moving_variance", "conv1_1/gamma", "conv1_1/beta"),
    "slim": tuple(f"conv1_1/BatchNorm/{name}" for name in ("moving_mean", "moving_variance", "gamma", "beta")),
    "beside the convolution": tuple(f"conv1_1_bn/{name}" for name in ("pop_mean", "pop_var", "gamma", "beta")),
    "apart": ("bn1_mean", "bn1_variance", "scale1_W", "scale1_b"),
}


@pytest.mark.parametrize("style", FUSED)
@pytest.mark.parametrize("kernel", ["weights", "kernel"])
def test_batch_normalization_in_one(port, arrays, style, kernel):
    lying = in_tensorflow(arrays)
    roles = ("bn1/mean", "bn1/variance", "scale1/weights", "scale1/biases")
    held = dict(sorted((name, lying[role]) for name, role in zip(FUSED[style], roles)))
    for layer in ("conv1_1", "fc6"):
        held[f"{layer}/{kernel}"] = lying[f"{layer}/weights"]
        held[f"{layer}/{'biases' if kernel == 'weights' else 'bias'}"] = lying[f"{layer}/biases"]
    made = port(NET, held)
    check(made, arrays)
    assert notes(made)[-1] == "scale_factor 1 is assumed, where arrays have names and none has this one: 'bn1'"
    assert ("told apart: " in notes(made)[0]) == (style != "apart")


def test_a_beta_is_not_the_convolutions_bias(reasons, arrays):
    """Where the definition has a bias that the file does not, its beta stands after the normalization."""
    held = {
        "conv1_1/kernel": arrays["conv1_1/weights"],
        **{f"conv1_1/{name}": arrays["bn1/mean"] for name in ("gamma", "beta", "moving_mean", "moving_variance")},
        **{name: array for name, array in arrays.items() if name.startswith("fc6")},
    }
    (reason,) = reasons(NET.replace("bias_term: true", ""), held)
    assert reason.startswith("layer 'conv1_1' (Convolution): its biases can't be told there; the file has 'kern")


def test_gamma_without_a_layer_for_it_is_refused(reasons, arrays):
    net = CONV + BATCH_NORM[: BATCH_NORM.index('layer { name: "scale1"')]
    held = {f"bn1/{name}": arrays["bn1/mean"] for name in ("gamma", "moving_mean", "moving_variance")}
    conv = {name: array for name, array in arrays.items() if name.startswith("conv")}
    (reason,) = reasons(net, {**conv, **held})
    assert reason.startswith(
        "layer 'bn1' (BatchNorm): 'gamma' there is none of its parameters; the file has 'gamma' (4)"
    )


@pytest.mark.parametrize("scope", ["bn1", "conv1_1/BatchNorm", "conv1_1"])
def test_no_part_of_a_batch_normalization_is_dropped(reasons, arrays, scope):
    net = CONV + BATCH_NORM[: BATCH_NORM.index('layer { name: "scale1"')]
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    held = {name: array for name, array in arrays.items() if name.startswith("conv")}
    held.update({f"{scope}/{name}": arrays["bn1/mean"] for name in names})
    (reason, *_) = reasons(net, held)
    assert "'gamma' and 'beta' there is none of its parameters; the file has '" in reason


def test_half_a_batch_normalization_under_another_name(reasons, arrays):
    held = {name: array for name, array in arrays.items() if not name.startswith("bn1")}
    held["conv1_1/BatchNorm/moving_mean"] = arrays["bn1/mean"]
    assert reasons(NET, held) == [
        "layer 'bn1' (BatchNorm): its variance can't be told there; the file has 'moving_mean' (4); expected mean (4), "
        "variance (4), scale_factor (1)"
    ]


# ------------------------------------------------------------------ layers


def renamed(arrays: Arrays, change: Callable[[str], str]) -> Arrays:
    return {change(name): array for name, array in arrays.items()}


@pytest.mark.parametrize(
    "change",
    [
        lambda name: f"vgg_16/conv1/{name}",
        lambda name: "model." + name.replace("/", "."),
        lambda name: name.replace("conv1_1", "Conv1_1").replace("fc6", "FC6"),
        lambda name: name.replace("conv1_1", "conv1-1"),
    ],
)
def test_layers_whose_names_differ_but_leave_no_doubt(port, arrays, change):
    made = port(NET, renamed(arrays, change))
    check(made, arrays)
    assert notes(made)[0].startswith("layers are taken by names that differ, since no other can be meant: '")


def test_slashes_that_another_converter_replaced(port, arrays):
    net = NET.replace("conv1_1", "conv1/3x3").replace("fc6", "fc6/all")
    held = renamed(arrays, lambda name: name.replace("conv1_1", "conv1_3x3").replace("fc6", "fc6_all"))
    made = port(net, held)
    check(made, renamed(arrays, lambda name: name.replace("conv1_1", "conv1/3x3").replace("fc6", "fc6/all")))
    assert notes(made) == [
        "layers are taken by names that differ, since no other can be meant: 'conv1_3x3' as 'conv1/3x3', "
        "'fc6_all' as 'fc6/all'"
    ]


def test_layers_that_may_be_several(reasons, arrays):
    held = {**renamed(arrays, lambda name: f"a/{name}"), **renamed(arrays, lambda name: f"b/{name}")}
    assert reasons(NET, held)[0] == "layer 'conv1_1' (Convolution): may be any of 'a/conv1_1', 'b/conv1_1' there"


def test_the_very_name_goes_first(port, arrays):
    made = port(NET, {**renamed(arrays, lambda name: f"a/{name}".upper()), **arrays})
    check(made, arrays)
    assert notes(made) == [
        "weights of 4 layers that the definition does not have are left out: 'A/CONV1_1', 'A/BN1', 'A/SCALE1', 'A/FC6'"
    ]


def test_a_number_at_a_layers_end_is_its_name(port, rng):
    net = CONV + CONV.partition("\n")[2].partition("\n")[2].replace("conv1_1", "conv1").replace('"c"', '"d"')
    first, second = draw(rng, 4, 3, 3, 2), draw(rng, 4, 3, 3, 2)
    held = {"conv1/kernel": second, "conv1/bias": draw(rng, 4), "conv1_1/kernel": first, "conv1_1/bias": draw(rng, 4)}
    made = port(net, held)
    np.testing.assert_array_equal(made.parameters["conv1_1/weights"].caffe, first)
    np.testing.assert_array_equal(made.parameters["conv1/weights"].caffe, second)


@pytest.mark.parametrize("joint", ["_W _b", ".weight .bias", "_0 _1", "-weights -biases", "_kernel_1:0 _bias_1:0"])
def test_layer_and_parameter_in_one_name(port, arrays, joint):
    weights, biases = joint.split()
    roles = {"/weights": weights, "/biases": biases, "/mean": "_mean", "/variance": "_variance"}
    numbers = {"/mean": "_0", "/variance": "_1", "/scale_factor": "_2"} if joint == "_0 _1" else {}
    held = dict(arrays)
    for role, part in {**roles, **numbers}.items():
        held = renamed(held, lambda name, role=role, part=part: name.replace(role, part))
    if not numbers:
        del held["bn1/scale_factor"]
    made = port(NET, held)
    check(made, arrays)
    (note,) = notes(made)
    assert note.startswith("arrays that are called by numbers are taken as" if numbers else "scale_factor 1 is assumed")


def test_a_layer_that_its_arrays_repeat(port, rng):
    first, second = draw(rng, 5), draw(rng, 5)
    made = port(SCALE, {"scale1/scale1_b_1:0": second, "scale1/scale1_gamma_1:0": first})
    check(made, {"scale1/weights": first, "scale1/biases": second})


def test_what_is_counted_is_no_parameter(port, rng):
    held = {"running_mean": draw(rng, 5), "running_var": draw(rng, 5), "num_batches_tracked": np.array(7)}
    made = port(BATCH_NORM_ALONE, {f"bn1.{name}": array for name, array in held.items()})
    np.testing.assert_array_equal(made.parameters["bn1/variance"].caffe, held["running_var"])


def test_a_joined_name_of_two_meanings(reasons, rng):
    net = TWINS.format("a", "a_w")
    held = {"a_w": draw(rng, 5), "a_b": draw(rng, 5), "a_w_1": draw(rng, 5), "a_w_0": draw(rng, 5)}
    reason = "array 'a_w_1' may be 'w_1' of layer 'a' or '1' of layer 'a_w'; name it LAYER/PARAMETER"
    assert reason in reasons(net, held)


STYLES = {
    "weights": ["weights", "weight", "kernel", "W", "w:0", "weights_1", "filters", "p", "gamma"],
    "biases": ["biases", "bias", "b", "b:0", "biases_1", "offset", "beta", "q", "Shift"],
    "mean": ["mean", "moving_mean", "running_mean", "pop_mean", "m"],
    "variance": ["variance", "moving_variance", "running_var", "pop_var", "v"],
    "scale_factor": ["scale_factor", "f"],
    "slopes": ["slopes", "alpha", "gamma", "s"],
}
PRELU = """layer { name: "prelu1" type: "PReLU" bottom: "c" top: "c" }"""


def test_any_names_in_any_order_are_right_or_refused(port, tmp_path):
    """Convolution, normalization and fc have as many channels, so that no shape gives a mistake away."""
    net = (CONV + BATCH_NORM + PRELU + FC).replace("num_output: 11", "num_output: 4")
    shapes = {**SHAPES, "prelu1": {"slopes": (4,)}, "fc6": {"weights": (4, 80), "biases": (4,)}}
    right = 0
    for seed in range(150):
        rng = np.random.default_rng(seed)
        held, expected = {}, {}
        for layer, roles in shapes.items():
            for role, size in roles.items():
                array = np.ones(1, np.float32) if role == "scale_factor" else draw(rng, *size)
                name = STYLES[role][int(rng.integers(len(STYLES[role])))]
                expected[f"{layer}/{role}"] = array
                if role != "scale_factor" or rng.random() < 0.5:
                    held[f"{layer}/{name}"] = array
        order = rng.permutation(list(held))
        try:
            made = port(net, {name: held[name] for name in order})
        except Refused:
            continue
        right += 1
        for name, parameter in made.parameters.items():
            np.testing.assert_array_equal(parameter.caffe, expected[name], err_msg=f"{name} of {list(order)}")
    assert right > 20


# ------------------------------------------------------------------ names that this project gave

TWINS = """
layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ dim: 2 dim: 5 dim: 3 dim: 2 }} }} }}
layer {{ name: "{0}" type: "Scale" bottom: "data" top: "x" scale_param {{ bias_term: true }} }}
layer {{ name: "{1}" type: "Scale" bottom: "data" top: "y" scale_param {{ bias_term: true }} }}
"""
FORMATS = (".ckpt", ".pb", ".npz", ".npy", ".safetensors", ".caffemodel", ".caffemodel.h5")


@pytest.fixture
def twins(port, rng, tmp_path) -> Callable[[str, str], tuple[Port, Mapping[str, np.ndarray]]]:
    """Returns a function that makes a net of two layers with weights of their own."""

    def twins(one: str, other: str) -> tuple[Port, Mapping[str, np.ndarray]]:
        held = {f"{name}/{role}": draw(rng, 5) for name in (one, other) for role in ("weights", "biases")}
        with h5py.File(tmp_path / "twins.caffemodel.h5", "w") as file:
            for name in (one, other):
                file[f"data/{name}/0"], file[f"data/{name}/1"] = held[f"{name}/weights"], held[f"{name}/biases"]
        return port(TWINS.format(one, other), tmp_path / "twins.caffemodel.h5"), held

    return twins


def by_layer(port: Port) -> dict[str, bytes]:
    return {
        f"{layer.node.name}/{spec.name}": port.parameters[name].caffe.tobytes()
        for layer, names in zip(port.shapes, port.names.variables)
        for spec, name in zip(layer.parameters, names)
    }


@pytest.mark.parametrize("names", [("conv1", "Conv1"), ("a b", "a_b"), ("a_b", "a:b"), ("x/weights", "X")])
@pytest.mark.parametrize("ending", FORMATS)
def test_twins_come_back_as_they_were(port, twins, names, ending, tmp_path):
    made, held = twins(*names)
    expected = {name: array.tobytes() for name, array in held.items()}
    assert by_layer(made) == expected
    if ending == ".caffemodel.h5" and "/" in names[0]:
        return
    made.save(tmp_path / f"twins{ending}")
    again = port(TWINS.format(*names), tmp_path / f"twins{ending}")
    assert by_layer(again) == expected
    in_one_scope = ending in (".npz", ".npy", ".safetensors") and "a_b" in names
    told = f"'{names[0]}' and '{names[1]}' are all 'a_b' there, told apart as this project numbers them in that order"
    assert notes(again) == ([told] if in_one_scope else [])
    if ending in (".ckpt", ".pb"):
        assert by_layer(convert(tmp_path / f"twins{ending}")) == expected
        swapped = port(TWINS.format(*reversed(names)), tmp_path / f"twins{ending}")
        assert by_layer(swapped) == expected
        path = tmp_path / f"twins{ending}.json"
        path.write_text(path.read_text().replace('"variables"', '"as before there was such a thing"'))
        assert by_layer(port(TWINS.format(*reversed(names)), tmp_path / f"twins{ending}")) == expected


# ------------------------------------------------------------------ files


def test_keras_names_its_arrays_within_its_layers(port, arrays, tmp_path):
    lying = in_tensorflow(arrays)
    layers = {
        "conv1_1": {"kernel:0": lying["conv1_1/weights"], "bias:0": lying["conv1_1/biases"]},
        "bn1": {
            "gamma:0": lying["scale1/weights"],
            "beta:0": lying["scale1/biases"],
            "moving_mean:0": lying["bn1/mean"],
            "moving_variance:0": lying["bn1/variance"],
        },
        "fc6": {"kernel:0": lying["fc6/weights"], "bias:0": lying["fc6/biases"]},
        "flatten": {},
    }
    for root in ("/", "model_weights"):
        with h5py.File(tmp_path / "w.h5", "w") as file:
            group = file.require_group(root)
            group.attrs["layer_names"] = [name.encode() for name in layers]
            for name, held in layers.items():
                group.create_group(name).attrs["weight_names"] = [f"{name}/{part}".encode() for part in held]
                for part, array in held.items():
                    group[f"{name}/{name}/{part}"] = array
        check(port(NET, tmp_path / "w.h5"), arrays)


def test_keras_3_names_nothing(reasons, rng, tmp_path):
    with h5py.File(tmp_path / "w.weights.h5", "w") as file:
        file["layers/scale/vars/0"], file["layers/scale/vars/1"] = draw(rng, 5), draw(rng, 5)
    (reason,) = reasons(SCALE, tmp_path / "w.weights.h5")
    assert reason.startswith(
        "is Keras 3's own form, which numbers a layer's arrays and names none; save the model once"
    )


def test_hdf5_of_plain_names(port, arrays, tmp_path):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        for name, array in arrays.items():
            file[name.replace("/", ".")] = array
    check(port(NET, tmp_path / "w.h5"), arrays)


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_a_bare_pickle(port, rng, tmp_path, protocol):
    first, second = draw(rng, 5), draw(rng, 5)
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"scale1": {"beta": second, "gamma": first}}, protocol))
    check(port(SCALE, tmp_path / "w.pkl"), {"scale1/weights": first, "scale1/biases": second})
    (tmp_path / "w.pkl").write_bytes(pickle.dumps({"scale1": [first, second]}, protocol))
    check(port(SCALE, tmp_path / "w.pkl"), {"scale1/weights": first, "scale1/biases": second})


def test_one_name_twice(reasons, rng, tmp_path):
    np.save(tmp_path / "w.npy", np.array({"scale1": [draw(rng, 5)] * 2, b"scale1": [draw(rng, 5)] * 2}, object))
    assert reasons(SCALE, tmp_path / "w.npy") == ["holds two layers named 'scale1'"]


@pytest.mark.parametrize(
    "file",
    ["byteskeys.npy", "frossard.npz", "kaffefused.npy", "kaffelist.npy", "mmdnn.npy", "mmdnnfused.npy", "pkl.pkl",
     "pycaffe.npz", "pycaffed.npy"],
)  # fmt: skip
def test_what_others_wrote(shared, file):
    case = shared / "reports/npy_dialects"
    expected = convert(case / "net.prototxt", case / "net.caffemodel").parameters
    check(convert(case / "net.prototxt", case / file), {name: one.caffe for name, one in expected.items()})


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("c2p.h5", "layer 'scale1' (Scale): has no weights there; expected 4 and 4"),
        ("keras.h5", "layer 'bn1' (BatchNorm): its mean and variance and scale_factor can't be told there; the "
         "file has 'w0:0' (4), 'w1:0' (4), 'w2:0' (4), 'w3:0' (4); expected mean (4), variance (4), scale_factor (1)"),
    ],
)  # fmt: skip
def test_what_others_wrote_and_nobody_can_tell(shared, file, reason):
    case = shared / "reports/npy_dialects"
    with pytest.raises(Refused) as refusal:
        convert(case / "net.prototxt", case / file)
    assert refusal.value.reasons[0] == f"{case / file}: {reason}"
