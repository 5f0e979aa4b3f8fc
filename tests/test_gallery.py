"""docs/gallery.md is what docs/gallery.py writes: its pictures are there, its commands can be given."""

import importlib
import re
import shlex
import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "docs"))
import gallery

PAGE = (ROOT / "docs" / "gallery.md").read_text()


def test_the_page_is_the_one_that_is_written():
    assert gallery.text() == PAGE


@pytest.mark.parametrize("entry", gallery.ENTRIES, ids=lambda entry: entry.picture)
def test_a_picture_is_there_and_its_command_can_be_given(entry, monkeypatch):
    picture = ROOT / "docs" / "pictures" / entry.picture
    assert 3000 < picture.stat().st_size < 3e6
    command, *words = shlex.split(entry.command)
    module = importlib.import_module(command.removesuffix(".py"))
    module.parser().parse_args(words)
    for word in words:
        if word.endswith(".h5"):
            file = ROOT / word
            assert file.exists()
            assert file.stat().st_size < 1.1e5


def test_no_picture_is_left_that_nothing_shows():
    told = "".join((ROOT / "docs" / f"{page}.md").read_text() for page in ("concepts", "recipes"))
    shown = {entry.picture for entry in gallery.ENTRIES} | set(re.findall(r"pictures/([\w.]+)", told))
    assert {file.name for file in (ROOT / "docs" / "pictures").iterdir()} == shown
    used = re.findall(r"docs/pictures/([\w.]+)", (ROOT / "README.md").read_text())
    assert used
    assert set(used) <= shown
