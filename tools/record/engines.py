"""What computes the truth: the NumPy reference, OpenCV's dnn module, Caffe itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np

from graphs.layers.data import Input
from graphs.reference import run_reference
from tools.recording import Key, Values
from weights import Refused

if TYPE_CHECKING:
    from converter.port import Port


class Engine(Protocol):
    """A network that can be run. ``name`` says what computes and in which precision, ``versions`` what with; ``keys``
    are the values that it returns, None for every layer's."""

    name: str
    versions: dict[str, str]
    keys: frozenset[Key] | None

    def __init__(self, port: Port) -> None:
        """Loads the network. Raises Refused where it can't."""

    def run(self, inputs: Mapping[str, np.ndarray]) -> Values:
        """Returns the values right after each layer, (N, C, H, W), for inputs as they are fed."""


class Reference:
    """The NumPy reference, which shares no code with any graph."""

    name = "reference (NumPy, float64)"
    keys: frozenset[Key] | None = None

    def __init__(self, port: Port) -> None:
        self.versions = {"numpy": np.__version__}
        self.shapes = port.shapes
        self.arrays = [[array.astype(np.float64) for array in arrays] for arrays in port.arrays()]

    def run(self, inputs: Mapping[str, np.ndarray]) -> Values:
        return run_reference(self.shapes, self.arrays, inputs)


class OpenCV:
    """Caffe's own files in OpenCV's dnn module. It drops layers that do nothing in TEST and runs activations in place,
    so it is asked for the layers that it kept."""

    name = "OpenCV dnn (float32)"

    def __init__(self, port: Port) -> None:
        try:
            import cv2
        except ModuleNotFoundError as error:
            raise Refused("--engine opencv needs OpenCV: pip install 'opencv-python-headless<5'") from error
        self.versions = {"opencv": cv2.__version__}
        files = {source.kind: source.path for source in port.sources}
        if set(files) - {"mean picture"} != {"definition", "caffemodel"}:
            raise Refused("--engine opencv reads a .prototxt and a .caffemodel; give those")
        try:
            self.net = cv2.dnn.readNetFromCaffe(str(files["definition"]), str(files["caffemodel"]))
        except cv2.error as error:
            raise Refused(f"OpenCV can't read this network: {' '.join(str(error).split())[:200]}") from error
        self.net.enableFusion(False)
        kept = set(self.net.getLayerNames())
        self.tops = {
            layer.node.name: (layer.node.name, layer.node.tops[0])
            for layer in port.shapes
            if layer.node.name in kept and len(layer.node.tops) == 1 and not isinstance(layer.node.layer, Input)
        }
        self.keys: frozenset[Key] | None = frozenset(self.tops.values())
        self.shapes = {layer.node.name: layer.tops[0] for layer in port.shapes if layer.tops}

    def run(self, inputs: Mapping[str, np.ndarray]) -> Values:
        import cv2

        for blob, array in inputs.items():
            self.net.setInput(np.ascontiguousarray(array, np.float32), blob)
        try:
            values = self.net.forward(list(self.tops))
        except cv2.error as error:
            raise Refused(f"OpenCV can't run this network: {' '.join(str(error).split())[:200]}") from error
        return {key: np.array(value) for key, value in zip(self.tops.values(), values)}


class Caffe:
    """BVLC Caffe through pycaffe, a layer at a time, so that values before an in-place change are seen too."""

    name = "Caffe (float32)"
    keys: frozenset[Key] | None = None

    def __init__(self, port: Port) -> None:
        try:
            import caffe
        except ImportError as error:
            raise Refused("--engine caffe needs Caffe's Python package, which can't be imported here") from error
        self.versions = {"caffe": str(getattr(caffe, "__version__", "unknown"))}
        files = {source.kind: source.path for source in port.sources}
        if set(files) - {"mean picture"} != {"definition", "caffemodel"}:
            raise Refused("--engine caffe reads a .prototxt and a .caffemodel; give those")
        caffe.set_mode_cpu()
        self.net = caffe.Net(str(files["definition"]), str(files["caffemodel"]), caffe.TEST)
        self.nodes = [layer.node for layer in port.shapes if not isinstance(layer.node.layer, Input)]

    def run(self, inputs: Mapping[str, np.ndarray]) -> Values:
        for blob, array in inputs.items():
            self.net.blobs[blob].reshape(*array.shape)
            self.net.blobs[blob].data[...] = array
        self.net.reshape()
        values = {}
        for node in self.nodes:
            self.net.forward(start=node.name, end=node.name)
            values.update({(node.name, top): self.net.blobs[top].data.copy() for top in node.tops})
        return values


ENGINES: dict[str, type[Engine]] = {"reference": Reference, "opencv": OpenCV, "caffe": Caffe}
"""What ``--engine`` may say."""
