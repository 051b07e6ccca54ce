"""One step of fine-tuning: what learns, by how much, and what stays. torch's optimizers are the truth."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np
import pytest

from converter.port import Port
from graphs import Filler, Layer, Network, Node, infer
from graphs.fillers import filled
from graphs.layers.bias import Bias
from graphs.layers.convolution import Convolution
from graphs.layers.data import Input
from graphs.layers.elementwise import Dropout, ReLU
from graphs.layers.inner_product import InnerProduct
from graphs.layers.normalization import BatchNorm, Scale
from graphs.layers.pooling import Pooling
from graphs.layers.softmax import Softmax
from graphs.names import name_values
from graphs.network import ParamSpec
from graphs.tensorflow1 import tensorflow1
from tools.finetune.graph import Graph, Learning, build_graph, load, with_arrays
from tools.finetune.head import deployed, head_of, with_classes
from weights import Parameter, Refused

XAVIER = Filler("xavier")
CLASSES = ("ant", "bee", "cow")


def a_port(layers: dict[str, Layer], specs: dict[str, tuple[ParamSpec, ...]] | None = None, **changed: str) -> Port:
    """Returns a chain of layers over 5 x 1 x 7 x 7 pictures, with values from its fillers; ``changed`` says the bottom
    of a layer that does not read the one above."""
    nodes = [Node("data", Input(shape=((5, 1, 7, 7),)), (), ("data",))]
    for name, layer in layers.items():
        nodes.append(Node(name, layer, (changed.get(name, nodes[-1].name),), (name,), (specs or {}).get(name, ())))
    network = Network("small", tuple(nodes))
    shapes = infer(network)
    names = name_values(shapes)
    parameters = {
        name: Parameter(name, spec.layout, filled(spec, seed=name))
        for layer, variables in zip(shapes, names.variables)
        for name, spec in zip(variables, layer.parameters)
    }
    return Port(network, shapes, names, parameters, classes=CLASSES)


def conv(outputs: int) -> Convolution:
    return Convolution(num_output=outputs, kernel_size=(3,), weight_filler=XAVIER, bias_filler=Filler(value=0.3))


def dense(outputs: int) -> InnerProduct:
    return InnerProduct(num_output=outputs, weight_filler=XAVIER, bias_filler=Filler(value=0.2))


@pytest.fixture
def pictures(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.normal(size=(11, 7, 7, 1)).astype(np.float32), rng.integers(0, 3, 11)


class Steps:
    """A graph with a session, and steps in it."""

    def __init__(self, port: Port, layers: list[str], learning: Learning, devices: tuple[str, ...] = ()) -> None:
        self.graph: Graph = build_graph(port, head_of(port), layers, learning, devices=devices)
        tf = tensorflow1("the tests")
        self.session = tf.Session(graph=self.graph.graph)
        load(self.session, self.graph, port.parameters.values())

    def close(self) -> None:
        self.session.close()

    def run(self, fetched: Any, pictures: tuple[np.ndarray, np.ndarray], rate: float = 0.1, step: int = 0) -> Any:
        graph = self.graph
        images, labels = pictures
        feeds = {graph.images: images, graph.labels: labels, graph.rate: rate, graph.seed: [3, step]}
        return self.session.run(fetched, feeds)

    def arrays(self) -> dict[str, np.ndarray]:
        return self.graph.arrays(self.session)


@pytest.mark.parametrize(("optimizer", "rate"), [("sgd", 0.1), ("adam", 0.01)])
def test_steps_are_torch_s(pictures, agree, optimizer: str, rate: float):
    torch = pytest.importorskip("torch")
    port = a_port({"conv1": conv(4), "relu1": ReLU(), "fc2": dense(3), "prob": Softmax()})
    learning = Learning(optimizer, momentum=0.7, weight_decay=0.05, multipliers={"fc2": 3.0})
    tensors = {name: torch.tensor(one.caffe.copy(), requires_grad=True) for name, one in port.parameters.items()}
    groups = [
        {"params": [tensors[name]], "lr": lr, "weight_decay": decay}
        for name, lr, decay in (
            ("conv1/weights", rate, 0.05),
            ("conv1/biases", rate, 0.0),
            ("fc2/weights", 3 * rate, 0.05),
            ("fc2/biases", 3 * rate, 0.0),
        )
    ]
    truth = torch.optim.SGD(groups, momentum=0.7) if optimizer == "sgd" else torch.optim.Adam(groups)
    images, labels = torch.tensor(np.moveaxis(pictures[0], -1, 1).copy()), torch.tensor(pictures[1])
    with closing(Steps(port, ["conv1", "fc2"], learning)) as steps:
        for step in range(1, 5):
            for group in truth.param_groups if optimizer == "adam" else ():
                group["eps"] = 1e-8 / np.sqrt(1 - 0.999**step)  # TensorFlow adds it before the bias is corrected
            truth.zero_grad()
            hidden = torch.relu(torch.conv2d(images, tensors["conv1/weights"], tensors["conv1/biases"]))
            scores = hidden.flatten(1) @ tensors["fc2/weights"].T + tensors["fc2/biases"]
            loss = torch.nn.functional.cross_entropy(scores, labels)
            loss.backward()
            truth.step()
            wanted = [steps.graph.update, steps.graph.training.network.loss, steps.graph.norm]
            _, ours, norm = steps.run(wanted, pictures, rate)
            agree(ours, loss.detach().numpy(), 1e-5, "loss")
            length = np.sqrt(sum(float((one.grad**2).sum()) for one in tensors.values()))
            agree(norm, np.float32(length), 1e-5, "length of the gradients")
        tuned = with_arrays(port, steps.arrays())
    for name, tensor in tensors.items():
        agree(tuned.parameters[name].caffe, tensor.detach().numpy(), 2e-5, name)


def test_frozen_layers_and_multipliers_of_zero_stay(pictures):
    specs = {"fc2": (ParamSpec(lr_mult=1), ParamSpec(lr_mult=0))}
    port = a_port({"conv1": conv(4), "fc2": dense(3), "prob": Softmax()}, specs)
    with closing(Steps(port, ["fc2"], Learning(weight_decay=0.1))) as steps:
        assert list(steps.graph.gradients) == ["fc2/weights"]
        steps.run(steps.graph.update, pictures)
        after = steps.arrays()
    for name, parameter in port.parameters.items():
        assert np.array_equal(after[name], parameter.tensorflow()) == (name != "fc2/weights"), name


def test_dropout_is_for_training_alone_and_its_seed_decides(pictures):
    port = a_port({"drop1": Dropout(dropout_ratio=0.4), "fc2": dense(3), "prob": Softmax()})
    with closing(Steps(port, ["fc2"], Learning())) as steps:
        training = steps.graph.training.network.tops["drop1", "drop1"]
        testing = steps.graph.testing.network.tops["drop1", "drop1"]
        first, again, other = (steps.run(training, pictures, step=step) for step in (5, 5, 6))
        np.testing.assert_array_equal(steps.run(testing, pictures), pictures[0])
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    kept = first != 0
    np.testing.assert_allclose(first[kept], pictures[0][kept] / 0.6, rtol=1e-6)
    assert 0.5 < kept.mean() < 0.7  # of 539


def test_averages_move_where_batch_normalization_learns_and_stay_where_it_is_frozen(pictures, agree):
    layers = {"bn1": BatchNorm(moving_average_fraction=0.9), "scale1": Scale(bias_term=True), "bn2": BatchNorm(),
              "fc3": dense(3), "prob": Softmax()}  # fmt: skip
    port = a_port(layers)
    stored = {"mean": 0.7, "variance": 2.6, "scale_factor": 1.3}
    start = {
        name: np.full_like(one.tensorflow(), stored.get(name.rpartition("/")[2], 1.0))
        if name.startswith("bn")
        else one.tensorflow()
        for name, one in port.parameters.items()
    }
    port = with_arrays(port, start)
    with closing(Steps(port, ["bn1", "scale1", "fc3"], Learning(weight_decay=0.1))) as steps:
        seen = steps.run(steps.graph.training.network.tops["bn2", "bn2"], pictures)
        below = steps.run(steps.graph.training.network.tops["scale1", "scale1"], pictures)
        steps.run(steps.graph.update, pictures)
        after = steps.arrays()
    agree(seen, (below - 0.7 / 1.3) / np.sqrt(2.6 / 1.3 + 1e-5), 1e-5, "frozen: by the averages")
    for part, value in stored.items():
        assert after[f"bn2/{part}"] == np.float32(value)
    x = pictures[0].astype(np.float64)
    agree(after["bn1/mean"][0], 0.9 * 0.7 + x.mean(), 1e-5, "mean")
    agree(after["bn1/variance"][0], 0.9 * 2.6 + x.var(ddof=1), 1e-5, "variance")
    agree(after["bn1/scale_factor"][0], np.float64(0.9 * 1.3 + 1), 1e-6, "factor")
    assert after["scale1/weights"] != 1.0


def test_nothing_changes_where_the_loss_is_no_number(pictures):
    tf = tensorflow1("the tests")
    port = a_port({"fc2": dense(3), "prob": Softmax()})
    broken = np.where(np.arange(7)[:, None] == 3, np.nan, pictures[0]).astype(np.float32)
    with closing(Steps(port, ["fc2"], Learning())) as steps:
        with pytest.raises(tf.errors.InvalidArgumentError, match="what training follows is no finite number"):
            steps.run(steps.graph.update, (broken, pictures[1]))
        for name, array in steps.arrays().items():
            np.testing.assert_array_equal(array, port.parameters[name].tensorflow())


class TestHead:
    def test_of_a_fully_connected_layer(self):
        head = head_of(a_port({"conv1": conv(4), "fc2": dense(11), "prob": Softmax()}))
        assert (head.scores, head.layer, head.classes) == ("fc2", "fc2", 11)

    def test_of_a_convolution_behind_which_more_follows(self):
        pool = Pooling("AVE", global_pooling=True)
        port = a_port({"conv1": conv(4), "conv2": conv(11), "relu2": ReLU(), "pool2": pool, "prob": Softmax()})
        head = head_of(port)
        assert (head.scores, head.layer, head.classes) == ("pool2", "conv2", 11)
        fresh = with_classes(port, head, CLASSES, seed=1)
        assert fresh.layers == ("conv2",)
        assert fresh.port.network.nodes[2].layer.num_output == 3  # type: ignore[attr-defined]
        assert fresh.port.shapes.layers[-1].tops == ((5, 3, 1, 1),)
        assert fresh.port.parameters["conv2/weights"].caffe.shape == (3, 4, 3, 3)
        assert fresh.port.parameters["conv1/weights"] is port.parameters["conv1/weights"]

    def test_first_values_are_the_filler_s_and_the_seed_s(self):
        port = a_port({"fc2": dense(11), "prob": Softmax()})
        one, same, other = (with_classes(port, head_of(port), CLASSES, seed).port for seed in (5, 5, 6))
        weights = one.parameters["fc2/weights"].caffe
        np.testing.assert_array_equal(weights, same.parameters["fc2/weights"].caffe)
        assert not np.array_equal(weights, other.parameters["fc2/weights"].caffe)
        assert 0.9 < np.abs(weights).max() / np.sqrt(3 / 49) <= 1  # xavier's limit
        np.testing.assert_array_equal(one.parameters["fc2/biases"].caffe, np.full(3, np.float32(0.2)))

    def test_a_definition_without_fillers_does_not_start_from_zeros(self):
        port = a_port({"fc2": InnerProduct(num_output=11), "prob": Softmax()})
        fresh = with_classes(port, head_of(port), CLASSES, seed=1)
        assert fresh.port.parameters["fc2/weights"].caffe.std() > 0.1
        assert fresh.notes == (
            "layer 'fc2' (InnerProduct): states no filler for its weights; their first values are xavier's",
        )

    def test_it_is_kept_on_request_where_it_fits(self):
        port = a_port({"fc2": dense(3), "prob": Softmax()})
        fresh = with_classes(port, head_of(port), CLASSES, seed=1, keep=True)
        assert fresh.layers == ()
        assert fresh.port.parameters["fc2/weights"] is port.parameters["fc2/weights"]
        with pytest.raises(Refused, match=r"^--keep-head: layer 'fc2' tells 3 classes apart, the pictures have 2$"):
            with_classes(port, head_of(port), CLASSES[:2], seed=1, keep=True)

    def test_weights_behind_the_head_that_no_longer_fit_are_said(self):
        port = a_port({"fc2": dense(5), "bias2": Bias(), "prob": Softmax()})
        fresh = with_classes(port, head_of(port), CLASSES, seed=1)
        assert fresh.layers == ("fc2", "bias2")
        assert fresh.notes == ("layer 'bias2' (Bias): its biases do not fit 3 classes; they are drawn anew",)

    def test_a_head_that_is_kept_keeps_its_classes(self):
        port = a_port({"fc2": dense(3), "prob": Softmax()})
        head = head_of(port)
        named = "scores of ant, bee, cow are taken for 0, 1, 2, by their order"
        assert with_classes(port, head, ("0", "1", "2"), 1, keep=True).notes == (f"--keep-head: {named}",)
        told = "the network's classes are ant, bee, cow, in this order; the pictures' are bee, ant, cow; "
        with pytest.raises(Refused, match=f"^--keep-head: {told}say the network's with --labels, and label the pict"):
            with_classes(port, head, ("bee", "ant", "cow"), 1, keep=True)

    def test_outputs_that_are_not_the_scores(self):
        port = a_port({"conv1": conv(4), "prob": Softmax()})
        with pytest.raises(Refused, match=r"layer 'conv1' \(Convolution\): its top is 5x4x5x5; expected a row"):
            head_of(port)

    def test_several_outputs_want_a_choice(self):
        port = a_port({"fc2": dense(3), "other": dense(5)}, other="data")
        with pytest.raises(Refused, match=r"has 2 outputs \(fc2, other\); choose the scores with --scores BLOB"):
            head_of(port)
        assert head_of(port, "other").layer == "other"
        with pytest.raises(Refused, match="--scores fc7: is no output; there are fc2, other"):
            head_of(port, "fc7")

    def test_no_layer_with_outputs(self):
        port = a_port({"pool1": Pooling("AVE", global_pooling=True), "prob": Softmax()})
        with pytest.raises(Refused, match=r"layer 'data' \(Input\): no layer with weights makes the scores"):
            head_of(port)


def test_losses_and_their_labels_are_left_out():
    from converter.describe import Request, describe
    from converter.prototxt import parse_prototxt

    text = """
    layer { name: "in" type: "Input" top: "data" top: "label" input_param { shape { dim: 5 dim: 1 dim: 7 dim: 7 }
      shape { dim: 5 } } }
    layer { name: "fc" type: "InnerProduct" bottom: "data" top: "fc" inner_product_param { num_output: 3 } }
    layer { name: "right" type: "Accuracy" bottom: "fc" bottom: "label" top: "right" }
    layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
    """
    network = deployed(describe(parse_prototxt(text), Request()).network)
    assert [node.name for node in network.nodes] == ["in", "fc", "prob"]
    assert network.inputs == {"data": (5, 1, 7, 7)}
    assert network.outputs == ("prob",)


@pytest.mark.parametrize("count", [2, 3, 13])
def test_a_batch_shared_out_among_devices_teaches_the_same(pictures, agree, count: int):
    port = a_port({"conv1": conv(4), "relu1": ReLU(), "fc2": dense(3), "prob": Softmax()})
    found = []
    for devices in ((), ("/device:CPU:0",) * count):  # 11 pictures: parts differ in size, and of 13 two are empty
        with closing(Steps(port, ["conv1", "fc2"], Learning(weight_decay=0.05), devices)) as steps:
            for step in range(3):
                loss, _ = steps.run([steps.graph.training.network.loss, steps.graph.update], pictures, step=step)
            found.append((loss, steps.arrays()))
    (loss, alone), (shared_loss, together) = found
    assert shared_loss == pytest.approx(loss, rel=1e-5)
    for name, array in alone.items():
        agree(together[name], array, 1e-5, name)
