"""Training pictures in a bucket: a real S3 API on loopback (moto's server), through s3fs."""

from __future__ import annotations

import io
import logging
import sys
import threading

import numpy as np
import pytest

from tools.dataset import Faults, Preparation, batches, checked, read_examples
from tools.dataset.storage import Kept, locate
from weights import Refused

s3fs = pytest.importorskip("s3fs")
boto3 = pytest.importorskip("boto3")
moto = pytest.importorskip("moto.server")
PIL = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def server():
    """Returns the address of an S3 that this process runs."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    running = moto.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def no_credentials(server, monkeypatch, tmp_path):
    """The environment of someone who has said where S3 is, and nothing else."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    s3fs.S3FileSystem.clear_instance_cache()
    yield
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def credentials(no_credentials, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tests")


@pytest.fixture
def bucket(credentials, server, rng, tmp_path):
    """A bucket of a folder per class and a list; returns its pictures by their path."""
    client = boto3.client("s3", endpoint_url=server)
    client.create_bucket(Bucket="pictures")
    pictures = {}
    for name in ("set/tulips/b c.png", "set/tulips/a.png", "set/daisies/z.png"):
        PIL.fromarray(rng.integers(0, 256, (19, 23, 3), np.uint8)).save(tmp_path / "a.png")
        pictures[name] = (tmp_path / "a.png").read_bytes()
        client.put_object(Bucket="pictures", Key=name, Body=pictures[name])
    client.put_object(Bucket="pictures", Key="set/tulips/", Body=b"")  # as the console marks a folder
    lines = "../set/tulips/b c.png 1\ndaisies/z.png 0\ns3://pictures/set/tulips/a.png 1\n"
    client.put_object(Bucket="pictures", Key="set/train.txt", Body=lines.encode())
    yield pictures
    for key in [one["Key"] for one in client.list_objects_v2(Bucket="pictures")["Contents"]]:
        client.delete_object(Bucket="pictures", Key=key)


def values_of(data):
    return np.asarray(PIL.open(io.BytesIO(data)))[:, :, ::-1].astype(np.float32)


def preparation():
    return Preparation(19, 23, 3, "BGR", np.zeros(3, np.float32))


def refused(place):
    with pytest.raises(Refused) as error:
        read_examples(place)
    (reason,) = error.value.reasons
    return reason


@pytest.mark.parametrize("place", ["s3://pictures/set/train.txt", "s3://pictures/set", "s3://pictures/set/"])
def test_batches_come_from_a_bucket(bucket, place):
    examples = checked(read_examples(place), Faults())
    names = ["set/daisies/z.png", "set/tulips/a.png", "set/tulips/b c.png"]
    if place.endswith(".txt"):
        names = [names[2], names[0], names[1]]
        assert examples.name(0) == f"{place}: line 1: ../set/tulips/b c.png"
    else:
        assert examples.classes == ("daisies", "tulips")
        assert examples.name(1) == "s3://pictures/set/tulips/a.png"
    ((values, labels, _),) = batches(examples, preparation(), 5, training=False)
    assert labels.numpy().tolist() == [int("tulips" in name) for name in names]
    assert np.array_equal(values.numpy(), [values_of(bucket[name]) for name in names])


def test_a_list_on_the_disk_names_pictures_in_a_bucket(bucket, tmp_path):
    (tmp_path / "a.txt").write_text("s3://pictures/set/daisies/z.png 0\ns3://pictures/set/tulips/a.png 1\n")
    (tmp_path / "b.txt").write_text("daisies/z.png 0\ntulips/a.png 1\n")
    full = checked(read_examples(str(tmp_path / "a.txt")), Faults())
    under_root = checked(read_examples(str(tmp_path / "b.txt"), root="s3://pictures/set"), Faults())
    for examples in (full, under_root):
        assert examples.source.is_remote
        assert [examples.picture(index) for index in range(2)] == [
            bucket["set/daisies/z.png"], bucket["set/tulips/a.png"],
        ]  # fmt: skip


def test_arrays_are_fetched_whole(bucket, server, rng, tmp_path):
    client = boto3.client("s3", endpoint_url=server)
    array = rng.integers(0, 256, (5, 7, 11, 3), np.uint8)
    for name, values in (("x", array), ("y", np.arange(5) % 2)):
        np.save(tmp_path / f"{name}.npy", values)
        client.upload_file(str(tmp_path / f"{name}.npy"), "pictures", f"arrays/{name}.npy")
    examples = read_examples("s3://pictures/arrays")
    assert np.array_equal(examples.picture(3), array[3])
    assert isinstance(examples.source.array, np.memmap)
    assert examples.name(3) == "s3://pictures/arrays/x.npy: row 3"


def test_pictures_are_fetched_once_and_several_at_a_time(bucket, monkeypatch):
    examples = read_examples("s3://pictures/set")
    read, fetched, both = examples.source.storage.filesystem.cat_file, [], threading.Barrier(2)

    def counted(path):
        fetched.append(path)
        if len(fetched) <= 2:
            both.wait(timeout=30)  # passes once two are under way
        return read(path)

    monkeypatch.setattr(examples.source.storage.filesystem, "cat_file", counted)
    first, again = (
        [one.numpy() for one in next(iter(batches(examples, preparation(), 3, training=False)))] for _ in range(2)
    )
    assert len(fetched) == 3
    assert all(np.array_equal(one, other) for one, other in zip(first, again))


def test_what_is_kept_is_bounded(bucket, monkeypatch):
    path = "pictures/set/daisies/z.png"
    size = len(bucket["set/daisies/z.png"])
    storage, _ = locate("s3://pictures/set")
    fetched = []
    read = storage.filesystem.cat_file
    monkeypatch.setattr(storage.filesystem, "cat_file", lambda path: fetched.append(path) or read(path))
    kept = Kept(limit=size * 3 // 2)
    for number in (0, 1, 0, 1):
        assert kept.read(storage, path, number) == bucket["set/daisies/z.png"]
    assert len(fetched) == 3  # the second does not fit beside the first


def test_a_missing_picture_is_told_with_its_line(bucket, server):
    lines = "daisies/z.png 0\ntulips/none.png 1\nnowhere/a.png 1\n"
    boto3.client("s3", endpoint_url=server).put_object(Bucket="pictures", Key="set/bad.txt", Body=lines.encode())
    told = []
    examples = read_examples("s3://pictures/set/bad.txt")
    assert checked(examples, Faults(2, told.append)).count == 1
    place = "s3://pictures/set/bad.txt"
    assert told == [
        f"{place}: line 2: tulips/none.png: no such file; passed over",
        f"{place}: line 3: nowhere/a.png: no such file; passed over",
    ]


def test_one_that_goes_away_before_it_is_read_is_told_too(bucket, server):
    examples = checked(read_examples("s3://pictures/set"), Faults())
    boto3.client("s3", endpoint_url=server).delete_object(Bucket="pictures", Key="set/tulips/a.png")
    told = []
    ((_, _, indices),) = batches(examples, preparation(), 5, training=False, faults=Faults(1, told.append))
    assert indices.numpy().tolist() == [0, 2]
    assert told == ["s3://pictures/set/tulips/a.png: no such file, folder or bucket; passed over"]


def test_no_credentials_are_refused_in_one_line(no_credentials):
    way = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    assert refused("s3://pictures/set") == f"s3://pictures/set: no credentials were found; {way}"
    assert refused("s3://pictures/x.npy") == f"s3://pictures/x.npy: no credentials were found; {way}"


def test_half_of_the_credentials_are_refused_in_one_line(no_credentials, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    assert refused("s3://pictures/set").startswith("s3://pictures/set: credentials are wrong (Partial credentials ")


def test_pictures_without_credentials_stop_whatever_max_bad_allows(no_credentials, tmp_path):
    (tmp_path / "list.txt").write_text("s3://pictures/set/daisies/z.png 0\ns3://pictures/set/tulips/a.png 1\n")
    examples = read_examples(str(tmp_path / "list.txt"))
    faults = Faults(100, lambda line: None)
    with pytest.raises(Refused, match=r"^s3://pictures/set/daisies: no credentials were found; set AWS_ACCESS_KEY_ID"):
        checked(examples, faults)
    with pytest.raises(Refused, match=r"^s3://pictures/set/.*: no credentials were found; set AWS"), faults.raised():
        list(batches(examples, preparation(), 2, training=False, faults=faults))


@pytest.mark.parametrize("place", ["s3://pictures/none.txt", "s3://pictures/none", "s3://no-bucket/train.txt"])
def test_what_is_not_there_is_refused(bucket, place):
    assert refused(place) == f"{place}: no such file, folder or bucket"


def test_other_storage_needs_its_driver(monkeypatch):
    registry = pytest.importorskip("fsspec.registry")
    for scheme in ("gs", "s3"):
        monkeypatch.delitem(registry._registry, scheme, raising=False)  # what was imported before
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    assert refused("gs://b/a.txt") == "gs://b/a.txt: gs:// needs a package that is not installed: pip install gcsfs"
    monkeypatch.setitem(sys.modules, "s3fs", None)
    assert refused("s3://b/a.txt").endswith("needs a package that is not installed: pip install 'caffeport[s3]'")
    assert refused("q9://b/a.txt").startswith("q9://b/a.txt: is neither a path nor a kind of storage that fsspec")
