"""The printed module: valid Python whatever the names, one statement for what is used twice, standing alone."""

from __future__ import annotations

import ast

import pytest

from graphs.layers.convolution import Convolution
from graphs.layers.data import Input
from graphs.layers.elementwise import ReLU
from graphs.layers.normalization import BatchNorm
from graphs.layers.pooling import Pooling
from graphs.names import name_values
from graphs.network import Network, Node, ParamSpec, infer
from graphs.recording import RECORDING_TF, Call
from graphs.source import network_source

DATA = Node("data", Input(shape=((2, 3, 11, 13),)), (), ("data",))


def printed(*nodes: Node, title: str = "net", made_from: str = "net.prototxt") -> str:
    network = Network(title, (DATA, *nodes))
    shapes = infer(network)
    return network_source(network, shapes, name_values(shapes), made_from)


def build_statements(source: str) -> list[ast.stmt]:
    (build,) = (node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name == "build")
    return build.body


def calls(tree: ast.AST, function: str) -> list[ast.Call]:
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == function]
    return sorted(found, key=lambda call: (call.lineno, call.col_offset))


def test_recording_computes_nothing_and_remembers_everything():
    call = RECORDING_TF.nn.relu(5, name="y", dtype=None)
    assert isinstance(call, Call)
    assert (call.function, call.arguments, call.keywords) == ("tf.nn.relu", (5,), {"name": "y"})
    parts = RECORDING_TF.split(call, 3, axis=1)
    assert [part.index for part in parts] == [0, 1, 2]
    assert len(RECORDING_TF.split(call, [1, 4], axis=1)) == 2


def test_a_plain_net_is_a_statement_a_layer():
    source = printed(
        Node("conv1", Convolution(num_output=5, kernel_size=(3,)), ("data",), ("conv1",)),
        Node("relu1", ReLU(), ("conv1",), ("conv1",)),
        Node("pool1", Pooling(kernel_size=3, stride=2), ("conv1",), ("pool1",)),
    )
    assigned = [s.targets[0].id for s in build_statements(source) if isinstance(s, ast.Assign)]
    assert assigned == ["data", "conv1", "relu1", "pool1"]


def test_what_is_used_twice_is_assigned_and_made_once():
    grouped = Convolution(num_output=6, kernel_size=(3,), group=3)
    tree = ast.parse(printed(Node("conv", grouped, ("data",), ("conv",)), Node("r", ReLU(1.5), ("conv",), ("r",))))
    assert len(calls(tree, "tf.get_variable")) == 2
    split = Convolution(num_output=4, kernel_size=(1,), group=2)
    deeper = printed(
        Node("wide", Convolution(num_output=4, kernel_size=(1,)), ("data",), ("wide",)),
        Node("conv", split, ("wide",), ("conv",)),
    )
    tree = ast.parse(deeper)
    assert len(calls(tree, "tf.split")) == 2  # of the values and of the weights, though each part is used
    assert len(calls(tree, "tf.nn.conv2d")) == 3


def test_a_variable_that_two_layers_share_is_made_once():
    specs = (ParamSpec("w"), ParamSpec("b"))
    shared = Convolution(num_output=3, kernel_size=(1,))
    source = printed(
        Node("a", shared, ("data",), ("a",), specs),
        Node("b", shared, ("a",), ("b",), specs),
    )
    names = [call.args[0].value for call in calls(ast.parse(source), "tf.get_variable")]
    assert names == ["a/weights", "a/biases"]


def test_the_batchs_own_statistics_are_computed_once():
    source = printed(Node("bn", BatchNorm(use_global_stats=False), ("data",), ("bn",)))
    assert len(calls(ast.parse(source), "tf.nn.moments")) == 1


@pytest.mark.parametrize(
    "name",
    [
        "class",
        "tf",
        "np",
        "build",
        "load",
        "1st",
        "a b",
        "q\"uo'te",
        "{0}",
        "new\nline",
        "\\",
        '"""',
        "卷积",
        "é",
        "_",
        "",
    ],
)
def test_any_name_gives_a_module_that_compiles(name):
    source = printed(
        Node(name, Convolution(num_output=5, kernel_size=(3,)), ("data",), (name + "top",)),
        Node(name + "2", ReLU(), (name + "top",), (name + "top",)),
        title=name,
        made_from=name,
    )
    tree = ast.parse(source)
    compile(source, "net.py", "exec")
    assert {node.name for node in tree.body if isinstance(node, ast.FunctionDef)} == {"build", "load"}
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert modules == {"sys", "numpy", "tensorflow.compat.v1"}


def test_python_variables_are_told_apart():
    source = printed(Node("a b", ReLU(), ("data",), ("x",)), Node("a_b", ReLU(), ("x",), ("y",)))
    assigned = [s.targets[0].id for s in build_statements(source) if isinstance(s, ast.Assign)]
    assert len(set(assigned)) == len(assigned) == 3


def test_lines_stay_short():
    source = printed(
        Node("conv", Convolution(num_output=6, kernel_size=(5, 3), group=3, pad=(2, 3)), ("data",), ("conv",)),
        Node("pool", Pooling(pool="AVE", kernel_size=3, stride=2, pad=1), ("conv",), ("pool",)),
    )
    assert max(map(len, source.splitlines())) <= 120
