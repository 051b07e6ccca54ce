"""Small nets by chance: definitions in Caffe's text, of layers in any order that Caffe would run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from converter.describe import Request, describe
from converter.prototxt import parse_prototxt
from graphs import infer
from weights import Refused

Shape = tuple[int, ...]


@dataclass
class Draft:
    """A net under construction: its layers' texts, what each blob's shape is, and what may still be done to it.

    ``exact`` are blobs whose values do not depend on how sums are rounded; ``open`` those that no layer has read, which
    alone may be changed in place; ``shared`` is a parameter's name -> its shape.
    """

    rng: np.random.Generator
    texts: list[str] = field(default_factory=list)
    blobs: dict[str, Shape] = field(default_factory=dict)
    exact: set[str] = field(default_factory=set)
    open: set[str] = field(default_factory=set)
    count: int = 0

    def pick(self, fits: Callable[[str, Shape], bool] = lambda blob, shape: True) -> str | None:
        found = [blob for blob, shape in self.blobs.items() if fits(blob, shape)]
        return found[self.rng.integers(len(found))] if found else None

    def integer(self, low: int, high: int) -> int:
        """Returns a whole number from ``low`` to ``high``, which is included."""
        return int(self.rng.integers(low, high + 1))

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def one_of(self, *values: object) -> object:
        return values[self.rng.integers(len(values))]


Made = tuple[str, list[str], str, int]
"""A layer's type, its bottoms, its parameters' text and how many tops it makes."""


def _pictures(draft: Draft) -> str | None:
    return draft.pick(lambda blob, shape: len(shape) == 4)


def _window(draft: Draft, most: int = 4) -> str:
    """Returns window sizes in one of Caffe's spellings."""
    if draft.chance(0.5):
        text = f"kernel_size: {draft.integer(1, most)}"
        text += f" stride: {draft.integer(1, 3)}" if draft.chance(0.5) else ""
        return text + (f" pad: {draft.integer(0, 2)}" if draft.chance(0.4) else "")
    text = f"kernel_h: {draft.integer(1, most)} kernel_w: {draft.integer(1, most)}"
    text += f" stride_h: {draft.integer(1, 3)} stride_w: {draft.integer(1, 3)}" if draft.chance(0.5) else ""
    return text + (f" pad_h: {draft.integer(0, 2)} pad_w: {draft.integer(0, 2)}" if draft.chance(0.4) else "")


def convolution(draft: Draft) -> Made | None:
    bottom = draft.pick(lambda blob, shape: 3 <= len(shape) <= 5)
    if bottom is None:
        return None
    channels, is_flat = draft.blobs[bottom][1], len(draft.blobs[bottom]) == 4
    group = draft.one_of(1, 1, channels)
    outputs = int(group) * draft.integer(1, 3)
    size = _window(draft, 3) if is_flat else f"kernel_size: {draft.integer(1, 2)} stride: {draft.integer(1, 2)}"
    size += f" dilation: {draft.integer(1, 2)}" if draft.chance(0.3) else ""
    bias = "bias_term: false" if draft.chance(0.3) else ""
    kind = str(draft.one_of("Convolution", "Convolution", "Deconvolution"))
    return kind, [bottom], f"convolution_param {{ num_output: {outputs} group: {group} {size} {bias} }}", 1


def pooling(draft: Draft) -> Made | None:
    bottom = _pictures(draft)
    if bottom is None:
        return None
    if draft.chance(0.2):
        return "Pooling", [bottom], f"pooling_param {{ pool: {draft.one_of('MAX', 'AVE')} global_pooling: true }}", 1
    rounding = "round_mode: FLOOR" if draft.chance(0.2) else ""
    return "Pooling", [bottom], f"pooling_param {{ pool: {draft.one_of('MAX', 'AVE')} {_window(draft)} {rounding} }}", 1


def lrn(draft: Draft) -> Made | None:
    bottom = _pictures(draft)
    region = draft.one_of("ACROSS_CHANNELS", "WITHIN_CHANNEL")
    text = f"lrn_param {{ local_size: {draft.one_of(1, 3, 5)} alpha: {draft.one_of(0.1, 2)} norm_region: {region} }}"
    return ("LRN", [bottom], text, 1) if bottom else None


ELEMENTWISE = [
    "type: 'ReLU'",
    "type: 'ReLU' relu_param { negative_slope: 0.1 }",
    "type: 'ReLU' relu_param { negative_slope: -1.5 }",
    "type: 'ELU' elu_param { alpha: 0.7 }",
    "type: 'Sigmoid'",
    "type: 'TanH'",
    "type: 'AbsVal'",
    "type: 'BNLL'",
    "type: 'Swish' swish_param { beta: 1.5 }",
    "type: 'Clip' clip_param { min: -0.5 max: 1.25 }",
    "type: 'Power' power_param { scale: -0.5 shift: 0.25 }",
    "type: 'Power' power_param { power: 2 scale: 0.5 }",
    "type: 'Power' power_param { power: 0 }",
    "type: 'Exp' exp_param { base: 2 scale: 0.25 }",
    "type: 'Dropout'",
    "type: 'PReLU'",
    "type: 'PReLU' prelu_param { channel_shared: true }",
    "type: 'BatchNorm'",
    "type: 'BatchNorm' batch_norm_param { use_global_stats: false eps: 0.01 }",
    "type: 'Softmax'",
    "type: 'MVN' mvn_param { eps: 0.01 }",
    "type: 'MVN' mvn_param { normalize_variance: false across_channels: true }",
]


def elementwise(draft: Draft) -> Made | None:
    text = ELEMENTWISE[draft.rng.integers(len(ELEMENTWISE))]
    kind, _, parameters = text.removeprefix("type: '").partition("'")
    bottom = draft.pick()
    return (kind, [bottom], parameters.strip(), 1) if bottom else None


def scale(draft: Draft) -> Made | None:
    bottom = draft.pick()
    if bottom is None:
        return None
    rank = len(draft.blobs[bottom])
    kind = str(draft.one_of("Scale", "Bias"))
    axis = draft.integer(-rank, rank - 1)
    bias = "bias_term: true" if kind == "Scale" and draft.chance(0.5) else ""
    second = draft.pick(lambda blob, shape: shape == draft.blobs[bottom][axis % rank :][: len(shape)])
    if second is not None and second != bottom and draft.chance(0.5):
        return kind, [bottom, second], f"{kind.lower()}_param {{ axis: {axis} {bias} }}", 1
    return kind, [bottom], f"{kind.lower()}_param {{ axis: {axis} num_axes: {draft.integer(-1, 2)} {bias} }}", 1


def eltwise(draft: Draft) -> Made | None:
    one = draft.pick()
    other = draft.pick(lambda blob, shape: one is not None and shape == draft.blobs[one])
    operation = draft.one_of("SUM", "PROD", "MAX", "SUM coeff: 0.5 coeff: -2")
    return ("Eltwise", [one, other], f"eltwise_param {{ operation: {operation} }}", 1) if one and other else None


def concat(draft: Draft) -> Made | None:
    one = draft.pick()
    if one is None:
        return None
    shape, axis = draft.blobs[one], draft.integer(0, max(0, len(draft.blobs[one]) - 1))
    rest = (*shape[:axis], *shape[axis + 1 :])
    other = draft.pick(lambda _, s: len(s) == len(shape) and (*s[:axis], *s[axis + 1 :]) == rest)
    bottoms = [one, str(other)] if draft.chance(0.8) else [one]
    return "Concat", bottoms, f"concat_param {{ axis: {axis} }}", 1


def slices(draft: Draft) -> Made | None:
    bottom = draft.pick()
    if bottom is None:
        return None
    axis = draft.integer(0, max(0, len(draft.blobs[bottom]) - 1))
    return "Slice", [bottom], f"slice_param {{ axis: {axis} }}", draft.integer(1, 3)


def split(draft: Draft) -> Made | None:
    bottom = draft.pick()
    return ("Split", [bottom], "", draft.integer(1, 2)) if bottom else None


def shaping(draft: Draft) -> Made | None:
    bottom = draft.pick()
    if bottom is None:
        return None
    rank = len(draft.blobs[bottom])
    texts = [
        ("Flatten", f"flatten_param {{ axis: {draft.integer(0, rank)} }}"),
        ("Reshape", "reshape_param { shape { dim: 0 dim: -1 } }"),
        ("Reshape", "reshape_param { shape { dim: 0 dim: 0 dim: 1 dim: -1 } }"),
        ("Reshape", "reshape_param { shape { dim: 0 dim: -1 dim: 1 dim: 2 } }"),
        ("Tile", f"tile_param {{ axis: {draft.integer(0, rank)} tiles: {draft.integer(1, 2)} }}"),
        ("Reduction", f"reduction_param {{ axis: {draft.integer(1, rank)} operation: MEAN coeff: 2 }}"),
        ("Permute", "permute_param { order: 0 order: 2 order: 1 }"),
        ("SPP", "spp_param { pyramid_height: 2 }"),
        ("Im2col", f"convolution_param {{ {_window(draft, 2)} }}"),
    ]
    kind, text = texts[draft.rng.integers(len(texts))]
    return kind, [bottom], text, 1


def inner_product(draft: Draft) -> Made | None:
    bottom = draft.pick(lambda blob, shape: len(shape) >= 2)
    if bottom is None:
        return None
    axis = draft.integer(1, len(draft.blobs[bottom]) - 1)
    more = ("transpose: true " if draft.chance(0.3) else "") + ("bias_term: false" if draft.chance(0.3) else "")
    text = f"num_output: {draft.integer(1, 5)} axis: {axis} {more}"
    return "InnerProduct", [bottom], f"inner_product_param {{ {text} }}", 1


def of_exact_values(draft: Draft) -> Made | None:
    """Layers that make a jump, over inputs alone: elsewhere a rounding would decide."""
    bottom = draft.pick(lambda blob, shape: blob in draft.exact and len(shape) > 1)
    kind = draft.one_of("Threshold", "ArgMax")
    return (str(kind), [bottom], "", 1) if bottom else None


def loss(draft: Draft) -> Made | None:
    one = draft.pick(lambda blob, shape: blob not in draft.exact and len(shape) == 2 and shape[1] > 1)
    if one is None:
        return None
    other = draft.pick(lambda _, s: s == draft.blobs[str(one)])
    kind = str(draft.one_of("SoftmaxWithLoss", "HingeLoss", "EuclideanLoss"))
    return kind, [one, str(other) if kind == "EuclideanLoss" else "label"], "", 1


KINDS = [
    *[convolution] * 3,
    *[elementwise] * 6,
    *[pooling, scale, eltwise] * 2,
    *[lrn, concat, slices, split, shaping, inner_product, of_exact_values],
]
SHARED_BY = {"InnerProduct": 2, "Convolution": 2, "Scale": 1, "PReLU": 1}
"""Types that may share their first parameters, and how many of them."""


PLAIN = [*[convolution] * 3, *[elementwise] * 3, lrn, eltwise, concat, inner_product]
"""Kinds that other readers of Caffe's files know as well."""


def definition(
    seed: int, layers: int = 9, kinds: Sequence[Callable[[Draft], Made | None]] = KINDS
) -> tuple[str, list[str]]:
    """Returns a net's text, and the blobs that hold whole numbers from 0 to 2 (labels)."""
    draft = Draft(np.random.default_rng(seed))
    batch = draft.integer(1, 3)
    shapes = [(batch, draft.integer(2, 4), draft.integer(3, 8), draft.integer(3, 8)), (batch, 3), (batch, 2, 5)]
    for name, shape in zip(("data", "row", "flat"), shapes[: draft.integer(1, 3)]):
        sizes = " ".join(f"dim: {size}" for size in shape)
        _add(draft, name, "Input", [], f"input_param {{ shape {{ {sizes} }} }}", [name])
        draft.exact.add(name)
    tries = 0
    while draft.count < layers and tries < 6 * layers:
        tries += 1
        made = kinds[draft.rng.integers(len(kinds))](draft)
        if made is not None:
            _try(draft, *made)
    if draft.chance(0.3):
        _add(draft, "label", "Input", [], f"input_param {{ shape {{ dim: {batch} }} }}", ["label"])
        made = loss(draft)
        if made is None or not _try(draft, *made):
            draft.texts.pop()
    return "\n".join(draft.texts), ["label"]


def _try(draft: Draft, kind: str, bottoms: list[str], parameters: str, tops: int) -> bool:
    """Adds a layer, and takes it out again where Caffe would refuse it; returns whether it stays."""
    name = f"l{draft.count}"
    names = [name if tops == 1 else f"{name}_{place}" for place in range(tops)]
    if tops == 1 and bottoms[0] in draft.open and draft.chance(0.4):
        names = [bottoms[0]]
    if kind in SHARED_BY and draft.chance(0.4):
        shared = "".join(f' param {{ name: "{kind}_{place}" }}' for place in range(SHARED_BY[kind]))
        if _add(draft, name, kind, bottoms, parameters + shared, names):
            return True
    return _add(draft, name, kind, bottoms, parameters, names)


def _add(draft: Draft, name: str, kind: str, bottoms: list[str], parameters: str, tops: list[str]) -> bool:
    read = "".join(f' bottom: "{bottom}"' for bottom in bottoms) + "".join(f' top: "{top}"' for top in tops)
    draft.texts.append(f'layer {{ name: "{name}" type: "{kind}"{read} {parameters} }}')
    try:
        shapes = infer(describe(parse_prototxt("\n".join(draft.texts)), Request()).network)
    except Refused:
        draft.texts.pop()
        return False
    draft.blobs.update({top: shape for layer in shapes for top, shape in zip(layer.node.tops, layer.tops)})
    draft.blobs = {blob: shape for blob, shape in draft.blobs.items() if not blob.endswith("prob")}
    draft.open -= set(bottoms)
    draft.open |= set(tops) if kind != "Input" else set()
    draft.exact -= set(tops)
    draft.count += kind != "Input"
    return True
