"""What the family's tests share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from graphs.tensorflow1 import tensorflow1


@pytest.fixture
def tf() -> Iterator[Any]:
    """TensorFlow, with a graph of its own for the test."""
    module = tensorflow1("the tests")
    with module.Graph().as_default():
        yield module
