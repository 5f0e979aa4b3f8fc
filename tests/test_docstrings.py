"""Examples in docstrings run."""

import doctest
import importlib

import pytest
import torch
from conftest import ROOT

FILES = [path for path in sorted((ROOT / "lossatlas").rglob("*.py")) if ">>> " in path.read_text()]


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
