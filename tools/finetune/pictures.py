"""What is fed: the training pictures of an epoch, and all pictures of a set as they are tested."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tools.dataset import Examples, Faults, Preparation, batches

Batch = tuple[np.ndarray, np.ndarray]
"""Pictures, float32 (N, H, W, C), and labels, int64 (N,)."""


@dataclass(frozen=True, eq=False)
class Pictures:
    """A set of pictures in batches of ``batch``."""

    examples: Examples
    preparation: Preparation
    batch: int
    faults: Faults
    seed: int = 0
    threads: int | None = None

    @property
    def per_epoch(self) -> int:
        """Batches of an epoch; the last may be smaller."""
        return -(-self.examples.count // self.batch)

    def training(self, epoch: int, position: int = 0) -> Iterator[Batch]:
        """Yields an epoch's batches from number ``position`` on, cropped, mirrored and ordered at random, the same for
        the same ``seed`` and epoch."""
        return self._fed(training=True, seed=self.seed, epoch=epoch, start=position * self.batch)

    def testing(self) -> Iterator[Batch]:
        """Yields all pictures once, their middles, in the set's order."""
        return self._fed(training=False)

    def _fed(self, **asked: Any) -> Iterator[Batch]:
        dataset = batches(
            self.examples, self.preparation, self.batch, threads=self.threads, faults=self.faults, **asked
        )
        with self.faults.raised():
            for images, labels, _ in dataset.as_numpy_iterator():
                yield images, labels
