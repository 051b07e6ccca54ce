"""A network in a graph that can be trained: its gradients, what it shares, what a pass leaves behind."""

from __future__ import annotations

import numpy as np
import pytest
from google.protobuf import text_format

from converter.caffe_pb2 import NetParameter
from converter.describe import Request, describe
from converter.rules import State
from graphs.fillers import filled
from graphs.names import name_values
from graphs.network import infer
from graphs.tensorflow1 import tensorflow1
from tools.training.finite import first_not_finite
from tools.training.trainable import Rate, Trainable, add_network, assign, frozen_in_part, loss_weights, rates
from weights import Refused

tf = tensorflow1("the tests")

DATA = 'layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 5 dim: 3 dim: 11 dim: 7 } } }'
LABEL = 'layer { name: "label" type: "Input" top: "label" input_param { shape { dim: 5 } } }'


def described(text, phase="TRAIN"):
    """Returns (network, shapes, names) of a definition."""
    network = describe(text_format.Parse(text, NetParameter()), Request(State(phase))).network
    shapes = infer(network)
    return network, shapes, name_values(shapes)


def drawn(shapes, names):
    """Returns variable -> first values, in Caffe's layout."""
    return {
        name: filled(spec, name)
        for layer, variables in zip(shapes, names.variables)
        for spec, name in zip(layer.parameters, variables)
    }


def in_graph_layout(shapes, names, arrays):
    return {
        name: spec.layout.to_tensorflow(arrays[name])
        for layer, variables in zip(shapes, names.variables)
        for spec, name in zip(layer.parameters, variables)
    }


@pytest.fixture
def session():
    with tf.Graph().as_default(), tf.Session() as session:
        yield session


def fed(trained: Trainable, **arrays):
    return {
        trained.inputs[blob]: np.moveaxis(array, 1, -1) if array.ndim == 4 else array for blob, array in arrays.items()
    }


SMALL = (
    DATA
    + LABEL
    + """
    layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 6 kernel_size: 3
      stride: 2 pad: 1 group: 3 weight_filler { type: "gaussian" std: 0.3 } bias_filler { value: 0.1 } } }
    layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" relu_param { negative_slope: 0.1 } }
    layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { kernel_size: 3 stride: 2 } }
    layer { name: "fc" type: "InnerProduct" bottom: "pool" top: "fc" inner_product_param { num_output: 4
      weight_filler { type: "gaussian" std: 0.3 } } }
    layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" loss_weight: 0.7 }
    """
)


def test_gradients_are_those_of_torch(session, rng, agree):
    torch = pytest.importorskip("torch")
    network, shapes, names = described(SMALL)
    trained = add_network(tf, network, shapes, names)
    arrays = drawn(shapes, names)
    session.run(tf.global_variables_initializer())
    assign(session, trained.variables, in_graph_layout(shapes, names, arrays))
    data, label = rng.standard_normal((5, 3, 11, 7)).astype(np.float32), np.array([0, 3, 1, 1, 2], np.float32)
    gradients = dict(zip(trained.variables, tf.gradients(trained.loss, list(trained.variables.values()))))
    loss, found = session.run([trained.loss, gradients], fed(trained, data=data, label=label))

    leaves = {name: torch.tensor(array, dtype=torch.float64, requires_grad=True) for name, array in arrays.items()}
    functional = torch.nn.functional
    x = functional.conv2d(
        torch.tensor(data).double(), leaves["conv/weights"], leaves["conv/biases"], stride=2, padding=1, groups=3
    )
    x = functional.max_pool2d(functional.leaky_relu(x, 0.1), 3, 2, ceil_mode=True).flatten(1)
    x = functional.linear(x, leaves["fc/weights"], leaves["fc/biases"])
    truth = 0.7 * functional.cross_entropy(x, torch.tensor(label).long())
    truth.backward()
    agree(loss, truth.detach().numpy(), 1e-6, "loss")
    for layer, variables in zip(shapes, names.variables):
        for spec, name in zip(layer.parameters, variables):
            agree(spec.layout.to_caffe(found[name]), leaves[name].grad.numpy(), 3e-6, name)


def test_loss_is_the_weighted_sum_of_all_tops_that_have_a_weight(session, rng, agree):
    text = DATA + (
        'layer { name: "half" type: "Power" bottom: "data" top: "half" power_param { scale: 0.5 } loss_weight: 3 }'
        'layer { name: "e" type: "EuclideanLoss" bottom: "half" bottom: "data" top: "e" }'
        'layer { name: "f" type: "EuclideanLoss" bottom: "half" bottom: "data" top: "f" loss_weight: 0 }'
    )
    trained = add_network(tf, *described(text))
    data = rng.standard_normal((5, 3, 11, 7)).astype(np.float32)
    expected = 3 * (data / 2).sum(dtype=np.float64) + ((data / 2) ** 2).sum(dtype=np.float64) / 5 / 2
    agree(session.run(trained.loss, fed(trained, data=data)), expected, 1e-5)


def test_loss_weights_that_do_not_fit_the_tops_are_refused():
    network, _, _ = described(
        DATA + 'layer { name: "s" type: "Split" bottom: "data" top: "a" top: "b" loss_weight: 1 }'
    )
    with pytest.raises(
        Refused, match=r"^layer 's' \(Split\): loss_weight has 1 values for 2 tops; Caffe wants one for"
    ):
        loss_weights(network.nodes[-1])


def test_a_network_without_a_loss_has_none(session):
    assert add_network(tf, *described(DATA)).loss is None


NORMALIZED = DATA + (
    'layer { name: "bn" type: "BatchNorm" bottom: "data" top: "bn" batch_norm_param { moving_average_fraction: 0.9 } }'
)


def test_a_pass_leaves_batch_norm_s_sums_as_caffe_s_does(session, rng, agree):
    network, shapes, names = described(NORMALIZED)
    trained = add_network(tf, network, shapes, names)
    keep = trained.keep(tf)
    session.run(tf.global_variables_initializer())
    mean, variance, factor = np.zeros(3), np.zeros(3), 0.0
    for _ in range(3):  # batch_norm_layer.cpp, Forward_cpu: the unbiased variance, and the factor that both grew by
        data = (rng.standard_normal((5, 3, 11, 7)) * [[[[2]], [[3]], [[5]]]] + 1).astype(np.float32)
        session.run(keep, fed(trained, data=data))
        values = data.astype(np.float64)
        mean = 0.9 * mean + values.mean(axis=(0, 2, 3))
        variance = 0.9 * variance + values.var(axis=(0, 2, 3), ddof=1)
        factor = 0.9 * factor + 1
    found = session.run(trained.variables)
    agree(found["bn/mean"], mean, 1e-6, "mean")
    agree(found["bn/variance"], variance, 1e-6, "variance")
    agree(found["bn/scale_factor"], np.array([factor]), 1e-6, "factor")


def test_the_test_network_shares_variables_and_reads_what_training_left(session, rng, agree):
    trained = add_network(tf, *described(NORMALIZED))
    tested = add_network(tf, *described(NORMALIZED, "TEST"), variables=trained.variables, scope="test")
    assert tested.variables == trained.variables
    assert not tested.passed
    session.run(tf.global_variables_initializer())
    data = rng.standard_normal((5, 3, 11, 7)).astype(np.float32)
    session.run(trained.keep(tf), fed(trained, data=data))
    values = data.astype(np.float64)
    mean, variance = (m.reshape(3, 1, 1) for m in (values.mean(axis=(0, 2, 3)), values.var(axis=(0, 2, 3), ddof=1)))
    found = session.run(tested.blobs["bn"], fed(tested, data=data))
    agree(np.moveaxis(found, -1, 1), (values - mean) / np.sqrt(variance + 1e-5), 1e-6)
    assert tested.blobs["bn"].op.name == "test/bn"


def test_a_shared_parameter_of_another_shape_is_refused(session):
    fc = (
        DATA
        + 'layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: %d } }'
    )
    trained = add_network(tf, *described(fc % 4))
    with pytest.raises(Refused, match=r"^'fc/weights' has the shape 231x4 in training, but 231x5 here$"):
        add_network(tf, *described(fc % 5, "TEST"), variables=trained.variables, scope="test")


DROPPED = DATA + (
    'layer { name: "a" type: "Dropout" bottom: "data" top: "a" dropout_param { dropout_ratio: 0.3 } }'
    'layer { name: "b" type: "Dropout" bottom: "data" top: "b" dropout_param { dropout_ratio: 0.3 } }'
)


def test_dropout_is_decided_by_the_seed_alone(session):
    seed = tf.placeholder(tf.int64, [2])
    trained = add_network(tf, *described(DROPPED), seed=seed)
    ones = fed(trained, data=np.ones((500, 3, 11, 7), np.float32))

    def dropped(*numbers):
        return session.run([trained.blobs["a"], trained.blobs["b"]], {**ones, seed: numbers})

    (a, b), (again, _), (later, _), (other, _) = dropped(1, 0), dropped(1, 0), dropped(1, 1), dropped(2, 0)
    assert np.array_equal(a, again)
    assert not any(np.array_equal(a, one) for one in (b, later, other))
    assert np.unique(a) == pytest.approx([0, 1 / 0.7])
    assert (a == 0).mean() == pytest.approx(0.3, abs=0.005)  # of 115,500


def test_propagate_down_stops_training_and_nothing_else(session):
    text = DATA + (
        'layer { name: "p" type: "PReLU" bottom: "data" top: "p" }'
        'layer { name: "q" type: "PReLU" bottom: "data" top: "q" }'
        'layer { name: "e" type: "EuclideanLoss" bottom: "p" bottom: "q" top: "e" propagate_down: true '
        "propagate_down: false }"
    )
    trained = add_network(tf, *described(text))
    p, q = tf.gradients(trained.loss, list(trained.variables.values()))
    assert p is not None
    assert q is None
    with pytest.raises(
        Refused, match=r"layer 'e' \(EuclideanLoss\): propagate_down: has 1 values for 2 bottoms; Caffe"
    ):
        described(text.replace("propagate_down: true ", ""))


def test_rates_are_the_definition_s():
    text = DATA + (
        'layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 4 } '
        'param { name: "w" } param { lr_mult: 2 decay_mult: 0 } }'
        'layer { name: "fc2" type: "InnerProduct" bottom: "data" top: "fc2" inner_product_param { num_output: 4 } '
        'param { name: "w" lr_mult: 3 } }'
        'layer { name: "bn" type: "BatchNorm" bottom: "data" top: "bn" }'
    )
    _, shapes, names = described(text)
    assert rates(shapes, names) == {
        "fc/weights": Rate(3.0, 1.0),
        "fc/biases": Rate(2.0, 0.0),
        "fc2/biases": Rate(1.0, 1.0),
        **{f"bn/{name}": Rate(0.0, 1.0) for name in ("mean", "variance", "scale_factor")},
    }
    for stated in (1, 2):  # what is said counts, also where it is the default
        _, shapes, names = described(text.replace('param { name: "w" }', f'param {{ name: "w" lr_mult: {stated} }}'))
        with pytest.raises(Refused) as refused:
            rates(shapes, names)
        assert str(refused.value) == (
            "layer 'fc2' (InnerProduct): shares fc/weights, and gives it lr_mult 3; another layer gives it lr_mult "
            f"{stated}"
        )
    _, shapes, names = described(text.replace('name: "w" lr_mult: 3', 'name: "w" decay_mult: 0'))
    assert rates(shapes, names)["fc/weights"] == Rate(1.0, 0.0)
    assert frozen_in_part(shapes, names) == {}
    _, shapes, names = described(text.replace('name: "w" lr_mult: 3', 'name: "w" lr_mult: 0'))
    assert rates(shapes, names)["fc/weights"] == Rate(0.0, 1.0)
    assert frozen_in_part(shapes, names) == {
        "fc/weights": "layer 'fc2' (InnerProduct): freezes fc/weights, which it shares with layer 'fc' (InnerProduct); "
        "clip_gradients counts a gradient of it in Caffe, and not here: say lr_mult: 0 in both"
    }
    _, shapes, names = described(text.replace('"bn" type: "BatchNorm"', '"bn" param { lr_mult: 1 } type: "BatchNorm"'))
    with pytest.raises(
        Refused, match=r"^layer 'bn' \(BatchNorm\): lr_mult of its statistics is 1; Caffe accepts 0 onl"
    ):
        rates(shapes, names)


LOGS = DATA + (
    'layer { name: "scale" type: "Scale" bottom: "data" top: "scale" }'
    'layer { name: "log" type: "Log" bottom: "scale" top: "log" }'
    'layer { name: "bnll" type: "BNLL" bottom: "log" top: "bnll" loss_weight: 1 }'
)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("nothing", None),
        ("data", "first at layer 'data' (Input): the input 'data'"),
        ("weights", "first at layer 'scale' (Scale): its parameter 'scale/weights'"),
        ("value", "first at layer 'log' (Log): its value 'log'"),
    ],
)
def test_the_first_that_is_not_finite_is_named(session, rng, spoil, said):
    trained = add_network(tf, *described(LOGS))
    data = rng.uniform(1, 2, (5, 3, 11, 7)).astype(np.float32)
    weights = np.ones((3,), np.float32)
    if spoil == "data":
        data[3, 1, 4, 1] = np.inf
    if spoil == "weights":
        weights[1] = np.nan
    if spoil == "value":
        data[2, 2, 2, 2] = -1
    assign(session, trained.variables, {"scale/weights": weights})
    found = first_not_finite(tf, session, trained, fed(trained, data=data))
    assert (found and str(found)) == said


def test_a_gradient_that_is_not_finite_is_named_where_it_arises(session):
    text = DATA + (
        'layer { name: "scale" type: "Scale" bottom: "data" top: "scale" }'
        'layer { name: "root" type: "Power" bottom: "scale" top: "root" power_param { power: 0.5 } loss_weight: 1 }'
    )
    trained = add_network(tf, *described(text))
    assign(session, trained.variables, {"scale/weights": np.ones(3, np.float32)})
    data = np.ones((5, 3, 11, 7), np.float32)
    data[0, 0, 0, 0] = 0  # its root is finite, the root's slope there is not
    found = first_not_finite(tf, session, trained, fed(trained, data=data))
    assert str(found) == "first at layer 'scale' (Scale): the gradient of its value 'scale'"
