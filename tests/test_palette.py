"""Looks and colours: contrast, colour-blind readers, greyscale, and colours that blend value and rank."""

from itertools import combinations

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from lossatlas.choices import COLOURS, LOOKS
from lossatlas.commands import plot_1D, plot_2D, plot_spectrum
from lossatlas.errors import BadUsage
from lossatlas.figures import choose_colour_scale, style
from lossatlas.figures.colour_scale import is_crowded
from lossatlas.figures.contour_plots import draw_filled_contours, flat_figure
from lossatlas.figures.matplotlib_style import OffscreenFigures, users_style
from lossatlas.figures.palette import (
    LOOK_OF_NAME,
    colours_from,
    contrast_of,
    current_look,
    field_colour_map,
    line_colour_map,
    look_set,
)
from lossatlas.figures.panels import surface_panel
from lossatlas.figures.surface_plots import solid_figure
from lossatlas.io import read_projection, read_surface

SURFACES = "docs/surfaces"
# Colours as readers without one kind of cone see them: matrices of Machado et al. 2009, severity 1, for linear RGB.
BLINDNESS = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def linear(colour):
    """Linear RGB of a colour."""
    rgb = np.asarray(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def luminance(colour):
    return float(linear(colour) @ [0.2126, 0.7152, 0.0722])


def contrast(a, b):
    """Contrast of two colours as WCAG defines it."""
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def lab(rgb):
    """CIE L*a*b* of linear RGB."""
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    xyz = np.asarray(to_xyz) @ np.clip(rgb, 0, 1) / [0.9505, 1, 1.089]
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("look", LOOK_OF_NAME.values(), ids=LOOKS)
def test_inks_and_lines_stand_out_from_the_ground(look):
    assert contrast(look.ink, look.ground) > 12
    for colour in (look.muted, look.main, look.accent):
        assert contrast(colour, look.ground) >= 3.5, colour
    for colour in look.lines:
        assert contrast(colour, look.ground) >= 2.9, colour
    assert look.ink not in look.lines, "a single run has the colour of the ink, and no name"


@pytest.mark.parametrize("blindness", BLINDNESS)
@pytest.mark.parametrize("look", LOOK_OF_NAME.values(), ids=LOOKS)
def test_colour_blind_readers_tell_lines_apart(look, blindness):
    seen = {colour: lab(np.asarray(BLINDNESS[blindness]) @ linear(colour)) for colour in look.lines[:4]}
    for a, b in combinations(seen, 2):
        assert np.linalg.norm(seen[a] - seen[b]) > 14, (a, b)


def test_lines_for_print_differ_in_greyscale():
    lightness = sorted(lab(linear(colour))[0] for colour in LOOK_OF_NAME["print"].lines[:4])
    assert np.diff(lightness).min() > 12


@pytest.mark.parametrize("look", LOOK_OF_NAME.values(), ids=LOOKS)
def test_colour_maps_of_fields_are_monotone_in_greyscale(look):
    with look_set(look.name):
        name = field_colour_map()
        lightness = [lab(linear(colour))[0] for colour in matplotlib.colormaps.get_cmap(name)(np.linspace(0, 1, 64))]
        assert np.diff(lightness).min() > 0
        assert lightness[-1] - lightness[0] > 60


def test_a_look_holds_within_its_context():
    assert current_look().name == "paper"
    with style(look="dark", cmap="cividis") as plt:
        fig, axis = plt.subplots()
        assert current_look().colour_map == "cividis"
        assert choose_colour_scale([np.arange(3.0)]).colour_map == "cividis"
        with look_set("print"):
            assert current_look().colour_map == "cividis" == LOOK_OF_NAME["print"].colour_map
        assert current_look().name == "dark"
    assert fig.get_facecolor()[:3] == pytest.approx(to_rgb(LOOK_OF_NAME["dark"].ground))
    assert axis.xaxis.label.get_color() == LOOK_OF_NAME["dark"].ink
    assert current_look().name == "paper"
    assert matplotlib.rcParams["text.color"] == "black"


def test_an_asked_look_overrides_the_user_s_colours_and_no_look_does_not():
    with matplotlib.rc_context({"text.color": "green"}):
        with users_style():
            assert matplotlib.rcParams["text.color"] == "green"
        with users_style(look="dark"):
            assert matplotlib.rcParams["text.color"] == LOOK_OF_NAME["dark"].ink


@pytest.mark.parametrize("call", [lambda: style(look="neon"), lambda: style(cmap="virids"), lambda: look_set("neon")])
def test_what_there_is_not_is_refused(call):
    with pytest.raises(BadUsage, match=r"choose from 'paper', 'dark', 'print'|did you mean"), call():
        pass


def test_colours_of_lines_from_a_map():
    assert colours_from("tab10")[:2] == ("#1f77b4", "#ff7f0e")
    assert len(set(colours_from("viridis"))) == 6


def crowded_values():
    """Most values near 1, few up to 100."""
    return np.concatenate([np.random.default_rng(0).uniform(1, 1.2, 900), np.geomspace(1.2, 100, 100)])


def test_blended_colours_are_strictly_monotone_and_have_an_exact_inverse():
    values = crowded_values()
    scale = choose_colour_scale([values], linear=True, colours="blended")
    norm = scale.norm
    heights = np.linspace(*scale.limits, 2001)
    shares = np.asarray(norm(heights))
    assert (shares[0], shares[-1]) == (0, 1)
    assert np.diff(shares).min() > 0
    np.testing.assert_allclose(norm.inverse(shares), heights, rtol=1e-12)
    assert norm(scale.limits[1] + 1) > 1
    assert norm(scale.limits[0] - 1) < 0
    # 40 % of the value and 60 % of the rank
    middle = np.sort(values)[500]
    wanted = 0.4 * (middle - values.min()) / np.ptp(values) + 0.6 * 500 / 999
    assert float(norm(middle)) == pytest.approx(wanted, abs=2e-3)


def test_masked_and_missing_heights_stay_so():
    norm = choose_colour_scale([crowded_values()], linear=True, colours="blended").norm
    shares = norm(np.ma.masked_array([1.0, 2.0], [False, True]))
    assert shares.mask.tolist() == [False, True]
    assert np.isnan(norm(np.nan))


def test_colours_are_blended_where_cells_crowd():
    crowded, even = crowded_values(), np.linspace(1, 10, 1000)
    assert is_crowded(crowded, (1.0, 100.0))
    assert not is_crowded(even, (1.0, 10.0))
    assert choose_colour_scale([crowded], linear=False, log=False, vlevel=10, colours=None).ranks
    assert not choose_colour_scale([even], colours=None).ranks
    assert not choose_colour_scale([crowded], linear=True, colours=None).ranks, "accuracies follow the value"
    assert not choose_colour_scale([crowded], vlevel=10, colours="value").ranks


def test_the_colour_bar_has_true_ticks_and_says_how_colours_are_made(tmp_path):
    import lossatlas

    surface = lossatlas.read(f"{SURFACES}/resnet56_cifar10.h5")
    for colours in COLOURS:
        fig = surface.plot(kind="heat", colours=colours)
        fig.draw_without_rendering()
        bar = fig.axes[-1]
        scale = choose_colour_scale([surface.fields["train_loss"]], colours=colours)
        places = bar.yaxis.get_transform().transform(bar.get_yticks())
        ends = bar.yaxis.get_transform().transform(np.array(bar.get_ylim()))
        shares = (places - ends[0]) / (ends[1] - ends[0])
        labels = [float(text.get_text()) for text in bar.get_yticklabels()]
        np.testing.assert_allclose(shares, np.asarray(scale.norm(scale.height(labels))), atol=2e-3)
        assert ("by value and rank" in bar.get_ylabel()) == (colours == "blended")


@pytest.mark.few(1)
@pytest.mark.parametrize("look", LOOKS)
def test_every_command_draws_in_a_look(look, tmp_path):
    from PIL import Image

    drawn = plot_2D.draw([f"{SURFACES}/path.h5"], out=str(tmp_path / "plane"), look=look, files_as=png())
    drawn += plot_1D.draw([f"{SURFACES}/curve.h5"], out=str(tmp_path / "curve"), look=look, files_as=png())
    drawn += plot_spectrum.draw(f"{SURFACES}/spectrum.h5", out=str(tmp_path / "s"), look=look, files_as=png())
    assert len(drawn) >= 8
    ground = tuple(round(255 * part) for part in to_rgb(LOOK_OF_NAME[look].ground))
    for path in drawn:
        picture = Image.open(path).convert("RGB")
        assert picture.getpixel((0, 0)) == ground, path.name


def png():
    from lossatlas.figures import FigureFiles

    return FigureFiles(("png",), dpi=40)


def test_texts_of_svg_files_are_texts(tmp_path):
    from lossatlas.figures import FigureFiles

    files = FigureFiles(("svg",))
    (written, *_) = plot_1D.draw([f"{SURFACES}/curve.h5"], out=str(tmp_path / "c"), files_as=files)
    assert ">accuracy (%)</text>" in written.read_text()


def test_python_functions_take_a_look():
    import lossatlas

    surface = lossatlas.read(f"{SURFACES}/path.h5")
    fig = surface.plot(look="dark")
    assert fig.get_facecolor()[:3] == pytest.approx(to_rgb(LOOK_OF_NAME["dark"].ground))
    with pytest.raises(BadUsage, match="choose from 'paper'"):
        surface.plot(look="neon")
    with pytest.raises(BadUsage, match="did you mean dark"):
        surface.plot(look="drk")
    with pytest.raises(BadUsage, match="choose from 'value', 'blended'"):
        surface.plot(kind="heat", colours="both")
    assert OffscreenFigures().figure().get_facecolor() == (1, 1, 1, 1)


@pytest.mark.parametrize("look", LOOKS)
def test_contour_lines_stand_out_from_the_ground(look):
    with look_set(look) as own:
        lines = matplotlib.colormaps.get_cmap(line_colour_map(field_colour_map()))
        assert min(contrast(colour, own.ground) for colour in lines(np.linspace(0, 1, 64))[:, :3]) > 1.6
    with style(look=look, cmap="plasma"):
        assert field_colour_map() == "plasma"
        lines = line_colour_map("plasma")(np.linspace(0, 1, 64))[:, :3]
        assert min(contrast(colour, own.ground) for colour in lines) > 1.6


def test_examples_take_their_colours_from_the_library():
    """Figures of the examples are made within the library's style, and name no colour of lines of their own."""
    import re

    from conftest import ROOT

    drawing = [file for file in (ROOT / "examples").rglob("*.py") if ".plot(" in file.read_text()]
    within = [file for file in drawing if "plt.subplots" in file.read_text()]
    assert len(within) >= 4
    for file in within:
        text = file.read_text()
        assert "figures.style(" in text, file
        assert not re.search(r"\"#[0-9a-f]{6}\"|tab:|\"(red|green|blue)\"", text), file


@pytest.mark.parametrize(
    ("look", "name"), [("dark", "rocket"), ("dark", "berlin"), ("paper", "Greys"), ("paper", "coolwarm")]
)
def test_contour_lines_of_every_map_stand_out_and_filled_colours_stay_whole(look, name):
    import seaborn  # noqa: F401, it registers its colour maps
    from matplotlib import colormaps

    with style(look=look, cmap=name):
        assert field_colour_map() == name
        ground = luminance(to_rgb(current_look().ground))
        colours = line_colour_map(name)(np.linspace(0, 1, 100))[:, :3]
        assert min(contrast_of(luminance(each), ground) for each in colours.tolist()) >= 1.69
        whole = colormaps[name](np.linspace(0, 1, 100))[:, :3]
        if name in ("rocket", "Greys"):
            assert min(contrast_of(luminance(each), ground) for each in whole.tolist()) < 1.2, "it has a part to trim"


@pytest.mark.parametrize("look", ["paper", "dark"])
def test_paths_have_a_halo_of_the_ground(look):
    """So that a line shows on a colour like its own."""
    surface = read_surface(f"{SURFACES}/path.h5")
    path = read_projection(f"{SURFACES}/path_projection.h5")
    p = surface_panel(surface, "train_loss", "a")
    scale = choose_colour_scale([p.values])
    with style(look=look) as plt:
        drawn = [
            flat_figure(plt, [p], scale, "train_loss", draw_filled_contours, paths=[path]),
            solid_figure(plt, [p], scale, "train_loss", paths=[path]),
        ]
        for fig in drawn:
            axis = fig.axes[0]
            ground = to_rgb(current_look().ground)
            marked = [each for each in [*axis.lines, *axis.collections] if each.get_path_effects()]
            assert {type(each).__name__ for each in marked} >= {"Line2D" if axis.name != "3d" else "Line3D"}
            assert len(marked) >= 3, "line, dots and star"
            for each in marked:
                assert to_rgb(each.get_path_effects()[0]._gc["foreground"]) == ground
