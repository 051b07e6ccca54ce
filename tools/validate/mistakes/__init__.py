"""The classic mistakes of ports: each a few lines that say what a network computes where it was made."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tools.validate.mistakes.activations import dropout_mistakes, relu_mistakes, softmax_added, softmax_mistakes
from tools.validate.mistakes.inputs import fitted_input, input_mistakes, two_input_mistakes
from tools.validate.mistakes.lrn import fitted_lrn, lrn_mistakes
from tools.validate.mistakes.normalization import batch_norm, fitted_eps, scale_layer
from tools.validate.mistakes.order import doubled, left_out, passed_over, swapped
from tools.validate.mistakes.scene import Scene, Step, Variant
from tools.validate.mistakes.weights_laid import (
    biases,
    flattened_order,
    group_order,
    permuted_channels,
    transposed_weights,
)
from tools.validate.mistakes.windows_over import convolution_padding, pooling_windows

Mistake = Callable[[Scene, Step], Iterator[Variant]]
"""Yields what a port may have made of a step; nothing where it does not apply."""

MISTAKES: tuple[Mistake, ...] = (
    input_mistakes,
    convolution_padding,
    pooling_windows,
    lrn_mistakes,
    group_order,
    flattened_order,
    transposed_weights,
    batch_norm,
    scale_layer,
    relu_mistakes,
    softmax_mistakes,
    softmax_added,
    dropout_mistakes,
    biases,
    swapped,
    left_out,
    doubled,
    passed_over,
)
"""What is tried, the likeliest first."""

FITTED: tuple[Mistake, ...] = (fitted_input, fitted_lrn, fitted_eps, permuted_channels)
"""What is tried where none of those fits: the port's own values say which numbers it used."""

COMBINED: tuple[Mistake, ...] = (two_input_mistakes,)
"""What is tried where nothing fits yet: recipes that err more than once before the first layer."""

__all__ = ["COMBINED", "FITTED", "MISTAKES", "Mistake", "Scene", "Step", "Variant"]
