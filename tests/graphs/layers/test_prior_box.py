"""PriorBox, box by box in the order of SSD's code, and OpenCV's layer of that name."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from graphs.layers.prior_box import PriorBox

FEATURES, PICTURE = (1, 5, 3, 7), (1, 3, 61, 89)


def by_the_letter(layer: PriorBox, features=FEATURES, picture=PICTURE):
    """Returns SSD's boxes, written after the loops of its forward pass."""
    ratios = [1.0]
    for ratio in layer.aspect_ratio:
        if all(abs(ratio - known) >= 1e-6 for known in ratios):
            ratios.append(ratio)
            if layer.flip:
                ratios.append(1 / ratio)
    height, width = picture[2:]
    if layer.img_size:
        height = width = layer.img_size
    if layer.img_h:
        height, width = layer.img_h, layer.img_w
    step_h, step_w = height / features[2], width / features[3]
    if layer.step:
        step_h = step_w = layer.step
    if layer.step_h:
        step_h, step_w = layer.step_h, layer.step_w
    boxes = []
    for h in range(features[2]):
        for w in range(features[3]):
            x, y = (w + layer.offset) * step_w, (h + layer.offset) * step_h
            for s, size in enumerate(layer.min_size):
                own = [(int(size), int(size))]
                if layer.max_size:
                    mean = math.sqrt(int(size) * int(layer.max_size[s]))
                    own.append((mean, mean))
                for ratio in ratios[1:]:
                    own.append((int(size) * math.sqrt(ratio), int(size) / math.sqrt(ratio)))
                for box_w, box_h in own:
                    box = [(x - box_w / 2) / width, (y - box_h / 2) / height]
                    box += [(x + box_w / 2) / width, (y + box_h / 2) / height]
                    boxes += [min(max(edge, 0), 1) for edge in box] if layer.clip else box
    variance = layer.variance or (0.1,)
    return np.array([[boxes, [variance[i % len(variance)] for i in range(len(boxes))]]])


LAYERS = {
    "a size": PriorBox((30.0,)),
    "two sizes": PriorBox((30.0, 45.0), (50.0, 70.0), (2.0, 3.0)),
    "ratios": PriorBox((30.0,), (), (2.0,)),
    "ratios not flipped": PriorBox((30.0,), (60.0,), (2.0, 3.0), flip=False),
    "ratios twice, and one": PriorBox((30.0,), (60.0,), (2.0, 1.0, 2.0, 0.5, 3.0)),
    "clipped": PriorBox((30.0,), (60.0,), (2.0,), clip=True),
    "a variance": PriorBox((30.0,), variance=(0.3,)),
    "four variances": PriorBox((30.0,), variance=(0.1, 0.15, 0.2, 0.25)),
    "img_size": PriorBox((30.0,), img_size=300),
    "img_h, img_w": PriorBox((30.0,), img_h=200, img_w=310),
    "step": PriorBox((30.0,), step=16.0),
    "step_h, step_w": PriorBox((30.0,), step_h=8.0, step_w=16.5),
    "offset": PriorBox((30.0,), offset=0.3),
    "sizes cut to whole numbers": PriorBox((30.9,), (60.7,), (2.0,)),
}


def test_prior_box_by_the_letter(rng, agree_everywhere):
    x, picture = rng.standard_normal(FEATURES), rng.standard_normal(PICTURE)
    cases = {what: (layer, [x, picture], by_the_letter(layer)) for what, layer in LAYERS.items()}
    agree_everywhere(cases)


def test_prior_box_over_a_row_and_over_a_column(rng, agree_everywhere):
    cases = {}
    for height, width in ((1, 7), (1, 2), (5, 1), (1, 1)):
        features = (1, 5, height, width)
        bottoms = [rng.standard_normal(features), rng.standard_normal(PICTURE)]
        for name, layer in LAYERS.items():
            cases[f"{name}, {height} x {width}"] = layer, bottoms, by_the_letter(layer, features)
    agree_everywhere(cases)


def test_every_field_moves_the_boxes():
    plain = by_the_letter(LAYERS["a size"])
    for what, layer in LAYERS.items():
        same = layer.reference(np.zeros(FEATURES), np.zeros(PICTURE))
        assert what == "a size" or same.shape != plain.shape or not np.allclose(same, plain), what


def test_prior_box_as_in_opencv(agree_everywhere):
    # OpenCV knows neither sizes that are cut nor a missing variance, and takes one step for both axes.
    fields = "min_size: 30 max_size: 60 aspect_ratio: 2 aspect_ratio: 3 flip: true clip: false step: 16 offset: 0.5 "
    fields += "variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2"
    text = f"""
        layer {{ name: "x" type: "Input" top: "x" input_param {{ shape {{ dim: 1 dim: 5 dim: 3 dim: 7 }} }} }}
        layer {{ name: "p" type: "Input" top: "p" input_param {{ shape {{ dim: 1 dim: 3 dim: 61 dim: 89 }} }} }}
        layer {{ name: "y" type: "PriorBox" bottom: "x" bottom: "p" top: "y" prior_box_param {{ {fields} }} }}"""
    net = cv2.dnn.readNetFromCaffe(bytearray(text.encode()))
    x, picture = np.zeros(FEATURES, np.float32), np.zeros(PICTURE, np.float32)
    net.setInput(x, "x")
    net.setInput(picture, "p")
    layer = PriorBox((30.0,), (60.0,), (2.0, 3.0), step=16.0, variance=(0.1, 0.1, 0.2, 0.2))
    agree_everywhere({"OpenCV": (layer, [x, picture], net.forward())}, exact=1e-6)


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (PriorBox(), "min_size is not given"),
        (PriorBox((0.5,)), "min_size is 0.5; expected one or more, of 1 or more"),
        (PriorBox((30.0, 40.0), (50.0,)), "has 1 max_size for 2 min_size"),
        (PriorBox((30.0,), (30.0,)), "max_size 30 is not above min_size 30"),
        (PriorBox((30.0,), (), (0.0,)), "aspect_ratio is 0; expected more than 0"),
        (PriorBox((30.0,), variance=(0.1, 0.2)), "variance is 0.1, 0.2; expected one or four"),
        (PriorBox((30.0,), img_size=300, img_h=300, img_w=300), "sets both img_size and one of img_h and img_w"),
        (PriorBox((30.0,), img_h=300), "sets only one of img_h and img_w"),
        (PriorBox((30.0,), step=8.0, step_w=8.0), "sets both step and one of step_h and step_w"),
        (PriorBox((30.0,), step=0.0), "step is 0x0; expected more than 0"),
    ],
)
def test_refuses(layer, reason):
    with pytest.raises(ValueError, match=reason):
        layer.top_shapes(FEATURES, PICTURE)
