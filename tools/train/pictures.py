"""What a training is fed from pictures: the net's data layer, with a list, a folder or arrays in its source's place."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from converter.data_layers import DATA_LAYERS
from converter.mean import read_mean
from converter.sources import recognise
from graphs.layers.data import Input, Transform
from graphs.tensorflow1 import tensorflow1
from tools.dataset import Examples, Faults, Preparation, arrays_of, batches, order_notes, prepare, read_examples
from tools.record.preprocessing import Asked, check_arrays
from tools.train.arrays import label_ranges
from tools.train.nets import Net
from tools.train.solver import located
from weights import Refused, Shape


@dataclass(frozen=True, eq=False)
class Pictures:
    """Labelled pictures in batches; the same for the same ``seed``. ``training`` crops and mirrors at random,
    ``shuffled`` draws a new order for each epoch. ``pictures`` and ``labels`` are the net's inputs that they feed."""

    examples: Examples
    preparation: Preparation
    batch: int
    pictures: str
    labels: str
    training: bool
    shuffled: bool
    seed: int
    faults: Faults

    def reader(self, inputs: Mapping[str, Shape], start: int) -> Callable[[int], list[np.ndarray]]:
        """Returns the function that gives the batches from ``start`` on, one after the other, whatever number it is
        asked for: float32 in TensorFlow's layout, in the order of ``inputs``. Batches run across the borders of epochs,
        as Caffe's do."""
        session, iterator, position, following = self._dataset
        epoch, first = divmod(start * self.batch, self.examples.count)
        session.run(iterator.initializer, dict(zip(position, (epoch, first))))

        def read(number: int) -> list[np.ndarray]:
            with self.faults.raised():
                values, labels, _ = session.run(following)
            label_shape = (-1, *inputs[self.labels][1:]) if self.labels else ()
            return [
                values if blob == self.pictures else labels.astype(np.float32).reshape(label_shape) for blob in inputs
            ]

        return read

    @cached_property
    def _dataset(self) -> tuple[Any, Any, tuple[Any, Any], Any]:
        """A session, the iterator in its graph, its placeholders for an epoch and a picture, and the next batch."""
        tf = tensorflow1("reading pictures")
        with tf.Graph().as_default() as graph:
            position = (tf.placeholder(tf.int64, []), tf.placeholder(tf.int64, []))
            dataset = batches(
                self.examples,
                self.preparation,
                self.batch,
                training=self.training,
                seed=self.seed,
                epoch=position[0],
                start=position[1],
                endless=True,
                shuffled=self.shuffled,
                faults=self.faults,
            )
            iterator = tf.data.make_initializable_iterator(dataset)
            following = iterator.get_next()
        return tf.Session(graph=graph), iterator, position, following


@dataclass(frozen=True)
class Chosen:
    """What the command line says of pictures: where they are, the size that they are brought to, whether to draw a new
    order for each epoch, how many that can't be read are passed over, and what the floats of arrays are multiplied
    by."""

    place: str
    resize: int | None = None
    shuffle: bool = False
    max_bad: int = 0
    raw_scale: float | None = None


def read_pictures(net: Net, chosen: Chosen, solver: Path, seed: int) -> tuple[Pictures, list[str]]:
    """Returns what feeds a net from pictures, prepared as its data layer's ``transform_param`` says, and what there is
    to say of them. Raises Refused where they can't be what the net reads."""
    pictures, labels = _inputs(net)
    layer = next((one for one in net.layers if pictures in one.top), None)
    node = next(node for node in net.network.nodes if pictures in node.tops)
    assert isinstance(node.layer, Input)
    transform = node.layer.transform_param or Transform()
    image = layer.image_data_param if layer is not None and layer.type == "ImageData" else None
    examples = read_examples(chosen.place, root=image.root_folder if image else "")
    _check_labels(net, labels, examples)
    is_training = net.network.phase == "TRAIN"
    is_folder = Path(chosen.place).is_dir()
    shuffled = chosen.shuffle or bool(image and image.shuffle) or is_folder
    preparation = _preparation(net, net.inputs[pictures], transform, chosen, solver)
    if image and image.new_height and image.new_width and not chosen.resize:
        preparation = replace(preparation, resize=(image.new_height, image.new_width))
    asked = Asked(raw_scale=chosen.raw_scale)
    remarks = check_arrays(arrays_of(examples), asked, preparation.mean, preparation.scale)
    faults = Faults(chosen.max_bad)
    notes = [
        *remarks,
        *order_notes(arrays_of(examples), preparation),
        *examples.notes,
        *_notes(net, layer, transform, chosen, is_training, shuffled),
    ]
    shown = Pictures(
        examples, preparation, net.batch, pictures, labels, is_training, is_training and shuffled, seed, faults
    )
    return shown, notes


def _inputs(net: Net) -> tuple[str, str]:
    """Returns the inputs that pictures and labels go to, the latter "" where the net has none."""
    inputs = net.inputs
    pictures = [blob for blob, shape in inputs.items() if len(shape) == 4 and shape[2:] != (1, 1)]
    labels = [blob for blob, shape in inputs.items() if int(np.prod(shape)) == shape[0] and blob not in pictures]
    others = [blob for blob in inputs if blob not in pictures and blob not in labels]
    if len(pictures) != 1 or len(labels) > 1 or others:
        named = ", ".join(f"'{blob}'" for blob in inputs)
        raise Refused(f"{net.definition.source}: pictures can't feed its inputs {named}; say --data FILE.npz")
    return pictures[0], labels[0] if labels else ""


def _check_labels(net: Net, blob: str, examples: Examples) -> None:
    classes, ignored, node = label_ranges(net.network).get(blob, (0, None, ""))
    wrong = np.flatnonzero((examples.labels >= classes) & (examples.labels != ignored))
    if classes and len(wrong):
        label, name = examples.labels[wrong[0]], examples.name(wrong[0])
        more = f" ({len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise Refused(f"{name}: label {label} is no class of {node}; expected 0 to {classes - 1}{more}")


def _preparation(net: Net, shape: Shape, transform: Transform, chosen: Chosen, solver: Path) -> Preparation:
    stated = {
        field.name: getattr(transform, field.name)
        for field in dataclasses.fields(Transform)
        if getattr(transform, field.name) != field.default and field.name != "mean_file"
    }
    mean = None
    if transform.mean_file:
        if transform.mean_value:
            raise Refused(f"{net.definition.source}: transform_param has mean_file and mean_value; Caffe accepts one")
        try:
            file, _ = located(transform.mean_file, solver)
            mean = read_mean(recognise(file))
        except Refused as refused:
            raise refused.within(f"{net.definition.source}: mean_file") from refused
    try:
        asked = Asked(mean, transform.mean_file, resize=chosen.resize, raw_scale=chosen.raw_scale)
        made = prepare(shape, stated, asked)
    except Refused as refused:
        raise refused.within(net.definition.source) from refused
    is_as_it_is = transform.crop_size and mean is None and not chosen.resize  # as Caffe crops what lies in its source
    return replace(made, resize=None) if is_as_it_is else made


def _notes(net: Net, layer: Any, transform: Transform, chosen: Chosen, is_training: bool, shuffled: bool) -> list[str]:
    source = net.definition.source
    notes = []
    if layer is not None and layer.type in DATA_LAYERS:
        name = f"{source}: layer '{layer.name}' ({layer.type})"
        notes.append(f"{name}: its pictures come from {chosen.place}")
        if layer.data_param.rand_skip or layer.image_data_param.rand_skip:
            notes.append(f"{name}: rand_skip has no effect")
    if is_training and not shuffled:
        notes.append(f"{chosen.place}: pictures come in its order, as in Caffe; --shuffle draws one for each epoch")
    if transform.mirror and not is_training:
        notes.append(f"{source}: mirror: pictures are not mirrored in TEST, though Caffe would")
    return notes
