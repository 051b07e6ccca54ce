"""ROIPooling, bin by bin in C's float arithmetic, over boxes of every kind."""

from __future__ import annotations

import math

import numpy as np
import pytest

from graphs.layers.roi_pooling import ROIPooling

FLOAT = np.float32


def rounded(value: np.float32) -> int:
    """Returns what C's round does: halves away from zero."""
    whole = math.floor(abs(float(value)))
    whole += abs(float(value)) - whole >= 0.5
    return -whole if value < 0 else whole


def bins(first: int, last: int, count: int, limit: int) -> list[range]:
    size = FLOAT(max(last - first + 1, 1)) / FLOAT(count)
    found = []
    for i in range(count):
        start = int(np.floor(FLOAT(i) * size)) + first
        end = int(np.ceil(FLOAT(i + 1) * size)) + first
        found.append(range(min(max(start, 0), limit), min(max(end, 0), limit)))
    return found


def pooled(x, boxes, height, width, scale):
    boxes = boxes.reshape(-1, 5).astype(FLOAT)
    y = np.zeros((len(boxes), x.shape[1], height, width))
    for r, (picture, *corners) in enumerate(boxes):
        x1, y1, x2, y2 = (rounded(corner * FLOAT(scale)) for corner in corners)
        rows, columns = bins(y1, y2, height, x.shape[2]), bins(x1, x2, width, x.shape[3])
        for i, j in np.ndindex(height, width):
            if rows[i] and columns[j]:
                for c in range(x.shape[1]):
                    y[r, c, i, j] = max(x[int(picture), c, h, w] for h in rows[i] for w in columns[j])
    return y


def test_boxes_of_every_kind(rng, agree_everywhere):
    x = rng.standard_normal((2, 3, 13, 17)).astype(FLOAT)
    boxes = [
        (0, 0, 0, 16, 12),  # all of it
        (1, 3, 2, 9, 7),
        (1, 3, 2, 3, 2),  # a pixel
        (0, 9, 7, 3, 2),  # turned round: a pixel
        (0, -5, -4, 6, 5),  # hanging over
        (1, 10, 9, 30, 25),
        (0, -40, -40, -20, -20),  # outside
        (0, 40, 40, 60, 60),
        (1, 16, 12, 16, 12),  # the last pixel
    ]
    corners = rng.uniform(-6, 22, (40, 4))
    drawn = np.concatenate([rng.integers(0, 2, (40, 1)), corners], axis=1)
    boxes = np.concatenate([np.array(boxes), drawn]).astype(FLOAT)
    cases = {}
    for height, width in ((1, 1), (7, 7), (3, 2), (2, 5), (19, 23)):
        layer = ROIPooling(height, width)
        cases[f"{height}x{width}"] = (layer, [x, boxes], pooled(x, boxes, height, width, 1.0))
    scaled = boxes * np.array([1, 16, 16, 16, 16], FLOAT)
    for scale in (0.0625, 0.07):
        cases[f"scale {scale}"] = (ROIPooling(3, 5, scale), [x, scaled], pooled(x, scaled, 3, 5, scale))
    cases["boxes of rank 4"] = (ROIPooling(3, 5), [x, boxes.reshape(-1, 5, 1, 1)], pooled(x, boxes, 3, 5, 1.0))
    agree_everywhere(cases, tolerance=0, exact=0)


def test_halves_are_rounded_away_from_zero(rng, agree_everywhere):
    x = rng.standard_normal((1, 2, 11, 13)).astype(FLOAT)
    corners = [(a / 2, b / 2, a / 2 + 4.5, b / 2 + 5.5) for a in range(-9, 9) for b in range(-8, 8, 3)]
    boxes = np.array([(0, *box) for box in corners], FLOAT)
    cases = {"halves": (ROIPooling(2, 3), [x, boxes], pooled(x, boxes, 2, 3, 1.0))}
    nearly = np.array([(0, np.nextafter(FLOAT(0.5), FLOAT(0)), 2, 6, 7)], FLOAT)
    cases["just below a half"] = (ROIPooling(2, 3), [x, nearly], pooled(x, nearly, 2, 3, 1.0))
    agree_everywhere(cases, tolerance=0, exact=0)


def test_bins_fall_as_in_float32(agree_everywhere):
    # 7 bins of float32's 10/7 end above 10, so the last one reaches a pixel further; in float64 it would not.
    x = np.arange(61 * 53, dtype=FLOAT).reshape(1, 1, 61, 53)
    boxes = np.array([(0, 1, 2, 1 + w, 2 + w) for w in range(51)], FLOAT)
    cases = {
        f"{count} bins": (ROIPooling(count, count), [x, boxes], pooled(x, boxes, count, count, 1.0))
        for count in (3, 5, 6, 7, 9, 14)
    }
    agree_everywhere(cases, tolerance=0, exact=0)


def test_pictures_of_one_row_or_column(rng, agree_everywhere):
    cases = {}
    for shape in ((2, 3, 1, 1), (2, 3, 1, 7), (2, 3, 5, 1), (2, 3, 2, 4)):
        x = rng.standard_normal(shape).astype(FLOAT)
        boxes = np.array([(0, 0, 0, 3, 2), (1, 0, 0, 0, 0), (1, -2, 0, 6, 4)], FLOAT)
        cases[str(shape)] = (ROIPooling(2, 3), [x, boxes], pooled(x, boxes, 2, 3, 1.0))
    agree_everywhere(cases, tolerance=0, exact=0)


@pytest.mark.parametrize(
    ("layer", "shapes", "reason"),
    [
        (ROIPooling(0, 3), [(2, 3, 5, 7), (11, 5)], "pooled_h is 0 and pooled_w 3"),
        (ROIPooling(2, 3), [(2, 3, 5, 7), (11, 4)], "boxes have the shape 11x4; expected 5 values each"),
        (ROIPooling(2, 3), [(2, 3, 5), (11, 5)], "expected four axes"),
    ],
)
def test_refuses(layer, shapes, reason):
    with pytest.raises(ValueError, match=reason):
        layer.top_shapes(*shapes)
