"""Checkpoints that other people's code wrote under the published names restore into our graphs."""

from __future__ import annotations

import numpy as np
import pytest

from graphs.alexnet import FAMILY
from graphs.tensorflow1 import tensorflow1
from tests.graphs.alexnet.published import VARIABLES, parsed

FLATTENED = {"bvlc": 256, "ungrouped": 6400, "paper": 2304, "batchnorm": 1024}
"""What reaches fc6 of pictures of 67 by 67; of ``ungrouped``, 224 by 224, so that one is restored at full size. The
others have the names of ``bvlc``."""


def first_dense(shapes: dict[str, list[int]]) -> str:
    return next(name for name, shape in shapes.items() if len(shape) == 2)


@pytest.mark.parametrize("name", FLATTENED)
def test_a_checkpoint_of_the_published_names_restores(name, tmp_path):
    tf = tensorflow1("the tests")
    shapes = parsed(VARIABLES[name])
    first = first_dense(shapes)
    shapes[first] = [FLATTENED[name], shapes[first][1]]
    expected = {}
    # Plain TensorFlow, as the notebooks have it: variables of those names and shapes, and a saver.
    with tf.Graph().as_default(), tf.Session() as session:
        for index, (variable, shape) in enumerate(shapes.items()):
            ramp = tf.reshape(tf.range(np.prod(shape), dtype=tf.float32), shape)
            tf.get_variable(variable, initializer=ramp * 1e-9 + index)
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, str(tmp_path / "model.ckpt"))
        expected = {one.op.name: session.run(one[..., -1]) for one in tf.global_variables()}
    side = 224 if name == "ungrouped" else 67
    with tf.Graph().as_default(), tf.Session() as session:
        FAMILY[name].build(tf.placeholder(tf.float32, [None, side, side, 3]))
        tf.train.Saver().restore(session, str(tmp_path / "model.ckpt"))
        restored = {one.op.name: session.run(one[..., -1]) for one in tf.global_variables()}
    assert list(restored) == list(expected)
    for variable, values in expected.items():
        np.testing.assert_array_equal(restored[variable], values, err_msg=variable)
