"""DetectionOutput: SSD's predictions decoded, and those that overlap better ones dropped."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphs.channels_last import to_caffe_order
from graphs.layer import Layer, Site, Tensor, layer, spell
from weights import Shape


@dataclass(frozen=True)
class NonMaximumSuppression:
    """SSD's NonMaximumSuppressionParameter."""

    nms_threshold: float = 0.3
    top_k: int | None = None
    eta: float = 1.0


@layer("DetectionOutput", "detection_output_param")
@dataclass(frozen=True)
class DetectionOutput(Layer):
    """SSD's DetectionOutputLayer over offsets (N, priors * 4, or priors * classes * 4), confidences (N, priors *
    classes) and the priors of PriorBox.

    Of each class but the background's, boxes above ``confidence_threshold`` are taken from the best down, at most
    ``nms_param.top_k``, but for those that overlap one taken before by more than ``nms_param.nms_threshold`` of their
    union. Of a picture's, the best ``keep_top_k`` remain. The top is 1, 1, K, 7 with rows (picture, class, confidence,
    xmin, ymin, xmax, ymax), by picture, class and falling confidence. Without any, a row for each picture has -1 after
    its number. Between equal confidences, the earlier prior and the lower class come first; SSD's own code leaves the
    latter open.
    """

    bottoms = (3, 3)
    without_effect = frozenset({"save_output_param", "save_file", "visualize", "visualize_threshold"})
    note = "SSD; all code types, eta 1; as many rows as it finds"
    fixes_batch = True
    sized_by_values = (2,)

    num_classes: int = 0
    share_location: bool = True
    background_label_id: int = 0
    nms_param: NonMaximumSuppression = NonMaximumSuppression()
    code_type: str = "CORNER"
    keep_top_k: int = -1
    variance_encoded_in_target: bool = False
    confidence_threshold: float | None = None

    def top_shapes(self, offsets: Shape, confidences: Shape, priors: Shape) -> Shape:
        self._check()
        if len(priors) != 3 or priors[:2] != (1, 2) or priors[2] % 4:
            raise ValueError(f"its priors have the shape {spell(priors)}; expected 1x2xK, K four times their number")
        count = priors[2] // 4
        wanted = (count * 4 * (1 if self.share_location else self.num_classes), count * self.num_classes)
        for name, shape, size in zip(("offsets", "confidences"), (offsets, confidences), wanted):
            if len(shape) < 2 or shape[0] != offsets[0] or math.prod(shape[1:]) != size:
                raise ValueError(f"its {name} have the shape {spell(shape)}; expected {offsets[0]}x{size}")
        return (1, 1, -1, 7)

    def _check(self) -> None:
        nms = self.nms_param
        if self.num_classes < 1:
            raise ValueError(f"num_classes is {self.num_classes}; expected 1 or more")
        if nms.eta != 1:
            raise ValueError(f"eta is {nms.eta:g}, which moves nms_threshold from box to box; only 1 is supported")
        if nms.nms_threshold < 0:
            raise ValueError(f"nms_threshold is {nms.nms_threshold:g}; SSD wants 0 or more")
        if self.share_location and self.background_label_id == -1:
            raise ValueError("background_label_id -1 with share_location: SSD finds no boxes then, and stops")
        if not self._classes:
            raise ValueError("the background is its only class; expected one more")

    @property
    def _classes(self) -> list[int]:
        return [label for label in range(self.num_classes) if label != self.background_label_id]

    @property
    def _threshold(self) -> float:
        return -math.inf if self.confidence_threshold is None else self.confidence_threshold

    def _candidates(self, priors: int) -> int:
        """Returns how many boxes of a class are looked at."""
        top_k = self.nms_param.top_k
        return priors if top_k is None or top_k < 0 else min(top_k, priors)

    def reference(self, offsets: np.ndarray, confidences: np.ndarray, priors: np.ndarray) -> np.ndarray:
        pictures, count = len(offsets), priors.shape[2] // 4
        offsets = offsets.reshape(pictures, count, -1, 4)
        confidences = confidences.reshape(pictures, count, self.num_classes)
        boxes, variances = priors.reshape(2, count, 4)
        found = []
        for picture in range(pictures):
            rows = []
            for label in self._classes:
                own = offsets[picture, :, 0 if self.share_location else label]
                decoded = [self._decoded(*prior) for prior in zip(boxes, variances, own)]
                scores = confidences[picture, :, label]
                rows += [[picture, label, scores[i], *decoded[i]] for i in self._taken(decoded, scores)]
            if -1 < self.keep_top_k < len(rows):
                best = sorted(range(len(rows)), key=lambda row: -rows[row][2])[: self.keep_top_k]
                rows = [rows[row] for row in sorted(best)]
            found += rows
        if not found:
            found = [[picture, *[-1] * 6] for picture in range(pictures)]
        return np.array(found, offsets.dtype)[None, None]

    def _decoded(self, prior: np.ndarray, variance: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """Returns the box that a prediction stands for."""
        moved = offset if self.variance_encoded_in_target else variance * offset
        size = np.array([prior[2] - prior[0], prior[3] - prior[1]])
        if self.code_type == "CORNER":
            return prior + moved
        if self.code_type == "CORNER_SIZE":
            return prior + moved * np.concatenate([size, size])
        middle = (prior[:2] + prior[2:]) / 2 + moved[:2] * size
        half = np.exp(moved[2:]) * size / 2
        return np.concatenate([middle - half, middle + half])

    def _taken(self, boxes: list[np.ndarray], scores: np.ndarray) -> list[int]:
        """Returns the boxes of one class that remain, the best first."""
        # A confidence that is just the threshold is none above it; both are float32 in Caffe.
        least, most = float(np.float32(self._threshold)), float(np.float32(self.nms_param.nms_threshold))
        order = [i for i in np.argsort(-scores, kind="stable") if scores[i] > least]
        taken: list[int] = []
        for i in order[: self._candidates(len(boxes))]:
            if all(_overlap(boxes[i], boxes[other]) <= most for other in taken):
                taken.append(i)
        return taken

    def emit(self, tf: Any, site: Site, offsets: Tensor, confidences: Tensor, priors: Tensor) -> Tensor:
        pictures, count, classes = site.bottom[0], site.bottoms[2][2] // 4, self.num_classes
        offsets, confidences = (
            tf.reshape(to_caffe_order(tf, blob, shape), [pictures, count, -1, size])
            for blob, shape, size in zip((offsets, confidences), site.bottoms, (4, 1))
        )
        boxes = self._emit_decoded(tf, offsets, tf.reshape(priors, [2, 1, count, 1, 4]))
        by_class = tf.reshape(tf.transpose(confidences, [0, 2, 1, 3]), [pictures, classes, count])
        scores, order = tf.math.top_k(by_class, self._candidates(count))
        if self.share_location:
            boxes = tf.gather(tf.squeeze(boxes, 2), order, batch_dims=1)
        else:
            boxes = tf.gather(tf.transpose(boxes, [0, 2, 1, 3]), order, batch_dims=2)
        number = tf.reshape(tf.range(float(pictures)), [pictures, 1, 1, 1])
        label = tf.reshape(tf.range(float(classes)), [1, classes, 1, 1])
        scores = tf.expand_dims(scores, 3)
        zeros = tf.zeros_like(scores)
        rows = tf.concat([tf.add(zeros, number), tf.add(zeros, label), scores, boxes], axis=3)
        found = [self._emit_kept(tf, picture) for picture in tf.split(rows, pictures, axis=0)]
        all_rows = tf.concat(found, axis=0)
        # Where there is none, a row for each picture takes their place.
        absent = [[float(picture), *[-1.0] * 6] for picture in range(pictures)]
        absent_count = tf.multiply(tf.cast(tf.equal(tf.size(all_rows), 0), tf.int32), pictures)
        all_rows = tf.concat([all_rows, tf.gather(tf.constant(absent), tf.range(absent_count))], axis=0)
        return tf.reshape(all_rows, [1, -1, 7, 1], name=site.name)

    def _emit_decoded(self, tf: Any, offsets: Tensor, priors: Tensor) -> Tensor:
        """Returns boxes like ``offsets`` (pictures, priors, 1 or classes, 4); ``priors`` are boxes over variances."""
        boxes, variances = (tf.squeeze(part, 0) for part in tf.split(priors, 2, axis=0))
        moved = offsets if self.variance_encoded_in_target else tf.multiply(offsets, variances)
        if self.code_type == "CORNER":
            return tf.add(boxes, moved)
        low, high = tf.split(boxes, 2, axis=3)
        size = tf.subtract(high, low)
        if self.code_type == "CORNER_SIZE":
            return tf.add(boxes, tf.multiply(moved, tf.concat([size, size], axis=3)))
        shift, growth = tf.split(moved, 2, axis=3)
        middle = tf.add(tf.multiply(tf.add(low, high), 0.5), tf.multiply(shift, size))
        half = tf.multiply(tf.multiply(tf.exp(growth), size), 0.5)
        return tf.concat([tf.subtract(middle, half), tf.add(middle, half)], axis=3)

    def _emit_kept(self, tf: Any, rows: Tensor) -> Tensor:
        """Returns the rows of one picture that remain; ``rows`` are (1, classes, candidates, 7), the best first."""
        by_class = tf.split(rows, self.num_classes, axis=1)
        kept = tf.concat([self._emit_taken(tf, by_class[label]) for label in self._classes], axis=0)
        if self.keep_top_k < 0:
            return kept
        scores = tf.gather(kept, 2, axis=1)
        _, best = tf.math.top_k(scores, tf.minimum(tf.size(scores), self.keep_top_k))
        return tf.gather(kept, tf.sort(best))

    def _emit_taken(self, tf: Any, rows: Tensor) -> Tensor:
        """Returns the rows of one class that remain."""
        rows = tf.squeeze(rows, [0, 1])
        _, scores, low, high = tf.split(rows, [2, 1, 2, 2], axis=1)
        if self.code_type != "CENTER_SIZE":  # a box turned inside out overlaps none; TensorFlow would turn it back
            high = tf.maximum(low, high)
        scores = tf.reshape(scores, [-1])
        taken = tf.image.non_max_suppression(
            tf.concat([low, high], axis=1),
            scores,
            tf.size(scores),
            iou_threshold=min(self.nms_param.nms_threshold, 1.0),
            score_threshold=self._threshold,
        )
        return tf.gather(rows, taken)


def _overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Returns the share of two boxes' union in which they overlap."""
    width, height = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    if width <= 0 or height <= 0:
        return 0
    shared = width * height
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return shared / (sum(areas) - shared)
