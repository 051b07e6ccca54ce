"""What the notebooks and posts had wrong: each test holds for our graphs, and fails on the original's form.

Every test checks one property of a form; the form is ours, or a rebuild of the original's lines, for which the check
must fail.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphs.alexnet import FAMILY, batchnorm
from graphs.alexnet.estimator import model_fn


def pictures_of(tf: Any, side: int = 67, count: int | None = None) -> Any:
    return tf.placeholder(tf.float32, [count, side, side, 3])


def fails(check: Callable[..., None], *arguments: Any) -> None:
    """Raises AssertionError where ``check`` passes: it would not have found the original's fault."""
    with pytest.raises(AssertionError):
        check(*arguments)


class TestFlatten:
    """The flower post reshaped N, 7, 7, 256 to rows of 28 * 28 * 256."""

    def test_each_picture_is_one_row(self, tf):
        def check(flatten: Callable[[Any], Any]) -> None:
            assert flatten(tf.zeros([16, 7, 7, 256])).shape.as_list() == [16, 7 * 7 * 256]

        def ours(pooled: Any) -> Any:
            endpoints = batchnorm(pictures_of(tf, 224, 16))
            assert endpoints["norm5"].shape == pooled.shape
            return endpoints["fc6"].op.inputs[0].op.inputs[0]  # of the bias's sum, of the product

        check(ours)
        fails(check, lambda pooled: tf.reshape(pooled, [-1, 28 * 28 * 256]))


class TestDropoutAtEvaluation:
    """The graphs had tf.nn.dropout with a number in it, so that evaluation dropped too."""

    @pytest.mark.parametrize("name", FAMILY)
    def test_the_same_values_come_out_twice(self, tf, rng, name):
        variant = FAMILY[name]
        endpoints = variant.build(pictures_of(tf), tf.placeholder_with_default(1.0, []), 5)

        def check(below: Any, dropped: Any) -> None:
            values = rng.normal(size=(2, *below.shape.as_list()[1:])).astype(np.float32)
            with tf.Session() as session:
                one, other = (session.run(dropped, {below: values}) for _ in range(2))
            np.testing.assert_array_equal(one, values)
            np.testing.assert_array_equal(other, values)

        for dropout in variant.dropouts:
            below = endpoints["pool5" if dropout == "drop5" else dropout.replace("drop", "relu")]
            check(below, endpoints[dropout])
            fails(check, below, tf.nn.dropout(below, rate=0.5))


class TestClasses:
    """tf.argmax(logits, 0) is, for each class, the picture of the batch that has most of it."""

    def test_there_is_one_class_for_each_picture(self, tf, rng):
        images = pictures_of(tf)
        predictions = model_fn(images, None, "infer", {"num_classes": 3}).predictions
        logits = next(op for op in tf.get_default_graph().get_operations() if op.name == "fc8").outputs[0]
        values = rng.normal(size=(5, 3)).astype(np.float32)

        def check(classes: Any) -> None:
            with tf.Session() as session:
                got = session.run(classes, {logits: values})
            np.testing.assert_array_equal(got, [row.tolist().index(max(row)) for row in values])

        check(predictions["classes"])
        fails(check, tf.argmax(logits, 0))


class TestLogits:
    """A ReLU after the last layer: a negative logit is 0, and no gradient reaches what made it."""

    @pytest.mark.parametrize("name", FAMILY)
    def test_they_are_a_linear_layers(self, tf, name):
        variant = FAMILY[name]
        endpoints = variant.build(pictures_of(tf), 1.0, 5)
        weights, biases = endpoints.variables[variant.head]
        width = weights.shape.as_list()[0]

        def check(logits: Any) -> None:
            below = endpoints["logits"].op.inputs[0].op.inputs[0]
            with tf.Session() as session:
                session.run([weights.initializer, biases.initializer])
                feeds = {below: np.random.default_rng(7).normal(size=(2, width))}
                fed, got, kernel = session.run([below, logits, weights], feeds)
            assert (got < 0).any()
            np.testing.assert_allclose(got, fed @ kernel, atol=1e-4)

        check(endpoints["logits"])
        fails(check, tf.nn.relu(endpoints["logits"]))


class TestWeightDecay:
    """The loss had learning_rate * decay * sum of w^2, which the optimizer multiplied by the learning rate again."""

    RATE, DECAY = 0.1, 0.5

    def test_a_step_takes_rate_times_decay_off_a_weight(self, tf):
        labels = tf.constant([0, 1])
        params = {"num_classes": 2, "learning_rate": self.RATE, "weight_decay": self.DECAY, "keep_prob": 1.0}
        # Of pictures that are 0, conv1's weights have no gradient but their decay's.
        spec = model_fn(tf.zeros([2, 67, 67, 3]), labels, "train", params)
        weights = next(one for one in tf.global_variables() if one.op.name == "conv2d/kernel")

        def check(step: Any) -> None:
            with tf.Session() as session:
                session.run(tf.global_variables_initializer())
                before = session.run(weights)
                session.run(step)
                after = session.run(weights)
            np.testing.assert_allclose(after, before * (1 - self.RATE * self.DECAY), rtol=1e-5, atol=1e-8)

        check(spec.train_op)
        original = self.RATE * self.DECAY * tf.nn.l2_loss(weights)
        fails(check, tf.train.GradientDescentOptimizer(self.RATE).minimize(original))


class TestKeepProbability:
    """0.8, meant as what is kept, went where the share of what is dropped is asked for."""

    @pytest.mark.parametrize("name", FAMILY)
    def test_the_share_that_is_kept_is_the_one_given(self, tf, name):
        endpoints = FAMILY[name].build(pictures_of(tf), tf.constant(0.8), 5)

        def check(dropped: Any) -> None:
            tf.set_random_seed(3)
            with tf.Session() as session:
                values = session.run(dropped, {endpoints["relu6"]: np.ones((31, 4096))})
            assert (values > 0).mean() == pytest.approx(0.8, abs=0.01)
            assert values.mean() == pytest.approx(1, abs=0.01)

        check(endpoints["drop6"])
        fails(check, tf.nn.dropout(endpoints["relu6"], rate=0.8))


class TestNames:
    """A misspelt name makes a variable of its own, which no checkpoint fills."""

    def test_a_checkpoint_fills_every_variable(self, tf, tmp_path):
        published = {"w_c1": [11, 11, 3, 96], "b_c1": [96], "w_c4": [3, 3, 384, 384], "b_c4": [384]}
        for name, shape in published.items():
            tf.get_variable(name, shape, initializer=tf.ones_initializer())
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            tf.train.Saver().save(session, str(tmp_path / "post.ckpt"))

        def check(variables: list[Any]) -> None:
            try:
                with tf.Session(graph=variables[0].graph) as session:
                    tf.train.Saver(variables).restore(session, str(tmp_path / "post.ckpt"))
                    assert all((value == 1).all() for value in session.run(variables))
            except tf.errors.NotFoundError as error:
                raise AssertionError(error.message.splitlines()[0]) from error

        with tf.Graph().as_default():
            endpoints = batchnorm(pictures_of(tf))
            check([*endpoints.variables["conv1"], *endpoints.variables["conv4"]])
        with tf.Graph().as_default():
            misspelt = {name.replace("b_c4", "b_c_4"): shape for name, shape in published.items()}
            fails(check, [tf.get_variable(name, shape) for name, shape in misspelt.items()])


class TestAlpha:
    """Caffe divides alpha by the 5 neighbours, TensorFlow does not: its 1e-4 is TensorFlow's 2e-5."""

    @pytest.mark.parametrize("name", ["bvlc", "caffenet"])
    @pytest.mark.parametrize("norm", ["norm1", "norm2"])
    def test_it_is_caffes_divided_by_the_neighbours(self, tf, rng, name, norm):
        endpoints = FAMILY[name].build(pictures_of(tf))
        below = {("bvlc", "norm1"): "relu1", ("bvlc", "norm2"): "relu2"}.get((name, norm), norm.replace("norm", "pool"))
        x = endpoints[below]
        values = rng.uniform(0, 300, (2, *x.shape.as_list()[1:])).astype(np.float32)
        padded = np.pad(values.astype(np.float64) ** 2, [(0, 0)] * 3 + [(2, 2)])
        sums = sum(padded[..., place : place + values.shape[-1]] for place in range(5))
        expected = values / (1 + 1e-4 / 5 * sums) ** 0.75  # Caffe's formula, with what its prototxt states

        def check(normal: Any) -> None:
            with tf.Session() as session:
                np.testing.assert_allclose(session.run(normal, {x: values}), expected, rtol=1e-4)

        check(endpoints[norm])
        for alpha in (1e-5, 1e-4):
            fails(check, tf.nn.lrn(x, 2, bias=1.0, alpha=alpha, beta=0.75))

    @pytest.mark.parametrize(
        ("name", "radius", "alpha", "bias"),
        [("ungrouped", 5, 1e-4, 2), ("paper", 5, 1e-4, 2), ("one_weird_trick", 4, 0.001 / 9, 1)],
    )
    def test_the_others_have_what_the_table_says(self, tf, rng, name, radius, alpha, bias):
        endpoints = FAMILY[name].build(pictures_of(tf))
        values = rng.uniform(0, 100, (2, *endpoints["relu1"].shape.as_list()[1:])).astype(np.float32)
        padded = np.pad(values.astype(np.float64) ** 2, [(0, 0)] * 3 + [(radius, radius)])
        sums = sum(padded[..., place : place + values.shape[-1]] for place in range(2 * radius + 1))
        with tf.Session() as session:
            got = session.run(endpoints["norm1"], {endpoints["relu1"]: values})
        np.testing.assert_allclose(got, values / (bias + alpha * sums) ** 0.75, rtol=1e-4)
