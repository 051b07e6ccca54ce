"""Trains the demo, an AlexNet in miniature that reads handwritten digits, and writes the files of tools/demo/.

The graph that is trained is built of this project's own layers, and what comes out is written by this project's own
writer. The same seed gives the same files on the same machine.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from converter.exit_code import exit_code
from converter.port import Port
from graphs import Filler, Layer, Network, Node, infer, run_reference
from graphs.emit import build
from graphs.fillers import filled
from graphs.layer import ParameterSpec
from graphs.layers.convolution import Convolution
from graphs.layers.data import Input, Transform
from graphs.layers.elementwise import Dropout, ReLU
from graphs.layers.inner_product import InnerProduct
from graphs.layers.lrn import LRN
from graphs.layers.pooling import Pooling
from graphs.layers.softmax import Softmax
from graphs.names import name_values
from graphs.tensorflow1 import tensorflow1
from weights import Parameter, Refused
from weights.staging import staged

DEMO = Path(__file__).resolve().parent / "demo"
CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIDE = 32
"""Height and width of a picture."""
SCALE = 1 / 256
"""What a pixel's value is multiplied by before it is fed."""

STEPS, BATCH, SEED = 1200, 64, 2012
LEARNING_RATE = 0.002
DOUBT = 0.05
"""Probability of all wrong classes together that training aims at: without any, every digit comes out at 100.0%."""
SHIFT = 2
"""Pixels by which training moves a digit at most, in each direction."""

_HELP = """\
Trains the demo, an AlexNet in miniature that reads handwritten digits, in about a minute on two cores.

  python -m tools.train_demo                 write tools/demo/ anew
  python -m tools.train_demo -o my-demo      write into another folder

The folder then has digits.prototxt, digits.caffemodel, labels.txt, and pictures/ with one digit of each class that
training did not see.
"""


def demo_network() -> Network:
    """Returns AlexNet in miniature, for N, 1, 32, 32: its layers under their names and in their order, its groups, its
    LRN and its overlapping pooling."""
    layers: dict[str, Layer] = {
        "data": Input(shape=((1, 1, SIDE, SIDE),), transform_param=Transform(scale=SCALE)),
        "conv1": _convolution(16, kernel=5, pad=2, stride=2),
        "relu1": ReLU(),
        "norm1": LRN(local_size=5, alpha=0.0001, beta=0.75),
        "pool1": Pooling(pool="MAX", kernel_size=3, stride=2),
        "conv2": _convolution(32, kernel=5, pad=2, group=2),
        "relu2": ReLU(),
        "norm2": LRN(local_size=5, alpha=0.0001, beta=0.75),
        "pool2": Pooling(pool="MAX", kernel_size=3, stride=2),
        "conv3": _convolution(64, kernel=3, pad=1),
        "relu3": ReLU(),
        "conv4": _convolution(64, kernel=3, pad=1, group=2),
        "relu4": ReLU(),
        "conv5": _convolution(48, kernel=3, pad=1, group=2),
        "relu5": ReLU(),
        "pool5": Pooling(pool="MAX", kernel_size=3, stride=2),
        "fc6": _inner_product(128),
        "relu6": ReLU(),
        "drop6": Dropout(dropout_ratio=0.5),
        "fc7": _inner_product(128),
        "relu7": ReLU(),
        "drop7": Dropout(dropout_ratio=0.5),
        "fc8": _inner_product(len(CLASSES)),
        "prob": Softmax(),
    }
    return Network("AlexNet in miniature", tuple(_chain(layers)))


def _convolution(outputs: int, kernel: int, pad: int, stride: int = 1, group: int = 1) -> Convolution:
    return Convolution(
        num_output=outputs,
        kernel_size=(kernel,),
        pad=(pad,),
        stride=(stride,) if stride > 1 else (),
        group=group,
        weight_filler=Filler("xavier"),
    )


def _inner_product(outputs: int) -> InnerProduct:
    return InnerProduct(num_output=outputs, weight_filler=Filler("xavier"))


def _chain(layers: dict[str, Layer]) -> Iterator[Node]:
    """Yields each layer over the one before; ReLU and Dropout run in place, as in Caffe's AlexNet."""
    blob = ""
    for name, layer in layers.items():
        bottoms = (blob,) if blob else ()
        blob = blob if isinstance(layer, (ReLU, Dropout)) else name
        yield Node(name, layer, bottoms, (blob,))


@dataclass(frozen=True, eq=False)
class Digits:
    """``pictures`` is uint8 (N, 1, 32, 32), white on black; ``labels`` (N,), 0 to 9."""

    pictures: np.ndarray
    labels: np.ndarray

    def fed(self) -> np.ndarray:
        """Returns the pictures as the network reads them: float32 (N, 1, 32, 32)."""
        return self.pictures * np.float32(SCALE)


def read_digits() -> tuple[Digits, Digits]:
    """Returns scikit-learn's digits: those to train on, and those held out, which are every fifth of each class.

    Raises Refused where scikit-learn or Pillow is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise Refused("training the demo needs scikit-learn, for its digits: pip install scikit-learn") from error
    source = load_digits()
    pictures = np.stack([enlarged(image) for image in source.images])[:, np.newaxis]
    held_out = np.zeros(len(pictures), bool)
    for digit in range(len(CLASSES)):
        held_out[np.flatnonzero(source.target == digit)[4::5]] = True
    return (
        Digits(pictures[~held_out], source.target[~held_out]),
        Digits(pictures[held_out], source.target[held_out]),
    )


def enlarged(image: np.ndarray) -> np.ndarray:
    """Returns a picture, uint8 (32, 32), of one of scikit-learn's digits: (8, 8), shades from 0 to 16.

    Raises Refused where Pillow is not installed.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise Refused("training the demo needs Pillow: pip install 'caffeport[pictures]'") from error
    grey = np.rint(image * (255 / 16)).astype(np.uint8)
    return np.asarray(Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def train(
    digits: Digits, steps: int = STEPS, seed: int = SEED, report: Callable[[int, float], None] = lambda step, loss: None
) -> Port:
    """Returns the demo's network trained on ``digits``; ``report`` is told of each step, from 1, and its loss."""
    tf = tensorflow1("training the demo")
    network = demo_network()
    shapes = infer(network)
    names = name_values(shapes)
    rng = np.random.default_rng(seed)

    def variable(name: str, spec: ParameterSpec) -> Any:
        return tf.get_variable(name, initializer=spec.layout.to_tensorflow(filled(spec, f"{name} {seed}")))

    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(seed)
        emitted = build(replace(network, phase="TRAIN"), shapes, names, tf, variable)
        tops = {one.layer.node.name: one.tops[0] for one in emitted}
        labels = tf.placeholder(tf.int64, [None])
        rate = tf.placeholder(tf.float32, [])
        doubt = DOUBT / (len(CLASSES) - 1)
        wanted = tf.one_hot(labels, len(CLASSES), on_value=1 - DOUBT, off_value=doubt)
        loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits_v2(labels=wanted, logits=tops["fc8"]))
        update = tf.train.AdamOptimizer(rate).minimize(loss)
        session.run(tf.global_variables_initializer())
        for step, batch in enumerate(_batches(digits, steps, rng)):
            feeds = {
                tops["data"]: np.moveaxis(batch.fed(), 1, -1),
                labels: batch.labels,
                rate: LEARNING_RATE * (1 - step / steps),
            }
            report(step + 1, session.run([loss, update], feeds)[0])
        trained = session.run({variable.op.name: variable for variable in tf.trainable_variables()})
    parameters = {
        name: Parameter(name, spec.layout, spec.layout.to_caffe(trained[name]))
        for layer, variables in zip(shapes, names.variables)
        for name, spec in zip(variables, layer.parameters)
    }
    return Port(network, shapes, names, parameters, notes=(), sources=())


def _batches(digits: Digits, steps: int, rng: np.random.Generator) -> Iterator[Digits]:
    """Yields ``steps`` batches, each digit once before any comes again, and each a little out of its place."""
    coming = np.empty(0, np.int64)
    for _ in range(steps):
        if len(coming) < BATCH:
            coming = rng.permutation(len(digits.labels))
        now, coming = coming[:BATCH], coming[BATCH:]
        yield Digits(_shifted(digits.pictures[now], rng), digits.labels[now])


def _shifted(pictures: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns N, C, H, W pictures, each moved by up to ``SHIFT`` pixels, black where nothing was."""
    padded = np.pad(pictures, ((0, 0), (0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT)))
    places = rng.integers(0, 2 * SHIFT, (len(pictures), 2), endpoint=True)
    return np.stack([one[:, y : y + SIDE, x : x + SIDE] for one, (y, x) in zip(padded, places)])


def count_right(port: Port, digits: Digits) -> int:
    """Returns how many of ``digits`` the trained network names right, by the NumPy reference."""
    values = run_reference(port.shapes, port.arrays(), {"data": digits.fed()}, np.float32)
    return int((values["prob", "prob"].argmax(axis=1) == digits.labels).sum())


def write_demo(folder: Path, port: Port, held_out: Digits) -> list[Path]:
    """Writes the demo's files into ``folder``, all of them or none; returns them.

    The pictures are the first held-out digit of each class. Raises Refused where ``folder`` can't be written.
    """
    from PIL import Image

    with staged(folder) as stage:
        port.save(stage / "digits.prototxt")
        port.save(stage / "digits.caffemodel")
        (stage / "labels.txt").write_text("\n".join(CLASSES) + "\n", encoding="utf-8")
        (stage / "pictures").mkdir()
        for digit in range(len(CLASSES)):
            first = np.flatnonzero(held_out.labels == digit)[0]
            Image.fromarray(held_out.pictures[first, 0]).save(stage / "pictures" / f"digit-{digit}.png")
        written = sorted(path.relative_to(stage) for path in stage.rglob("*") if path.is_file())
    return [folder / path for path in written]


def parser() -> argparse.ArgumentParser:
    """Returns the command line's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.train_demo",
        description=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "-o", "--output", type=Path, default=DEMO, metavar="FOLDER", help="where to write (default: tools/demo)"
    )
    parser.add_argument("--steps", type=int, default=STEPS, metavar="N", help=f"training steps (default: {STEPS})")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code: 0 done, 2 could not do it (a line on stderr says why)."""
    return exit_code(parser(), run, argv)


def run(arguments: argparse.Namespace) -> None:
    """Does what the command line asks. Raises Refused where it can't be done."""
    if not arguments.output.is_dir():
        raise Refused(f"{arguments.output}: no such folder; make it first, or name another with -o")
    if arguments.steps < 1:
        raise Refused(f"--steps {arguments.steps}: expected 1 or more")
    seen, held_out = read_digits()

    def report(step: int, loss: float) -> None:
        if step == 1 or step % 100 == 0 or step == arguments.steps:
            print(f"step {step:>{len(str(arguments.steps))}} of {arguments.steps}   loss {loss:.4f}", flush=True)

    print(f"{len(seen.labels)} digits to train on, {len(held_out.labels)} held out", flush=True)
    port = train(seen, arguments.steps, report=report)
    right, of = count_right(port, held_out), len(held_out.labels)
    print(f"held-out digits: {right} of {of} right ({100 * right / of:.1f}%)")
    for path in write_demo(arguments.output, port, held_out):
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    sys.exit(main())
