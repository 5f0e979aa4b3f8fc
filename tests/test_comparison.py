"""Several landscapes side by side: figures on one scale, one page, one table, and the difference of two."""

import html
import json
import re
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from test_results import landscape, nan, repeats, shown

import lossatlas
from lossatlas.errors import BadInput, BadUsage
from lossatlas.landscape import Grid, Surface
from lossatlas.results import Landscape


@pytest.fixture(autouse=True)
def no_figures_left():
    yield
    plt.close("all")


def other(**keywords):
    return landscape(function=lambda a, b: 1 + 3 * (a - 0.25) ** 2 + b * b, **keywords)


def pair(**keywords):
    return lossatlas.compare([landscape(**keywords), other(**keywords)], labels=["one", "two"])


def with_errors(loss: float, error: float, y: str | None = None) -> Landscape:
    grid = Grid.parse("-1:1:5", y)
    empty = Surface.of_values(grid, ["train_loss", "train_loss_se"])
    return Landscape.of(empty.with_cells(range(grid.size), np.tile([loss, error], (grid.size, 1))), None)


def test_landscapes_and_files_and_their_names(tmp_path):
    landscape().save(tmp_path / "net.h5")
    found = lossatlas.compare([tmp_path / "net.h5", str(tmp_path / "net.h5"), other(), Surface(**vars_of(other()))])
    assert found.labels == ("net", "net", "C", "D")
    assert all(isinstance(each, Landscape) for each in found.landscapes)
    assert found.fields == ["train_loss", "train_loss_se", "train_acc"]
    assert repr(pair()) == "<Comparison of one, two: train_loss, train_loss_se, train_acc>"


def vars_of(surface):
    from dataclasses import fields

    return {each.name: getattr(surface, each.name) for each in fields(Surface)}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lossatlas.compare([landscape()]), "at least two landscapes, and there is one"),
        (lambda: lossatlas.compare([]), "there are none"),
        (lambda: lossatlas.compare(landscape()), r"takes a list of landscapes: compare\(\[a, b\]\)"),
        (lambda: lossatlas.compare("a.h5"), "takes a list of landscapes"),
        (lambda: lossatlas.compare([landscape(), other()], labels=["a"]), "labels gives 1 names for 2 landscapes"),
        (lambda: lossatlas.compare([landscape(), other()], labels="ab"), "labels='ab': give a list"),
        (lambda: lossatlas.compare([landscape(), 3]), "number 2 is a int"),
        (
            lambda: lossatlas.compare([landscape(), other(y=None)]),
            "different kinds cannot be compared: A is a plane, B is a line",
        ),
        (lambda: lossatlas.compare([landscape(), repeats()]), "A is a plane, B is curves of repeats"),
        (lambda: lossatlas.compare([landscape(), without_losses()]), r"no field in common \(A: train_loss"),
        (lambda: pair().plot(field="nothing"), "one: .*no field 'nothing'"),
        (lambda: pair().plot(kind="curve"), "kind='curve' does not suit a plane"),
        (lambda: pair(y=None).plot(kind="heat"), "kind='heat' does not suit a line"),
        (lambda: pair().plot(kind="pie"), "unknown kind of figure 'pie'"),
        (lambda: pair().plot(vmx=3), r"no option vmx \(did you mean vmax\?\)"),
        (lambda: pair().plot(elev=3), "elev does not apply to kind='contour'"),
        (lambda: pair().table("nothing"), "no field 'nothing'"),
        (
            lambda: lossatlas.compare([landscape()] * 3).difference(),
            "a difference is of two landscapes, and these are 3",
        ),
        (lambda: lossatlas.compare([landscape(), other(x="-1:1:5")]).difference(), "on one grid: A is on .*, B on"),
        (lambda: pair().difference("nothing"), "no field 'nothing'"),
    ],
)
def test_what_cannot_be_compared_is_a_line(make, message):
    with pytest.raises(BadUsage, match=message) as told:
        make()
    assert "\n" not in str(told.value)


def without_losses():
    grid = Grid.parse("-1:1:9", "-1:1:7")
    return Landscape.of(Surface.of_values(grid, ["max_eig"]).with_cells(range(63), np.ones((63, 1))), None)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"missing\.h5"):
        lossatlas.compare([landscape(), tmp_path / "missing.h5"])


@pytest.mark.pictures
def test_planes_stand_side_by_side_on_one_scale():
    for kind in ("contour", "filled", "heat"):
        fig = pair().plot(kind=kind)
        left, right, _ = fig.axes
        assert (left.get_title(), right.get_title()) == ("one", "two")
        assert left.get_position().y0 == pytest.approx(right.get_position().y0)
        limits = [ax.collections[0].get_clim() for ax in (left, right)]
        assert limits[0] == limits[1]
    both = np.concatenate([each.loss.ravel() for each in pair().landscapes])
    assert pair().plot(kind="heat").axes[0].collections[0].get_clim() == (both.min(), both.max())
    assert pair().plot(kind="heat", vmax=2).axes[1].collections[0].get_clim()[1] == 2
    fig = pair().plot(kind="solid", title="Both", elev=50)
    assert [ax.get_title() for ax in fig.axes] == ["one", "two"]
    assert fig.axes[0].get_zlim() == fig.axes[1].get_zlim()
    assert fig.axes[1].elev == 50
    fig.draw_without_rendering()
    for ax in fig.axes:
        for text in (ax.zaxis.label, ax.xaxis.label, ax.title):
            box = text.get_window_extent()
            assert (box.get_points()[0] >= 0).all()
            assert (box.get_points()[1] <= fig.bbox.get_points()[1]).all()
    assert len(pair().plot(colorbar=False).axes) == 2
    assert pair().plot(figsize=(8, 3)).get_size_inches().tolist() == [8, 3]
    assert pair().plot(columns=2, title="Both").get_figwidth() == 7
    with_function = pair().plot(kind="heat", field=lambda s: 100 - s["train_acc"])
    assert with_function.axes[2].get_ylabel().split(",")[0] == "custom field"  # then how the colours follow it


def test_lines_lie_over_each_other():
    fig = pair(y=None).plot(field="exp(train_loss)", vmax=9)
    (ax,) = fig.axes
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["one", "two"]
    for line, each in zip(ax.lines, pair(y=None).landscapes, strict=False):
        assert np.array_equal(line.get_ydata(), np.exp(each.loss))
    assert ax.lines[0].get_color() != ax.lines[1].get_color()
    assert ax.get_ylim()[1] == 9


def test_the_table_has_a_row_for_each_network():
    lines = pair().table().splitlines()
    cells = [re.split(r"\s{2,}", line) for line in lines]
    head = ["train_loss", "centre", "lowest", "at", "curvature x", "curvature y", "radius +0.1", "radius +1"]
    assert cells[0] == head
    assert cells[1][:5] == ["one", "0.5", "0.5", "(0, 0)", "2"]
    assert cells[2][:4] == ["two", "1.1875", "1", "(0.25, 0)"]
    assert float(cells[2][4]) == pytest.approx(6)
    unfinished = lossatlas.compare([landscape(cells=[0]), landscape(function=nan)])
    assert len(unfinished.table().splitlines()) == 3


def test_a_difference_has_the_band_of_independent_errors():
    a, b = with_errors(3.0, 0.3), with_errors(1.0, 0.4)
    found = lossatlas.compare([a, b]).difference()
    assert np.array_equal(np.asarray(found), np.full(5, 2.0))
    assert np.allclose(found.standard_error, 0.5)
    assert np.allclose(found.band, np.full((2, 5), [[1.0], [3.0]]))
    fig = found.plot()
    band = fig.axes[0].collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((1.0, 3.0))
    assert "standard error up to 0.5" in repr(found)
    assert lossatlas.compare([a, b]).difference("2 * train_loss").standard_error is None
    assert np.array_equal(lossatlas.compare([b, a]).difference().values, -found.values)


def test_a_difference_is_exact_where_a_file_says_so():
    """A file may record that all errors are zero instead of the errors."""
    slim = Landscape.of(
        replace(with_errors(1.0, 0.0), values={"train_loss": np.ones(5)}, about={"zero": ["train_loss_se"]}), None
    )
    assert (lossatlas.compare([slim, slim]).difference().standard_error == 0).all()


def test_a_difference_of_planes_is_drawn_about_zero():
    found = pair().difference()
    assert np.array_equal(found.values, landscape().loss - other().loss)
    fig = found.plot()
    low, high = fig.axes[0].collections[0].get_clim()
    assert low == -high == -np.abs(found.values).max()
    assert np.allclose(fig.axes[0].collections[0].get_array(), found.values)
    assert fig.axes[0].get_title() == "training loss: one - two"
    odd = lossatlas.compare([landscape(function=lambda a, b: np.inf if a > 0 else 1.0)] * 2).difference()
    assert np.isnan(odd.values[:, -1]).all()
    assert odd.plot().axes
    part = lossatlas.compare([landscape(cells=range(20)), other()]).difference()
    assert np.isfinite(part.values).sum() == 20


def test_a_notebook_shows_a_figure_and_a_table():
    words, picture = shown(pair())
    assert "curvature x" in words
    assert "1.1875" in words
    assert picture.width > 1.5 * picture.height
    assert shown(pair(y=None))[1] is not None
    odd = lossatlas.compare([landscape(function=nan)] * 2, labels=["<i>a</i>", "b"])
    assert shown(odd)[1] is None
    assert "<i>" not in odd._repr_html_()
    assert shown(lossatlas.compare([repeats(), repeats()]))[1] is None
    assert shown(lossatlas.compare([landscape(x="0:0:1")] * 2))[1] is None


def test_one_page_has_all(tmp_path):
    page = pair().view(file=tmp_path / "both.html", height=300)
    data = re.search(r'id="data">(.*?)</script>', page.text, re.DOTALL).group(1)
    assert [each["label"] for each in json.loads(html.unescape(data))["surfaces"]] == ["one", "two"]
    assert (tmp_path / "both.html").read_text() == page.text
    with pytest.raises(BadUsage, match="A has no finite value"):
        lossatlas.compare([landscape(cells=[]), other()]).view()


def test_a_difference_of_a_function_named_as_a_field_of_one_of_them():
    values = ["train_loss", "test_loss"]
    grid = Grid.parse("-1:1:5", None)
    both = Surface.of_values(grid, values).with_cells(range(5), np.column_stack([np.arange(5.0), np.arange(5.0) + 100]))
    one = Surface.of_values(grid, values[:1]).with_cells(range(5), np.arange(5.0)[:, None] * 3)

    def test_loss(surface):
        return 10 * surface["train_loss"]

    found = lossatlas.compare([both, one]).difference(test_loss)
    np.testing.assert_allclose(found.values, 10 * (np.arange(5.0) - 3 * np.arange(5.0)))
    back = lossatlas.compare([one, both]).difference(test_loss)
    np.testing.assert_allclose(back.values, -found.values)


def test_rows_of_other_layers_or_repeats_are_not_subtracted():
    a = repeats()
    b = replace(a, request={**a.request, "rows": [f"random, seed=5, idx={k}" for k in range(7)]})
    with pytest.raises(BadUsage, match="a difference needs the same repeats in both, in one order"):
        lossatlas.compare([a, b]).difference()
    assert not lossatlas.compare([a, a]).difference().values.any()


@pytest.mark.parametrize("wrong", [None, 5, {"a": 1}])
def test_what_is_no_list_of_landscapes_is_named(wrong):
    with pytest.raises(BadUsage, match="takes a list of landscapes"):
        lossatlas.compare(wrong)


def test_a_panel_between_two_contours_says_so():
    flat = landscape(function=lambda a, b: 2.2 + 0.01 * a)
    both = lossatlas.compare([landscape(), flat], labels=["one", "flat"])
    titles = [axis.get_title() for axis in both.plot(levels=[1, 2, 3]).axes[:2]]
    assert "no contour" not in titles[0]
    assert "between 2.19 and 2.21: no contour" in titles[1]
