"""What is to be fine-tuned: a port, a definition with weights, or one of the AlexNet family, all as a port."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from converter.manifest import manifest, stored_manifest
from converter.port import Port, convert
from converter.pretrained import pretrained
from converter.sources import CHECKPOINT, DEFINITION, FROZEN, recognise
from graphs.alexnet import FAMILY, Variant
from graphs.alexnet.training_layers import KeepDropout
from graphs.layers.data import Input
from graphs.layers.elementwise import Dropout
from graphs.layers.pooling import Pooling
from graphs.names import Names
from graphs.network import Inferred, Network, Node, infer
from graphs.tensorflow1 import tensorflow1
from tools.finetune.head import deployed
from weights import Parameter, Refused, Shape

PICTURES = "data"
"""The blob that pictures are fed to, in a network of the family."""


@dataclass(frozen=True, eq=False)
class Opened:
    """A network before it is changed, without losses; ``stated`` is how pictures become its input, as a manifest's
    ``preprocessing`` says it. ``port.parameters`` has those alone that were loaded."""

    port: Port
    stated: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def open_model(
    names: Sequence[str],
    weights: str | None = None,
    skip_layers: Collection[str] = (),
    input_shapes: Mapping[str, Shape] | None = None,
) -> Opened:
    """Returns the network that ``names`` say: one of the family by its name, with the file ``weights`` or from scratch;
    else files, as ``python -m converter`` takes them. Layers in ``skip_layers`` are not loaded.

    Raises Refused where there is no such file or network, or where weights do not fit, with each that does not.
    """
    if len(names) == 1 and names[0] in FAMILY and not Path(names[0]).exists():
        return _of_family(FAMILY[names[0]], weights, skip_layers)
    missing = [name for name in names if not _exists(Path(name))]
    if missing:
        known = ", ".join(FAMILY)
        raise Refused(*(f"{name}: no such file, and none of the AlexNet family ({known})" for name in missing))
    sources = [*names, *([weights] if weights else [])]
    port = convert(*sources, skip_layers=skip_layers, input_shapes=input_shapes)
    if skip_layers and not port.parameters:
        raise Refused("--skip-layers: there are no weights to skip them in; give the file of weights too")
    network = deployed(port.network)
    shapes = infer(network)
    kept = {layer.node.name: (names, tops) for layer, names, tops in _named(port)}
    chosen = [kept[layer.node.name] for layer in shapes]
    tops = tuple(own[: len(layer.node.tops)] for layer, (_, own) in zip(shapes, chosen))
    changed = replace(port.names, tops=tops, variables=tuple(variables for variables, _ in chosen))
    parameters = _loaded(port, skip_layers)
    stated = _stated(port, sources, input_shapes)
    opened = replace(port, network=network, shapes=shapes, names=changed, parameters=parameters)
    return Opened(opened, stated, port.notes)


def _exists(path: Path) -> bool:
    return path.exists() or path.with_name(path.name + ".index").exists()


def _loaded(port: Port, skip_layers: Collection[str]) -> dict[str, Parameter]:
    """Returns the parameters without those of layers in ``skip_layers`` alone, which are yet to be drawn."""
    skipped: set[str] = set()
    kept: set[str] = set()
    for layer, variables in zip(port.shapes, port.names.variables):
        (skipped if layer.node.name in skip_layers else kept).update(variables)
    return {name: one for name, one in port.parameters.items() if name not in skipped - kept}


def _named(port: Port) -> list[tuple[Inferred, tuple[str, ...], tuple[str, ...]]]:
    return list(zip(port.shapes, port.names.variables, port.names.tops))


def _stated(port: Port, sources: Sequence[str], input_shapes: Mapping[str, Shape] | None) -> dict[str, Any]:
    """Returns what is stated of preprocessing: by the manifest of a port, else by the definition, whose training phase
    alone says whether pictures are mirrored."""
    opened = [recognise(source) for source in sources]
    if not any(source.kind == DEFINITION for source in opened):
        for source in opened:
            if source.kind in (FROZEN, CHECKPOINT):
                return dict(stored_manifest(source).get("preprocessing", {}))
    stated = dict(manifest(port, {}).get("preprocessing", {}))
    definitions = [source.path for source in opened if source.kind == DEFINITION]
    try:
        training = convert(*definitions, phase="TRAIN", input_shapes=input_shapes) if definitions else port
    except Refused:  # a definition for deployment need not run there
        return stated
    mirror = manifest(training, {}).get("preprocessing", {}).get("mirror", False)
    return {**stated, "mirror": True} if mirror else stated


def _of_family(variant: Variant, weights: str | None, skip_layers: Collection[str]) -> Opened:
    how = variant.preprocessing
    if len(set(how.scale)) > 1:
        usable = ", ".join(name for name, one in FAMILY.items() if len(set(one.preprocessing.scale)) == 1)
        raise Refused(
            f"{variant.name}: multiplies each channel by a number of its own, which a manifest can't state; choose one "
            f"of {usable}"
        )
    tf = tensorflow1("fine-tuning")
    with tf.Graph().as_default():
        images = tf.placeholder(tf.float32, [None, variant.size, variant.size, 3])
        built = variant.build(images, variant.keep_prob)
    pictures = Input(shape=((1, 3, variant.size, variant.size),))
    nodes = [Node(PICTURES, pictures, (), (PICTURES,))]
    for layer in built.shapes:
        bottoms = tuple(PICTURES if bottom == "images" else bottom for bottom in layer.node.bottoms)
        nodes.append(replace(layer.node, layer=_deployable(layer), bottoms=bottoms))
    network = Network(f"AlexNet {variant.name}", tuple(nodes))
    names = Names(((PICTURES,), *built.names.tops), ((), *built.names.variables))
    port = Port(network, infer(network), names, {})
    stated = {"mean_value": list(how.mean), "scale": how.scale[0], "channel_order": how.order, "mirror": True}
    if weights is None:
        if skip_layers:
            raise Refused("--skip-layers: there are no weights to skip them in; say --weights FILE")
        return Opened(port, stated, (f"{variant.name}: from scratch, {variant.initial}",))
    if not _exists(Path(weights)):
        raise Refused(f"{weights}: no such file")
    bound = pretrained(weights, built, skip_layers)
    sources = (recognise(weights),)
    return Opened(replace(port, parameters=bound.parameters, sources=sources), stated, bound.notes)


def _deployable(layer: Inferred) -> Any:
    """Returns a layer of the family as Caffe has it, where it does."""
    definition = layer.node.layer
    if isinstance(definition, KeepDropout):
        return Dropout(dropout_ratio=round(1 - definition.keep_prob, 6))
    if isinstance(definition, Pooling) and definition.round_mode == "FLOOR":
        usual = replace(definition, round_mode="CEIL")  # which older Caffes know alone
        if usual.top_shapes(*layer.bottoms) == definition.top_shapes(*layer.bottoms):
            return usual
    return definition
