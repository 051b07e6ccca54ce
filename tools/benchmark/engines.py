"""The engines that run a network, each behind the same few methods."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from tools.benchmark.layer_times import LayerTime, layer_times
from tools.benchmark.subject import End, Subject
from tools.benchmark.tables import processor

FORWARD, FORWARD_BACKWARD = "forward", "forward-backward"
"""What an engine may be timed at."""


@dataclass(frozen=True)
class Setting:
    """What an engine runs on: ``threads`` of a processor, ``device`` "cpu" or "gpu:N"; ``tf32`` lets a GPU round
    factors to 10 bits of fraction."""

    threads: int = 2
    device: str = "cpu"
    tf32: bool = False

    @property
    def gpu(self) -> int | None:
        """The GPU's number, None for the processor."""
        return None if self.device == "cpu" else int(self.device.partition(":")[2] or 0)

    def on_cpu_only(self, engine: str) -> None:
        """Raises RuntimeError where a GPU was asked for."""
        if self.gpu is not None:
            raise RuntimeError(f"this build of {engine} runs on the CPU only")


class Engine:
    """An engine with a network loaded: feed it once, then run it as often as wanted.

    Made in a process of its own, where nothing else sets threads or takes memory. Raises any error where it can't load
    the network, or not run as the setting wants it.
    """

    name: ClassVar[str]
    module: ClassVar[str]
    """The Python package that it needs."""
    reads: ClassVar[str]
    """The file of a Subject that it can't do without."""
    passes: ClassVar[tuple[str, ...]] = (FORWARD,)
    """What it can be timed at."""

    def __init__(self, subject: Subject, setting: Setting) -> None:
        """Loads the network."""
        raise NotImplementedError

    def version(self) -> str:
        """Returns the engine's version."""
        raise NotImplementedError

    def device(self) -> str:
        """Returns the name of the device that it runs on."""
        return processor()

    def feed(self, inputs: dict[str, np.ndarray]) -> None:
        """Takes blob -> array in Caffe's layout for all runs to come, and brings them into the engine's own."""
        raise NotImplementedError

    def run(self) -> Any:
        """Makes one forward pass, to its end; returns the outputs as the engine has them."""
        raise NotImplementedError

    def run_backward(self) -> Any:
        """Makes one forward pass and the gradient of a loss with respect to every parameter, to its end."""
        raise RuntimeError("computes no gradients")

    def in_caffe_layout(self, outputs: Any) -> list[np.ndarray]:
        """Returns what ``run`` returned in Caffe's layout, in the order of the network's outputs."""
        return list(outputs)


def tensorflow_on(tf: Any, setting: Setting) -> tuple[Any, str]:
    """Returns a session's ConfigProto and the device's name. Raises RuntimeError where there is no such device."""
    import tensorflow

    tensorflow.config.experimental.enable_tensor_float_32_execution(setting.tf32)
    threads = {"intra_op_parallelism_threads": setting.threads, "inter_op_parallelism_threads": setting.threads}
    if setting.gpu is None:
        return tf.ConfigProto(device_count={"GPU": 0}, **threads), processor()
    gpus = tensorflow.config.list_physical_devices("GPU")
    if setting.gpu >= len(gpus):
        raise RuntimeError(f"--device {setting.device}: TensorFlow sees {len(gpus) or 'no'} GPU here; try --device cpu")
    options = tf.GPUOptions(visible_device_list=str(setting.gpu), allow_growth=True)
    name = tensorflow.config.experimental.get_device_details(gpus[setting.gpu]).get("device_name", setting.device)
    return tf.ConfigProto(gpu_options=options, allow_soft_placement=True, **threads), str(name)


class TensorFlow(Engine):
    """The frozen graph in TensorFlow."""

    name, module, reads = "TensorFlow", "tensorflow", "frozen"

    def __init__(self, subject: Subject, setting: Setting) -> None:
        from graphs.frozen import read_definition
        from graphs.tensorflow1 import tensorflow1

        assert subject.frozen is not None
        self.tf, self.frozen = tensorflow1("timing a frozen graph"), subject.frozen
        self.config, self.device_name = tensorflow_on(self.tf, setting)
        definition = read_definition(self.frozen.path)
        with self.tf.Graph().as_default() as self.graph:
            self.tf.import_graph_def(definition, name="")
        del definition
        self.session = self.tf.Session(graph=self.graph, config=self.config)
        self.forward = self.session.make_callable(
            [end.tensor for end in self.frozen.outputs.values()],
            feed_list=[*(end.tensor for end in self.frozen.inputs.values()), *self.frozen.feeds],
        )

    def version(self) -> str:
        return self.tf.__version__

    def device(self) -> str:
        return self.device_name

    def feed(self, inputs: dict[str, np.ndarray]) -> None:
        arrays = [self._in_graph_layout(inputs[blob], end) for blob, end in self.frozen.inputs.items()]
        self.inputs = [*arrays, *self.frozen.feeds.values()]

    def _in_graph_layout(self, array: np.ndarray, end: End) -> np.ndarray:
        if end.moved and array.ndim >= 4:
            array = np.ascontiguousarray(np.moveaxis(array, 1, -1))
        shape = self.graph.get_tensor_by_name(end.tensor).shape
        return array if shape.rank in (None, array.ndim) else array.reshape(len(array), *shape.as_list()[1:])

    def run(self) -> Any:
        return self.forward(*self.inputs)

    def in_caffe_layout(self, outputs: Any) -> list[np.ndarray]:
        return [_in_caffe_layout(array, end) for array, end in zip(outputs, self.frozen.outputs.values())]

    def layer_times(self, runs: int) -> list[LayerTime]:
        """Returns what each layer takes for the inputs that were fed, over ``runs`` runs."""
        feeds = dict(zip([*(end.tensor for end in self.frozen.inputs.values()), *self.frozen.feeds], self.inputs))
        fetches = [end.tensor for end in self.frozen.outputs.values()]
        return layer_times(self.tf, self.graph, self.config, self.frozen.layers, feeds, fetches, runs)


def _in_caffe_layout(array: np.ndarray, end: End) -> np.ndarray:
    moved = np.moveaxis(array, -1, 1) if end.moved and array.ndim >= 4 else np.asarray(array)
    if len(end.shape) == moved.ndim or not end.shape or not moved.ndim:
        return moved
    return moved.reshape(len(moved), *end.shape[1:])  # axes of size 1 that a stranger's graph has not


class OpenCV(Engine):
    """Caffe's own files in OpenCV's dnn module."""

    name, module, reads = "OpenCV", "cv2", "definition"

    def __init__(self, subject: Subject, setting: Setting) -> None:
        setting.on_cpu_only(self.name)
        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # what goes wrong is raised as well
        import cv2

        self.cv2 = cv2
        cv2.setNumThreads(setting.threads)
        self.net = cv2.dnn.readNetFromCaffe(*subject.caffe_files)
        self.makers = subject.makers

    def version(self) -> str:
        return self.cv2.__version__

    def feed(self, inputs: dict[str, np.ndarray]) -> None:
        self.inputs = inputs

    def run(self) -> Any:
        for blob, array in self.inputs.items():
            self.net.setInput(array, blob)
        return self.net.forward(list(self.makers.values()))


class OnnxRuntime(Engine):
    """This project's ONNX form of the network in ONNX Runtime."""

    name, module, reads = "ONNX Runtime", "onnxruntime", "onnx"

    def __init__(self, subject: Subject, setting: Setting) -> None:
        import onnxruntime

        self.onnxruntime, self.gpu = onnxruntime, setting.gpu
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = setting.threads
        provider: Any = "CPUExecutionProvider"
        if setting.gpu is not None:
            if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
                setting.on_cpu_only(self.name)
            provider = ("CUDAExecutionProvider", {"device_id": setting.gpu, "use_tf32": int(setting.tf32)})
        self.session = onnxruntime.InferenceSession(str(subject.onnx), options, providers=[provider])

    def version(self) -> str:
        return self.onnxruntime.__version__

    def device(self) -> str:
        return processor() if self.gpu is None else f"GPU {self.gpu}"

    def feed(self, inputs: dict[str, np.ndarray]) -> None:
        self.inputs = dict(zip((one.name for one in self.session.get_inputs()), inputs.values()))

    def run(self) -> Any:
        return self.session.run(None, self.inputs)


class PyTorch(Engine):
    """The same layers as PyTorch's functions, straight from the files that the port was made from."""

    name, module, reads = "PyTorch", "torch", "sources"

    def __init__(self, subject: Subject, setting: Setting) -> None:
        # Else its idle threads spin, and on a machine with other work take the time that its busy ones need.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        import torch

        from converter import convert
        from tools.benchmark.parameters import judged, parameters_of
        from tools.benchmark.torch_layers import torch_network

        torch.set_num_threads(setting.threads)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = setting.tf32
        if setting.gpu is not None and not torch.cuda.is_available():
            setting.on_cpu_only(self.name)
        self.torch, self.makers = torch, subject.makers
        self.place = torch.device("cpu" if setting.gpu is None else f"cuda:{setting.gpu}")
        port = convert(*subject.sources, input_shapes=subject.input_shapes)
        self.network, self.judged = torch_network(port), judged(port)
        self.parameters = {
            name: torch.tensor(array, device=self.place) for name, (_, array) in parameters_of(port).items()
        }

    def version(self) -> str:
        return self.torch.__version__

    def device(self) -> str:
        return processor() if self.place.type == "cpu" else self.torch.cuda.get_device_name(self.place)

    def feed(self, inputs: dict[str, np.ndarray]) -> None:
        self.inputs = {blob: self.torch.from_numpy(np.ascontiguousarray(array)) for blob, array in inputs.items()}

    def outputs(self) -> list[Any]:
        """Returns the outputs as PyTorch's tensors; the inputs are brought to the device as part of it."""
        inputs = {blob: tensor.to(self.place) for blob, tensor in self.inputs.items()}
        return self.network.outputs(inputs, self.parameters, self.makers)

    def run(self) -> Any:
        with self.torch.inference_mode():
            return [tensor.cpu().numpy() for tensor in self.outputs()]


class Caffe(Engine):
    """Caffe itself, through pycaffe."""

    name, module, reads = "Caffe", "caffe", "definition"

    def __init__(self, subject: Subject, setting: Setting) -> None:
        for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[variable] = str(setting.threads)
        os.environ.setdefault("GLOG_minloglevel", "2")
        import caffe

        self.caffe, self.makers, self.gpu = caffe, subject.makers, setting.gpu
        if setting.gpu is None:
            caffe.set_mode_cpu()
        else:
            caffe.set_device(setting.gpu)
            caffe.set_mode_gpu()
        self.net = caffe.Net(*subject.caffe_files, caffe.TEST)

    def version(self) -> str:
        return str(getattr(self.caffe, "__version__", "unknown"))

    def device(self) -> str:
        return processor() if self.gpu is None else f"GPU {self.gpu}"

    def feed(self, inputs: dict[str, np.ndarray]) -> None:
        for blob, array in inputs.items():
            self.net.blobs[blob].reshape(*array.shape)
            self.net.blobs[blob].data[...] = array
        self.net.reshape()

    def run(self) -> Any:
        return self.net.forward()

    def in_caffe_layout(self, outputs: Any) -> list[np.ndarray]:
        return [np.array(outputs[blob]) for blob in self.makers]


ENGINES: tuple[type[Engine], ...] = (TensorFlow, OpenCV, OnnxRuntime, PyTorch, Caffe)
"""The first is the one that the others are measured against."""
