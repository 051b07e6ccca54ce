"""Imports point one way, and stay light: what needs no TensorFlow does not wait for it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("weights", "graphs", "converter", "tools")
"""Each may import those before it."""
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imported(tree: ast.AST) -> set[str]:
    """Returns the first part of every module that is imported anywhere below ``tree``."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full here"
            found.add((node.module or "").split(".")[0])
    return found


def at_module_level(tree: ast.Module) -> list[ast.stmt]:
    """Returns the statements that run on import: not the bodies of functions, nor what is for type checkers alone."""
    found, left = [], list(tree.body)
    while left:
        node = left.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            found.append(node)
        left += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
class TestEveryModule:
    def test_imports_point_one_way(self, path):
        own = path.relative_to(ROOT).parts[0]
        later = set(PACKAGES[PACKAGES.index(own) + 1 :])
        assert not imported(ast.parse(path.read_text(encoding="utf-8"))) & later

    def test_tensorflow_is_imported_inside_functions_only(self, path):
        statements = at_module_level(ast.parse(path.read_text(encoding="utf-8")))
        assert not any("tensorflow" in imported(statement) for statement in statements)


def modules_after(folder: Path, code: str) -> set[str]:
    """Returns the modules that a process of its own has loaded after ``code``."""
    program = f"import json, sys\n{code}\njson.dump(sorted(sys.modules), open('modules.json', 'w'))\n"
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    subprocess.run([sys.executable, "-c", program], cwd=folder, env=environment, check=True, capture_output=True)
    return set(json.loads((folder / "modules.json").read_text()))


def test_help_needs_neither_numpy_nor_protobuf(tmp_path):
    loaded = modules_after(tmp_path, "from converter.__main__ import main; assert main(['--help']) == 0")
    assert "converter.__main__" in loaded
    assert not loaded & {"numpy", "google.protobuf", "rich", "tensorflow", "h5py"}


OUTPUTS = [[], *(["-o", f"out{ending}"] for ending in (".npz", ".caffemodel", ".prototxt", ".py"))]


@pytest.mark.parametrize("output", OUTPUTS, ids=lambda output: output[-1] if output else "table")
def test_converting_weights_needs_no_tensorflow(output, golden, tmp_path):
    case = golden / "mini_alexnet"
    argv = [str(case / "net.prototxt"), str(case / "weights.caffemodel"), *output]
    loaded = modules_after(tmp_path, f"from converter.__main__ import main; assert main({argv!r}) == 0")
    assert "converter.port" in loaded
    assert "tensorflow" not in loaded


def test_a_refusal_needs_no_tensorflow(tmp_path):
    (tmp_path / "net.prototxt").write_text("layer { }")
    loaded = modules_after(
        tmp_path, "from converter.__main__ import main; assert main(['net.prototxt', '-o', 'a.pb']) == 2"
    )
    assert "tensorflow" not in loaded
