"""The docstrings of the public functions: their examples run, and their arguments are those of the signature."""

import doctest
import importlib
import inspect
import re
from typing import get_type_hints

import pytest
from conftest import ROOT

import lossatlas
from lossatlas.mpi.communicator import Ranks

FUNCTIONS = (
    "surface",
    "eigenvalues",
    "spectrum",
    "trajectory",
    "align",
    "language_model",
    "question_data",
    "with_scores",
    "read",
    "compare",
)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_examples_run_in_a_fresh_namespace(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples = doctest.DocTestFinder(recurse=False).find(getattr(lossatlas, name), name, globs={})
    assert [len(each.examples) > 1 for each in examples] == [True]
    assert doctest.DocTestRunner().run(examples[0]).failed == 0


@pytest.mark.parametrize("name", FUNCTIONS)
def test_arguments_and_errors_are_described(name):
    function = getattr(lossatlas, name)
    sections = re.split(r"^(Args|Returns|Raises|Example):\n", inspect.getdoc(function), flags=re.MULTILINE)
    assert sections[1::2] == ["Args", "Returns", "Raises", "Example"]
    described = re.findall(r"^    (\w+): ", sections[2], flags=re.MULTILINE)
    parameters = list(inspect.signature(function).parameters)
    assert described == [parameter for parameter in parameters if parameter in described]
    if "those of `" not in sections[0]:  # otherwise the rest is described by another function
        assert described == parameters


@pytest.mark.parametrize("name", ["surface", "eigenvalues", "spectrum", "trajectory", "align"])
def test_annotations_can_be_evaluated(name):
    hints = get_type_hints(getattr(lossatlas, name))
    assert name == "align" or hints["ranks"] == Ranks


def documented():
    """The names of the Python reference."""
    text = (ROOT / "docs" / "python.md").read_text()
    module, names = "", []
    for line in text.splitlines():
        if found := re.match(r"\.\. (?:currentmodule|automodule):: (\S+)", line):
            module = found[1]
        elif found := re.match(r"\.\. auto(?:function|class):: (\S+)", line):
            names.append(found[1] if found[1].startswith("lossatlas.") else f"{module}.{found[1]}")
        elif found := re.match(r"\s+:members: (.+)", line):
            names += [f"{module}.{each.strip()}" for each in found[1].split(",")]
    return names


@pytest.mark.parametrize("name", documented())
def test_everything_in_the_reference_has_an_example_that_runs(name, monkeypatch):
    import matplotlib.pyplot as plt

    monkeypatch.chdir(ROOT)
    owner, _, last = name.rpartition(".")
    found = getattr(importlib.import_module(owner), last)
    scope = vars(importlib.import_module(found.__module__))
    examples = doctest.DocTestFinder(recurse=False).find(found, name, globs=dict(scope))
    assert [bool(each.examples) for each in examples] == [True]
    assert doctest.DocTestRunner().run(examples[0]).failed == 0
    plt.close("all")
