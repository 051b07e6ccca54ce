"""PyTorch's files: what torch itself wrote is read to the bit, and nothing in a file is run."""

from __future__ import annotations

import os
import pickle
import random
import struct
import tracemalloc
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from weights import Refused
from weights.torch_file import read_torch

torch = pytest.importorskip("torch")

FORMS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def saved(path: Path, value: object, zipped: bool) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path


@pytest.fixture
def state() -> OrderedDict:
    """A state_dict with tensors of several types, a transposed one, and two that share a storage."""
    generator = torch.Generator().manual_seed(5)
    shared = torch.randn(19, 23, generator=generator)
    return OrderedDict(
        {
            "features.0.weight": torch.randn(13, 3, 7, 5, generator=generator),
            "features.0.bias": torch.randn(13, generator=generator),
            "features.1.num_batches_tracked": torch.tensor(17),
            "classifier.weight": torch.randn(11, 29, generator=generator, dtype=torch.float64).t(),
            "half.weight": torch.randn(31, generator=generator).half(),
            "one.weight": shared[2:5],
            "other.weight": shared[:, 7:],
            "none.weight": torch.zeros(0, 3),
        }
    )


def check(path: Path, state: OrderedDict) -> None:
    stored = read_torch(path)
    read = {f"{layer}.{part}": array for layer, held in stored.layers.items() for part, array in held.items()}
    assert list(read) == list(state)
    assert stored.layout == "caffe"
    for name, tensor in state.items():
        expected = tensor.detach().numpy()
        assert read[name].dtype == expected.dtype
        np.testing.assert_array_equal(read[name], expected)


@FORMS
def test_what_torch_wrote_is_read_to_the_bit(tmp_path, state, zipped):
    check(saved(tmp_path / "a.pth", state, zipped), state)


@FORMS
def test_a_checkpoint_around_a_state_dict(tmp_path, state, zipped):
    parallel = OrderedDict((f"module.{name}", tensor) for name, tensor in state.items())
    check(saved(tmp_path / "a.pth", {"epoch": 3, "arch": "alexnet", "state_dict": parallel}, zipped), state)


@FORMS
def test_parameters_are_tensors(tmp_path, zipped):
    parameter = torch.nn.Parameter(torch.arange(6.0).reshape(2, 3))
    check(saved(tmp_path / "a.pth", OrderedDict({"fc.weight": parameter}), zipped), {"fc.weight": parameter})


class Harm:
    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __reduce__(self):
        return os.mkdir, (str(self.flag),)


@FORMS
def test_code_in_a_file_is_not_run(tmp_path, zipped):
    path = saved(tmp_path / "a.pth", OrderedDict({"a.weight": torch.zeros(3), "b": Harm(tmp_path / "harm")}), zipped)
    with pytest.raises(Refused, match=r"its pickle asks for posix.mkdir; .*; save the state_dict alone"):
        read_torch(path)
    assert not (tmp_path / "harm").exists()


@FORMS
def test_a_whole_model_is_refused_with_the_way_out(tmp_path, zipped):
    path = saved(tmp_path / "a.pth", torch.nn.Linear(3, 2), zipped)
    with pytest.raises(Refused, match=r"save the state_dict alone: torch.save\(model.state_dict\(\), path\)"):
        read_torch(path)


@FORMS
@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({}, "holds no tensors; expected a state_dict"),
        ([torch.zeros(3)], "holds a list; expected a state_dict of tensors"),
        ({"a.weight": torch.zeros(3), "lr": 0.1}, "'lr' is no tensor; save the state_dict alone"),
        ({"a.weight": torch.zeros(3, dtype=torch.bfloat16)}, "its pickle asks for torch.BFloat16Storage"),
    ],
    ids=["empty", "list", "number", "bfloat16"],
)
def test_what_is_no_state_dict_is_refused(tmp_path, zipped, value, told):
    with pytest.raises(Refused, match=told):
        read_torch(saved(tmp_path / "a.pth", value, zipped))


def rewritten(path: Path, target: Path, compression: int = zipfile.ZIP_STORED, **changed: bytes) -> Path:
    """Returns a copy of a zip file with members (dots for slashes) replaced."""
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(target, "w", compression) as copy:
        for member in source.infolist():
            short = member.filename.partition("/")[2]
            copy.writestr(member.filename, changed.get(short.replace("/", "_").replace(".", "_"), source.read(member)))
    return target


def test_big_endian_numbers(tmp_path):
    values = np.arange(7, dtype=np.float32) / 3
    path = saved(tmp_path / "a.pth", {"a.weight": torch.from_numpy(values)}, True)
    swapped = rewritten(path, tmp_path / "b.pth", byteorder=b"big", data_0=values.astype(">f4").tobytes())
    np.testing.assert_array_equal(read_torch(swapped).layers["a"]["weight"], values)


def test_archives_that_are_none_of_torchs_are_refused(tmp_path, state):
    path = saved(tmp_path / "a.pth", state, True)
    with pytest.raises(Refused, match=r"is compressed, which torch.save does not do"):
        read_torch(rewritten(path, tmp_path / "b.pth", zipfile.ZIP_DEFLATED))
    with pytest.raises(Refused, match=r"tensor 'features.0.bias' needs 52 bytes; 8 are stored"):
        read_torch(rewritten(path, tmp_path / "c.pth", data_1=bytes(8)))
    data = bytearray(path.read_bytes())
    data[data.index(state["features.0.weight"].numpy().tobytes()[:16])] ^= 1
    (tmp_path / "d.pth").write_bytes(data)
    with pytest.raises(Refused, match="its checksum does not fit; the file is damaged"):
        read_torch(tmp_path / "d.pth")
    with zipfile.ZipFile(tmp_path / "e.pth", "w") as archive:
        archive.writestr("a/b", b"")
    with pytest.raises(Refused, match=r"is a zip archive without data.pkl"):
        read_torch(tmp_path / "e.pth")


class Lie:
    """Pickles as a tensor of the shape, strides and offset given, on a storage of 6 numbers."""

    def __init__(self, shape, strides, offset=0) -> None:
        self.numbers = shape, strides, offset

    def __reduce__(self):
        shape, strides, offset = self.numbers
        return torch._utils._rebuild_tensor_v2, (STORAGE, offset, shape, strides, False, OrderedDict())


STORAGE = torch.storage.TypedStorage(wrap_storage=torch.zeros(6).untyped_storage(), dtype=torch.float32, _internal=True)


@pytest.mark.parametrize(
    ("lie", "told"),
    [
        (Lie((7,), (1,)), "reaches to number 6 of the 6"),
        (Lie((2, 3), (4, 1)), "reaches to number 6 of the 6"),
        (Lie((6,), (1,), 1), "reaches to number 6 of the 6"),
        (Lie((3,), (-1,), 2), "has the shape"),
        (Lie((-3,), (1,)), "has the shape"),
        (Lie((3,), (1, 1)), "has the shape"),
        (Lie((2.0,), (1,)), "has the shape"),
        (Lie((1 << 30, 1 << 30), (0, 0)), "has the shape"),
        (Lie((0, 1 << 62, 1 << 62), (1, 1, 1)), "has the shape"),
    ],
)
@FORMS
def test_views_that_lie_are_refused(tmp_path, lie, told, zipped):
    path = saved(tmp_path / "a.pth", {"a.weight": lie}, zipped)
    with pytest.raises(Refused, match=told):
        read_torch(path)


def refusal(path: Path) -> str | None:
    try:
        read_torch(path)
    except Refused as refused:
        return str(refused)
    return None


@FORMS
def test_damaged_files_are_refused_in_one_line_and_take_no_memory(tmp_path, state, zipped):
    data = saved(tmp_path / "a.pth", state, zipped).read_bytes()
    rng = random.Random(1)
    copies = [data[: len(data) * percent // 100] for percent in range(1, 100)]
    for number in range(90):
        place = rng.randrange(min(len(data), 900) if number % 2 else len(data))
        copies.append(data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :])
        ends = (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80")[number % 3]
        copies.append(data[:place] + ends + data[place + 4 :])
    reasons = []
    tracemalloc.start()
    for index, copy in enumerate(copies):
        path = tmp_path / f"{index}.pth"
        path.write_bytes(copy)
        reasons.append(refusal(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert None not in reasons[:99], "a file cut short was taken for whole"
    told = [reason for reason in reasons if reason is not None]
    assert len(told) > 130
    assert not any("\n" in reason for reason in told)
    assert peak < 20 << 20, f"{peak >> 20} MiB for a file of {len(data) >> 10} KiB"


def test_a_storage_count_that_lies_is_refused(tmp_path):
    data = bytearray(saved(tmp_path / "a.pth", {"a.weight": torch.arange(5.0)}, False).read_bytes())
    data[-28:-20] = struct.pack("<q", 1 << 60)
    (tmp_path / "b.pth").write_bytes(data)
    with pytest.raises(Refused, match="has 1,152,921,504,606,846,976 numbers; its tensors speak of 5"):
        read_torch(tmp_path / "b.pth")
    (tmp_path / "c.pth").write_bytes(
        saved(tmp_path / "a.pth", {"a.weight": torch.arange(5.0)}, False).read_bytes() + b"x"
    )
    with pytest.raises(Refused, match="1 bytes follow its last storage"):
        read_torch(tmp_path / "c.pth")


def test_a_pickle_that_is_no_torch_file_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps({"a.weight": [1.0, 2.0]}, protocol=2))
    with pytest.raises(Refused, match=r"'a.weight' is no tensor"):
        read_torch(tmp_path / "a.pth")
