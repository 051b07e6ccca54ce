"""Checkpoints of a training: whole or not at all, and restored only where every name and shape agrees."""

from __future__ import annotations

import errno

import numpy as np
import pytest

from graphs.tensorflow1 import tensorflow1
from tools.training.snapshots import Checkpoints, misfits, numbered
from weights import Refused

tf = tensorflow1("the tests")


@pytest.fixture
def session():
    with tf.Graph().as_default(), tf.Session() as session:
        yield session


def variables(**arrays):
    return {
        name: tf.get_variable(name, initializer=array, use_resource=True)
        for name, array in ({"step": np.int64(7)} | arrays).items()
    }


def test_what_is_saved_is_restored(session, tmp_path):
    values = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.float32(3.5)}
    made = variables(**values)
    session.run(tf.global_variables_initializer())
    checkpoints = Checkpoints.of(tf, session, made)
    files = checkpoints.save(tmp_path / "net_iter_7.ckpt", lambda folder: (folder / "net_7.txt").write_text("beside"))
    assert [file.name for file in files] == [
        *("net_7.txt", "net_iter_7.ckpt.data-00000-of-00001", "net_iter_7.ckpt.index", "net_iter_7.ckpt.meta")
    ]
    assert sorted(tmp_path.iterdir()) == files
    session.run([variable.assign(tf.zeros_like(variable)) for variable in made.values()])
    assert checkpoints.restore(tmp_path / "net_iter_7.ckpt.index") == tmp_path / "net_iter_7.ckpt"
    found = session.run(made)
    assert found["step"] == 7
    assert np.array_equal(found["a"], values["a"])
    assert found["b"] == values["b"]


def test_a_full_disk_leaves_the_earlier_one_and_nothing_else(session, tmp_path):
    made = variables(a=np.float32([1, 2]))
    session.run(tf.global_variables_initializer())
    checkpoints = Checkpoints.of(tf, session, made)
    before = {file: file.read_bytes() for file in checkpoints.save(tmp_path / "net.ckpt")}

    def full(folder):
        raise OSError(errno.ENOSPC, "No space left on device")

    session.run(made["a"].assign([3, 4]))
    with pytest.raises(Refused, match=r"^.*net.ckpt: could not be written: No space left on device$"):
        checkpoints.save(tmp_path / "net.ckpt", full)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_tensorflow_s_error_for_a_full_disk_is_said_in_a_line(session, tmp_path, monkeypatch):
    made = variables(a=np.float32([1, 2]))
    session.run(tf.global_variables_initializer())
    checkpoints = Checkpoints.of(tf, session, made)

    def full(session, prefix, **_):
        message = f"{prefix}.data-00000-of-00001.tempstate1; No space left on device\n\t [[node save]]"
        raise tf.errors.ResourceExhaustedError(None, None, message)

    monkeypatch.setattr(checkpoints.saver, "save", full)
    with pytest.raises(Refused, match=r"^.*net.ckpt: could not be written: No space left on device$"):
        checkpoints.save(tmp_path / "net.ckpt")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_said(session, tmp_path):
    checkpoints = Checkpoints.of(tf, session, variables())
    session.run(tf.global_variables_initializer())
    with pytest.raises(Refused, match=r"absent: no such folder; make it first"):
        checkpoints.save(tmp_path / "absent" / "net.ckpt")


def test_no_checkpoint_of_nan(session, tmp_path):
    made = variables(a=np.float32([1, np.nan]))
    session.run(tf.global_variables_initializer())
    with pytest.raises(Refused, match=r"net.ckpt: not written: 'a' holds values that are no finite numbers$"):
        Checkpoints.of(tf, session, made).save(tmp_path / "net.ckpt")
    assert not list(tmp_path.iterdir())


def test_each_missing_surplus_and_misshapen_name_is_said_and_nothing_changed(tmp_path):
    with tf.Graph().as_default(), tf.Session() as session:
        made = variables(a=np.zeros((2, 3), np.float32), old=np.float32(1), older=np.zeros(5, np.float32))
        session.run(tf.global_variables_initializer())
        Checkpoints.of(tf, session, made).save(tmp_path / "net.ckpt")
    with tf.Graph().as_default(), tf.Session() as session:
        made = variables(a=np.ones((3, 2), np.float32), new=np.float32(9), newer=np.zeros((7, 5), np.float32))
        session.run(tf.global_variables_initializer())
        session.run(made["step"].assign(1))
        with pytest.raises(Refused) as refused:
            Checkpoints.of(tf, session, made).restore(tmp_path / "net.ckpt")
        assert session.run(made["step"]) == 1
    assert [reason.removeprefix(f"{tmp_path / 'net.ckpt'}: ") for reason in refused.value.reasons] == [
        "lacks 'new' (scalar), which the graph has",
        "lacks 'newer' (7x5), which the graph has",
        "has 'old' (scalar), which the graph does not have",
        "has 'older' (5), which the graph does not have",
        "has 'a' with the shape 2x3; expected 3x2",
    ]


def test_no_misfits_where_all_agrees():
    assert misfits({"a": (2,), "b": ()}, {"b": (), "a": (2,)}) == []


@pytest.mark.parametrize("damage", ["cut", "absent"])
def test_a_broken_or_absent_checkpoint_is_said(session, tmp_path, damage):
    made = variables(a=np.arange(4096, dtype=np.float32))
    session.run(tf.global_variables_initializer())
    checkpoints = Checkpoints.of(tf, session, made)
    checkpoints.save(tmp_path / "net.ckpt")
    if damage == "cut":
        index = tmp_path / "net.ckpt.index"
        index.write_bytes(index.read_bytes()[:-20])
        with pytest.raises(Refused, match=r"net.ckpt: is no whole checkpoint: "):
            checkpoints.restore(tmp_path / "net.ckpt")
    else:
        with pytest.raises(Refused, match=r"other.ckpt: no such checkpoint; name it as it was written"):
            checkpoints.restore(tmp_path / "other.ckpt")


def test_numbered_finds_the_latest_by_number(tmp_path):
    for name in ("net_iter_9.ckpt", "net_iter_100.ckpt", "net_iter_20.ckpt", "net_iter_x.ckpt", "other_iter_500.ckpt"):
        (tmp_path / f"{name}.index").touch()
    (tmp_path / "net_iter_700.ckpt.data-00000-of-00001").touch()  # no index: never finished
    found = numbered(tmp_path / "net_iter_")
    assert found == {number: tmp_path / f"net_iter_{number}.ckpt" for number in (9, 20, 100)}
    assert list(found)[-1] == 100
    assert numbered(tmp_path / "absent" / "net_iter_") == {}
