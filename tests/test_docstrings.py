"""Examples in docstrings run, and names of the package in them exist."""

import ast
import doctest
import importlib
import re
from collections.abc import Callable
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


def public_functions(source: str) -> list[tuple[str, ast.FunctionDef]]:
    """The functions of a module and the methods of its classes, by dotted name, in which nothing begins with '_'."""
    found = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            found += [(f"{node.name}.{each.name}", each) for each in node.body if isinstance(each, ast.FunctionDef)]
        elif isinstance(node, ast.FunctionDef):
            found.append((node.name, node))
    return [(name, function) for name, function in found if "._" not in f".{name}"]


def parameters_of(name: str, function: ast.FunctionDef) -> list[str]:
    """The names of parameters as a docstring describes them, without `self` and `cls`."""
    given = function.args
    is_method = "." in name and "staticmethod" not in map(ast.unparse, function.decorator_list)
    names = [each.arg for each in (*given.posonlyargs, *given.args)][is_method:]
    names += [f"*{given.vararg.arg}"] if given.vararg else []
    names += [each.arg for each in given.kwonlyargs]
    return [*names, f"**{given.kwarg.arg}"] if given.kwarg else names


def undocumented(source: str) -> list[str]:
    """Public functions of six lines or more without docstring, or of four parameters or more without `Args:`."""
    wrong = []
    for name, function in public_functions(source):
        text, lines = ast.get_docstring(function) or "", function.end_lineno - function.lineno + 1
        if not text and lines >= 6:
            wrong.append(f"{name}: no docstring")
        elif len(parameters_of(name, function)) >= 4 and "Args:\n" not in text:
            wrong.append(f"{name}: no Args")
    return wrong


def wrongly_described(source: str) -> list[str]:
    """Public functions whose section `Args:` names something else than parameters, or names them in another order."""
    wrong = []
    for name, function in public_functions(source):
        section = re.search(r"^Args:\n((?: {4}.*\n?|\n)+)", ast.get_docstring(function) or "", re.MULTILINE)
        heads = re.findall(r"^ {4}(\S[^:]*):", section[1], re.MULTILINE) if section else []
        described, parameters = [each for head in heads for each in head.split(", ")], parameters_of(name, function)
        if function.args.kwarg:  # single keywords may be described
            described = [each for each in described if each in parameters]
        if described != [each for each in parameters if each in described]:
            wrong.append(f"{name}: {', '.join(described)}")
    return wrong


def in_other_styles(source: str) -> list[str]:
    """Classes and functions that define a parameter in the first line, or name exceptions outside of `Raises:`."""
    wrong = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        text = ast.get_docstring(node) or ""
        if re.search(r"[;.] \w+: ", text.partition("\n")[0]):
            wrong.append(f"{node.name}: a definition in the first line")
        if re.search(r"\bRaises \w", re.sub(r"^Raises:\n(?: {4}.*\n?|\n)+", "", text, flags=re.MULTILINE)):
            wrong.append(f"{node.name}: exceptions in a sentence")
    return wrong


def found_in_package(check: Callable[[str], list[str]]) -> list[str]:
    """The findings of a check in all modules of the package."""
    return [f"{file.relative_to(ROOT)}: {each}" for file in SOURCES for each in check(file.read_text())]


def test_public_functions_have_docstrings_that_describe_four_or_more_parameters():
    body = "        a\n" * 5
    assert undocumented(f"def f():\n{body}") == ["f: no docstring"]
    assert undocumented(f"class A:\n    def f(self):\n{body}    def _f(self):\n{body}") == ["A.f: no docstring"]
    assert undocumented(f"def _f(a, b, c, d):\n{body}class _A:\n    def f(self):\n{body}") == []
    assert undocumented("def f(a, b, *, c, **d):\n    'Do.'") == ["f: no Args"]
    assert undocumented("class A:\n    def f(self, a, b, c):\n        'Do.'") == []
    assert undocumented('def f(a, b, c, d):\n    """Do.\n\n    Args:\n        a: One.\n    """') == []
    assert found_in_package(undocumented) == []


def test_sections_of_arguments_name_parameters_in_their_order():
    described = "a: One.\n            Its rest: so.\n        b, c: Two.\n\n    Raises:\n        D: e.\n    "
    text = f'    """Do.\n\n    Args:\n        {described}"""'
    assert wrongly_described(f"def f(a, b, c):\n{text}") == []
    assert wrongly_described(f"def f(b, a, c):\n{text}") == ["f: a, b, c"]
    assert wrongly_described(f"def f(a, c):\n{text}") == ["f: a, b, c"]
    assert found_in_package(wrongly_described) == []


def test_parameters_and_exceptions_are_described_in_sections():
    definition, sentence = "f: a definition in the first line", "f: exceptions in a sentence"
    assert in_other_styles("def f(a):\n    'Do; a: it.'") == [definition]
    assert in_other_styles("def f(a):\n    'Do. a: it.'") == [definition]
    assert in_other_styles("class A:\n    async def f(self):\n        'Do. Raises B.'") == [sentence]
    assert in_other_styles("def f(a):\n    'Do; a: it. Raises B where it fails.'") == [definition, sentence]
    assert in_other_styles("def f(a):\n    'Do. Raises as `g`.'") == [sentence]
    raises = "Raises:\n        B: It fails.\n            Raises all else.\n        C: So."
    assert in_other_styles(f'def f(a):\n    """Do.\n\n    {raises}\n\n    It does. Raises D.\n    """') == [sentence]
    sections = f"Args:\n        a: It; b: another one.\n\n    {raises}"
    assert in_other_styles(f'def f(a):\n    """Raise B: it fails, see `c`.\n\n    {sections}\n    """') == []
    assert found_in_package(in_other_styles) == []


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
