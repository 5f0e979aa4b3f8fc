"""docs/gallery.md is what docs/gallery.py writes: its pictures are there, its commands can be given."""

import importlib
import re
import shlex
import sys

import numpy as np
import pytest
from conftest import ROOT

from lossatlas.figures import choose_colour_scale
from lossatlas.io import read_surface
from lossatlas.programs import COMMANDS, find_command

sys.path.insert(0, str(ROOT / "docs"))
import gallery

PAGE = (ROOT / "docs" / "gallery.md").read_text()


def test_the_page_is_the_one_that_is_written():
    assert gallery.text() == PAGE


@pytest.mark.parametrize("entry", gallery.ENTRIES, ids=lambda entry: entry.picture)
def test_a_picture_is_there_and_its_command_can_be_given(entry, monkeypatch):
    picture = ROOT / "docs" / "pictures" / entry.picture
    assert 3000 < picture.stat().st_size < 3e6
    command, *words = shlex.split(entry.command.removeprefix("-m lossatlas "))
    module = importlib.import_module(f"lossatlas.commands.{COMMANDS[find_command(command)].module}")
    module.parser().parse_args(words)
    for word in words:
        if word.endswith(".h5"):
            file = ROOT / word
            assert file.exists()
            assert file.stat().st_size < 1.1e5


def test_every_thumbnail_leads_to_its_figure_and_command():
    headings = {gallery.anchor(title) for title in re.findall(r"^## (.*)", PAGE, re.M)}
    linked = re.findall(r"\]\(#([^)]+)\)", PAGE)
    assert len(linked) == len(set(linked)) == len(gallery.ENTRIES)
    assert set(linked) == headings


def test_a_long_command_is_wrapped_and_means_the_same():
    for entry in gallery.ENTRIES:
        shown = gallery.wrapped(entry.shown)
        assert max(map(len, shown.splitlines())) <= 80
        assert shlex.split(shown.replace("\\\n", " ")) == shlex.split(entry.shown)


def test_no_picture_is_left_that_nothing_shows():
    told = "".join(page.read_text() for page in [*(ROOT / "docs").glob("stories/*.md"), ROOT / "docs" / "concepts.md"])
    shown = {entry.picture for entry in gallery.ENTRIES} | set(re.findall(r"pictures/([\w.]+)", told))
    assert {file.name for file in (ROOT / "docs" / "pictures").iterdir()} == shown
    used = re.findall(r"docs/pictures/([\w.]+)", (ROOT / "README.md").read_text())
    assert used
    assert set(used) <= shown


def test_the_caption_of_three_directions_holds_for_every_cell_that_is_drawn():
    (entry,) = (each for each in gallery.ENTRIES if each.picture == "directions.png")
    said = re.search(
        r"rises from (\S+) to at most (\S+) at a distance of (\S+), and the accuracy is at least (\S+) %. At a "
        r"distance of (\S+), "
        r".* is (\S+) to (\S+), and the accuracy at most (\S+) %",
        entry.text,
    )
    centre, most, far, accuracy, step, low, high, best = map(float, said.groups())
    random, gradient, eigenvector = (read_surface(ROOT / f"docs/surfaces/along_{kind}.h5") for kind in KINDS)
    loss = random.fields["train_loss"]
    assert loss[random.grid.x == 0] == pytest.approx(centre, abs=6e-4)
    assert loss.max() == pytest.approx(most, abs=6e-3)
    assert random.fields["train_acc"].min() == pytest.approx(accuracy, abs=0.06)
    assert (random.grid.x[0], random.grid.x[-1]) == (-far, far)
    for each in (gradient, eigenvector):
        distance = np.abs(each.grid.x)
        assert distance[distance > 0].min() == step
        beside = distance == step
        assert (each.fields["train_loss"][beside] >= low - 0.06).all()
        assert (each.fields["train_loss"][beside] <= high + 0.06).all()
        assert (each.fields["train_acc"][beside] <= best + 0.06).all()


KINDS = ("random", "gradient", "eigenvector")


def test_the_pair_has_the_height_that_is_said_of_it():
    """ln(min(loss, 10) + 0.1), but for a factor: the heights' differences are those of this logarithm."""
    (entry,) = (each for each in gallery.ENTRIES if each.picture == "cover_light.png")
    assert "with `--vmax 10` the height of this pair is ln(min(loss, 10) + 0.1)" in entry.text
    pair = [read_surface(ROOT / "docs" / "surfaces" / f"resnet56{kind}_cifar10.h5") for kind in ("", "_noshort")]
    values = [each.fields["train_loss"] for each in pair]
    shared = choose_colour_scale(values, vmax=10.0)
    for each in values:
        drawn = np.minimum(shared.height(each), shared.limits[1]) * np.log(10)
        np.testing.assert_allclose(drawn, np.log(np.minimum(each, 10) + 0.1), rtol=1e-12)
