"""The docstrings of the public functions: their examples run, and their arguments are those of the signature."""

import doctest
import inspect
import re

import pytest

import lossatlas

FUNCTIONS = ("surface", "eigenvalues", "spectrum", "trajectory", "align", "read", "compare")


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
