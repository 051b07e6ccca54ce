"""What a network says of the arrays that it is fed."""

from __future__ import annotations

import pytest

from graphs.layers.data import Input
from graphs.layers.loss import HingeLoss, MultinomialLogisticLoss
from graphs.network import Network, Node
from tools.train.arrays import label_ranges


@pytest.mark.parametrize("loss", [HingeLoss(), MultinomialLogisticLoss()])
def test_scores_of_one_axis_have_one_class(loss):
    inputs = [Node(blob, Input(((5,),)), (), (blob,)) for blob in ("scores", "label")]
    network = Network("net", (*inputs, Node("loss", loss, ("scores", "label"), ("loss",))), "TRAIN")
    assert label_ranges(network) == {"label": (1, None, str(network.nodes[-1]))}
