"""The networks of a training: what a solver's definitions describe, their first values, and the port that comes out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from converter.bind import bind
from converter.caffe_pb2 import LayerParameter, NetParameter
from converter.data_layers import DATA_LAYERS
from converter.describe import Request, describe, without_training
from converter.port import Port
from converter.read_weights import read_weights
from converter.rules import State, runs
from converter.sources import DEFINITION, Source, is_mean, recognise
from converter.upgrade import upgrade
from graphs.fillers import begins_at_zero, drawn, filled
from graphs.layers.bn import BN
from graphs.layers.data import Input
from graphs.names import Names, name_values
from graphs.network import Network, Shapes, infer
from graphs.sharing import declared
from tools.train.solver import Definition
from tools.training.miscounted import miscounted
from tools.training.overwritten import losing_gradient, overwritten, without_gradient
from tools.training.trainable import loss_weights
from weights import Parameter, Refused, Shape
from weights.stored import Stored


@dataclass(frozen=True, eq=False)
class Net:
    """A network of a training. ``outputs`` are the blobs that Caffe prints: those that no layer reads, by name;
    ``layers`` the messages of its layers, in today's spelling."""

    definition: Definition
    layers: tuple[LayerParameter, ...]
    network: Network
    shapes: Shapes
    names: Names
    outputs: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def inputs(self) -> dict[str, Shape]:
        """Blob -> shape in Caffe's layout, of the blobs that are fed."""
        return self.network.inputs

    @property
    def batch(self) -> int:
        """Pictures of one pass: the first axis of the first input, 1 without inputs."""
        return next((shape[0] for shape in self.inputs.values() if shape), 1)


def read_net(definition: Definition, known: Mapping[str, Shape], allow: Collection[str]) -> Net:
    """Returns the network that a definition describes in its state. ``known`` is blob -> shape in Caffe's layout, for
    data layers that don't say theirs. Raises Refused with every reason why it can't be trained."""
    try:
        message = upgrade(definition.message)
        running = _running(message, definition.state)
        given = {blob: known[blob] for blob in _unsaid(running) if blob in known}
        described = describe(message, Request(definition.state, given, frozenset(allow)))
        shapes = infer(described.network)
        if definition.state.phase == "TRAIN":
            _check_trainable(shapes)
    except Refused as refused:
        raise refused.within(definition.source) from refused
    outputs = _unread(described.network, {layer.name for layer in running})
    notes = tuple(f"{definition.source}: {note}" for note in (*described.notes, *shapes.notes()))
    return Net(definition, running, described.network, shapes, name_values(shapes), outputs, notes)


def _running(message: NetParameter, state: State) -> tuple[LayerParameter, ...]:
    return tuple(layer for layer in message.layer if runs(layer, state))


def data_layers(definition: Definition) -> list[LayerParameter]:
    """Returns the layers that feed a network, in today's spelling. Raises Refused where it can't be read."""
    try:
        return [one for one in _running(upgrade(definition.message), definition.state) if one.type in DATA_LAYERS]
    except Refused as refused:
        raise refused.within(definition.source) from refused


def _unsaid(layers: Sequence[LayerParameter]) -> list[str]:
    """Returns the blobs of data layers that don't say their shape, or of which something would be assumed."""
    blobs = []
    for layer in layers:
        if layer.type in DATA_LAYERS:
            shapes, assumed = DATA_LAYERS[layer.type](layer)
            said = [*shapes, *[None] * (len(layer.top) - len(shapes))]
            blobs += [
                top
                for place, (top, shape) in enumerate(zip(layer.top, said))
                if shape is None or (assumed and not place)
            ]
    return blobs


def _check_trainable(shapes: Shapes) -> None:
    problems = []
    nodes = [layer.node for layer in shapes]
    for node in nodes:
        if isinstance(node.layer, BN) and not node.layer.frozen:
            problems.append(
                f"{node}: how a fork's BN follows its statistics in training is not known; say frozen: true"
            )
        if node.layer.type == "Accuracy" and any(loss_weights(node)):
            problems.append(f"{node}: has a loss_weight, but no gradient; take it out")
    if not any(any(loss_weights(node)) for node in nodes):
        problems.append("no layer of it has a loss; end it in one, such as SoftmaxWithLoss")
    problems += (
        f"{node}: has no gradient, though layers that learn lie below it and a loss above; Caffe stops there too: say "
        "propagate_down: false"
        for node in without_gradient(shapes)
    )
    problems += [*map(str, overwritten(shapes)), *losing_gradient(shapes), *miscounted(shapes)]
    if problems:
        raise Refused(*problems)


def _unread(network: Network, names: Collection[str]) -> tuple[str, ...]:
    """Returns the blobs that no layer of the definition (``names``) reads after they were made, as Caffe sorts them."""
    left: set[str] = set()
    for node in network.nodes:
        if node.name in names or isinstance(node.layer, Input):
            left -= set(node.bottoms)
            left |= set(node.tops)
    return tuple(sorted(left))


def sharing(net: Net, tested: Net) -> Net:
    """Returns a net to test with whose layers use the parameters of the layers of the same name in the training net,
    one by one, whatever either calls them (Caffe's ShareTrainedLayersWith). Raises Refused where such a layer has not
    as many."""
    trained = {layer.node.name: variables for layer, variables in zip(net.shapes, net.names.variables)}
    problems = []
    variables = []
    for layer, own in zip(tested.shapes, tested.names.variables):
        of = trained.get(layer.node.name, own)
        if len(of) != len(own):
            counts = f"{len(own)} parameters, but {len(of)} in training"
            problems.append(f"{tested.definition.source}: {layer.node}: has {counts}; Caffe shares none of them then")
        variables.append(of)
    if problems:
        raise Refused(*problems)
    return replace(tested, names=replace(tested.names, variables=tuple(variables)))


def output_weights(net: Net) -> dict[str, float]:
    """Returns the loss weight of each output."""
    weights = {top: weight for node in net.network.nodes for top, weight in zip(node.tops, loss_weights(node))}
    return {blob: weights[blob] for blob in net.outputs}


@dataclass(frozen=True, eq=False)
class First:
    """Parameters by variable name before the first iteration, and what there is to say of them."""

    parameters: dict[str, Parameter]
    notes: tuple[str, ...]


def first_values(nets: Sequence[Net], weights: Sequence[str], seed: int) -> First:
    """Returns the first values of all parameters of the networks: from their fillers, which ``seed`` decides, then from
    each file of ``weights`` in turn, layers matched by name, as Caffe's CopyTrainedLayersFrom.

    Layers that a file does not have keep the values that they had. Raises Refused where a file has none of the layers,
    or one in another shape.
    """
    parameters: dict[str, Parameter] = {}
    for net in nets:
        try:
            for layer, variables in zip(net.shapes, net.names.variables):
                for spec, name in zip(layer.parameters, variables):
                    if name not in parameters:
                        parameters[name] = Parameter(name, spec.layout, filled(spec, f"{name} {seed}"))
        except Refused as refused:
            raise refused.within(net.definition.source) from refused
    notes: dict[str, None] = {}
    loaded: set[str] = set()
    for file in weights:
        source = _weights_source(file)
        for net in nets:
            try:
                stored = read_weights(source, net.shapes)
                absent = _absent(net, stored)
                bound = bind(net.shapes, net.names, stored, None, absent)
            except Refused as refused:
                raise refused if file in str(refused) else refused.within(file) from refused
            kept = {name for layer in absent for name in _variables(net, layer)}
            parameters.update((name, one) for name, one in bound.parameters.items() if name not in kept)
            loaded |= bound.parameters.keys() - kept
            if net is nets[0]:
                if bound.parameters and kept >= set(bound.parameters):
                    raise Refused(f"{file}: has weights of none of the layers of {net.definition.source}")
                notes.update(dict.fromkeys(_told(file, bound.notes, absent)))
    return First(parameters, (*notes, *_zeros(nets[0], loaded)))


def _zeros(net: Net, loaded: Collection[str]) -> Iterator[str]:
    """Yields a line for each layer whose weights begin at 0, as Caffe has it where no filler is stated."""
    for layer, variables in zip(net.shapes, net.names.variables):
        zero = [spec for spec, name in zip(layer.parameters, variables) if begins_at_zero(spec) and name not in loaded]
        if zero:
            why = "as its filler says" if drawn(zero[0]) is zero[0] else "as in Caffe where no filler is stated"
            said = f"its {zero[0].name} begin at 0, {why}; behind a ReLU they stay 0"
            yield f"{net.definition.source}: {layer.node}: {said}"


def _weights_source(file: str) -> Source:
    source = recognise(Path(file))
    if source.kind == DEFINITION or is_mean(source):
        raise Refused(f"{file}: is a {source.kind}; --weights wants a .caffemodel or another file of weights")
    return source


def _absent(net: Net, stored: Stored) -> list[str]:
    """Returns the layers of which a file has no parameters, and none that they share."""
    present: set[str] = set()
    absent = []
    for layer, variables in zip(net.shapes, net.names.variables):
        if {layer.node.name, *(name.rpartition("/")[0] for name in variables)} & stored.layers.keys():
            present |= set(variables)
        elif not present.issuperset(variables):
            absent.append(layer.node.name)
    return absent


def _variables(net: Net, name: str) -> list[str]:
    return [one for layer, of in zip(net.shapes, net.names.variables) if layer.node.name == name for one in of]


def _told(file: str, notes: Sequence[str], absent: Sequence[str]) -> list[str]:
    lines = [f"{file}: {note}" for note in notes if "not loaded; values come from" not in note]
    if absent:
        names = ", ".join(f"'{name}'" for name in absent)
        lines.append(f"{file}: has no weights of {names}: first values are their fillers' or an earlier file's")
    return lines


def trained_port(net: Net, arrays: Mapping[str, np.ndarray], sources: Sequence[Source] = ()) -> Port:
    """Returns the training network with the values of variables, ``arrays`` (TensorFlow's layout): what Caffe's
    snapshots hold."""
    return Port(net.network, net.shapes, net.names, _parameters(net.shapes, net.names, arrays), sources=tuple(sources))


def final_port(net: Net, arrays: Mapping[str, np.ndarray]) -> Port:
    """Returns the trained network as one to run in TEST: the layers that trained, without those that need labels where
    only a data layer has them, as a .caffemodel's own definition is read."""
    message = NetParameter(name=net.network.name)
    for layer in net.layers:
        message.layer.add().CopyFrom(layer)
        message.layer[-1].ClearField("include")
        message.layer[-1].ClearField("exclude")
    known = {blob: shape for blob, shape in net.inputs.items() if blob in _unsaid(net.layers)}
    today = without_training(message, ())
    made = {top for layer in today.layer for top in layer.top}
    known = {blob: shape for blob, shape in known.items() if blob in made}
    network = describe(today, Request(State("TEST"), known)).network
    shapes = infer(network)
    names = name_values(shapes)
    return Port(network, shapes, names, _parameters(shapes, names, arrays))


def _parameters(shapes: Shapes, names: Names, arrays: Mapping[str, np.ndarray]) -> dict[str, Parameter]:
    return {
        name: Parameter(name, spec.layout, np.asarray(arrays[name]), "tensorflow")
        for name, spec in declared(shapes, names.variables).items()
    }
