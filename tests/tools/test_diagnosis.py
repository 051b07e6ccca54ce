"""Diagnosis: each mistake against a computation of its own, and what is said where none fits or much is unknown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from converter import convert
from graphs.layers.convolution import Convolution
from graphs.layers.inner_product import InnerProduct
from graphs.layers.lrn import LRN
from graphs.layers.pooling import Pooling
from graphs.tensorflow1 import tensorflow1
from tests.tools.faulty_graphs import read
from tools.recording import Preprocessing
from tools.validate.diagnosis import diagnose, diagnose_all, scene_of, steps_of, worst_channel
from tools.validate.mistakes import COMBINED, FITTED, MISTAKES, Step
from tools.validate.mistakes.scene import Scene, inputs_step
from tools.validate.mistakes.windows_over import same_padding
from tools.validate.report import as_json

X, Y = ("", "x"), ("y", "y")


def alone(layer, x, got=None, arrays=(), **more) -> Scene:
    """A network of one layer, y, over the input x; its parameters are ``arrays``."""
    step = Step("y", layer, (X,), (Y,), arrays)
    truth = {X: x, Y: step.compute(x.astype(np.float64))[0].astype(np.float32) if arrays is not None else got}
    steps = {"": inputs_step(("x",)), "y": step}
    return scene_of(steps, truth, Y, truth[Y] if got is None else got, **more)


def found(scene: Scene) -> str:
    diagnosis = diagnose(scene)
    assert diagnosis is not None
    return diagnosis.mistake


@pytest.fixture
def x(rng) -> np.ndarray:
    return rng.normal(0, 10, (2, 6, 11, 13)).astype(np.float32)


@pytest.mark.parametrize("size", range(5, 18))
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (11, 4), (7, 2), (2, 2), (3, 1), (4, 3), (1, 2)])
def test_same_padding_is_tensorflows(size, kernel, stride):
    tf = tensorflow1("the tests")
    with tf.Graph().as_default(), tf.Session() as session:
        ramp = np.arange(1.0, size + 1, dtype=np.float32)
        kernels = np.arange(1.0, kernel + 1, dtype=np.float32)
        one_row = tf.nn.conv2d(ramp[None, None, :, None], kernels[None, :, None, None], stride, "SAME")
        expected = session.run(one_row).ravel()
    before, after = same_padding((size, size), (kernel, kernel), (stride, stride))
    padded = np.pad(ramp, (before[1], after[1]))
    got = [float(padded[at : at + kernel] @ kernels) for at in range(0, len(padded) - kernel + 1, stride)]
    np.testing.assert_allclose(got, expected)


def literal_pool(x, method, starts, kernel, divisor, outside=None):
    """Pools one window after the other, value by value; ``starts`` are rows' (columns') first places."""
    y = np.zeros((*x.shape[:2], len(starts[0]), len(starts[1])))
    for n, c in np.ndindex(*x.shape[:2]):
        for i, top in enumerate(starts[0]):
            for j, left in enumerate(starts[1]):
                values, places = [], 0
                for row in range(top, top + kernel):
                    for column in range(left, left + kernel):
                        places += 1
                        if 0 <= row < x.shape[2] and 0 <= column < x.shape[3]:
                            values.append(float(x[n, c, row, column]))
                        elif outside is not None:
                            values.append(outside)
                count = {"inside": len(values), "whole": places}[divisor]
                y[n, c, i, j] = max(values) if method == "MAX" else sum(values) / count
    return y.astype(np.float32)


class TestPooling:
    """3x3 windows, stride 2, over 11 x 14: columns hang over."""

    @pytest.fixture
    def x(self, rng) -> np.ndarray:
        return rng.normal(-5, 3, (2, 3, 11, 14)).astype(np.float32)

    starts = (range(0, 10, 2), range(0, 13, 2))

    def test_floor_for_ceil(self, x):
        got = literal_pool(x, "MAX", (range(0, 10, 2), range(0, 11, 2)), 3, "inside")
        assert found(alone(Pooling(kernel_size=3, stride=2), x, got)) == "floor for ceil"

    def test_ceil_for_floor(self, x):
        got = literal_pool(x, "MAX", self.starts, 3, "inside")
        assert found(alone(Pooling(kernel_size=3, stride=2, round_mode="FLOOR"), x, got)) == "ceil for floor"

    def test_whole_windows_as_divisor(self, x):
        got = literal_pool(x, "AVE", self.starts, 3, "whole")
        assert found(alone(Pooling(pool="AVE", kernel_size=3, stride=2), x, got)) == "AVE divisor"

    def test_zeros_around_maxima(self, x):
        got = literal_pool(x, "MAX", self.starts, 3, "inside", outside=0.0)
        assert found(alone(Pooling(kernel_size=3, stride=2), x, got)) == "zeros around MAX"

    def test_padding_left_out(self, x):
        got = literal_pool(x, "MAX", (range(0, 9, 2), range(0, 12, 2)), 3, "inside")
        assert found(alone(Pooling(kernel_size=3, stride=2, pad=1), x, got)) == "VALID for explicit padding"

    def test_another_method_altogether(self, x):
        got = x.mean(axis=(2, 3), keepdims=True)
        assert found(alone(Pooling(global_pooling=True), x, got)) == "pooling method"


class TestLRN:
    layer = LRN(local_size=3, alpha=0.6, beta=0.75, k=2)

    @staticmethod
    def literal(x, radius, by_sum, beta, k):
        y = np.zeros_like(x)
        for c in range(x.shape[1]):
            total = sum(x[:, d].astype(np.float64) ** 2 for d in range(x.shape[1]) if abs(c - d) <= radius)
            y[:, c] = x[:, c] / (k + by_sum * total) ** beta
        return y

    @pytest.mark.parametrize(
        ("radius", "by_sum", "beta", "k", "mistake"),
        [
            (1, 0.6, 0.75, 2, "alpha for alpha/n"),
            (1, 0.2 / 3, 0.75, 2, "alpha/n for alpha"),
            (1, 0.2, 0.75, 1, "k"),
            (1, 0.2, 0.5, 2, "beta"),
            (3, 0.2, 0.75, 2, "depth radius for size"),
            (3, 0.6, 0.75, 2, "depth radius for size + alpha for alpha/n"),
            (1, 0.33, 0.75, 2, "alpha"),
            (1, 0.2, 0.75, 1.5, "k"),
            (1, 0.33, 0.5, 1.5, "beta + k + alpha"),
            (5, 1.0, 0.5, 1, "depth radius + beta + k + alpha"),  # tf.nn.lrn's own defaults
        ],
    )
    def test_numbers(self, x, radius, by_sum, beta, k, mistake):
        assert found(alone(self.layer, x / 10, self.literal(x / 10, radius, by_sum, beta, k))) == mistake

    def test_region(self, x):
        got = np.zeros_like(x)
        for n, c, i, j in np.ndindex(*x.shape):
            window = x[n, c, max(0, i - 1) : i + 2, max(0, j - 1) : j + 2].astype(np.float64)
            got[n, c, i, j] = x[n, c, i, j] / (1 + 0.6 * (window**2).sum() / 9) ** 0.75
        assert found(alone(replace(self.layer, k=1.0), x, got)) == "LRN region"


class TestWeights:
    @pytest.fixture
    def kernels(self, rng) -> tuple[np.ndarray, np.ndarray]:
        return rng.normal(size=(8, 3, 3, 3)).astype(np.float32), rng.normal(size=8).astype(np.float32)

    @staticmethod
    def literal(x, weights, biases, group):
        """A valid convolution, every output by itself."""
        count, inputs, kernel = len(weights), weights.shape[1], weights.shape[2]
        y = np.zeros((len(x), count, x.shape[2] - kernel + 1, x.shape[3] - kernel + 1))
        for o, i, j in np.ndindex(*y.shape[1:]):
            first = o // (count // group) * inputs
            seen = x[:, first : first + inputs, i : i + kernel, j : j + kernel].astype(np.float64)
            y[:, o, i, j] = (seen * weights[o]).sum(axis=(1, 2, 3)) + biases[o]
        return y.astype(np.float32)

    @pytest.mark.parametrize(
        ("change", "mistake"),
        [
            (lambda w, b: (w.swapaxes(2, 3), b), "weights transposed"),
            (lambda w, b: (w[:, :, ::-1, ::-1], b), "weights transposed"),
            (lambda w, b: (w.reshape(3, 3, 3, 8).transpose(3, 2, 0, 1), b), "weights transposed"),
            (lambda w, b: (np.concatenate([w[4:], w[:4]]), b), "group order"),
            (lambda w, b: (w, 0 * b), "biases missing"),
            (lambda w, b: (w, 2 * b), "biases doubled"),
        ],
    )
    def test_of_a_convolution(self, x, kernels, change, mistake):
        layer = Convolution(num_output=8, kernel_size=(3,), group=2)
        assert found(alone(layer, x, self.literal(x, *change(*kernels), 2), kernels)) == mistake

    def test_channels_that_are_read_and_made_in_another_order(self, x, kernels):
        layer = Convolution(num_output=8, kernel_size=(3,), group=2)
        right = self.literal(x, *kernels, 2)
        assert found(alone(layer, x, right[:, [0, 2, 4, 6, 1, 3, 5, 7]], kernels)) == "group order"
        diagnosis = diagnose(alone(layer, x, right[:, [0, 1, 5, 3, 4, 2, 6, 7]], kernels))
        assert diagnosis.mistake == "channels in another order"
        assert diagnosis.explanation.endswith("2 is 5, 5 is 2")
        turned = self.literal(x[:, [3, 4, 5, 0, 1, 2]], *kernels, 2)
        assert found(alone(layer, x, turned, kernels)) == "group order"

    def test_flattening(self, x, rng):
        weights, biases = rng.normal(size=(5, 6 * 11 * 13)).astype(np.float32), np.ones(5, np.float32)
        layer = InnerProduct(num_output=5)
        flat = x.transpose(0, 2, 3, 1).reshape(2, -1)
        assert found(alone(layer, x, flat @ weights.T + biases, (weights, biases))) == "C,H,W for H,W,C"
        permuted = weights.reshape(5, 6, 11, 13).transpose(0, 2, 3, 1).reshape(5, -1)
        got = x.reshape(2, -1) @ permuted.T + biases
        assert found(alone(layer, x, got, (weights, biases))) == "C,H,W for H,W,C"
        got = x.swapaxes(2, 3).reshape(2, -1) @ weights.T + biases
        assert found(alone(layer, x, got, (weights, biases))) == "rows and columns swapped"


class TestWhatIsNotKnown:
    def test_another_fault_says_so_and_shows_the_worst_channel(self, x):
        got = np.maximum(x, 0)
        got[1, 4, 3, 2] += 7
        network = read(
            'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 6 dim: 11 dim: 13 } } }'
            'layer { name: "y" type: "ReLU" bottom: "x" top: "y" }'
        )
        diagnosis = diagnose(scene_of(steps_of(network), {X: x, Y: np.maximum(x, 0)}, Y, got))
        assert (diagnosis.mistake, diagnosis.after, diagnosis.layer) == ("", None, "y (ReLU)")
        assert diagnosis.worst_channel.channel == 4
        assert diagnosis.worst_channel.difference.worst.index == (1, 4, 3, 2)
        assert (diagnosis.worst_channel.apart, diagnosis.worst_channel.channels) == (1, 6)
        assert f"none of {diagnosis.tried} mistakes makes it agree; worst is channel 4: " in str(diagnosis)
        assert as_json(diagnosis)["worst_channel"]["difference"]["largest"] == pytest.approx(7, rel=1e-5)

    def test_a_factor_is_hinted_at(self, x):
        network = read(
            'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 6 dim: 11 dim: 13 } } }'
            'layer { name: "y" type: "AbsVal" bottom: "x" top: "y" }'
        )
        diagnosis = diagnose(scene_of(steps_of(network), {X: x, Y: abs(x)}, Y, 3 * abs(x)))
        assert "its values are the reference's times 3;" in diagnosis.explanation

    def test_numbers_that_are_none(self, x):
        got = np.full_like(x, np.nan)
        diagnosis = diagnose(alone(LRN(), x, got))
        assert diagnosis.mistake == ""
        assert f"{x.size} of its values are no numbers" in diagnosis.explanation

    def test_weights(self, x):
        got = np.ones((2, 8, 9, 11), np.float32)
        scene = alone(Convolution(num_output=8, kernel_size=(3,)), x, got, arrays=None)
        diagnosis = diagnose(replace(scene, truth={X: x, Y: -got}))
        expected = "the parameters of y (Convolution) are not known: mistakes that take them were not tried"
        assert diagnosis.not_tried == (expected,)

    def test_definition(self, x):
        diagnosis = diagnose(scene_of({"": inputs_step(("x",))}, {X: x, Y: x}, Y, 2 * x))
        assert diagnosis.not_tried == ("the definition of y is not known: no mistake could be tried",)

    def test_another_value_at_every_run(self, x):
        diagnosis = diagnose(alone(LRN(), x, x + 1, again=x + 2))
        assert diagnosis.mistake == "dropout left on"

    def test_worst_channel_of_other_shapes(self, x):
        assert worst_channel(x, x[:, :2], 1e-4) is None


def test_a_value_within_tolerance_yields_nothing(x):
    scene = alone(LRN(), x)
    assert diagnose(scene) is None
    assert list(diagnose_all([scene, scene])) == []
    assert diagnose(replace(scene, got=scene.got + 1e-6)) is None


def test_a_mean_and_a_scale_that_nobody_wrote_down(rng):
    x = rng.normal(0, 50, (2, 3, 9, 9)).astype(np.float32)
    arrays = (rng.normal(size=(5, 3, 3, 3)).astype(np.float32), np.ones(5, np.float32))
    layer = Convolution(num_output=5, kernel_size=(3,), pad=(1,))
    odd = 0.5 * x[:, ::-1] - np.float32([3, 4, 5]).reshape(3, 1, 1)
    got = layer.reference(odd.astype(np.float64), *arrays)
    diagnosis = diagnose(alone(layer, x, got, arrays, preprocessing=Preprocessing(mean=np.full(3, 100.0))))
    assert diagnosis.mistake == "channel order + scale + another mean"
    assert "scales by 0.5, 0.5, 0.5" in diagnosis.explanation
    assert "subtracts a mean of about 106, 108, 110" in diagnosis.explanation


def test_what_fits_one_picture_is_confirmed_on_all(rng):
    """Each picture's own mean looks like a constant one where a large layer is judged on one picture."""
    x = rng.uniform(0, 255, (3, 3, 160, 160)).astype(np.float32) + np.float32([0, 9, 30]).reshape(3, 1, 1, 1)
    scene = alone(LRN(), x)
    scene = replace(scene, target=X, got=x - x.mean(axis=(1, 2, 3), keepdims=True))
    assert "subtracts each picture's own mean, one number" in diagnose(scene).explanation
    by_picture = x - np.float32([3, 5, 8]).reshape(3, 1, 1, 1)
    assert diagnose(replace(scene, got=by_picture)).mistake == ""


def test_a_layer_between_that_no_tensor_stands_for(golden):
    """conv1 alone was matched with what comes after ReLU: the fault lies in a layer that was not fed."""
    case = golden / "mini_alexnet"
    port = convert(case / "net.prototxt", case / "weights.caffemodel")
    with np.load(case / "reference.npz") as recorded:
        truth = {tuple(name.split("/")[1:]): value for name, value in recorded.items() if name.startswith("layer/")}
        truth["", "data"] = recorded["input/data"]
    steps = steps_of(port.shapes, port.arrays())
    fed = frozenset({("conv1", "conv1")})
    leaky = np.where(truth["conv1", "conv1"] < 0, 0.2, 1) * truth["conv1", "conv1"]
    got = steps["norm1"].layer.reference(leaky)
    diagnosis = diagnose(scene_of(steps, truth, ("norm1", "norm1"), got, fed))
    assert (diagnosis.layer, diagnosis.mistake) == ("norm1 (LRN)", "ReLU's slope")


def test_every_mistake_keeps_its_hands_off_layers_that_it_knows_nothing_of(x):
    """None raises, whatever the step."""
    definition = 'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: 2 dim: 6 dim: 11 dim: 13 } } }'
    network = read(definition + 'layer { name: "y" type: "TanH" bottom: "x" top: "y" }')
    scene = scene_of(steps_of(network), {X: x, Y: np.tanh(x)}, Y, np.tanh(x) + 1)
    for mistake in (*MISTAKES, *FITTED, *COMBINED):
        for step in scene.suspects():
            for variant in mistake(scene, step):
                assert variant.mistake
                assert variant.explanation
