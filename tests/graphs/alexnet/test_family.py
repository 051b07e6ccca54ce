"""What the registry says of each variant agrees with what its source publishes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from graphs.alexnet import FAMILY


@pytest.mark.parametrize("name", ["bvlc", "caffenet"])
def test_the_mean_is_caffes(shared, name):
    mean = np.load(shared / "models" / "mean" / "ilsvrc_2012_mean.npy").mean((1, 2))  # B, G, R
    stated = FAMILY[name].preprocessing
    assert stated.order == "BGR"
    assert stated.scale == (1, 1, 1)
    np.testing.assert_allclose(stated.mean, mean, atol=1e-4)


def test_torchvisions_normalization_is_its_published_one(rng):
    stated = FAMILY["torchvision"].preprocessing
    pixels = rng.integers(0, 256, (5, 3))
    published = (pixels / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    np.testing.assert_allclose((pixels - np.array(stated.mean)) * np.array(stated.scale), published, atol=1e-9)
    assert stated.order == "RGB"


def test_the_registry_can_not_be_changed():
    with pytest.raises(TypeError):
        FAMILY["bvlc"] = FAMILY["paper"]  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        FAMILY["bvlc"].size = 1  # type: ignore[misc]


def test_the_flowers_have_their_numbers():
    assert (FAMILY["batchnorm"].num_classes, FAMILY["batchnorm"].keep_prob) == (17, 0.6)
    assert all((one.num_classes, one.keep_prob) == (1000, 0.5) for name, one in FAMILY.items() if name != "batchnorm")
