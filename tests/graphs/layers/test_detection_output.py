"""DetectionOutput, box by box in the order of SSD's code, and OpenCV's layer of that name."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest

from graphs import infer
from graphs.layers.data import Input
from graphs.layers.detection_output import DetectionOutput, NonMaximumSuppression
from graphs.layers.elementwise import ReLU
from graphs.network import Network, Node
from weights import Refused

PICTURES, PRIORS, CLASSES = 2, 53, 5


def decoded(layer, prior, variance, offset):
    xmin, ymin, xmax, ymax = map(float, prior)
    v = [1.0] * 4 if layer.variance_encoded_in_target else list(map(float, variance))
    o = list(map(float, offset))
    width, height = xmax - xmin, ymax - ymin
    if layer.code_type == "CORNER":
        return [p + a * b for p, a, b in zip((xmin, ymin, xmax, ymax), v, o)]
    if layer.code_type == "CORNER_SIZE":
        sizes = (width, height, width, height)
        return [p + a * b * size for p, a, b, size in zip((xmin, ymin, xmax, ymax), v, o, sizes)]
    x, y = v[0] * o[0] * width + (xmin + xmax) / 2, v[1] * o[1] * height + (ymin + ymax) / 2
    w, h = math.exp(v[2] * o[2]) * width, math.exp(v[3] * o[3]) * height
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def area(box):
    return 0 if box[2] < box[0] or box[3] < box[1] else (box[2] - box[0]) * (box[3] - box[1])


def overlap(a, b):
    if b[0] > a[2] or b[2] < a[0] or b[1] > a[3] or b[3] < a[1]:
        return 0
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0
    return width * height / (area(a) + area(b) - width * height)


def by_the_letter(layer, offsets, confidences, priors):
    pictures, classes, count = len(offsets), layer.num_classes, priors.shape[2] // 4
    boxes, variances = priors.reshape(2, count, 4)
    rows = []
    for n in range(pictures):
        scores = confidences[n].reshape(count, classes)
        kept = []
        for label in range(classes):
            if label == layer.background_label_id:
                continue
            own = offsets[n].reshape(count, -1, 4)[:, 0 if layer.share_location else label]
            placed = [decoded(layer, *one) for one in zip(boxes, variances, own)]
            threshold = -math.inf if layer.confidence_threshold is None else layer.confidence_threshold
            order = [i for i in range(count) if scores[i, label] > np.float32(threshold)]
            order.sort(key=lambda i: -scores[i, label])  # stable, as SSD's
            top_k = layer.nms_param.top_k
            if top_k is not None and top_k > -1:
                order = order[:top_k]
            taken = []
            for i in order:
                if all(overlap(placed[i], placed[j]) <= layer.nms_param.nms_threshold for j in taken):
                    taken.append(i)
            kept += [(label, i, float(scores[i, label]), placed[i]) for i in taken]
        if layer.keep_top_k > -1 and len(kept) > layer.keep_top_k:
            best = sorted(kept, key=lambda one: -one[2])[: layer.keep_top_k]
            kept = [one for one in kept if one in best]
        rows += [[n, label, score, *box] for label, _, score, box in kept]
    if not rows:
        rows = [[n, *[-1] * 6] for n in range(pictures)]
    return np.array(rows, float)[None, None]


def drawn(rng, share_location=True):
    """Returns offsets, confidences that are all different, and crowded priors with their variances."""
    low = rng.uniform(0, 0.6, (PRIORS, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.15, 0.4, (PRIORS, 2))], axis=1)
    variances = np.tile([0.1, 0.15, 0.2, 0.25], (PRIORS, 1))
    priors = np.stack([boxes.reshape(-1), variances.reshape(-1)])[None]
    offsets = rng.standard_normal((PICTURES, PRIORS * 4 * (1 if share_location else CLASSES)))
    scores = rng.permutation(PICTURES * PRIORS * CLASSES) / (PICTURES * PRIORS * CLASSES)
    return [array.astype(np.float32) for array in (offsets, scores.reshape(PICTURES, -1), priors)]


PLAIN = DetectionOutput(
    num_classes=CLASSES, code_type="CENTER_SIZE", confidence_threshold=0.3, nms_param=NonMaximumSuppression(0.45)
)
LAYERS = {
    "plain": PLAIN,
    "no threshold": replace(PLAIN, confidence_threshold=None),
    "top_k": replace(PLAIN, nms_param=NonMaximumSuppression(0.45, top_k=7)),
    "more top_k than priors": replace(PLAIN, nms_param=NonMaximumSuppression(0.45, top_k=400)),
    "no overlap at all": replace(PLAIN, nms_param=NonMaximumSuppression(0.0)),
    "every overlap": replace(PLAIN, nms_param=NonMaximumSuppression(1.5)),
    "defaults of nms_param": replace(PLAIN, nms_param=NonMaximumSuppression()),
    "keep_top_k": replace(PLAIN, keep_top_k=11),
    "keep more than there are": replace(PLAIN, keep_top_k=1000),
    "another background": replace(PLAIN, background_label_id=3),
    "variance in target": replace(PLAIN, variance_encoded_in_target=True),
    "corners": replace(PLAIN, code_type="CORNER"),
    "corners, variance in target": replace(PLAIN, code_type="CORNER", variance_encoded_in_target=True),
    "corners by size": replace(PLAIN, code_type="CORNER_SIZE"),
    "corners by size, variance in target": replace(PLAIN, code_type="CORNER_SIZE", variance_encoded_in_target=True),
    "boxes per class": replace(PLAIN, share_location=False),
    "boxes per class, no background": replace(PLAIN, share_location=False, background_label_id=-1),
    "no background within": replace(PLAIN, background_label_id=CLASSES),
    "none above the threshold": replace(PLAIN, confidence_threshold=1.0),
}


def test_detection_output_by_the_letter(rng, agree_everywhere):
    cases = {}
    for what, layer in LAYERS.items():
        bottoms = drawn(rng, layer.share_location)
        cases[what] = (layer, bottoms, by_the_letter(layer, *bottoms))
    assert cases["none above the threshold"][2].shape == (1, 1, PICTURES, 7)
    offsets, confidences, priors = drawn(rng)
    confidences[0] *= 0.2
    expected = by_the_letter(PLAIN, offsets, confidences, priors)
    assert set(expected[0, 0, :, 0]) == {1}
    cases["a picture without any"] = (PLAIN, [offsets, confidences, priors], expected)
    agree_everywhere(cases, free=False)


def test_bottoms_of_rank_4(rng, agree_everywhere):
    offsets, confidences, priors = drawn(rng)
    expected = by_the_letter(PLAIN, offsets, confidences, priors)
    shaped = [offsets.reshape(PICTURES, -1, 1, 1), confidences.reshape(PICTURES, PRIORS, CLASSES, 1), priors]
    agree_everywhere({"rank 4": (PLAIN, shaped, expected)}, free=False)


def test_a_confidence_at_the_threshold_is_not_above_it(rng, agree_everywhere):
    offsets, confidences, priors = drawn(rng)
    confidences[0, ::3] = np.float32(0.3)  # a little more than 0.3 in float64
    expected = by_the_letter(PLAIN, offsets, confidences, priors)
    assert not (expected[0, 0, :, 2] == np.float32(0.3)).any()
    agree_everywhere({"0.3": (PLAIN, [offsets, confidences, priors], expected)}, free=False)


def test_equal_confidences_go_by_the_order_of_priors(rng, agree_everywhere):
    offsets, confidences, priors = drawn(rng)
    confidences = (np.round(confidences * 4) / 4).astype(np.float32)
    cases = {}
    for what in ("plain", "top_k", "no overlap at all"):
        layer = LAYERS[what]
        cases[what] = (layer, [offsets, confidences, priors], by_the_letter(layer, offsets, confidences, priors))
    agree_everywhere(cases, free=False)


def test_every_field_matters(rng):
    bottoms = drawn(rng)
    plain = by_the_letter(PLAIN, *bottoms)
    without = {"plain", "more top_k than priors", "keep more than there are"}
    for what, layer in LAYERS.items():
        if layer.share_location and what not in without:
            found = layer.reference(*(bottom.astype(float) for bottom in bottoms))
            assert found.shape != plain.shape or not np.allclose(found, plain), what


@pytest.mark.parametrize("code", ["CENTER_SIZE", "CORNER"])
def test_detection_output_as_in_opencv(rng, agree_everywhere, code):
    offsets, confidences, priors = drawn(rng)
    shapes = zip("lcp", (offsets.shape, confidences.shape, priors.shape))
    inputs = [
        f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ '
        + " ".join(f"dim: {size}" for size in shape)
        + " } } }"
        for name, shape in shapes
    ]
    text = (
        "\n".join(inputs)
        + f"""
        layer {{ name: "y" type: "DetectionOutput" bottom: "l" bottom: "c" bottom: "p" top: "y"
                 detection_output_param {{ num_classes: {CLASSES} share_location: true background_label_id: 0
                    nms_param {{ nms_threshold: 0.45 top_k: 40 }} code_type: {code} keep_top_k: 30
                    confidence_threshold: 0.3 }} }}"""
    )
    net = cv2.dnn.readNetFromCaffe(bytearray(text.encode()))
    for name, array in zip("lcp", (offsets, confidences, priors)):
        net.setInput(array, name)
    found = net.forward()[0, 0]  # a picture's in the order of falling confidence, whatever the class
    found = found[np.lexsort((-found[:, 2], found[:, 1], found[:, 0]))][None, None]
    layer = replace(PLAIN, code_type=code, keep_top_k=30, nms_param=NonMaximumSuppression(0.45, 40))
    agree_everywhere({code: (layer, [offsets, confidences, priors], found)}, free=False, exact=1e-6)


def network(*more: Node) -> Network:
    inputs = {"l": (2, 212), "c": (2, 265), "p": (1, 2, 212)}
    nodes = [Node(blob, Input((shape,)), (), (blob,)) for blob, shape in inputs.items()]
    return Network("ssd", (*nodes, Node("found", PLAIN, ("l", "c", "p"), ("found",)), *more))


def test_the_number_of_rows_is_open_and_the_batch_is_not():
    shapes = infer(network())
    assert not shapes.free_batch
    assert shapes.layers[-1].open_tops == ((1, 1, -1, 7),)


def test_no_layer_can_read_it():
    with pytest.raises(Refused, match="bottom 'found' has the shape 1x1xNx7"):
        infer(network(Node("relu", ReLU(), ("found",), ("relu",))))


SHAPES = [(2, 212), (2, 265), (1, 2, 212)]


@pytest.mark.parametrize(
    ("layer", "shapes", "reason"),
    [
        (DetectionOutput(), SHAPES, "num_classes is 0"),
        (replace(PLAIN, nms_param=NonMaximumSuppression(eta=0.9)), SHAPES, "eta is 0.9, .*only 1 is supported"),
        (replace(PLAIN, nms_param=NonMaximumSuppression(-0.1)), SHAPES, "nms_threshold is -0.1"),
        (replace(PLAIN, background_label_id=-1), SHAPES, "background_label_id -1 with share_location"),
        (replace(PLAIN, num_classes=1), SHAPES, "the background is its only class"),
        (PLAIN, [(2, 212), (2, 265), (1, 212)], "priors have the shape 1x212"),
        (PLAIN, [(2, 211), (2, 265), (1, 2, 212)], "offsets have the shape 2x211; expected 2x212"),
        (PLAIN, [(2, 212), (2, 212), (1, 2, 212)], "confidences have the shape 2x212; expected 2x265"),
        (PLAIN, [(2, 212), (3, 265), (1, 2, 212)], "confidences have the shape 3x265; expected 2x265"),
        (replace(PLAIN, share_location=False), SHAPES, "offsets have the shape 2x212; expected 2x1060"),
    ],
)
def test_refuses(layer, shapes, reason):
    with pytest.raises(ValueError, match=reason):
        layer.top_shapes(*shapes)
