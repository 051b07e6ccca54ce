"""Eltwise: sum, product or maximum of blobs of one shape."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from graphs.layer import MANY, Layer, Site, Tensor, layer, spell
from weights import Shape


@layer("Eltwise", "eltwise_param")
@dataclass(frozen=True)
class Eltwise(Layer):
    """Caffe's EltwiseLayer. ``coeff`` weighs the bottoms of a SUM."""

    bottoms = (2, MANY)
    without_effect = frozenset({"stable_prod_grad"})
    note = "SUM with coeff, PROD, MAX"

    operation: str = "SUM"
    coeff: tuple[float, ...] = ()

    def top_shapes(self, *bottoms: Shape) -> Shape:
        if len(set(bottoms)) > 1:
            raise ValueError(f"its bottoms have the shapes {', '.join(map(spell, bottoms))}; Caffe wants one shape")
        if self.coeff and self.operation == "PROD":
            raise ValueError("sets coeff beside operation PROD, which Caffe refuses; take coeff out")
        if self.coeff and len(self.coeff) != len(bottoms):
            raise ValueError(f"has {len(self.coeff)} coeff values for {len(bottoms)} bottoms; Caffe wants one for each")
        return bottoms[0]

    def notes(self, *bottoms: Shape) -> Iterator[str]:
        if self.coeff and self.operation == "MAX":
            yield "sets coeff, which Caffe ignores with operation MAX"

    def works_in_place(self, *bottoms: Shape) -> bool:
        return self.operation == "PROD"  # the others clear their top first

    def hides(self, bottoms: int) -> bool:
        return self.operation != "SUM"  # x * sigmoid(x), and the larger of x and a multiple of it

    def reference(self, *bottoms: np.ndarray) -> np.ndarray:
        if self.operation == "PROD":
            return np.prod(bottoms, axis=0)
        if self.operation == "MAX":
            return np.max(bottoms, axis=0)
        coefficients = self.coeff or (1.0,) * len(bottoms)
        return np.sum([c * x for c, x in zip(coefficients, bottoms)], axis=0)

    def emit(self, tf: Any, site: Site, *bottoms: Tensor) -> Tensor:
        if self.operation != "SUM":
            combine = tf.multiply if self.operation == "PROD" else tf.maximum
            if self.operation == "MAX":  # of two equal ones the second learns in Caffe
                bottoms = (bottoms[1], bottoms[0], *bottoms[2:])
            return combine(reduce(combine, bottoms[:-1]), bottoms[-1], name=site.name)
        if any(c != 1 for c in self.coeff):
            bottoms = tuple(x if c == 1 else tf.multiply(x, c) for c, x in zip(self.coeff, bottoms))
        if len(bottoms) == 2:
            return tf.add(*bottoms, name=site.name)
        return tf.add_n(list(bottoms), name=site.name)
