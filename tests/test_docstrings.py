"""Examples in docstrings run, and names of the package in them exist."""

import ast
import doctest
import importlib
import re
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from conftest import ROOT

SOURCES = sorted((ROOT / "lossatlas").rglob("*.py"))
FILES = [path for path in SOURCES if ">>> " in path.read_text()]
MODULES = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in SOURCES]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_examples_run(file, tmp_path, monkeypatch):
    if file.name == "api.py":  # its examples write files
        monkeypatch.chdir(tmp_path)
    module = importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))
    with torch.random.fork_rng():
        found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed


def docstrings(file: Path) -> list[str]:
    """The docstrings of a module, its classes and its functions."""
    nodes = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return [ast.get_docstring(node) or "" for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, nodes)]


@cache
def modules_called(name: str) -> list[str]:
    """Modules of the package whose dotted name is, or ends with, this one."""
    return [module for module in MODULES if module == name or module.endswith(f".{name}")]


def has(holder: object, names: list[str]) -> bool:
    """Follow a chain of attributes, of which fields of dataclasses are some; False where one is missing."""
    for name in names:
        if name in getattr(holder, "__annotations__", {}) and not isinstance(holder, ModuleType):
            return True
        if not hasattr(holder, name):
            return False
        holder = getattr(holder, name)
    return True


def exists(text: str) -> bool:
    """Look a dotted name up in the package; True for a name that does not begin with a module of the package."""
    parts = text.split(".")
    if not modules_called(parts[0]):
        return True
    return any(
        has(imported, parts[k:])
        for k in range(1, len(parts) + 1)
        for module in modules_called(".".join(parts[:k]))
        for imported in [import_if_possible(module)]
    )


def import_if_possible(module: str) -> object:
    """A module; one that needs a package which is not installed, as a namespace of the names in its source."""
    try:
        return importlib.import_module(module)
    except ImportError:
        source = (ROOT / f"{module.replace('.', '/')}.py").read_text()
        names = [node.name for node in ast.parse(source).body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
        return SimpleNamespace(**dict.fromkeys(names))


def test_names_of_the_package_in_docstrings_exist():
    assert not exists("landscape.grid.Square")
    assert not exists("grid_job.worker_of")
    assert exists("landscape.grid.Grid.point")
    assert exists("spectrum_files.Findings.about")
    assert exists("nowhere.at_all")
    wrong = [
        f"{file.relative_to(ROOT)}: `{name}`"
        for file in SOURCES
        for text in docstrings(file)
        for name in re.findall(r"`([A-Za-z_]\w*(?:\.\w+)+)(?:\([^`]*\))?`", text)
        if not name.endswith((".py", ".md", ".h5")) and not exists(name)
    ]
    assert wrong == []
