"""``bvlc`` and ``caffenet`` with a full-size .caffemodel compute what Caffe and the converter's graphs compute."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import converter
import graphs
from converter.pretrained import load_pretrained
from graphs.alexnet import FAMILY
from graphs.tensorflow1 import tensorflow1
from tests.converter.test_real_models import check_samples, squeezenet_input

SOURCES = {"bvlc": "alexnet", "caffenet": "caffenet"}


@pytest.mark.slow
@pytest.mark.parametrize("name", SOURCES)
def test_every_layer_is_caffes(name, shared, tmp_path, agree):
    source = SOURCES[name]
    weights = tmp_path / "seeded.caffemodel"
    tool = shared / "tools" / "make_seeded_caffemodel.py"
    subprocess.run([sys.executable, str(tool), source, str(weights), "0"], check=True)
    pictures = np.moveaxis(squeezenet_input(shared)[:4], 1, -1)
    tf = tensorflow1("the tests")
    with tf.Graph().as_default(), tf.Session() as session:
        endpoints = FAMILY[name].build(tf.placeholder(tf.float32, [None, 227, 227, 3], "images"))
        notes = load_pretrained(session, weights, endpoints)
        values = session.run(dict(endpoints), {"images:0": pictures})
    assert notes == ()
    in_caffe = {key: np.moveaxis(value, -1, 1) if value.ndim == 4 else value for key, value in values.items()}

    converter.convert(shared / "models" / source / "deploy.prototxt", weights).save(tmp_path / "port.pb")
    weights.unlink()
    port = graphs.load(tmp_path / "port.pb")
    (tmp_path / "port.pb").unlink()
    layers = [layer for layer, _ in port.layers if layer != "data"]
    assert set(layers) == set(endpoints) - {"logits"}
    for layer, expected in port.run({"data": pictures}, fetch=layers).items():
        agree(values[layer], expected, 1e-6, layer)
    port.close()

    recorded = shared / "models" / source / "seed0_reference.npz"
    if name == "bvlc":  # Caffe's own numbers are recorded for this one
        tops = {key: key for key in in_caffe}
        with np.load(recorded) as arrays:
            lines = [str(line).split("\t") for line in arrays["layers"]]
        tops.update(lines)
        in_caffe["data"] = np.moveaxis(pictures, -1, 1)
        check_samples({(layer, top): in_caffe[layer] for layer, top in tops.items()}, recorded, agree, 1e-5)
