"""docs/gallery.md is what docs/gallery.py writes: its pictures are there, its commands can be given."""

import importlib
import re
import shlex
import sys

import numpy as np
import pytest
from conftest import ROOT
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from lossatlas import figures
from lossatlas.figures import choose_colour_scale
from lossatlas.figures.surface_renderer import rendering_problem
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


QUICK = {"chains.png", "spectra.png", "repeats.png", "sharpness.png", "eigen.png", "between.png", "by_layer.png"}
STILL = [entry for entry in gallery.ENTRIES if entry.ending.endswith(".png")]  # no films and no page
TILE = 16  # pixels
LARGEST_DIFFERENCE = 10  # mean over a tile, of 255: more than that of antialiasing, less than that of another mark


def difference_of(one: Image.Image, other: Image.Image) -> float:
    """The mean difference of two pictures in the tile in which it is largest."""
    change = np.abs(np.asarray(one.convert("RGB"), float) - np.asarray(other.convert("RGB"), float)).mean(-1)
    height, width = (TILE * (side // TILE + 1) for side in change.shape)
    padded = np.zeros((height, width))
    padded[: change.shape[0], : change.shape[1]] = change
    return float(padded.reshape(height // TILE, TILE, width // TILE, TILE).mean((1, 3)).max())


def test_a_mark_that_is_missing_counts_and_antialiasing_does_not():
    with figures.style() as plt:
        pictures = []
        for shift, mark in ((0, "P"), (0.001, "P"), (0, "none"), (0, "*")):  # a quarter of a pixel
            fig, axis = plt.subplots(figsize=(4, 3))
            axis.plot([0, 1], [0, 1 + shift], color="black")
            axis.plot(0.3, 0.6, mark, markersize=7, color="black")
            axis.set(xlim=(0, 1), ylim=(0, 1))
            canvas = FigureCanvasAgg(fig)
            canvas.draw()
            pictures.append(Image.fromarray(np.array(canvas.buffer_rgba())))
    first, *others = (difference_of(pictures[0], each) for each in pictures[1:])
    assert 0 < first < LARGEST_DIFFERENCE < min(others)


@pytest.fixture(scope="module")
def bases(tmp_path_factory) -> dict:
    """Where each command has written its files, by command."""
    return {"": tmp_path_factory.mktemp("gallery")}


def in_quick_tests(entry) -> object:
    return pytest.param(entry, id=entry.picture, marks=[] if entry.picture in QUICK else pytest.mark.full)


@pytest.mark.pictures
@pytest.mark.parametrize("entry", [in_quick_tests(entry) for entry in STILL])
def test_a_picture_is_what_its_command_draws(entry, bases, monkeypatch):
    if "--render" in entry.command and (reason := rendering_problem()):
        pytest.skip(f"pyvista does not render here: {reason}")
    monkeypatch.chdir(ROOT)
    if entry.command not in bases:
        bases[entry.command] = bases[""] / str(len(bases))
        words = gallery.words_of(entry, bases[entry.command])
        command, *words = words[2:] if words[:2] == ["-m", "lossatlas"] else words
        module = importlib.import_module(f"lossatlas.commands.{COMMANDS[find_command(command)].module}")
        assert module.main(words) == 0
    committed = Image.open(ROOT / "docs" / "pictures" / entry.picture)
    now = Image.open(gallery.drawn(entry, bases[entry.command]))
    assert committed.size == now.size, "draw it again: make gallery"
    assert difference_of(committed, now) < LARGEST_DIFFERENCE, "draw it again: make gallery"
