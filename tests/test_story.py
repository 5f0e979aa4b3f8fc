"""Stories of pages: the form in which one is written, each error with its line, and the numbers of the built-in one."""

import json
import re

import numpy as np
import pytest
from conftest import ROOT

from lossatlas.commands import view_surface
from lossatlas.errors import BadInput
from lossatlas.io import read_projection, read_surface
from lossatlas.landscape import Grid, Surface
from lossatlas.landscape.topology import minima
from lossatlas.viewer import Page, Shown, page_of
from lossatlas.viewer.built_in_story import DEPTH, built_in_story
from lossatlas.viewer.story import read_story, spans_of

SURFACES = ROOT / "docs" / "surfaces"
FIELDS = ["train_loss", "train_acc"]
GOOD = """
# First **step**

Some **bold** and *italic* words, `code`, and
a [link](https://example.org/a_b?c=d). <script>alert(1)</script>

A second paragraph.

```state
file:///some/page.html#azimuth=10&elevation=80
on=sgd~adam&play=true&surface=2&story=3
```

## Second step ##

Only words.
"""


def write(tmp_path, text):
    file = tmp_path / "story.md"
    file.write_text(text)
    return file


def plain(step):
    return [" ".join(part.strip() for part in "".join(span[1] for span in spans).split()) for spans in step.text]


def test_a_story_is_read(tmp_path):
    story = read_story(write(tmp_path, GOOD), FIELDS, 2)
    first, second = story.steps
    assert story.opens
    assert (first.title, second.title) == ("First **step**", "Second step")
    assert first.text[0][:5] == (("", "Some "), ("b", "bold"), ("", " and "), ("i", "italic"), ("", " words, "))
    assert ("a", "link", "https://example.org/a_b?c=d") in first.text[0]
    assert first.text[0][-1] == ("", ". <script>alert(1)</script>")
    assert len(first.text) == 2
    assert first.state == {"azimuth": "10", "elevation": "80", "on": "sgd~adam"}
    assert (first.play, first.surface) == (True, 1)
    assert (second.state, second.play, second.surface) == (None, False, 0)
    assert story.content()["steps"][0]["state"] == "azimuth=10&elevation=80&on=sgd~adam"


def test_marks_that_are_not_closed_are_text():
    assert spans_of("2 * 3 * 4, a**b and `c") == (("", "2 * 3 * 4, a**b and `c"),)
    assert spans_of("*a*") == (("i", "a"),)


@pytest.mark.parametrize(("mark", "kind"), [("**", "b"), ("*", "i"), ("`", "code")])
def test_words_of_one_letter_are_marked_too(mark, kind):
    found = spans_of(f"here {mark}1{mark}, there {mark}19{mark}, {mark}x{mark} and {mark}a b{mark}.")
    between = ("here ", ", there ", ", ", " and ", ".")
    marked = ("1", "19", "x", "a b")
    assert [words for kind, words in found if not kind] == list(between)
    assert [each for each in found if each[0]] == [(kind, words) for words in marked]


STEP = "# A step\n\nwords\n"
ERRORS = [
    ("", r"story\.md: there is no step"),
    ("words\n\n# A step\n\nwords\n", r"story\.md:1: a step begins with a heading"),
    ("#\n\nwords\n", r"story\.md:1: this heading has no words"),
    (f"{STEP}\n# Empty\n", r"story\.md:5: the step 'Empty' has no text"),
    (f"{STEP}\n```python\n1\n```\n", r"story\.md:5: the only block of a story is ```state"),
    (f"{STEP}\n```state\nx=1\n", r"story\.md:5: this block has no end"),
    (f"{STEP}```state\nx=1\n```\n```state\ny=1\n```\n", r"story\.md:7: this step has a state already"),
    (f"{STEP}```state\nazimut=1\n```\n", r"story\.md:5: a page has no state 'azimut' \(did you mean azimuth\?\)"),
    (f"{STEP}```state\nqqqq=1\n```\n", r"story\.md:5: a page has no state 'qqqq': there are height, "),
    (f"{STEP}```state\nx=1\nazimuth\n```\n", r"story\.md:6: 'azimuth' is no state: write NAME=VALUE"),
    (f"{STEP}```state\nazimuth=left\n```\n", r"story\.md:5: azimuth=left: this is not a number"),
    (f"{STEP}```state\nx=nan\n```\n", r"story\.md:5: x=nan: this is not a number"),
    (f"{STEP}```state\nlines=yes\n```\n", r"story\.md:5: lines=yes: this is not true or false"),
    (f"{STEP}```state\nrates=1~b\n```\n", r"story\.md:5: rates=1~b: this is not numbers joined by ~"),
    (
        f"{STEP}```state\nheight=loss\n```\n",
        r"story\.md:5: height=loss: the fields of the page are train_loss, train_acc",
    ),
    (f"{STEP}```state\non=sgd~lion\n```\n", r"story\.md:5: on=sgd~lion: there is no optimizer 'lion', but sgd, "),
    (f"{STEP}```state\nscale=foo\n```\n", r"story\.md:5: scale=foo: this is not one of linear, log, soft"),
    (f"{STEP}```state\nmap=nomap\n```\n", r"story\.md:5: map=nomap: this is not one of viridis, "),
    (f"{STEP}```state\nobjective=zzz\n```\n", r"story\.md:5: objective=zzz: this is not one of loss, log"),
    (f"{STEP}```state\ntheme=xx\n```\n", r"story\.md:5: theme=xx: this is not one of auto, light, dark"),
    (f"{STEP}```state\ndistance=1_000\n```\n", r"story\.md:5: distance=1_000: this is not a number"),
    (f"{STEP}```state\nrates=0_1~1\n```\n", r"story\.md:5: rates=0_1~1: this is not numbers joined by ~"),
    (f"{STEP}```state\nazimuth=\u0663\n```\n", r"story\.md:5: azimuth=\u0663: this is not a number"),
    (f"{STEP}```state\nx=1e999\n```\n", r"story\.md:5: x=1e999: this is not a number"),
    (f"{STEP}```state\nsurface=\u0661\n```\n", r"story\.md:5: surface=\u0661: the surfaces of the page are counted"),
    ("# #\n\nwords\n", r"story\.md:1: this heading has no words"),
    (f"{STEP}  ```\n# B\n  ```\n", r"story\.md:4: the only block of a story is ```state"),
    (f"{STEP}```state\nplay=on\n```\n", r"story\.md:5: play=on: this is not true or false"),
    (f"{STEP}```state\nsurface=3\n```\n", r"story\.md:5: surface=3: the surfaces of the page are counted from 1 to 2"),
    (f"{STEP}- a list\n", r"story\.md:4: a story has paragraphs alone"),
    (f"{STEP}\n![x](y.png)\n", r"story\.md:5: a story has paragraphs alone"),
    (
        f"{STEP}\n[a\n b](javascript:alert(1))\n",
        r"story\.md:5: the address 'javascript:alert\(1' does not begin with https://",
    ),
    (f"# Long\n\n{'word ' * 500}\n", r"story\.md:1: the step 'Long' has more than 2000 letters"),
]


@pytest.mark.parametrize(("text", "message"), ERRORS, ids=[message[9:40] for _, message in ERRORS])
def test_each_mistake_is_one_line_with_its_place(tmp_path, text, message):
    with pytest.raises(BadInput, match=message) as raised:
        read_story(write(tmp_path, text), FIELDS, 2)
    assert "\n" not in str(raised.value)


def test_the_command_names_the_mistake_and_ends_with_its_code(tmp_path, capsys):
    surface, page = SURFACES / "resnet56_fashion.h5", tmp_path / "page.html"
    missing = tmp_path / "none.md"
    for story, message in (
        (missing, f"error: cannot read the story {missing}: No such file or directory"),
        (
            write(tmp_path, f"{STEP}```state\nzoom=2\n```\n"),
            f"error: {tmp_path}/story.md:5: a page has no state 'zoom'",
        ),
    ):
        assert view_surface.main([str(surface), "--story", str(story), "--out", str(page)]) == 3
        assert capsys.readouterr().err.strip().startswith(message)
        assert not page.exists()
    (tmp_path / "odd.md").write_bytes(b"# A\n\n\xff\n")
    assert view_surface.main([str(surface), "--story", str(tmp_path / "odd.md"), "--out", str(page)]) == 3
    assert "no text in UTF-8, at byte 5" in capsys.readouterr().err


def test_a_page_does_not_replace_its_story(tmp_path, capsys):
    story = tmp_path / "story.html"
    story.write_text(STEP)
    assert view_surface.main([str(SURFACES / "resnet56_fashion.h5"), "--story", str(story), "--out", str(story)]) == 2
    assert "is one of the files that are read" in capsys.readouterr().err
    assert story.read_text() == STEP


def test_the_story_is_in_the_page_and_no_part_of_it(tmp_path):
    surface = read_surface(SURFACES / "resnet56_fashion.h5")
    text = page_of([Shown(surface, "a"), Shown(surface, "b")], story=write(tmp_path, GOOD))
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])
    assert [step["title"] for step in data["story"]["steps"]] == ["First **step**", "Second step"]
    assert "<script>alert(1)" not in text
    page = Page.of([Shown(surface, "a"), Shown(surface, "b")], story=write(tmp_path, GOOD))
    assert page.text == text


def shown(name, label, run=None):
    path = None if run is None else read_projection(SURFACES / f"{run}.h5")
    return Shown(read_surface(SURFACES / f"{name}.h5"), label, trajectory=path)


def test_the_built_in_story_of_the_pair_has_the_numbers_of_its_files():
    pair = [shown("resnet56_cifar10", "ResNet-56"), shown("resnet56_noshort_cifar10", "{low} **other**")]
    steps = built_in_story(pair, "train_loss", "soft").steps
    assert [step.title for step in steps] == [
        "What is this sheet?",
        "Two numbers of 855,770",
        "The same recipe without shortcuts",
        "Roll a ball",
        "What it does not show",
    ]
    first, second = (each.surface.fields["train_loss"] for each in pair)
    low, high = map(float, re.search(r"from (\S+) to ([\d.]+)\.", plain(steps[0])[1]).groups())
    assert (low, high) == (pytest.approx(first.min(), rel=5e-3), pytest.approx(first.max(), rel=5e-3))
    centre = float(re.search(r"training loss ([\d.]+)\)", plain(steps[1])[1])[1])
    assert centre == pytest.approx(first[25, 25], rel=5e-3)
    here = re.search(r"go from (\S+) to (\S+), there from (\S+) to ([\d.]+)\.", plain(steps[2])[1]).groups()
    assert list(map(float, here)) == pytest.approx([second.min(), second.max(), first.min(), first.max()], rel=5e-3)
    counts = [sum(each.depth > DEPTH for each in minima(own.surface)) for own in pair]
    assert re.search(r"here (\d+), there (\d+)\.$", plain(steps[2])[1]).groups() == (str(counts[1]), str(counts[0]))
    assert steps[2].text[0][0] == ("b", "{low} **other**")  # a label is text, whatever it holds
    assert steps[3].play
    assert steps[2].surface == 1


def test_the_number_of_parameters_is_that_of_the_network():
    import torch

    from lossatlas.models import build

    for name, model in (("resnet56_cifar10", "resnet56"), ("resnet56_noshort_cifar10", "resnet56_noshort")):
        net = build(model)
        wanted = sum(p.numel() for p in net.parameters() if isinstance(p, torch.nn.Parameter))
        assert read_surface(SURFACES / f"{name}.h5").about["parameters"] == wanted


def test_the_story_fits_what_the_page_shows():
    titles = {
        "path": [
            "What is this sheet?",
            "Two numbers of 272,186",
            "The path of a training",
            "Roll a ball",
            "What it does not show",
        ],
        "curve": ["What is this line?", "One number of very many", "Roll a ball", "What it does not show"],
        "julia": ["What is this sheet?", "Two numbers of very many", "Roll a ball", "What it does not show"],
        "eigen_map": ["What is this sheet?", "Two numbers of very many", "What it does not show"],
    }
    for name, wanted in titles.items():
        each = shown(name, name, "path_projection" if name == "path" else None)
        field = "max_eig" if name == "eigen_map" else "train_loss"
        steps = built_in_story([each], field, "log").steps
        assert [step.title for step in steps] == wanted
        assert not any("{" in line for step in steps for line in plain(step))
    words = " ".join(plain(built_in_story([shown("path", "path", "path_projection")], "train_loss", "log").steps[2]))
    run = read_projection(SURFACES / "path_projection.h5")
    assert f"{len(run.x)} checkpoints of one training, from epoch {run.epochs[0]:g} to {run.epochs[-1]:g}" in words
    assert f"a distance of {np.nanmax(run.distance):.3g}." in words
    two = plain(built_in_story([shown("curve_plane", "two")], "train_loss", "log").steps[1])[1]
    assert "Networks stand at (0, 0) and (1, 0)." in two  # and the control point of the curve is none


def test_any_two_surfaces_are_compared():
    pair = [shown("resnet56_fashion", "a"), shown("path", "b")]
    step = built_in_story(pair, "train_loss", "log").steps[2]
    assert step.title == "Beside another one"
    reverse = [shown("resnet56_noshort_fashion", "a"), shown("resnet56_fashion", "b")]
    assert built_in_story(reverse, "train_loss", "log").steps[2].title == "The same recipe with shortcuts"


def checkpoints(losses):
    count = len(losses)
    request = {"path": [f"digest {k}" for k in range(count)]}
    surface = Surface.of_values(Grid(np.arange(float(count))), ["train_loss", "train_acc"], request=request)
    return surface.with_cells(range(count), np.stack([losses, np.linspace(10, 90, count)], 1))


def test_a_line_of_checkpoints_is_told_as_such():
    path = Shown(checkpoints([2.25, 1.5, 0.625]), "run")
    steps = built_in_story([path], "train_loss", "linear").steps
    titles = ["What is this line?", "Checkpoints in their order", "What it does not show"]
    assert [step.title for step in steps] == titles
    words = " ".join(line for step in steps for line in plain(step))
    assert "computed at 3 checkpoints" in words
    assert "0 is the first one, 2 the last one. The first one has the training loss 2.25, the last one 0.625" in words
    assert "No optimizers race here" in words
    assert not any(step.play for step in steps)
    assert not re.search("the network itself|direction|drop the ball|one number changes", words)
    assert "No optimizers race" in " ".join(plain(built_in_story([path], "train_acc", "linear").steps[1]))
    infinite = Shown(checkpoints([np.inf, 1.5, 0.625]), "run")
    assert "The first one has" not in " ".join(plain(built_in_story([infinite], "train_loss", "linear").steps[1]))


def test_a_line_of_checkpoints_beside_a_line_has_no_common_coordinate():
    path, line = Shown(checkpoints([2.25, 1.5, 0.625]), "run"), shown("curve", "line")
    for pair in ([path, line], [line, path]):
        steps = built_in_story(pair, "train_loss", "linear").steps
        assert not any(step.play for step in steps)
        beside = " ".join(plain(steps[2]))
        assert "one counts checkpoints" in beside
        assert "same coordinates" not in beside
    both = built_in_story([path, path], "train_loss", "linear").steps
    assert "one counts checkpoints" not in " ".join(plain(both[2]))


def test_no_story_says_that_each_weight_may_change():
    """Biases may be left out, or all but a few parameters, and the file does not say how many."""
    for name in ("resnet56_cifar10", "curve", "julia"):
        steps = built_in_story([shown(name, name)], "train_loss", "log").steps
        assert not any("each may change" in line for step in steps for line in plain(step))
