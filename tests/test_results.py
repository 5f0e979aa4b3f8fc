"""Results of the Python functions: their display in a notebook, tables, arrays and files, also without torch."""

import base64
import html
import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import ROOT, statistics_row
from PIL import Image

import lossatlas
from lossatlas.errors import BadUsage, CannotWrite
from lossatlas.io import Findings
from lossatlas.landscape import Grid, Surface
from lossatlas.landscape.flatness_measures import flatness
from lossatlas.landscape.repeats import flatness_of_repeats
from lossatlas.landscape.topology import minima
from lossatlas.results import Curvature, Landscape, Trajectory, exports
from lossatlas.viewer import Page


def landscape(x="-1:1:9", y="-1:1:7", function=lambda a, b: 0.5 + a * a + 2 * b * b, cells=None) -> Landscape:
    grid = Grid.parse(x, y)
    chosen = np.arange(grid.size) if cells is None else np.asarray(cells, int)
    values = [function(*grid.point(k)) for k in range(grid.size)]
    with np.errstate(over="ignore", invalid="ignore"):
        rows = np.stack([[statistics_row([v] * 10, metrics=[5])] for v in values])
    empty = Surface.empty(grid, {"train": 10}, ("accuracy",), request={"loss": "crossentropy"})
    return Landscape.of(empty.with_cells(chosen, rows[chosen]), None)


def repeats() -> Landscape:
    rows = [f"random, seed=1, idx={k}" for k in range(7)]
    return replace(landscape(), request={"rows_of": "repeats", "rows": rows})


class Checker(HTMLParser):
    """Every tag is closed."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.images = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        else:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def shown(result) -> tuple[str, Image.Image | None]:
    """The words of a result in a notebook, and its picture."""
    before = plt.get_fignums()
    text = result._repr_html_()
    assert plt.get_fignums() == before  # pyplot knows nothing of it
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    words = html.unescape(re.sub("<[^>]*>", " ", text))
    if not checker.images:
        return words, None
    (image,) = checker.images
    kind, _, data = image["src"].partition("base64,")
    assert kind == "data:image/png;"
    return words, Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_field_by_its_name():
    found = landscape()
    assert np.array_equal(found["train_loss"], found.loss)
    assert "train_acc" in found
    assert "nothing" not in found
    assert list(found) == list(found.fields)
    with pytest.raises(BadUsage, match="no field 'loss': choose from train_loss, train_loss_se, train_acc"):
        found["loss"]


def test_a_notebook_shows_a_picture_and_key_numbers():
    words, picture = shown(landscape(function=lambda a, b: 0.5 + (a - 0.25) ** 2 + 2 * b * b))
    for text in (
        "9 x 7 points, x from -1 to 1, y from -1 to 1",
        "63 of 63 computed",
        "10 training",
        "0.5625",
        "0.5 at (0.25, 0)",
    ):
        assert text in words
    colours = np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3) // 16, axis=0)
    assert len(colours) > 20
    words, picture = shown(landscape(y=None))
    assert "at 0" in words
    assert picture is not None


def nan(a, b):
    return np.nan


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("found", "drawn"),
    [
        (landscape(cells=[]), False),
        (landscape(cells=[0]), True),
        (landscape(cells=range(20)), True),
        (landscape(y=None, cells=[]), False),
        (landscape(y=None, cells=[3]), True),
        (landscape(x="0:0:1", y=None), True),
        (landscape(x="0:0:1", y="0:0:1"), False),
        (landscape(x="0:0:1"), False),
        (landscape(function=nan), False),
        (landscape(function=lambda a, b: np.inf), False),
        (landscape(function=lambda a, b: np.inf if a > 0 else -np.inf if b > 0 else 1 + a), True),
        (landscape(y=None, function=nan), False),
        (landscape(y=None, function=lambda a, b: np.inf if a > 0 else 1.0), True),
        (landscape(function=lambda a, b: 3.0), True),
        (landscape(function=lambda a, b: 1e-300 * (1 + a)), True),
        (repeats(), True),
        (landscape(function=lambda a, b: 1e305), False),
    ],
    ids=str,
)
def test_a_notebook_shows_odd_landscapes_too(found, drawn):
    words, picture = shown(found)
    assert f"{found.done.sum()} of {found.grid.size} computed" in words
    assert (picture is not None) == drawn
    assert isinstance(found.table(), str)
    assert isinstance(repr(found), str)


def test_names_do_no_harm_in_a_notebook():
    rows = [f"<script>alert({k})</script>" for k in range(7)]
    odd = replace(repeats(), request={"rows_of": "repeats", "rows": rows}, populations={"train": 10, "<b>": 3})
    assert "<script" not in odd._repr_html_()
    assert "3 <b>" not in odd._repr_html_()


def test_a_curvature_and_a_trajectory_in_a_notebook():
    saved = Curvature(lossatlas.io.read_findings(ROOT / "docs/surfaces/spectrum.h5"))
    words, picture = shown(saved)
    assert "114.47, 80.098" in words
    assert "442.56 ± 8.7" in words
    assert picture is not None
    part = Findings({"eigenvalues": np.arange(20.0)[::-1], "smallest": np.array([])}, {})
    words, picture = shown(Curvature(part))
    assert "19, 18" in words
    assert "and 12 more" in words
    assert picture is None
    assert "none is computed yet" in shown(Curvature(Findings({}, {})))[0]
    path = np.array([[3.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    words, picture = shown(Trajectory(path, np.array([0.7, 0.2]), np.array([1.0, 2.5, 0.0]), ({}, {})))
    assert "70.0 % + 20.0 %" in words
    assert "up to 2.5" in words
    assert picture is not None
    assert shown(Trajectory(path * np.nan, np.array([]), path[:, 0] * np.nan, ({}, {})))[1] is None


# Numbers --------------------------------------------------------------------------------------------------------------


def test_flatness_and_minima_are_those_of_the_commands():
    found = landscape(function=lambda a, b: 1 + np.cos(7 * a) + b * b)
    assert found.flatness() == flatness(found)
    places = found.minima()
    assert [each.value for each in places] == [each.value for each in minima(found)]
    for each in places:
        j, i = (int(np.abs(axis - at).argmin()) for axis, at in ((found.y, each.y), (found.x, each.x)))
        assert found.loss[j, i] == each.value
        assert (found.x[i], found.y[j]) == (each.x, each.y)
    assert len(found.minima(depth=0.5)) < len(places) or all(each.depth > 0.5 for each in places)
    scaled = found.flatness("10 * train_loss")
    assert scaled["curvature along y"].value == pytest.approx(10 * found.flatness()["curvature along y"].value)
    with pytest.raises(BadUsage, match="no field 'nothing'"):
        found.minima("nothing")
    with pytest.raises(BadUsage, match="needs a line or a plane, and this holds 7 curves of repeats"):
        repeats().minima()
    assert repeats().flatness() == flatness_of_repeats(repeats())


def test_a_table_has_the_centre_the_minimum_and_the_flatness():
    text = landscape().table()
    for line in (
        r"training loss, centre +0.5\n",
        r"training loss, lowest +0.5 at \(0, 0\)",
        r"curvature along x +2 ",
    ):
        assert re.search(line, text), text


# Other programs -------------------------------------------------------------------------------------------------------


def test_a_table_of_pandas_has_a_row_for_each_cell():
    pytest.importorskip("pandas")
    found = landscape(cells=range(30))
    table = found.to_dataframe()
    assert list(table.columns) == ["x", "y", *found.fields, "done"]
    assert len(table) == found.grid.size
    for k in (0, 17, 40):
        assert (table.x[k], table.y[k]) == found.grid.point(k)
        assert np.array_equal(table.train_loss[k], found.loss.flat[k], equal_nan=True)
    assert table.done.sum() == 30
    assert list(landscape(y=None).to_dataframe().columns)[:2] == ["x", "train_loss"]
    assert set(repeats().to_dataframe().row) == {f"random, seed=1, idx={k}" for k in range(7)}


@pytest.mark.parametrize("found", [landscape(), landscape(y=None), repeats()], ids=["plane", "line", "repeats"])
def test_a_dataset_of_xarray(found, tmp_path):
    xarray = pytest.importorskip("xarray")
    data = found.to_xarray()
    assert set(data.data_vars) == {*found.fields, "done"}
    for name, values in found.fields.items():
        assert np.array_equal(data[name].values, values, equal_nan=True)
    assert data.train_acc.attrs == {"long_name": "training accuracy", "units": "percent"}
    assert data.x.attrs["long_name"] == "coordinate along the first direction"
    if found.grid.y is not None and not found.rows_of:
        assert float(data.train_loss.sel(x=0.25, y=0, method="nearest")) == 0.5625
    if not any(exports.find_spec(name) for name in exports.NETCDF):
        pytest.skip("no package for netCDF")
    found.save(tmp_path / "s.nc")
    with xarray.open_dataset(tmp_path / "s.nc", engine="h5netcdf") as again:
        assert data.equals(again.load())
        assert json.loads(again.attrs["request"]) == dict(found.request)


def test_what_is_not_installed_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(exports, "find_spec", lambda name: None)
    with pytest.raises(BadUsage, match=r"to_xarray\(\) needs xarray, which is not installed: pip install xarray"):
        landscape().to_xarray()
    with pytest.raises(BadUsage, match="needs pandas"):
        landscape().to_dataframe()
    with pytest.raises(BadUsage, match="needs netCDF4 or h5netcdf"):
        landscape().save(tmp_path / "s.nc")
    assert list(tmp_path.iterdir()) == []


# Files ----------------------------------------------------------------------------------------------------------------


def test_arrays_in_a_file_of_numpy(tmp_path):
    found = landscape()
    found.save(tmp_path / "s.npz")
    with np.load(tmp_path / "s.npz", allow_pickle=False) as arrays:
        assert np.array_equal(arrays["x"], found.x)
        assert np.array_equal(arrays["y"], found.y)
        for name, values in found.fields.items():
            assert np.array_equal(arrays[name], values, equal_nan=True)
        assert arrays["done"].dtype == bool
        assert json.loads(str(arrays["request"])) == {"loss": "crossentropy"}
    repeats().save(tmp_path / "r.npz")
    assert str(np.load(tmp_path / "r.npz", allow_pickle=False)["row"][2]) == "random, seed=1, idx=2"
    saved = Curvature(lossatlas.io.read_findings(ROOT / "docs/surfaces/spectrum.h5"))
    saved.save(tmp_path / "c.npz")
    with np.load(tmp_path / "c.npz", allow_pickle=False) as arrays:
        assert np.array_equal(arrays["eigenvalues"], saved.findings.arrays["eigenvalues"])


@pytest.mark.parametrize("name", ["s.h5", "s.hdf5", "S.H5"])
def test_hdf5_files_are_read_again(name, tmp_path):
    landscape().save(tmp_path / name)
    assert np.array_equal(lossatlas.read(tmp_path / name).loss, landscape().loss)


@pytest.mark.parametrize("name", ["s.csv", "s", "s.npy", "s.h5.gz", ".h5"])
def test_another_ending_is_refused(name, tmp_path):
    with pytest.raises(BadUsage, match=r"which says no format: choose from \.h5, \.hdf5, \.npz, \.nc"):
        landscape().save(tmp_path / name)
    with pytest.raises(BadUsage, match=r"choose from \.h5, \.hdf5, \.npz$"):
        Curvature(Findings({}, {})).save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_previous_file(tmp_path, monkeypatch):
    landscape().save(tmp_path / "s.npz")
    before = (tmp_path / "s.npz").read_bytes()

    def full(out, **arrays):
        out.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(CannotWrite, match="No space left"):
        landscape().save(tmp_path / "s.npz")
    assert (tmp_path / "s.npz").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["s.npz"]


# Films and the page ---------------------------------------------------------------------------------------------------


def test_films(tmp_path):
    found = landscape()
    assert found.film(tmp_path / "turn.gif", frames=3, fps=10) == tmp_path / "turn.gif"
    with Image.open(tmp_path / "turn.gif") as film:
        assert film.n_frames == 3
    found.film(tmp_path / "refine.gif", kind="refine", frames=4, field="exp(train_loss)", cmap="magma")
    path = np.array([[0.9, 0.5], [0.4, 0.1], [0.0, 0.0]])
    run = Trajectory(path, np.array([0.7, 0.2]), np.zeros(3), ({}, {}))
    found.film(tmp_path / "path.gif", kind="path", trajectory=run, frames=4)
    assert {each.name for each in tmp_path.iterdir()} == {"turn.gif", "refine.gif", "path.gif"}


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"kind": "spin"}, "kind='spin': choose from 'turn', 'path', 'refine'"),
        ({"kind": "path"}, "kind='path' needs a trajectory"),
        (
            {"kind": "refine", "trajectory": Trajectory(np.eye(2), np.ones(2), np.zeros(2), ({}, {}))},
            "trajectory belongs to",
        ),
        ({"frames": 0}, "frames=0: give a whole number"),
        ({"fps": 1000}, "fps=1000: give frames per second"),
        ({"vmx": 1}, "no option vmx"),
        ({"path": "film.avi"}, "has to end in .gif, .mp4, .webm"),
    ],
)
def test_films_that_cannot_be_made(keywords, message, tmp_path):
    name = tmp_path / keywords.pop("path", "film.gif")
    with pytest.raises(BadUsage, match=message):
        landscape().film(name, **keywords)
    with pytest.raises(BadUsage, match="a film shows a plane"):
        landscape(y=None).film(tmp_path / "film.gif")
    assert list(tmp_path.iterdir()) == []


def test_the_page_of_a_landscape(tmp_path, monkeypatch):
    page = landscape().view(height=500, title="A <b>net</b>", file=tmp_path / "page.html")
    text = page._repr_html_()
    assert text.startswith("<iframe srcdoc=")
    assert 'height="500"' in text
    inside = html.unescape(re.search(r'srcdoc="([^"]*)"', text).group(1))
    assert inside == page.text == (tmp_path / "page.html").read_text()
    assert "<b>net" not in inside.split("<script")[0]
    assert page.save(tmp_path / "other.html").read_text() == inside
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert page.open().read_text() == inside
    assert opened[0].startswith("file:///")
    assert "shown in a notebook" in repr(page)
    assert len(repr(page)) < 300


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: landscape(x="0:0:1").view(), "a page needs at least 2 points"),
        (lambda: landscape(cells=[]).view(), "no finite value"),
        (lambda: repeats().view(), "curves of repeats, which a page does not show"),
        (lambda: landscape().view(height=3), "height=3: give the height"),
        (lambda: landscape().view(file="page.txt"), "has to end in .html"),
        (lambda: Page("text").save("page"), "has to end in .html"),
    ],
)
def test_pages_that_cannot_be_made(make, message):
    with pytest.raises(BadUsage, match=message):
        make()


@pytest.mark.commands
def test_reading_drawing_and_saving_need_no_torch(tmp_path):
    code = f"""
import sys
import lossatlas, lossatlas.io, lossatlas.figures
assert not {{"torch", "mpi4py", "scipy"}} & set(sys.modules), sys.modules
import matplotlib
matplotlib.use("agg")
s = lossatlas.read({str(ROOT / "docs/surfaces/resnet56_fashion.h5")!r})
s.plot().savefig("a.png")
s.plot(kind="solid", field="exp(train_loss)", vmax=100)
s.save("s.h5"); s.save("s.npz")
s._repr_html_(); s.table(); s.flatness(); s.minima(); s.view(file="page.html"); s.film("film.gif", frames=2)
both = lossatlas.compare([s, "s.h5"])
both.plot(); both.table(); both.view(); both.difference().plot(); both._repr_html_()
c = lossatlas.Curvature(lossatlas.io.read_findings({str(ROOT / "docs/surfaces/spectrum.h5")!r}))
c.plot(); c._repr_html_(); repr(c); c.save("c.h5")
from lossatlas.commands import plot_2D
assert plot_2D.main(["-f", "s.h5", "--format", "png", "--dpi", "50"]) == 0
assert c.table() and c.trace.value > 0 and c.density.sigma > 0 and c.dimension.low <= c.dimension.high
assert not {{"torch", "mpi4py"}} & set(sys.modules), "torch is imported"
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": ""}, check=False
    )
    assert done.returncode == 0


def test_the_page_and_the_notebook_say_how_directions_are_normalized():
    import torch

    net = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    data = torch.randn(20, 2), torch.randint(0, 2, (20,))
    in_words = "filter-normalized, without biases and BatchNorm"
    for norm, ignore, words in (("filter", "biasbn", in_words), ("", "", "none")):
        found = lossatlas.surface(net, data, x="-1:1:3", y="-1:1:3", norm=norm, ignore=ignore, progress=False)
        assert f'["normalization","{words}"]' in found.view().text
        assert f"norm={norm or 'none'}" in found._repr_html_()
        assert f'["normalization","{words}"]' in lossatlas.compare([found, found]).view().text
