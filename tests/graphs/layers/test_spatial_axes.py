"""Convolution, Deconvolution and Im2col along any number of axes, from any axis on, over several bottoms, and their
gradients; then some hundred drawn ones, among which are those that TensorFlow's operations get wrong or die of."""

from __future__ import annotations

import math

import numpy as np
import pytest

from graphs.emit import build
from graphs.layers.convolution import Convolution
from graphs.layers.data import Input
from graphs.layers.deconvolution import Deconvolution
from graphs.layers.im2col import Im2col
from graphs.names import name_values
from graphs.network import Network, Node, infer
from graphs.tensorflow1 import tensorflow1
from tests.graphs.layers.by_index import Sizes, columns, convolved, deconvolved
from weights import Refused


def expected(layer, x, arrays, sizes):
    """Returns the top of one bottom by the indices of Caffe's loops."""
    axis = layer.axis % x.ndim
    pictures = np.reshape(x, (math.prod(x.shape[:axis]), *x.shape[axis:])).astype(np.float64)
    if isinstance(layer, Im2col):
        y = columns(pictures, sizes)
        y = y.reshape(len(y), -1, *y.shape[x.ndim - axis - 1 + 2 :])
    else:
        make = deconvolved if isinstance(layer, Deconvolution) else convolved
        y = make(pictures, np.asarray(arrays[0], np.float64), layer.group, sizes)
        for bias in arrays[1:]:
            y = y + bias.reshape(-1, *(1,) * (y.ndim - 2))
    return y.reshape(*x.shape[:axis], *y.shape[1:])


def spelled(definition, sizes, **more):
    return definition(
        kernel_size=sizes.kernel, stride=sizes.stride, pad=sizes.pad, dilation=sizes.dilation, **more
    )  # fmt: skip


# shape, axis, kernel, stride, pad, dilation, outputs, group
CASES = {
    "1-D": ((2, 3, 11), 1, (3,), (1,), (1,), (1,), 5, 1),
    "1-D, strided, dilated": ((2, 4, 11), 1, (3,), (2,), (2,), (3,), 6, 2),
    "1-D, depthwise": ((2, 3, 11), 1, (4,), (2,), (1,), (1,), 6, 3),
    "3-D": ((2, 3, 5, 7, 4), 1, (2, 3, 2), (1, 1, 1), (0, 0, 0), (1, 1, 1), 5, 1),
    "3-D, padded as SAME": ((2, 3, 5, 7, 4), 1, (3, 3, 3), (1, 1, 1), (1, 1, 1), (1, 1, 1), 5, 1),
    "3-D, strided, grouped": ((2, 4, 5, 7, 4), 1, (2, 3, 1), (2, 1, 3), (1, 0, 2), (1, 1, 1), 6, 2),
    "3-D, dilated, strided": ((2, 2, 7, 5, 4), 1, (3, 2, 2), (2, 3, 2), (2, 1, 0), (2, 2, 3), 3, 1),
    "3-D, depthwise": ((2, 3, 5, 4, 7), 1, (2, 3, 2), (1, 2, 1), (1, 0, 1), (1, 1, 2), 3, 3),
    "4-D": ((2, 3, 4, 3, 5, 2), 1, (2, 2, 3, 1), (1, 2, 1, 1), (1, 0, 1, 0), (1, 1, 1, 1), 5, 1),
    "4-D, grouped, dilated": ((2, 4, 5, 3, 4, 2), 1, (2, 2, 2, 2), (2, 1, 1, 1), (1, 0, 0, 1), (2, 1, 2, 1), 6, 2),
    "axis 2 of five": ((2, 5, 3, 4, 7), 2, (3, 2), (1, 2), (1, 1), (1, 1), 5, 1),
    "axis 2 of five, depthwise": ((2, 5, 3, 4, 7), 2, (3, 2), (1, 1), (1, 0), (1, 2), 3, 3),
    "axis -2 of four": ((2, 5, 3, 11), -2, (3,), (2,), (1,), (1,), 4, 1),
    "dilation 0, all places one": ((2, 3, 5, 7), 1, (3, 2), (1, 2), (1, 0), (0, 2), 4, 1),
    "dilation 0 of one axis": ((2, 3, 7), 1, (3,), (2,), (1,), (0,), 4, 1),
}
WITHOUT_SPACE = {"no spatial axis": ((2, 3), 1, 5, 1), "none of four, grouped": ((2, 5, 3, 4), 3, 6, 2)}


def made(rng, definition, case):
    """Returns a layer, a bottom, its parameters, and the top."""
    shape, axis, kernel, stride, pad, dilation, outputs, group = case
    sizes = Sizes(kernel, stride, pad, dilation)
    if definition is Im2col:
        layer = spelled(Im2col, sizes, axis=axis)
    else:
        layer = spelled(definition, sizes, axis=axis, num_output=outputs, group=group)
    x = rng.standard_normal(shape)
    arrays = [rng.standard_normal(spec.layout.caffe) for spec in layer.parameters(shape)]
    return layer, [x], expected(layer, x, arrays, sizes), *arrays


@pytest.mark.parametrize("definition", [Convolution, Deconvolution, Im2col])
def test_any_axes(definition, rng, agree_everywhere):
    agree_everywhere({name: made(rng, definition, case) for name, case in CASES.items()}, tolerance=5e-6)


@pytest.mark.parametrize("definition", [Convolution, Deconvolution])
def test_without_spatial_axes_it_is_a_product_of_each_row(definition, rng, agree_everywhere):
    cases = {}
    for name, (shape, axis, outputs, group) in WITHOUT_SPACE.items():
        for kernel in ((), (3,)):  # which then says nothing
            layer = definition(kernel_size=kernel, axis=axis, num_output=outputs, group=group)
            x, biases = rng.standard_normal(shape), rng.standard_normal(outputs)
            weights = rng.standard_normal(layer.parameters(shape)[0].layout.caffe)
            parts = zip(np.split(x, group, axis=-1), np.split(weights, group))
            rows = [one @ (w if definition is Deconvolution else w.T) for one, w in parts]
            cases[f"{name}, kernel {kernel}"] = (layer, [x], np.concatenate(rows, axis=-1) + biases, weights, biases)
    agree_everywhere(cases)


def test_the_first_axis_may_have_the_channels(rng, agree_everywhere):
    cases = {}
    for definition in (Convolution, Deconvolution):
        case = ((3, 7, 11), 0, (3, 2), (2, 1), (1, 0), (1, 2), 5, 1)
        cases[definition.type] = made(rng, definition, case)
    agree_everywhere(cases, free=False, tolerance=5e-6)


def test_im2col_of_the_first_axis_takes_any_number_of_channels(rng, three_ways, agree):
    layer, (x,), top = made(rng, Im2col, ((3, 7, 11), 0, (3, 2), (2, 1), (1, 0), (1, 2), 0, 1))
    for way, (value,) in three_ways(layer, [x], defined=[(5, 7, 11)]).items():
        agree(value, top, 1e-6, way)


@pytest.mark.parametrize("definition", [Convolution, Deconvolution])
@pytest.mark.parametrize("name", ["1-D", "3-D", "axis 2 of five"])
def test_each_of_several_bottoms_makes_a_top_with_the_same_weights(definition, name, rng, agree_everywhere):
    layer, (x,), top, *arrays = made(rng, definition, CASES[name])
    other = rng.standard_normal(x.shape)
    sizes = Sizes(layer.kernel_size, layer.stride, layer.pad, layer.dilation)
    tops = [top, expected(layer, other, arrays, sizes), top]
    agree_everywhere({"three": (layer, [x, other, x], tops, *arrays)}, tolerance=5e-6)
    assert layer.multiply_adds((x.shape,) * 3, (top.shape,) * 3) == 3 * layer.multiply_adds((x.shape,), (top.shape,))


def test_a_window_larger_by_less_than_its_stride_sees_zeros_past_the_end(rng, agree_everywhere):
    cases = {
        "two axes": ((2, 3, 2, 7), 1, (4, 3), (3, 2), (0, 1), (1, 1), 5, 1),
        "dilated": ((2, 4, 2, 3), 1, (2, 3), (4, 3), (0, 0), (4, 2), 6, 2),
        "depthwise": ((2, 3, 2, 3), 1, (4, 5), (3, 3), (0, 0), (1, 1), 3, 3),
        "one axis": ((2, 3, 5), 1, (7,), (3,), (0,), (1,), 5, 1),
        "three axes": ((2, 3, 4, 2, 5), 1, (2, 4, 3), (1, 3, 1), (0, 0, 0), (1, 1, 1), 5, 1),
    }
    for definition in (Convolution, Im2col):
        agree_everywhere({name: made(rng, definition, case) for name, case in cases.items()}, tolerance=5e-6)
    with pytest.raises(ValueError, match="kernel 4x3 with pad 0x1 and dilation 1x1 is larger than its bottom, 2x3x1x7"):
        spelled(Convolution, Sizes((4, 3), (3, 2), (0, 1), (1, 1)), num_output=5).top_shapes((2, 3, 1, 7))


def test_parameters_along_other_than_two_axes_are_spatial_axes_inputs_outputs():
    layouts = {
        axes: Convolution(num_output=6, group=3, kernel_size=(2,)).parameters((2, 3, *(5,) * axes))[0].layout
        for axes in (0, 1, 2, 3)
    }
    assert {axes: layout.tensorflow for axes, layout in layouts.items()} == {
        0: (1, 6),
        1: (2, 1, 6),
        2: (2, 2, 3, 2),  # as tf.nn.depthwise_conv2d has it
        3: (2, 2, 2, 1, 6),
    }
    assert layouts[3].caffe == (6, 1, 2, 2, 2)


@pytest.mark.parametrize("definition", [Convolution, Deconvolution, Im2col])
@pytest.mark.parametrize(
    ("options", "shape", "reason"),
    [
        ({}, (2, 3, 5, 7, 4), "kernel_size is given 0 times; Caffe wants it once, or one for each of its 3 spatial"),
        (
            {"kernel_size": (2, 3)},
            (2, 3, 5, 7, 4),
            "kernel_size is given 2 times; Caffe wants it once, or one for",
        ),
        ({"kernel_size": (2, 2)}, (2, 3, 5), "kernel_size is given 2 times; Caffe wants it once$"),
        ({"kernel_size": (2,), "stride": (1, 2)}, (2, 3, 5), "stride is given 2 times"),
        ({"kernel_size": (2,), "pad": (1, 1)}, (2, 3, 5, 7, 4), "pad is given 2 times"),
        ({"kernel_size": (2,), "dilation": (1, 1, 1)}, (2, 3, 5, 7), "dilation is given 3 times"),
        (
            {"kernel_h": 2, "kernel_w": 2},
            (2, 3, 5),
            "sets kernel_h or kernel_w, which are for two spatial axes; it",
        ),
        ({"kernel_size": (2,), "stride_h": 2}, (2, 3, 5, 7, 4), "sets stride_h or stride_w, which are for two spatial"),
        ({"kernel_size": (2,), "pad_w": 2}, (2, 3, 5), "it has 1: set pad$"),
        ({"kernel_size": (2,), "axis": 4}, (2, 3, 5, 7), "axis 4 is not one of a bottom of shape 2x3x5x7"),
    ],
)
def test_refuses(definition, options, shape, reason):
    outputs = {} if definition is Im2col else {"num_output": 5}
    with pytest.raises(ValueError, match=reason):
        definition(**outputs, **options).top_shapes(shape)


def test_refuses_windows_along_no_axis():
    with pytest.raises(ValueError, match="axis 1 is the last of 2x3; Caffe wants one more"):
        Im2col(kernel_size=(2,)).top_shapes((2, 3))


@pytest.mark.parametrize("definition", [Convolution, Deconvolution])
def test_refuses_bottoms_that_differ_and_tops_for_none(definition):
    layer = definition(num_output=5, kernel_size=(2,))
    with pytest.raises(ValueError, match="bottom 2 has the shape 2x3x5x8, the first 2x3x5x7; Caffe wants them alike"):
        layer.top_shapes((2, 3, 5, 7), (2, 3, 5, 8))
    nodes = Node("x", Input(((2, 3, 5, 7),)), (), ("x",)), Node("y", layer, ("x",), ("p", "q"))
    with pytest.raises(Refused, match=r"layer 'y' \(\w+\): has 2 top blobs for 1 bottoms; Caffe wants one for each"):
        infer(Network("n", nodes))


def drawn(seed, count):
    """Yields ``count`` layers over a bottom, most of them along two axes of a few values."""
    rng = np.random.default_rng(seed)

    def one_each(axes, low, high):
        return tuple(int(one) for one in rng.integers(low, high, axes))

    while count:
        axes, lead = (int(rng.choice(some)) for some in ((1, 2, 2, 2, 2, 2, 3, 4), (1, 1, 1, 1, 0, 2)))
        sizes = Sizes(*(one_each(axes, *ends) for ends in ((1, 5 if axes < 3 else 3), (1, 4), (0, 4), (1, 4))))
        if rng.random() < 0.4:
            sizes = Sizes(sizes.kernel, sizes.stride, sizes.pad, (1,) * axes)
        some = ((1, 2, 1), (1, 1, 1), (3, 5, 1), (2, 1, 1), (4, 6, 2), (6, 3, 3), (3, 3, 3), (3, 6, 3))
        channels, outputs, group = some[rng.integers(len(some))]
        more = {"num_output": outputs, "group": group, "axis": lead, "bias_term": bool(rng.random() < 0.7)}
        layer = spelled(Deconvolution if rng.random() < 0.3 else Convolution, sizes, **more)
        shape = (*one_each(lead, 1, 4), channels, *one_each(axes, 1, 9 if axes < 3 else 5))
        try:
            layer.top_shapes(shape)
        except ValueError:
            continue
        count -= 1
        x, arrays = rng.standard_normal(shape), [rng.standard_normal(p.layout.caffe) for p in layer.parameters(shape)]
        yield layer, sizes, x.astype(np.float32), [array.astype(np.float32) for array in arrays]


def moved(array, source, target):
    return np.moveaxis(array, source, target) if array.ndim >= 4 else array


# What TensorFlow 2.21 gets wrong with an AVX-512 processor, or dies of: one channel and one window along the width;
# gaps within windows that see nothing but zeros, with a bias; the gradient of 1x1 weights with strides that differ.
FOUND = [
    (Convolution, (2, 1, 9, 6), ((1, 4), (1, 3), (0, 0), (1, 1)), 2),
    (Convolution, (2, 1, 3, 8), ((2, 5), (1, 4), (0, 0), (1, 1)), 8),
    (Convolution, (2, 1, 9, 4), ((3, 3), (1, 2), (2, 0), (2, 1)), 3),
    (Convolution, (2, 1, 9, 5, 4), ((3, 1, 3), (3, 1, 2), (0, 0, 0), (1, 1, 1)), 2),
    (Deconvolution, (3, 5, 2, 2, 1), ((1, 3, 3), (2, 1, 2), (0, 0, 0), (1, 1, 1)), 1),
    (Convolution, (1, 1, 12, 1), ((1, 1), (2, 2), (1, 1), (2, 2)), 2),
    (Convolution, (2, 2, 5, 1), ((1, 2), (3, 2), (0, 3), (3, 2)), 4),
    (Convolution, (2, 3, 2, 2), ((2, 2), (1, 3), (2, 4), (1, 3)), 2),
    (Convolution, (2, 6, 8, 9), ((1, 1), (2, 1), (0, 0), (1, 1)), 3),
    (Convolution, (2, 2, 8, 8), ((1, 1), (1, 2), (0, 1), (1, 1)), 5),
]


def found(rng):
    for definition, shape, numbers, outputs in FOUND:
        layer, sizes = spelled(definition, Sizes(*numbers), num_output=outputs), Sizes(*numbers)
        x, arrays = rng.standard_normal(shape), [rng.standard_normal(p.layout.caffe) for p in layer.parameters(shape)]
        yield layer, sizes, x.astype(np.float32), [array.astype(np.float32) for array in arrays]


@pytest.mark.parametrize("phase", ["TEST", "TRAIN"])
def test_drawn_ones_and_their_gradients(phase, rng, agree):
    """All in one graph. Being linear, a layer's gradient is judged by what it makes of another bottom, or of other
    weights: for any such, and what the sum of the top is weighted by, both ways of taking the sum agree."""
    tf = tensorflow1("the tests")
    cases = [*found(rng), *drawn(41, 300 if phase == "TEST" else 100)]
    nodes = []
    for place, (layer, _, x, _) in enumerate(cases):
        nodes += [Node(f"x{place}", Input((x.shape,)), (), (f"x{place}",))]
        nodes += [Node(f"y{place}", layer, (f"x{place}",), (f"y{place}",))]
    network = Network("drawn", tuple(nodes), phase)
    shapes = infer(network)
    names = name_values(shapes)
    arrays = {
        variable: (spec.layout, array)
        for layer, variables, case in zip(shapes.layers[1::2], names.variables[1::2], cases)
        for variable, spec, array in zip(variables, layer.parameters, case[3])
    }
    tops = [expected(layer, x, given, sizes) for layer, sizes, x, given in cases]
    weightings = [rng.standard_normal(top.shape).astype(np.float32) for top in tops]
    with tf.Graph().as_default(), tf.Session() as session:
        held = {}

        def variable(name, spec):
            layout, array = arrays[name]
            held[name] = tf.placeholder_with_default(layout.to_tensorflow(array), spec.layout.tensorflow)
            return held[name] if phase == "TRAIN" else tf.constant(layout.to_tensorflow(array))

        emitted = build(network, shapes, names, tf, variable)
        fed, got = [one.tops[0] for one in emitted[::2]], [one.tops[0] for one in emitted[1::2]]
        feeds = {tensor: moved(x, 1, -1) for tensor, (_, _, x, _) in zip(fed, cases)}
        if phase == "TRAIN":
            total = tf.add_n([tf.reduce_sum(top * moved(by, 1, -1)) for top, by in zip(got, weightings)])
            weights = [held[variables[0]] for variables in names.variables[1::2]]
            of_x, of_weights = (tf.gradients(total, towards) for towards in (fed, weights))
            values, *slopes = session.run([got, of_x, of_weights], feeds)
        else:
            values, slopes = session.run(got, feeds), ([], [])
    for (layer, _, x, _), value, top in zip(cases, values, tops):
        agree(moved(value, -1, 1), top, 3e-6, f"{layer} of {x.shape}")
    for (layer, sizes, x, given), of_x, of_weights, by in zip(cases, *slopes, weightings):
        slope = {"x": moved(of_x, -1, 1), "weights": layer.parameters(x.shape)[0].layout.to_caffe(of_weights)}
        other = {name: rng.standard_normal(array.shape) for name, array in slope.items()}
        made = {"x": (other["x"], given[:1]), "weights": (x, [other["weights"]])}
        for name, array in slope.items():
            total = (expected(layer, *made[name], sizes) * by).sum()
            scale = np.sqrt((np.float64(array) ** 2).sum() * (other[name] ** 2).sum()) or 1
            assert abs((array * other[name]).sum() - total) <= 2e-6 * scale, f"{layer} of {x.shape}: gradient of {name}"
