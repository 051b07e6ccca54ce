"""A user's own modules, named like ours, in the folder that a command is started in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
RUN = ROOT / "tests" / "golden_training" / "sgd_step"


def started(folder, *arguments, path=str(ROOT)):
    """Returns what a process that was started in ``folder`` printed."""
    environment = {**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        [sys.executable, *map(str, arguments)], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.fixture
def folder(tmp_path):
    """A folder whose modules end the process that imports them."""
    for name in ("weights", "graphs", "random"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('their {name}.py')")
    (tmp_path / "tools").mkdir()  # no package: it lacks an __init__.py
    (tmp_path / "tools" / "pictures.py").write_text("raise SystemExit('their tools')")
    return tmp_path


@pytest.mark.parametrize("path", [str(ROOT), os.pathsep.join(["", str(ROOT)])], ids=["clone", "folder_named_too"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("converter", RUN / "train.prototxt", RUN / "initial.caffemodel"),
        ("tools.validate", "--help"),
        ("tools.train", "--solver", "absent.prototxt"),
    ],
    ids=lambda one: one[0],
)
def test_modules_beside_the_user_s_files_are_not_taken_for_ours(arguments, path, folder):
    done = started(folder, "-m", *arguments, path=path)
    assert "their" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == (2 if "absent.prototxt" in arguments else 0)


def test_a_package_of_theirs_for_another_of_ours_is_passed_over(folder):
    (folder / "tools" / "__init__.py").touch()
    (folder / "converter").mkdir()
    (folder / "converter" / "__init__.py").write_text("raise SystemExit('their converter')")
    done = started(
        folder, "-c", "import sys; sys.path.pop(0); from converter.__main__ import main; sys.exit(main(['--help']))"
    )
    assert done.returncode == 0, done.stderr  # the console script, whose folder comes first, does no more
    (folder / "tools" / "__init__.py").unlink()
    assert started(folder, "-m", "tools.train", "--help").returncode == 0


def test_a_module_of_the_user_s_own_can_still_be_imported(folder):
    (folder / "mine.py").write_text("WORD = 'found'")
    (folder / "tools").rename(folder / "other")
    code = "import runpy, sys; sys.argv[0] = '-m'; import converter, mine; print(mine.WORD, converter.__file__)"
    done = started(folder, "-c", code)
    assert done.stdout.split() == ["found", str(ROOT / "converter" / "__init__.py")]


def test_the_path_stays_as_it_is_where_ours_are_imported_or_lie_in_the_working_directory(folder):
    code = "import sys; before = list(sys.path); import converter, tools; print(sys.path == before)"
    assert started(folder, "-c", code).stdout == "True\n"
    shown = "import sys, tools; print(sys.path[0])"
    assert (
        started(ROOT, "-c", f"import sys; sys.argv[0] = '-m'; sys.path[0] = {str(ROOT)!r}; {shown}").stdout
        == f"{ROOT}\n"
    )
