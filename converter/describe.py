"""NetParameter <-> Network: which layers run, and every field accounted for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from converter.caffe_pb2 import LayerParameter, NetParameter, Phase
from converter.data_layers import DATA_LAYERS, input_shapes
from converter.fields import arguments, set_fields, unknown_fields
from converter.rules import State, runs
from graphs import LAYERS, Network, Node
from graphs.layers.data import Input, Transform
from graphs.layers.softmax import Softmax
from graphs.memory import as_defined, unshared
from graphs.network import ParamSpec
from graphs.wiring import free_name
from weights import Refused, Shape

# Fields of a layer that are read here, or that only training reads.
COMMON = {"name", "type", "bottom", "top", "param", "include", "exclude", "phase", "loss_weight", "propagate_down"}


@dataclass(frozen=True)
class Request:
    """What the user says beside the definition.

    ``inputs`` is blob -> shape (Caffe's layout) for blobs that the definition does not make or size; ``allow`` has the
    fields to pass over though they can't be honoured, each as ``field`` or ``LAYER.field``.
    """

    state: State = field(default_factory=State)
    inputs: Mapping[str, Shape] = field(default_factory=dict)
    allow: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Description:
    """A network, what was assumed to get there, and the fields that were passed over."""

    network: Network
    notes: tuple[str, ...] = ()
    waived: tuple[str, ...] = ()


def describe(message: NetParameter, request: Request) -> Description:
    """Returns the network that today's definition describes, data layers as placeholders.

    Where a softmax loss ends the net, its probabilities are added as a layer of their own. Raises Refused with every
    layer type that is unknown, every field that can't be honoured and every blob whose shape nobody says.
    """
    reader = _Reader(request)
    running = [layer for layer in message.layer if runs(layer, request.state)]
    problems = _unknown_types(running)
    nodes = []
    for layer in running:
        if layer.type in LAYERS or layer.type in DATA_LAYERS:
            try:
                nodes.append(reader.node(layer))
            except Refused as refused:
                problems += refused.within(f"layer '{layer.name}' ({layer.type})").reasons
    if problems:
        raise Refused(*problems)
    if not nodes:
        raise Refused(f"no layer runs in phase {request.state.phase}; all are ruled out by include or exclude")
    nodes = [*_given_inputs(nodes, request.inputs), *nodes]
    network = Network(message.name, tuple(_with_probabilities(nodes)), request.state.phase)
    network, changes = unshared(network)
    return Description(network, (*reader.notes, *changes), tuple(reader.waived))


def _unknown_types(layers: list[LayerParameter]) -> list[str]:
    unknown: dict[str, list[str]] = {}
    for layer in layers:
        if layer.type not in LAYERS and layer.type not in DATA_LAYERS:
            unknown.setdefault(layer.type, []).append(f"'{layer.name}'")
    problems = []
    for type_name, names in unknown.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        way_out = "; register a definition of it (graphs.layer), or take the layer out" if type_name else ""
        problems.append(f"layer {', '.join(names[:3])}{more}: type {type_name or '(none)'} is not supported{way_out}")
    return problems


class _Reader:
    """Reads layers one by one, and keeps what there is to say of them."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.notes: list[str] = []
        self.waived: list[str] = []

    def node(self, layer: LayerParameter) -> Node:
        """Returns a layer as a node. Raises Refused with each of its fields that can't be honoured."""
        problems = []

        def refuse(name: str, reason: str) -> None:
            waivers = {name, name.split(".")[-1], f"{layer.name}.{name}", f"{layer.name}.{name.split('.')[-1]}"}
            if waivers & self.request.allow:
                self.waived.append(f"{layer.name}.{name}")
            else:
                problems.append(f"{name}: {reason}; take it out, or pass over it with --allow {name.split('.')[-1]}")

        is_data = layer.type in DATA_LAYERS
        definition = Input if is_data else LAYERS[layer.type]
        values = {}
        for descriptor, value in layer.ListFields():
            if descriptor.name in definition.messages:
                values.update(arguments(value, definition, refuse))
                names = [one.name for one, _ in value.ListFields() if one.name in definition.unread]
                self._note_unread(layer, [f"{descriptor.name}.{name}" for name in names])
            elif descriptor.name == "transform_param" and definition is Input:
                values["transform_param"] = Transform(**arguments(value, Transform, refuse))
            elif descriptor.name == "phase" and Phase.Name(value) != self.request.state.phase:
                refuse("phase", f"is {Phase.Name(value)} while the net runs in {self.request.state.phase}")
            elif descriptor.name not in COMMON and not is_data:
                self._note_unread(layer, [descriptor.name])
        for number in unknown_fields(layer):
            refuse(str(number), "is no field of a layer that this converter knows (a fork's?)")
        if problems:
            raise Refused(*problems)
        if definition is Input:
            values["shape"] = self._shapes(layer, values.get("shape", ()))
        specs = tuple(ParamSpec(**arguments(spec, ParamSpec, refuse)) for spec in layer.param)
        tops = tuple(layer.top) or ((layer.name,) if definition.automatic_top else ())
        if layer.propagate_down and len(layer.propagate_down) != len(layer.bottom):
            counts = f"{len(layer.propagate_down)} values for {len(layer.bottom)} bottoms"
            raise Refused(f"propagate_down: has {counts}; Caffe wants one for each, or none")
        weights, down = tuple(layer.loss_weight), tuple(layer.propagate_down)
        return Node(layer.name, definition(**values), tuple(layer.bottom), tops, specs, weights, down)

    def _note_unread(self, layer: LayerParameter, names: Iterable[str]) -> None:
        self.notes += [
            f"layer '{layer.name}' ({layer.type}): {name} has no effect; Caffe does not read it in a layer of this type"
            for name in names
        ]

    def _shapes(self, layer: LayerParameter, stated: tuple[Shape, ...]) -> tuple[Shape, ...]:
        given = self.request.inputs
        if layer.type == "Input":
            if not given.keys() & set(layer.top):
                return stated
            said = Input(stated).shapes(len(layer.top)) if stated else [()] * len(layer.top)
            return tuple(given.get(top, shape) for top, shape in zip(layer.top, said))
        shapes, assumed = input_shapes(layer, given)
        if assumed:
            spelled = ",".join(map(str, shapes[0]))
            hint = f"--input-shape {layer.top[0]}={spelled}"
            self.notes.append(f"layer '{layer.name}' ({layer.type}): {assumed}; say otherwise with {hint}")
        return shapes


def _given_inputs(nodes: list[Node], inputs: Mapping[str, Shape]) -> list[Node]:
    """Returns Input layers for the given blobs that no layer makes. Raises Refused for one that no layer reads."""
    made = {top for node in nodes for top in node.tops}
    read = {bottom for node in nodes for bottom in node.bottoms}
    unread = [blob for blob in inputs if blob not in made and blob not in read]
    if unread:
        raise Refused(*(f"--input-shape {blob}: no layer reads a blob of that name" for blob in unread))
    return [Node(blob, Input((shape,)), (), (blob,)) for blob, shape in inputs.items() if blob not in made]


def _with_probabilities(nodes: Iterable[Node]) -> list[Node]:
    """Returns the nodes with a Softmax before each softmax loss whose probabilities no layer computes."""
    nodes = list(nodes)
    softened = {node.bottoms[:1] for node in nodes if node.layer.type == "Softmax"}
    ends: dict[tuple[str, ...], Node] = {}
    for node in nodes:
        is_end = node.layer.type == "SoftmaxWithLoss" and len(node.tops) < 2 and node.bottoms[:1] not in softened
        if is_end and node.bottoms:
            ends.setdefault(node.bottoms[:1], node)
    taken = {name for node in nodes for name in (node.name, *node.tops)}
    names = _of_probabilities([node.name for node in ends.values()], taken)
    added = {
        id(node): Node(name, Softmax(getattr(node.layer, "axis", 1)), scores, (name,))
        for (scores, node), name in zip(ends.items(), names)
    }
    return [one for node in nodes for one in ([added[id(node)], node] if id(node) in added else [node])]


def _of_probabilities(losses: Sequence[str], taken: Collection[str]) -> list[str]:
    """Returns what to call the probabilities of softmax losses: ``prob``, or LOSS/prob where there are several, as no
    one can tell which of them is meant (GoogLeNet trains with three)."""
    names: list[str] = []
    for loss in losses:
        names.append(free_name("prob" if len(losses) == 1 else f"{loss}/prob", {*taken, *names}))
    return names


def without_training(message: NetParameter, inputs: Collection[str]) -> NetParameter:
    """Returns the definition that a .caffemodel carries as one to run in TEST.

    Caffe stores the net that it trained: each layer says ``phase: TRAIN``, data layers of that phase feed it, and
    losses read labels. Phases go, and so do layers that judge by a blob that is neither made nor among ``inputs``; of a
    softmax loss its probabilities stay.
    """
    today = NetParameter(name=message.name)
    made = set(inputs)
    softened: dict[str, LayerParameter] = {}
    for layer in message.layer:
        judges = layer.type in LAYERS and LAYERS[layer.type].judges
        if judges and any(bottom not in made for bottom in layer.bottom):
            if layer.type == "SoftmaxWithLoss":
                softened[layer.name] = today.layer.add(type="Softmax", bottom=layer.bottom[:1])
                softened[layer.name].softmax_param.CopyFrom(layer.softmax_param)
            continue
        today.layer.add().CopyFrom(layer)
        today.layer[-1].ClearField("phase")
        if layer.type not in DATA_LAYERS:
            made.update(layer.top)
    taken = {name for layer in message.layer for name in (layer.name, *layer.top)}
    for name, prob in zip(_of_probabilities(list(softened), taken), softened.values()):
        prob.name = name
        prob.top.append(name)
    return today


def foreign_layers(network: Network) -> list[Node]:
    """Returns the layers that Caffe does not have."""
    return [node for node in network.nodes if LAYERS.get(node.layer.type) is not type(node.layer)]


def message_of(network: Network) -> NetParameter:
    """Returns the network as today's definition: undoes ``describe``, defaults left out.

    Raises Refused where a layer is none of Caffe's, as some of the AlexNet family's are.
    """
    foreign = foreign_layers(network)
    if foreign:
        raise Refused(*(f"layer '{node.name}': Caffe has no {type(node.layer).__name__}" for node in foreign))
    message = NetParameter(name=network.name)
    for node in as_defined(network).nodes:
        layer = message.layer.add(name=node.name, type=node.layer.type, bottom=node.bottoms, top=node.tops)
        layer.loss_weight.extend(node.loss_weights)
        layer.propagate_down.extend(node.propagate_down)
        for spec in node.specs:
            set_fields(layer.param.add(), spec)
        for name in node.layer.messages:
            set_fields(getattr(layer, name), node.layer)
        if isinstance(node.layer, Input) and node.layer.transform_param is not None:
            set_fields(layer.transform_param, node.layer.transform_param)
    return message
