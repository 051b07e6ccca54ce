"""Checkpoints of a training: written whole or not at all, and restored only where every name and shape agrees."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from converter.sources import checkpoint_prefix
from graphs.layer import spell
from graphs.tensorflow1 import tensorflow1
from weights import Refused, Shape
from weights.staging import staged


@dataclass(frozen=True, eq=False)
class Checkpoints:
    """Saves and restores the variables of one graph, by name. Make it once: it adds operations to the graph."""

    tf: Any
    session: Any
    variables: Mapping[str, Any]
    saver: Any
    finite: Mapping[str, Any]

    @classmethod
    def of(cls, tf: Any, session: Any, variables: Mapping[str, Any]) -> Checkpoints:
        """Returns the checkpoints of ``variables``, name -> variable, all that a training needs to go on."""
        numbers = {name: variable for name, variable in variables.items() if variable.dtype.is_floating}
        finite = {name: tf.reduce_all(tf.math.is_finite(variable)) for name, variable in numbers.items()}
        return cls(tf, session, variables, tf.train.Saver(dict(variables)), finite)

    def not_finite(self) -> str:
        """Returns the name of the first variable that holds a value that is no finite number, "" where none does."""
        return next((name for name, is_finite in self.session.run(self.finite).items() if not is_finite), "")

    def save(self, prefix: Path, beside: Callable[[Path], None] | None = None) -> list[Path]:
        """Writes ``prefix``.index, .data-00000-of-00001 and .meta, and what ``beside`` writes into the folder that it
        is given; all of them or none. Returns the files.

        What lies there under other names, earlier checkpoints for one, is left alone. Raises Refused where a variable
        is no finite number, the folder is not there or can't be written, or the disk is full.
        """
        broken = self.not_finite()
        if broken:
            raise Refused(f"{prefix}: not written: '{broken}' holds values that are no finite numbers")
        try:
            with staged(prefix.parent) as stage:
                with _as_os_error(self.tf):
                    self.saver.save(self.session, str(stage / prefix.name), write_state=False)
                if beside is not None:
                    beside(stage)
                written = sorted(file.name for file in stage.iterdir())
        except Refused as refused:
            raise refused if str(prefix.parent) in str(refused) else refused.within(str(prefix)) from refused
        return [prefix.parent / name for name in written]

    def restore(self, path: Path) -> Path:
        """Gives the variables their values from a checkpoint, named by its prefix or one of its files; returns its
        prefix. Raises Refused with each name that is missing, surplus or of another shape, before any is changed."""
        prefix = checkpoint_prefix(path)
        if prefix is None:
            raise Refused(f"{path}: no such checkpoint; name it as it was written, without .index or with it")
        expected = {name: tuple(variable.shape.as_list()) for name, variable in self.variables.items()}
        try:
            reader = self.tf.train.load_checkpoint(str(prefix))
            stored = {name: tuple(shape) for name, shape in reader.get_variable_to_shape_map().items()}
        except Exception as error:  # TensorFlow's own error types
            raise Refused(f"{prefix}: is no whole checkpoint: {' '.join(str(error).split())[:200]}") from error
        problems = [f"{prefix}: {problem}" for problem in misfits(expected, stored)]
        if problems:
            raise Refused(*problems)
        try:
            self.saver.restore(self.session, str(prefix))
        except self.tf.errors.OpError as error:
            raise Refused(f"{prefix}: is no whole checkpoint: {' '.join(str(error).split())[:200]}") from error
        return prefix


def stored_value(path: Path, name: str) -> np.ndarray | None:
    """Returns the value of a variable in the checkpoint at ``path``, None where there is no such checkpoint, or it has
    no such variable."""
    tf = tensorflow1("reading a checkpoint")
    prefix = checkpoint_prefix(path)
    try:
        reader = tf.train.load_checkpoint(str(prefix)) if prefix else None
        return reader.get_tensor(name) if reader and reader.has_tensor(name) else None
    except tf.errors.OpError:
        return None


def misfits(expected: Mapping[str, Shape], stored: Mapping[str, Shape]) -> list[str]:
    """Returns a line for each variable that a checkpoint lacks, has too much, or has in another shape."""
    lacking = {name: shape for name, shape in expected.items() if name not in stored}
    lines = [f"lacks '{name}' ({spell(shape)}), which the graph has" for name, shape in lacking.items()]
    lines += [
        f"has '{name}' ({spell(stored[name])}), which the graph does not have"
        for name in sorted(stored)
        if name not in expected
    ]
    lines += [
        f"has '{name}' with the shape {spell(stored[name])}; expected {spell(shape)}"
        for name, shape in expected.items()
        if stored.get(name, shape) != shape
    ]
    return lines


def numbered(stem: Path) -> dict[int, Path]:
    """Returns number -> prefix, in order, of the checkpoints STEM<number>.ckpt: for ``out/net_iter_`` those at
    ``out/net_iter_100.ckpt``. The last is the latest; {} where there are none."""
    pattern = re.compile(rf"{re.escape(stem.name)}(\d+)\.ckpt\.index")
    names = (file.name for file in stem.parent.iterdir()) if stem.parent.is_dir() else ()
    found = sorted(int(match.group(1)) for match in map(pattern.fullmatch, names) if match)
    return {number: stem.with_name(f"{stem.name}{number}.ckpt") for number in found}


@contextmanager
def _as_os_error(tf: Any) -> Iterator[None]:
    """Turns TensorFlow's error for a file into the system's, whose reason its message ends in."""
    try:
        yield
    except tf.errors.OpError as error:
        reasons = [line.split("; ")[-1] for line in error.message.splitlines() if "; " in line]
        raise OSError(reasons[0] if reasons else " ".join(error.message.split())[:200]) from error
