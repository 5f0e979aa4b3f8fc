"""Folders of pages: the command, the function, and what they refuse."""

import json
import re
from contextlib import nullcontext

import pytest
from conftest import ROOT

from lossatlas.commands import view_gallery
from lossatlas.errors import BadUsage, CannotWrite
from lossatlas.figures.thumbnails import card_picture
from lossatlas.io import read_surface
from lossatlas.viewer import GalleryPage, Shown, write_gallery

SURFACES = ROOT / "docs" / "surfaces"
ONE, OTHER = SURFACES / "resnet56_fashion.h5", SURFACES / "resnet56_noshort_fashion.h5"
PATH, RUN, CURVE = (SURFACES / f"{name}.h5" for name in ("path", "path_projection", "curve"))


def data(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.S)[1])


def test_the_command_writes_a_page_for_each_word(tmp_path, capsys):
    out = tmp_path / "pages"
    words = [f"{ONE}+{OTHER}", f"{PATH}+{RUN}", str(CURVE)]
    assert (
        view_gallery.main([*words, "--out", str(out), "--titles", "A pair", "A <run>", "A line", "--title", "All"]) == 0
    )
    names = ["resnet56_fashion+resnet56_noshort_fashion", "path", "curve"]
    assert {file.name for file in out.iterdir()} == {"index.html"} | {
        f"{n}.{e}" for n in names for e in ("html", "png")
    }
    assert "wrote 3 pages (" in "".join(capsys.readouterr())
    pair, run, line = (data(out / f"{name}.html")["surfaces"] for name in names)
    assert [each["label"] for each in pair] == ["resnet56_fashion", "resnet56_noshort_fashion"]
    assert len(run) == 1
    assert len(run[0]["trajectory"]["x"]) == 13
    assert line[0]["y"] is None
    index = (out / "index.html").read_text()
    assert "<h1>All</h1>" in index
    assert re.findall(r"<h2>(.*?)</h2>", index) == ["A pair", "A &lt;run&gt;", "A line"]
    assert re.findall(r'href="([\w+]+\.html)"', index) == [f"{name}.html" for name in names]


ERRORS = [
    ([], 2, "name the surface files to show"),
    ([str(ONE)], 2, "name the folder to write: --out"),
    ([str(RUN), "--out", "o"], 2, "a page has surface files, and at most one trajectory"),
    ([f"{PATH}+{RUN}+{RUN}", "--out", "o"], 2, "a page has surface files, and at most one trajectory"),
    ([f"{CURVE}+{ONE}", "--out", "o"], 2, "a curve and a plane cannot be shown on one page"),
    ([f"{CURVE}+{RUN}", "--out", "o"], 2, "needs a plane, and this is a curve"),
    ([str(ONE), str(ONE), "--out", "o"], 2, "two pages have the name 'resnet56_fashion'"),
    ([str(ONE), "--titles", "a", "b", "--out", "o"], 2, "--titles gives 2 names for 1 page"),
    ([f"{ONE}+", "--out", "o"], 2, "name a file before and after each '+'"),
    (["none.h5", "--out", "o"], 3, "none.h5"),
]


@pytest.mark.parametrize(("words", "code", "message"), ERRORS, ids=[each[2][:30] for each in ERRORS])
def test_what_cannot_be_done_is_said_and_nothing_is_written(tmp_path, monkeypatch, capsys, words, code, message):
    monkeypatch.chdir(tmp_path)
    assert view_gallery.main(words) == code
    said = capsys.readouterr().err.strip()
    assert message in said
    assert said.count("\n") == 0
    assert list(tmp_path.iterdir()) == []


def test_a_file_whose_name_has_a_plus_is_one_file(tmp_path):
    file = tmp_path / "a+b.h5"
    file.write_bytes(ONE.read_bytes())
    assert [each.label for each in view_gallery.page_of_files(str(file)).shown] == ["a+b"]


def test_names_that_are_none_are_refused(tmp_path):
    shown = [Shown(read_surface(ONE), "one")]
    for name in ("index", "Index", "../up", "a/b", "", "."):
        with pytest.raises(BadUsage, match="cannot be the name of a page"):
            write_gallery(tmp_path, [GalleryPage(name, "title", shown)])
    with pytest.raises(BadUsage, match="two pages have the name 'one'"):
        write_gallery(tmp_path, [GalleryPage("one", "a", shown), GalleryPage("One", "b", shown)])
    with pytest.raises(BadUsage, match="at least one page"):
        write_gallery(tmp_path, [])
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite, match="cannot make the folder"):
        write_gallery(tmp_path / "file", [GalleryPage("one", "a", shown)])
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_pictures_of_several_surfaces_differ_from_that_of_one():
    one, other = read_surface(ONE), read_surface(OTHER)
    alone, both = card_picture([one]), card_picture([one, other])
    assert alone[:8] == both[:8] == b"\x89PNG\r\n\x1a\n"
    assert alone[16:24] == both[16:24]  # of one size
    assert alone != both


def test_joined_files_give_a_page_both_names(tmp_path, capsys):
    """So that a page of the first file alone does not have the same one."""
    out = tmp_path / "o"
    assert view_gallery.main([f"{ONE}+{OTHER}", str(ONE), "--out", str(out)]) == 0
    joined = "resnet56_fashion+resnet56_noshort_fashion"
    assert {file.stem for file in out.iterdir()} == {"index", joined, "resnet56_fashion"}
    assert f'href="{joined}.html"' in (out / "index.html").read_text()
    assert view_gallery.main([str(ONE), "--out", str(tmp_path / "one")]) == 0
    assert "wrote 1 page (" in capsys.readouterr().out


def test_the_top_of_the_scale_is_chosen_for_all_pages_or_for_each(tmp_path, capsys):
    def tops(out):
        return [data(out / f"{file.stem}.html")["fields"][0]["top"] for file in (ONE, OTHER)]

    usual, all_, each = (tmp_path / name for name in ("usual", "all", "each"))
    files = [str(ONE), str(OTHER)]
    assert view_gallery.main([*files, "--out", str(usual)]) == 0
    assert view_gallery.main([*files, "--out", str(all_), "--vmax", "3"]) == 0
    assert view_gallery.main([*files, "--out", str(each), "--vmax", "usual", "2.5"]) == 0
    assert tops(all_) == [3, 3]
    assert tops(each) == [tops(usual)[0], 2.5]
    assert (each / f"{ONE.stem}.png").read_bytes() == (usual / f"{ONE.stem}.png").read_bytes()
    assert (each / f"{OTHER.stem}.png").read_bytes() != (usual / f"{OTHER.stem}.png").read_bytes()
    page = GalleryPage("one", "One", [Shown(read_surface(ONE), "one")], vmax=2.5)
    write_gallery(tmp_path / "python", [page])
    assert data(tmp_path / "python" / "one.html")["fields"][0]["top"] == 2.5
    capsys.readouterr()
    for words, message in (
        (["3", "4", "5"], "--vmax gives 3 values for 2 pages: give one, or one for each"),
        (["-5"], "page 'resnet56_fashion': --vmax=-5.0: the top has to lie above the lowest value"),
        (["high"], "'high' is no finite number"),
    ):
        with pytest.raises(SystemExit) if words == ["high"] else nullcontext():
            assert view_gallery.main([*files, "--out", str(tmp_path / "none"), "--vmax", *words]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_run_and_a_curve_take_a_top_too(tmp_path):
    words = [f"{PATH}+{RUN}", str(CURVE)]
    assert view_gallery.main([*words, "--out", str(tmp_path), "--vmax", "5"]) == 0
    assert [data(tmp_path / f"{name}.html")["fields"][0]["top"] <= 5 for name in ("path", "curve")] == [True, True]
