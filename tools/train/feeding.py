"""What the nets of a training are fed from: what the command line says, else the files that their layers name."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from converter.caffe_pb2 import LayerParameter
from converter.command import input_shape
from converter.data_layers import DATA_LAYERS
from tools.train.arrays import Arrays, check_arrays, read_arrays
from tools.train.building import Source
from tools.train.nets import Net, data_layers, read_net
from tools.train.pictures import Chosen, read_pictures
from tools.train.reporting import notes
from tools.train.rows import Rows, Table, check_rows, is_rows, listed_files, ordered, read_table
from tools.train.solver import Definition, Solver, located
from weights import Refused, Shape


@dataclass(frozen=True)
class Fed:
    """What the command line says that a net is fed from, one of both or none: ``data``, an .npz or rows in HDF5, or
    ``images``; and the options that they come from."""

    data: Path | None
    images: str | None
    options: tuple[str, str]


def fed(solver: Solver, arguments: argparse.Namespace, seed: int) -> tuple[Net, Source]:
    """Returns the training net and what feeds it, which fits it."""
    _check_options(arguments)
    net, source = _net(
        Fed(arguments.data, arguments.images, ("--data", "--images")), solver.train, arguments, seed, solver
    )
    if isinstance(source, Arrays) and net.inputs:
        there, wanted = source.passes(net.inputs), solver.max_iter * solver.iter_size
        if there < wanted:
            notes(
                [f"{source.path}: has {there} passes for {wanted}; after the last comes the first again, as in Caffe"]
            )
    return net, source


def tests_fed(solver: Solver, arguments: argparse.Namespace, seed: int) -> list[tuple[Net, Source]]:
    """Returns the test nets, each with what feeds it."""
    count = len(solver.tests)
    options = ("--test-data", "--test-images")
    given = [Fed(file, None, options) for file in arguments.test_data]
    given += [Fed(None, place, options) for place in arguments.test_images]
    if not count and given:
        raise Refused(f"{' and '.join(options)}: {solver.path} has no test_iter, and so no test nets")
    if given and len(given) not in (1, count):
        raise Refused(f"{' and '.join(options)}: {len(given)} for {count} test nets; give one for all or one for each")
    of = given * count if len(given) == 1 else given or [Fed(None, None, options)] * count
    if not given and any(not _hdf5_layers(one.definition) for one in solver.tests):
        raise Refused(f"{solver.path}: has {count} test nets; say {' or '.join(options)}, or take test_iter out")
    return [_net(one, test.definition, arguments, seed, solver) for test, one in zip(solver.tests, of)]


def _net(
    of: Fed, definition: Definition, arguments: argparse.Namespace, seed: int, solver: Solver
) -> tuple[Net, Source]:
    """Returns a network and what feeds it, which fits it."""
    shapes = dict(map(input_shape, arguments.input_shape))
    if of.data is not None and of.images is not None:
        raise Refused(f"{definition.source}: is fed from both; say {of.options[0]} or {of.options[1]}")
    if of.images is not None:
        net = read_net(definition, shapes, arguments.allow)
        chosen = Chosen(of.images, arguments.resize, arguments.shuffle, arguments.max_bad, arguments.raw_scale)
        pictures, told = read_pictures(net, chosen, solver.path, seed)
        notes([*net.notes, *told])
        return net, pictures
    if of.data is not None and not is_rows(of.data):
        arrays = read_arrays(of.data)
        net = read_net(definition, {**arrays.shapes, **shapes}, arguments.allow)
        check_arrays(arrays, net.network)
        unused = [name for name in arrays.arrays if name not in net.inputs]
        told = [f"{of.data}: {', '.join(map(repr, unused))}: no input of {definition.source}, and not used"]
        notes([*net.notes, *(told if unused else [])])
        return net, arrays
    if of.data is None and not _hdf5_layers(definition):
        raise Refused(f"{definition.source}: is fed from nothing; say {of.options[0]} or {of.options[1]}")
    rows, told = _own_rows(definition) if of.data is None else _given_rows(of.data, definition, shapes, arguments.allow)
    net = read_net(definition, {**rows.shapes, **shapes}, arguments.allow)
    check_rows(rows, net.network)
    rows = ordered(rows, arguments.shuffle and definition.state.phase == "TRAIN", seed)
    if any(table.shuffled for table in rows.tables):
        told.append(f"{definition.source}: rows come in an order that random_seed draws; Caffe's own can't be repeated")
    notes([*net.notes, *told])
    return net, rows


def _check_options(arguments: argparse.Namespace) -> None:
    """Raises Refused for options that nothing of what is given reads."""
    if arguments.images is not None or arguments.test_images:
        return
    idle = [name for name in ("resize", "max_bad", "raw_scale") if getattr(arguments, name)]
    if arguments.shuffle and arguments.data is not None and not is_rows(arguments.data):
        idle.append("shuffle")
    if idle:
        options = (f"--{name.replace('_', '-')}: has no effect on {arguments.data or 'rows'}" for name in idle)
        raise Refused(*(f"{option}; take it out" for option in options))


def _hdf5_layers(definition: Definition) -> list[LayerParameter]:
    return [layer for layer in data_layers(definition) if layer.type == "HDF5Data"]


def _own_rows(definition: Definition) -> tuple[Rows, list[str]]:
    """Returns the rows that a net's HDF5Data layers name. Raises Refused where Caffe would not read them."""
    tables: list[Table] = []
    told: list[str] = []
    problems: list[str] = []
    for layer in _hdf5_layers(definition):
        name = f"{definition.source}: layer '{layer.name}' (HDF5Data)"
        message = layer.hdf5_data_param
        try:
            if layer.HasField("transform_param"):
                raise Refused("has a transform_param; Caffe accepts none there, so take it out")
            if message.batch_size < 1 or not message.source:
                raise Refused("does not say source and batch_size")
            file, is_beside = located(message.source, definition.path, "the definition")
            told += [
                f"{name}: source: '{message.source}' is not in the working directory; taken from {file}"
            ] * is_beside
            files, more = listed_files(file)
            told += more
            tables.append(read_table(name, files, layer.top, message.batch_size, message.shuffle))
        except Refused as refused:
            problems += refused.within(name).reasons
    if problems:
        raise Refused(*problems)
    return Rows(tuple(tables)), told


def _given_rows(
    data: Path, definition: Definition, shapes: dict[str, Shape], allow: Sequence[str]
) -> tuple[Rows, list[str]]:
    """Returns the rows of --data for all of a net's inputs, in batches of the size that these have."""
    files, told = listed_files(data)
    layers = data_layers(definition)
    blobs = [top for layer in layers for top in layer.top]
    batches = {top: _batch(layer) for layer in layers for top in layer.top}
    rows = read_table(str(data), files, blobs, 1, False)
    known = {blob: (batches[blob], *shape) for blob, shape in rows.shapes.items()}
    net = read_net(definition, {**known, **shapes}, allow)
    sizes = {shape[0] for shape in net.inputs.values() if shape}
    if len(sizes) != 1 or not all(net.inputs.values()):
        raise Refused(f"{data}: the inputs of {definition.source} have different batches; say --data FILE.npz")
    told += [f"{definition.source}: layer '{one.name}' ({one.type}): its rows come from {data}" for one in layers]
    is_shuffled = any(layer.hdf5_data_param.shuffle for layer in layers)
    return Rows((read_table(str(data), files, list(net.inputs), sizes.pop(), is_shuffled),)), told


def _batch(layer: LayerParameter) -> int:
    if layer.type == "HDF5Data":
        return layer.hdf5_data_param.batch_size or 1
    return next((shape[0] for shape in DATA_LAYERS[layer.type](layer)[0] if shape), 1)
