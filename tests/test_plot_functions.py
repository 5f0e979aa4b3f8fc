"""Functions that draw surfaces in memory: their keywords, the user's style, Axes of the user, and derived fields."""

import inspect
from dataclasses import replace

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from conftest import statistics_row

from lossatlas import figures
from lossatlas.commands import plot_2D
from lossatlas.errors import BadUsage
from lossatlas.figures.palette import current_look
from lossatlas.figures.plot_options import KIND_KEYWORDS, PlotKeywords, types_of
from lossatlas.io import write_surface
from lossatlas.landscape import Grid, Surface
from lossatlas.landscape.derived_fields import resolved_field

PLANES = ("contour", "filled", "heat", "solid")


@pytest.fixture(autouse=True)
def no_figures_left():
    with matplotlib.rc_context():
        yield
    plt.close("all")


def surface(y: str | None = "-1:1:9", function=lambda a, b: 0.5 + a * a + 2 * b * b) -> Surface:
    grid = Grid.parse("-1:1:11", y)
    values = [function(*grid.point(k)) for k in range(grid.size)]
    rows = np.stack([[statistics_row([v] * 10, metrics=[5])] for v in values])
    return Surface.empty(grid, {"train": 10}, ("accuracy",)).with_cells(range(grid.size), rows)


def test_each_keyword_has_its_effect():
    plane = surface()
    fig = figures.filled(plane, cmap="magma", title="A title", levels=[1, 2], colorbar=False, figsize=(3, 2))
    (ax,) = fig.axes
    assert ax.get_title() == "A title"
    assert fig.get_size_inches().tolist() == [3, 2]
    shown = ax.collections[0]
    assert shown.get_cmap().name == "magma"
    assert shown.levels.tolist() == [0.5, 1, 2, 3.5]
    assert len(figures.filled(plane).axes) == 2  # with its colour bar
    few, many = (figures.contour(plane, levels=n).axes[0].collections[0].levels for n in (3, 20))
    assert 1 <= len(few) <= 5
    assert len(many) >= 15
    fig = figures.heat(plane, vmin=1, vmax=3)
    assert fig.axes[0].collections[0].get_clim() == (1, 3)
    solid = figures.solid(plane, elev=70, azim=10, zlim=2, colorbar=True)
    assert (solid.axes[0].elev, solid.axes[0].azim) == (70, 10)
    assert solid.axes[0].get_zlim()[1] == 2
    assert len(solid.axes) == 2
    line = figures.curve(surface(None), vmin=0, vmax=9, title="", color="red", label="mine", field="train_loss")
    assert line.axes[0].get_ylim() == (0, 9)
    assert (line.axes[0].lines[0].get_color(), line.axes[0].lines[0].get_label()) == ("red", "mine")
    one, two = (figures.contour(plane, columns=n).get_figwidth() for n in (1, 2))
    assert (one, two) == (3.4, 7.0)


def test_a_logarithm_is_asked_for_or_refused():
    wide = surface(function=lambda a, b: 10.0 ** (3 * a * a))
    heights = {log: figures.heat(wide, log=log).axes[0].collections[0].get_array().max() for log in (None, True, False)}
    assert heights == pytest.approx({None: 3, True: 3, False: 1000})
    line = surface(None, lambda a, b: 10.0 ** (8 * a * a))
    scales = [figures.curve(line, log=log).axes[0].get_yscale() for log in (None, True, False)]
    assert scales == ["log", "log", "linear"]


@pytest.mark.parametrize(
    ("kind", "keywords", "message"),
    [
        ("contour", {"elev": 3}, r"elev does not apply to kind='contour': choose from name, field, title, .*colorbar$"),
        ("curve", {"cmap": "magma"}, r"cmap does not apply to kind='curve': choose from name, field, .*zorder$"),
        ("solid", {"color": "red"}, "color does not apply to kind='solid'"),
        ("contour", {"vmx": 1}, r"no option vmx \(did you mean vmax\?\): choose from"),
        ("heat", {"elv": 1}, r"no option elv \(did you mean"),
        ("heat", {"vmax": "a"}, "vmax='a': give a finite number"),
        ("heat", {"vmax": float("nan")}, "vmax=nan: give a finite number"),
        ("heat", {"vmin": 2, "vmax": 1}, "vmin=2 is not below vmax=1"),
        ("heat", {"cmap": "virids"}, r"cmap='virids' is no colour map of matplotlib \(did you mean viridis"),
        ("heat", {"figsize": 3}, "figsize=3: give width and height"),
        ("heat", {"figsize": (3, 2), "columns": 1}, "leave figsize out"),
        ("heat", {"columns": 3}, "columns=3: a figure fills 1 or 2"),
        ("heat", {"levels": "many"}, "levels='many': give a number of contours"),
        ("heat", {"levels": [100]}, "none of them lies between"),
        ("heat", {"levels": 3, "vlevel": 1}, "levels and vlevel both"),
        ("heat", {"log": "yes"}, "log='yes': give True or False"),
        (
            "heat",
            {"field": "train_los"},
            r"no field 'train_los' \(did you mean train_loss\?\): choose from train_loss",
        ),
        ("heat", {"name": "train_acc", "field": "train_loss"}, "give one of them"),
        ("solid", {"zlim": 0.1}, "zlim 0.1 is not above the lowest value"),
    ],
)
def test_what_does_not_apply_is_refused_in_a_line(kind, keywords, message):
    shown = surface(None if kind == "curve" else "-1:1:9")
    with pytest.raises(BadUsage, match=message) as told:
        figures.plot(shown, kind=kind, **keywords)
    assert "\n" not in str(told.value)
    with pytest.raises(BadUsage, match=message):
        getattr(figures, kind)(shown, **keywords)


def test_a_kind_in_the_place_of_the_axes_and_a_wrong_axes():
    with pytest.raises(BadUsage, match="write kind='solid'"):
        figures.plot(surface(), "solid")
    _, ax = plt.subplots()
    with pytest.raises(BadUsage, match="projection='3d'"):
        figures.solid(surface(), ax)
    with pytest.raises(BadUsage, match="figsize is of a new figure"):
        figures.heat(surface(), ax, figsize=(3, 2))
    with pytest.raises(BadUsage, match="at least 2 points on each axis"):
        figures.heat(surface("0:0:1"))


def test_signatures_list_the_keywords():
    for kind, keywords in KIND_KEYWORDS.items():
        parameters = list(inspect.signature(getattr(figures, kind.word)).parameters)
        assert parameters == ["surface", "ax", *types_of(keywords)]
    assert set(types_of(PlotKeywords)) <= set(inspect.signature(figures.plot).parameters)


# The user's style -----------------------------------------------------------------------------------------------------


def test_what_the_user_changed_in_matplotlib_wins():
    plane = surface()
    usual = figures.contour(plane)
    plt.rcParams.update({"font.family": ["serif"], "font.size": 17.0, "image.cmap": "plasma", "savefig.dpi": 77})
    own = figures.contour(plane)
    assert own.axes[0].title.get_family() == ["serif"]
    assert own.axes[0].xaxis.label.get_size() == 17
    assert own.axes[0].title.get_size() == 17 * 1.2  # matplotlib's "large"
    assert own.axes[0].collections[0].get_cmap().name.startswith("plasma_")  # its visible part
    assert usual.axes[0].title.get_family() == ["sans-serif"]
    assert usual.axes[0].collections[0].get_cmap().name.startswith("viridis_")
    sizes = [fig.axes[0].texts[0].get_size() for fig in (usual, own)]
    assert sizes == pytest.approx([7, 7 * 17 / 10.56])
    assert figures.contour(plane, cmap="magma").axes[0].collections[0].get_cmap().name.startswith("magma_")
    plt.rcParams["figure.figsize"] = (3, 3)
    assert figures.contour(plane).get_size_inches().tolist() == [3, 3]
    plt.rcParams["axes.prop_cycle"] = matplotlib.cycler(color=["#123456"])
    assert figures.curve(surface(None)).axes[0].lines[0].get_color() in ("C0", "#123456")
    assert plt.rcParams["font.size"] == 17


@pytest.mark.parametrize("look", [None, "dark", "print"])
def test_the_house_style_is_no_choice_of_the_user_s(look):
    plane, line = surface(), surface(None)
    before = dict(plt.rcParams)
    with figures.style(look=look) as maker:
        axes = maker.subplots(1, 3)[1]
        figures.filled(plane, axes[0])
        figures.curve(line, axes[1])
        image = axes[2].imshow(np.eye(2))
        assert image.get_cmap().name == current_look().colour_map
        assert axes[0].collections[0].get_cmap().name.startswith(current_look().colour_map)
        assert axes[1].lines[0].get_color() == current_look().main
        plt.rcParams["image.cmap"] = "plasma"
        assert figures.filled(plane).axes[0].collections[0].get_cmap().name == "plasma"
    for own in ("cividis", matplotlib.colormaps["cividis"]):
        with figures.style(cmap=own) as maker:
            assert figures.filled(plane).axes[0].collections[0].get_cmap().name == "cividis"
            maker.subplots()[1].imshow(np.eye(2))
    assert dict(plt.rcParams) == before


def test_commands_keep_the_house_style(tmp_path):
    write_surface(tmp_path / "s.h5", surface())
    pictures = []
    for changed in ({}, {"font.family": ["serif"], "font.size": 17.0, "image.cmap": "plasma"}):
        with matplotlib.rc_context(changed):
            files = plot_2D.draw([tmp_path / "s.h5"], files_as=figures.FigureFiles(("png",)))
        pictures.append([file.read_bytes() for file in files])
    assert pictures[0] == pictures[1]


def texts_of(ax):
    labels = [ax.title, ax.xaxis.label, ax.yaxis.label, *([ax.zaxis.label] if hasattr(ax, "zaxis") else [])]
    found = [(text.get_text(), str(text.get_fontproperties()), text.get_color()) for text in labels]
    ticks = [each.get_major_ticks(1)[0].label1 for each in (ax.xaxis, ax.yaxis)]
    return found + [(str(tick.get_fontproperties()), tick.get_color()) for tick in ticks]


@pytest.mark.parametrize("kind", [*PLANES, "curve"])
def test_a_user_s_axes_keeps_its_texts_its_fonts_and_its_size(kind):
    fig, ax = plt.subplots(figsize=(5, 3), subplot_kw={"projection": "3d"} if kind == "solid" else None)
    ax.set_title("my title", fontsize=23, family="monospace")
    ax.set_xlabel("my x", fontsize=5, color="red")
    ax.yaxis.label.set(fontsize=21, family="serif")  # without a text
    ax.tick_params(labelsize=4)
    ax.plot([0, 1], [0, 1], label="mine")
    legend = ax.legend(fontsize=3)
    before = texts_of(ax)
    shown = surface(None, lambda a, b: 1 + a) if kind == "curve" else surface()
    assert figures.plot(shown, ax, kind=kind) is fig
    fig.canvas.draw()
    after = texts_of(ax)
    assert after[2][0] == {"curve": "training loss"}.get(kind, "y")  # what was empty is written, in its font
    assert [each[-2:] for each in after] == [each[-2:] for each in before]
    assert [each[0] for each in after[:2]] == ["my title", "my x"]
    assert ax.get_legend() is legend
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["mine"]
    assert fig.get_size_inches().tolist() == [5, 3]
    figures.plot(shown, ax, kind=kind, title="another")
    assert (ax.get_title(), ax.title.get_size()) == ("another", 23)


LONG = {"font.size": 15.0, "font.family": ["serif"]}


@pytest.mark.few(2)
@pytest.mark.parametrize("columns", [0, 1])
@pytest.mark.parametrize("style", [{}, LONG], ids=["usual", "large"])
@pytest.mark.parametrize("camera", [(32, -60), (10, 200), (60, 30)])
def test_the_labels_of_a_solid_are_inside_the_figure(camera, style, columns):
    plt.rcParams.update(style)
    basin = surface(function=lambda a, b: 0.001 + 30 * (a * a + b * b))
    fig = figures.solid(basin, elev=camera[0], azim=camera[1], title="A title", columns=columns or None)
    (ax,) = fig.axes
    assert "scale ln(value" in ax.get_zlabel()
    fig.draw_without_rendering()
    outer = fig.bbox.get_points()
    for text in (ax.xaxis.label, ax.yaxis.label, ax.zaxis.label, ax.title):
        inner = text.get_window_extent().get_points()
        assert (inner[0] >= outer[0]).all(), text
        assert (inner[1] <= outer[1]).all(), text
    assert ax.get_position().height > 0.3  # and the surface is not tiny


@pytest.mark.parametrize("kind", ["contour", "filled", "heat", "curve"])
@pytest.mark.parametrize("style", [{}, LONG], ids=["usual", "large"])
def test_the_labels_of_flat_figures_are_inside_the_figure(kind, style):
    plt.rcParams.update(style)
    shown = surface(None if kind == "curve" else "-1:1:9")
    fig = figures.plot(shown, kind=kind, title="A title that is longer than the figure is wide, by far " * 2)
    fig.draw_without_rendering()
    for ax in fig.axes:
        for text in (ax.title, ax.xaxis.label, ax.yaxis.label):
            if text.get_text():
                inner, outer = text.get_window_extent().get_points(), fig.bbox.get_points()
                assert (inner[0] >= outer[0] - 1).all(), text
                assert (inner[1] <= outer[1] + 1).all(), text


# Derived fields -------------------------------------------------------------------------------------------------------


def values_of(expression, shown=None):
    found, name = resolved_field(shown or surface(), expression)
    return found.fields[name]


def test_expressions_are_what_numpy_computes():
    loss = surface().fields["train_loss"]
    acc = surface().fields["train_acc"]
    for text, expected in {
        "exp(train_loss)": np.exp(loss),
        "log10(train_loss) + 2*train_loss**2/3": np.log10(loss) + 2 * loss**2 / 3,
        "-(train_loss - 1)": -(loss - 1),
        "minimum(train_loss, 1.5) * +1": np.minimum(loss, 1.5),
        "maximum(sqrt(abs(train_loss-2)),log(train_loss))": np.maximum(np.sqrt(np.abs(loss - 2)), np.log(loss)),
        "100 - train_acc": 100 - acc,
        "3": np.full(loss.shape, 3.0),
    }.items():
        assert np.array_equal(values_of(text), expected), text
    assert np.isinf(values_of("9**9**9**9")).all()  # in no time
    assert np.isnan(values_of("log(-train_loss)")).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("exp(train_los)", r"no field 'train_los' \(did you mean train_loss\?\)"),
        ("exp(train_loss", "is no field and no expression: use names of fields"),
        ("sin(train_loss)", r"'sin\(train_loss\)' is not allowed: use names of fields, numbers"),
        ("exp", "no field 'exp'"),
        ("exp + 1", r"exp is a function: write exp\(...\)"),
        ("minimum(train_loss)", "minimum takes 2 arguments, not 1"),
        ("exp(train_loss, 2)", "exp takes 1 argument, not 2"),
        ("exp(x=train_loss)", "is not allowed"),
        ("__import__('os').system('true')", "is not allowed"),
        ("train_loss.shape", "is not allowed"),
        ("train_loss[0]", "is not allowed"),
        ("[x for x in train_loss]", "is not allowed"),
        ("lambda: 1", "is not allowed"),
        ("'a' * 2", "is not allowed"),
        ("True + 1", "is not allowed"),
        ("1j + 1", "is not allowed"),
        ("train_loss if 1 else 2", "is not allowed"),
        ("train_loss // 2", "is not allowed"),
        ("train_loss; 1", "no expression"),
        ("", "no expression"),
        ("\0 + 1", "no expression"),
        ("(" * 200 + "1" + ")" * 200, "longer than 300"),
        ("1+" * 400 + "1", "longer than 300"),
    ],
)
def test_everything_else_is_refused_in_a_line(text, message):
    with pytest.raises(BadUsage, match=message) as told:
        resolved_field(surface(), text)
    assert "\n" not in str(told.value).replace(text, "")


def test_a_field_may_be_an_expression_or_a_function_in_every_kind():
    def ratio(s):
        return s["train_acc"] / s["train_loss"]

    for kind in PLANES:
        fig = figures.plot(surface(), kind=kind, field="exp(train_loss)")
        ax = fig.axes[0]
        label = ax.get_zlabel() if kind == "solid" else fig.axes[1].get_ylabel()
        assert label == "exp(train_loss)"
        fig = figures.plot(surface(), kind=kind, field=ratio)
        assert (fig.axes[0].get_zlabel() if kind == "solid" else fig.axes[1].get_ylabel()) == "ratio"
    line = figures.curve(surface(None), name="2*train_loss")
    assert line.axes[0].get_ylabel() == "2 * train_loss"
    assert np.array_equal(line.axes[0].lines[0].get_ydata(), 2 * surface(None).fields["train_loss"])
    drawn = figures.heat(surface(), field=lambda s: np.exp(s["train_loss"]), log=False)
    assert np.allclose(drawn.axes[0].collections[0].get_array(), np.exp(surface().fields["train_loss"]))
    assert drawn.axes[1].get_ylabel() == "custom field"


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda s: s["train_loss"][0], r"returns the shape \(11,\), the grid has \(9, 11\)"),
        (lambda s: "text", "returns str, not an array of real numbers"),
        (lambda s: s["nothing"], "no field 'nothing': choose from train_loss"),
        (3, "give the name of a field, an expression of fields, or a function"),
    ],
)
def test_a_function_that_returns_something_else_is_refused(function, message):
    with pytest.raises(BadUsage, match=message):
        figures.heat(surface(), field=function)


def test_a_derived_field_is_known_where_the_surface_is():
    whole = surface()
    done = np.ones(whole.grid.shape, bool)
    done[0, 0] = done[2, 3] = False
    predicted = np.where(done, np.nan, 7.0)
    predicted[0, 0] = np.nan
    part = replace(whole, done=done, predicted={"train_loss": predicted})
    found, name = resolved_field(part, "train_loss * 2")
    assert np.array_equal(found.known, part.known)
    assert np.array_equal(found.interpolated, part.interpolated)
    assert found.fields[name][2, 3] == 14
    assert np.isnan(found.fields[name][0, 0])
    assert np.isnan(resolved_field(part, "3")[0].fields["3"][0, 0])


def test_rows_of_layers_are_curves():
    plane = surface()
    rows = replace(plane, request={"rows_of": "layers", "rows": [f"direction {k}" for k in range(9)]})
    (ax,) = figures.plot(rows).axes
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [f"direction {k}" for k in range(9)]
    assert np.array_equal(ax.lines[3].get_ydata(), plane.fields["train_loss"][3])
    with pytest.raises(BadUsage, match="curves of layers are no plane"):
        figures.heat(rows)


def test_a_second_curve_on_an_axes_moves_its_limits():
    import matplotlib.pyplot as plt

    line, higher = surface(None, lambda a, _: 1 + a * a), surface(None, lambda a, _: 11 + a * a)
    _, ax = plt.subplots()
    figures.curve(line, ax, field="train_loss")
    figures.curve(higher, ax, field="train_loss")
    assert ax.get_ylim()[1] >= higher.fields["train_loss"].max()
    figures.curve(line, ax, field="train_loss", vmin=-3, vmax=5)
    assert ax.get_ylim() == (-3, 5)
    plt.close("all")
