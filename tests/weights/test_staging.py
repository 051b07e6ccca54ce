"""Files appear whole or not at all."""

from __future__ import annotations

import pytest

from weights import Refused
from weights.staging import staged


def test_all_files_arrive_and_the_stage_is_gone(tmp_path):
    with staged(tmp_path) as stage:
        (stage / "a").write_text("1")
        (stage / "b").write_text("2")
        assert not (tmp_path / "a").exists()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "1", "b": "2"}


def test_an_older_file_is_replaced(tmp_path):
    (tmp_path / "a").write_text("older")
    with staged(tmp_path) as stage:
        (stage / "a").write_text("newer")
    assert (tmp_path / "a").read_text() == "newer"


@pytest.mark.parametrize("error", [RuntimeError("a fault"), KeyboardInterrupt(), Refused("a reason")])
def test_any_error_leaves_the_folder_as_it_was(tmp_path, error):
    (tmp_path / "a").write_text("older")

    def write() -> None:
        with staged(tmp_path) as stage:
            (stage / "a").write_text("half of it")
            (stage / "b").write_text("new")
            raise error

    with pytest.raises(type(error)):
        write()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "older"}


def test_what_the_system_refuses_is_said_in_its_words(tmp_path):
    def write() -> None:
        with staged(tmp_path):
            raise OSError(28, "No space left on device")

    with pytest.raises(Refused, match="could not be written: No space left on device"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_missing_folder(tmp_path):
    def write() -> None:
        with staged(tmp_path / "nowhere"):
            pass

    with pytest.raises(Refused, match="no such folder; make it first"):
        write()
    assert list(tmp_path.iterdir()) == []
