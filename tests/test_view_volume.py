"""Volumes on the interactive page: its content, story, addresses and refusals."""

import base64
import json
import re
import warnings

import numpy as np
import pytest

import lossatlas
from lossatlas.commands import view_gallery, view_surface
from lossatlas.errors import BadInput, BadUsage
from lossatlas.io import Projection, write_surface
from lossatlas.landscape import Grid, Surface
from lossatlas.viewer import Shown, page_of
from lossatlas.viewer.axis_words import axes_in_words
from lossatlas.viewer.built_in_story import built_in_story
from lossatlas.viewer.content import content_of

NZ = 5


def bowl(x, y, z):
    return 0.5 + x * x + 2 * y * y + 3 * z * z + x * y


def volume(f=bowl, cells=None, gz=f"-1:1.5:{NZ}", **about):
    grid = Grid.parse("-1:1:9", "-1:1:7", gz)
    z, y, x = np.meshgrid(*grid.axes, indexing="ij")
    values = f(x, y, z).ravel()
    rows = np.stack([values, 100 / (1 + np.abs(values)), np.full(values.shape, 0.01)], 1)
    empty = Surface.of_values(grid, ["train_loss", "train_acc", "train_loss_se"], **about)
    cells = np.arange(grid.size) if cells is None else cells
    return empty.with_cells(cells, rows[cells])


def stored(surface, tmp_path, name="v.h5"):
    write_surface(tmp_path / name, surface)
    return tmp_path / name


def content(text):
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    return json.loads(found.group(1))


def decoded(field):
    return np.frombuffer(base64.b64decode(field["values"]), "<f4" if field["single"] else "<f8")


def test_each_plane_holds_the_values_of_the_file(tmp_path):
    file = stored(volume(), tmp_path)
    assert view_surface.main([str(file)]) == 0
    (own,) = content((tmp_path / "v.h5.html").read_text())["surfaces"]
    read = lossatlas.read(file)
    assert own["z"] == read.z.tolist()
    assert len(own["planes"]) == NZ
    for k, plane in enumerate(own["planes"]):
        for name in ("train_loss", "train_acc", "train_loss_se"):
            assert plane["fields"][name]["single"]
            np.testing.assert_allclose(decoded(plane["fields"][name]), read.fields[name][k].ravel(), rtol=1e-7)
        assert plane["cells"] == [63, 63]


def test_a_plane_of_a_volume_is_interpolated_as_on_its_own_page():
    whole = volume()
    planes = content_of([Shown(whole, "v")])["surfaces"][0]["planes"]
    for k, z in enumerate(whole.grid.z):
        alone = content_of([Shown(whole.plane_at(z), "p")])["surfaces"][0]
        for key in ("rows", "columns", "done", "interpolated", "cells"):
            assert planes[k][key] == alone[key]
        for name, field in alone["fields"].items():
            assert (field["log"], field["error"]) == (
                planes[k]["fields"][name]["log"],
                planes[k]["fields"][name]["error"],
            )


def test_all_planes_share_one_scale():
    whole = volume()
    (loss, _) = content_of([Shown(whole, "v")])["fields"]
    values = whole.fields["train_loss"]
    assert loss["range"] == [values.min(), values.max()]
    tops = [content_of([Shown(whole.plane_at(z), "p")])["fields"][0]["range"][1] for z in whole.grid.z]
    assert max(tops) == loss["range"][1] > min(tops)
    (chosen, _) = content_of([Shown(whole, "v")], vmax=3)["fields"]
    assert chosen["top"] == 3


def test_values_that_single_precision_does_not_hold_stay_double():
    huge = volume(lambda x, y, z: 1e100 * bowl(x, y, z))
    field = content_of([Shown(huge, "v")])["surfaces"][0]["planes"][2]["fields"]["train_loss"]
    assert not field["single"]
    np.testing.assert_array_equal(decoded(field), huge.fields["train_loss"][2].ravel())


def test_a_volume_of_25_cells_along_each_axis_fits_into_a_megabyte():
    rng = np.random.default_rng(0)
    grid = Grid.parse("-1:1:25", "-1:1:25", "-1:1:25")
    z, y, x = np.meshgrid(*grid.axes, indexing="ij")
    rough = bowl(x, y, z) + np.sin(4 * x + z) * np.cos(5 * y - 2 * z) + 0.05 * rng.normal(size=grid.shape) + 1
    rows = np.stack([rough.ravel(), 100 / rough.ravel(), np.zeros(grid.size)], 1)
    surface = Surface.of_values(grid, ["train_loss", "train_acc", "train_loss_se"]).with_cells(range(grid.size), rows)
    assert len(page_of([Shown(surface, "v")])) < 1_050_000


def test_an_unfinished_volume_has_planes_with_nothing():
    part = volume(cells=np.arange(63, 2 * 63))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (own,) = content_of([Shown(part, "v")])["surfaces"]
    assert [plane["cells"][0] for plane in own["planes"]] == [0, 63, 0, 0, 0]
    page_of([Shown(part, "v")])


def test_a_landscape_shows_its_volume(tmp_path):
    page = lossatlas.read(stored(volume(), tmp_path)).view(title="A volume", file=tmp_path / "page.html")
    assert page.labels == ("A volume",)
    assert len(content((tmp_path / "page.html").read_text())["surfaces"][0]["planes"]) == NZ


def test_a_gallery_has_the_page_of_a_volume(tmp_path):
    file = stored(volume(), tmp_path)
    assert view_gallery.main([str(file), "--out", str(tmp_path / "gallery")]) == 0
    assert len(content((tmp_path / "gallery" / "v.html").read_text())["surfaces"][0]["planes"]) == NZ


# Refusals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", ["plane", "curve", "volume"])
def test_a_volume_beside_other_surfaces_is_refused_by_its_syntax(tmp_path, capsys, other):
    one = volume()
    beside = {"plane": one.plane_at(0.25), "volume": one}
    line = Surface.of_values(Grid.parse("-1:1:9"), ["train_loss"]).with_cells(range(9), np.arange(9.0)[:, None])
    files = [stored(beside.get(other, line), tmp_path, "other.h5"), stored(one, tmp_path)]
    assert view_surface.main([str(file) for file in files]) == 2
    said = capsys.readouterr().err
    named = files[0] if other == "volume" else files[1]
    assert said.count("\n") == 1
    assert f"{named}:z=0.25" in said
    assert "plane_at(0.25)" in said


def test_a_trajectory_on_a_volume_is_refused(tmp_path, capsys):
    file = stored(volume(), tmp_path)
    assert view_surface.main([str(file), "--proj_file", str(tmp_path / "p.h5")]) == 2
    assert f"with the path of a training, name one of its planes, as in {file}:z=0.25" in capsys.readouterr().err
    path = Projection(np.zeros(2), np.zeros(2))
    with pytest.raises(BadUsage, match=r"with the path of a training.*FILE\.h5:z=0\.25"):
        page_of([Shown(volume(), "v", trajectory=path)])
    with pytest.raises(BadUsage, match="beside other surfaces"):
        page_of([Shown(volume(), "v"), Shown(volume().plane_at(0.25), "p")])


def test_one_plane_is_shown_as_before(tmp_path):
    file = stored(volume(), tmp_path)
    out = tmp_path / "plane.html"
    assert view_surface.main([f"{file}:z=0.875", "-o", str(out)]) == 0
    (own,) = content(out.read_text())["surfaces"]
    assert own["z"] is None
    assert "planes" not in own
    assert not own["fields"]["train_loss"]["single"]


# Words --------------------------------------------------------------------------------------------------------------


def test_the_story_says_what_a_volume_is():
    whole = volume(about={"parameters": 722})
    steps = {step.title: step for step in built_in_story([Shown(whole, "v")], "train_loss", "log").steps}
    told = {title: " ".join(span[1] for spans in step.text for span in spans) for title, step in steps.items()}
    assert list(told)[:2] == ["What is this volume?", "Three numbers of 722"]
    assert f"one of its {NZ} planes, z = 0.25" in told["What is this volume?"]
    slider = steps["A slider goes through it"]
    assert slider.state["z"] == "1.5"
    lowest = [whole.plane_at(z).fields["train_loss"].min() for z in (0.25, 1.5)]
    words = told["A slider goes through it"]
    assert [float(each) for each in re.findall(r"is (?:\S*\s)?(\d[\d.]*)", words)] == pytest.approx(lowest, rel=1e-2)
    assert "this plane alone: z stays" in told["Roll a ball"]
    assert "three numbers change" in told["What it does not show"]


def test_the_network_stands_at_the_origin_alone():
    whole = volume(gz="-1:1:5", about={"command": "lossatlas surface"})
    said = [
        [
            span[1]
            for step in built_in_story([Shown(each, "v")], "train_loss", "log").steps
            for p in step.text
            for span in p
        ]
        for each in (whole, whole.plane_at(0), whole.plane_at(0.5))
    ]
    assert ["At (0, 0, 0) stands" in " ".join(words) for words in said] == [True, False, False]
    assert ["At (0, 0) stands" in " ".join(words) for words in said] == [False, True, False]


def test_the_axes_of_volumes_and_of_their_planes_in_words():
    random = dict.fromkeys("xyz", "random, norm=filter, ignore=biasbn")
    whole = volume(gz="-1:1:5")
    three = "x, y, z: distance along three random directions (filter-normalized); (0, 0, 0) is the network itself."
    assert axes_in_words(whole, random) == three
    mixed = random | {"z": "gradient"}
    found = (
        "x: distance along a random direction (filter-normalized); y: along a random direction (filter-normalized); "
    )
    assert axes_in_words(whole, mixed) == f"{found}z: along the gradient; (0, 0, 0) is the network itself."
    two = "x, y: distance along two random directions (filter-normalized)"
    assert axes_in_words(whole.plane_at(0.5), random) == f"{two}. This is the plane z = 0.5 of a volume."
    at_origin = f"{two}; (0, 0) is the network itself. This is the plane z = 0 of a volume."
    assert axes_in_words(whole.plane_at(0), random) == at_origin


def story(tmp_path, z):
    (tmp_path / "s.md").write_text(f"# A step\n\nIts words.\n\n```state\nz={z}\n```\n")
    return tmp_path / "s.md"


def test_a_story_names_planes_by_z(tmp_path):
    (step,) = content(page_of([Shown(volume(), "v")], story=story(tmp_path, "0.875")))["story"]["steps"]
    assert step["state"] == "z=0.875"
    with pytest.raises(BadInput, match=r"z=0\.9: the volume has no plane there; the nearest one is z=0\.875"):
        page_of([Shown(volume(), "v")], story=story(tmp_path, "0.9"))
    with pytest.raises(BadInput, match=r"z=7: this has to lie between -1 and 1\.5"):
        page_of([Shown(volume(), "v")], story=story(tmp_path, "7"))
    with pytest.raises(BadInput, match=r"z=0\.25: this page shows no volume"):
        page_of([Shown(volume().plane_at(0.25), "p")], story=story(tmp_path, "0.25"))
