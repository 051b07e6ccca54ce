"""``model_fn`` and ``input_fn``: three modes, what each returns, and training that learns."""

from __future__ import annotations

import numpy as np
import pytest

from graphs.alexnet.estimator import Spec, input_fn, model_fn
from graphs.tensorflow1 import tensorflow1
from weights import Refused

SMALL = {"num_classes": 3, "learning_rate": 0.0001}


@pytest.fixture
def pictures(rng) -> tuple[np.ndarray, np.ndarray]:
    """Five pictures, each brighter in its label's colour."""
    labels = np.array([0, 1, 2, 0, 1])
    images = rng.integers(0, 100, (5, 224, 224, 3)).astype(np.uint8)
    images[np.arange(5), :, :, labels] += 120
    return images, labels


def batch(tf, images, labels):
    return tf.data.make_one_shot_iterator(input_fn(images, labels, batch_size=5, epochs=None)).get_next()


def test_input_fn_yields_each_picture_once_an_epoch(tf, pictures):
    images, labels = pictures
    iterator = tf.data.make_one_shot_iterator(input_fn(images, labels, batch_size=2, epochs=2, seed=7))
    fed, told = iterator.get_next()
    assert fed.shape.as_list() == [None, 224, 224, 3]
    seen: list[int] = []
    with tf.Session() as session:
        for count in (2, 2, 2, 2, 2):
            x, y = session.run([fed, told])
            assert len(x) == len(y) == count
            for picture, label in zip(x, y):
                raw = picture + np.float32([122.67891, 116.66877, 104.00699])  # the ImageNet means, R, G, B
                place = next(i for i in range(5) if np.allclose(raw, images[i], atol=1e-4))
                assert labels[place] == label
                seen.append(place)
        with pytest.raises(tf.errors.OutOfRangeError):
            session.run(fed)
    assert sorted(seen) == sorted([*range(5), *range(5)])
    assert seen[:5] != seen[5:], "the second epoch has the first one's order"


def test_modes_return_what_an_estimator_needs(tf, pictures):
    images, labels = batch(tf, *pictures)
    spec = model_fn({"images": images}, None, "infer", SMALL)
    assert spec.predictions["classes"].shape.as_list() == [None]
    assert spec.predictions["probabilities"].shape.as_list() == [None, 3]
    assert spec.loss is None
    assert spec.train_op is None
    assert set(spec.export_outputs) == {"serving_default"}
    with tf.variable_scope("", reuse=True):
        spec = model_fn(images, labels, "eval", SMALL)
    assert spec.train_op is None
    assert spec.loss.shape.as_list() == []
    assert set(spec.eval_metric_ops) == {"accuracy"}


def test_where_there_is_no_estimator_the_fields_are_the_same(tf, pictures):
    if hasattr(tf, "estimator"):
        pytest.skip("this TensorFlow has tf.estimator")
    images, _ = batch(tf, *pictures)
    spec = model_fn(images, None, "infer", SMALL)
    assert isinstance(spec, Spec)
    published = (
        "mode predictions loss train_op eval_metric_ops export_outputs training_chief_hooks training_hooks scaffold "
        "evaluation_hooks prediction_hooks"
    )
    assert " ".join(Spec._fields) == published


def test_training_learns_and_evaluation_has_no_dropout(tf, pictures):
    images, labels = batch(tf, *pictures)
    tf.set_random_seed(5)
    train = model_fn(images, labels, "train", SMALL)
    with tf.variable_scope("", reuse=True):
        judged = model_fn(images, labels, "eval", SMALL)
    with tf.Session() as session:
        session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        step = tf.train.get_global_step()
        before = session.run(judged.loss)
        session.run(step.assign(17))  # which decides, with the seed, what dropout drops
        assert session.run(judged.loss) == pytest.approx(before, rel=1e-5), "dropout is on"
        session.run(step.assign(0))
        for _ in range(4):
            session.run(train.train_op)
        assert session.run(judged.loss) < before
        assert session.run(step) == 4
        session.run(judged.eval_metric_ops["accuracy"][1])
        assert 0 <= session.run(judged.eval_metric_ops["accuracy"][0]) <= 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("train", {"lr": 1}), "params has lr; expected any of num_classes, learning_rate, "),
        (("test", {}), "mode 'test' is unknown; expected train, eval or infer"),
        (("eval", {}), "mode 'eval' needs labels; without them, only infer is possible"),
    ],
)
def test_mistakes_are_said(tf, arguments, told):
    images = tf.placeholder(tf.float32, [None, 224, 224, 3])
    mode, params = arguments
    with pytest.raises(Refused, match=told):
        model_fn(images, None, mode, params)


def test_arrays_that_do_not_fit_are_refused(tf):
    with pytest.raises(Refused, match=r"pictures have the shape \(2, 227, 227, 3\); expected N, 224, 224, 3"):
        input_fn(np.zeros((2, 227, 227, 3)))
    images = np.broadcast_to(np.uint8(0), (3, 224, 224, 3))
    with pytest.raises(Refused, match=r"labels have the shape \(2,\); expected one for each of 3 pictures"):
        input_fn(images, np.zeros(2))
    with pytest.raises(Refused, match="batch_size is 32; expected 1 to 3, the number of pictures"):
        input_fn(images, np.zeros(3))


@pytest.mark.slow
def test_an_estimator_trains_evaluates_and_predicts(pictures, tmp_path):
    tf = tensorflow1("the tests")
    if not hasattr(tf, "estimator"):
        pytest.skip("this TensorFlow has no tf.estimator (2.15 is the last that has)")
    images, labels = pictures
    estimator = tf.estimator.Estimator(model_fn, str(tmp_path), params=SMALL)
    estimator.train(lambda: input_fn(images, labels, batch_size=5, epochs=None, seed=1), steps=1)
    before = estimator.evaluate(lambda: input_fn(images, labels, batch_size=5))
    estimator.train(lambda: input_fn(images, labels, batch_size=5, epochs=None, seed=1), steps=6)
    after = estimator.evaluate(lambda: input_fn(images, labels, batch_size=5))
    assert after["global_step"] == 7
    assert after["loss"] < before["loss"]
    assert set(after) == {"accuracy", "loss", "global_step"}
    predicted = list(estimator.predict(lambda: input_fn(images, batch_size=5)))
    assert len(predicted) == 5
    agreement = np.mean([one["classes"] == label for one, label in zip(predicted, labels)])
    assert agreement == pytest.approx(after["accuracy"])
    for one in predicted:
        assert one["probabilities"].sum() == pytest.approx(1, abs=1e-5)
        assert one["probabilities"].argmax() == one["classes"]

    def receiver():
        fed = tf.placeholder(tf.float32, [None, 224, 224, 3])
        return tf.estimator.export.ServingInputReceiver({"images": fed}, {"images": fed})

    exported = estimator.export_saved_model(str(tmp_path / "exported"), receiver)
    assert tf.saved_model.contains_saved_model(exported.decode() if isinstance(exported, bytes) else exported)
