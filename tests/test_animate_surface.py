"""Films: they move, they show what they say, and they can be opened."""

import json
import shutil
import subprocess
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageSequence
from test_plots import bowl, surface_of

from lossatlas import figures
from lossatlas.commands import animate_surface, plot_2D
from lossatlas.figures import (
    animations,
    choose_colour_scale,
    colour_bars,
    rendered_plots,
    surface_renderer,
    turning_films,
)
from lossatlas.figures.camera import Camera
from lossatlas.figures.film_frames import Subject, figure_pixels
from lossatlas.figures.panels import surface_panel
from lossatlas.io import Projection, read_surface, write_projection, write_surface

pytestmark = pytest.mark.pictures
T = np.linspace(0, 1, 5)


@pytest.fixture
def rendering(monkeypatch):
    """pyvista, whose pictures have as many pixels and points as a test needs."""
    if reason := surface_renderer.rendering_problem():
        pytest.skip(f"pyvista does not render here: {reason}")
    monkeypatch.setattr("pyvista.Plotter.enable_anti_aliasing", lambda *_: None)
    coarse = {**surface_renderer.SurfaceRenderer.__init__.__kwdefaults__, "detail": 150}
    monkeypatch.setattr(surface_renderer.SurfaceRenderer.__init__, "__kwdefaults__", coarse)


@pytest.fixture
def files(tmp_path):
    """A bowl whose lowest cell is off its middle, and a path down into it."""
    write_surface(tmp_path / "s.h5", surface_of(lambda a, b: 0.1 + (a - 0.5) ** 2 + 3 * b * b, "-1:1:17", "-1:1:17"))
    path = Projection(0.1 - T, 0.8 * (1 - T), epochs=np.arange(5.0) * 10, loss=2 - T)
    write_projection(tmp_path / "p.h5", path, "d" * 64, "c" * 64)
    return tmp_path


def film(folder, *args, code=0):
    out = folder / "film.gif"
    argv = ["-f", str(folder / "s.h5"), "--out", str(out), *args]
    assert animate_surface.main(argv) == code
    if code:
        assert not out.exists()
        return []
    return [np.asarray(frame.convert("RGB")).astype(int) for frame in ImageSequence.Iterator(Image.open(out))]


def moved(frames) -> list[float]:
    return [float(np.abs(a - b).mean()) for a, b in pairwise(frames)]


@pytest.mark.few(1)
@pytest.mark.parametrize("render", [False, True])
def test_a_surface_turns_once_around(request, files, render):
    if render:
        request.getfixturevalue("rendering")
    frames = film(files, "--frames", "8", "--dpi", "40", *["--render"] * render)
    assert len(frames) == 8
    assert min(moved(frames)) > 1
    # after a half turn it is seen from behind: far from the first picture, while the first and last are neighbours
    assert np.abs(frames[0] - frames[4]).mean() > 0.5 * np.abs(frames[0] - frames[7]).mean()
    assert (frames[0][:3] == 255).all(), "the ground is white"


@pytest.mark.full
@pytest.mark.parametrize("render", [False, True])
def test_a_swinging_surface_comes_back_the_same_way(request, files, render):
    if render:
        request.getfixturevalue("rendering")
    frames = film(files, "--frames", "8", "--dpi", "40", "--swing", "60", *["--render"] * render)
    close = [np.abs(frames[a] - frames[b]).mean() for a, b in ((0, 4), (1, 3), (5, 7))]
    far = np.abs(frames[2] - frames[6]).mean()
    assert max(close) < 0.2 * far


@pytest.mark.few(1)
@pytest.mark.parametrize(
    "kind", [["--kind", "refine"], ["--kind", "turn"], ["--kind", "turn", "--render"]], ids=" ".join
)
@pytest.mark.parametrize("dpi", [90, 40])
def test_a_film_has_the_colour_bar_of_a_figure(request, files, monkeypatch, kind, dpi):
    """Its title, and ticks at the colours of their values, in letters that can be read in small films too."""
    if "--render" in kind:
        request.getfixturevalue("rendering")
    seen = []

    def keep(fig, dpi):
        seen.append((fig, dpi))
        return figure_pixels(fig, dpi)

    monkeypatch.setattr(colour_bars, "figure_pixels", keep)
    frames = film(files, *kind, "--frames", "3", "--dpi", str(dpi), "--log", "--cmap", "gray")
    ((fig, fine),) = seen  # drawn once
    (bar,) = fig.axes
    assert bar.get_xlabel().startswith("training loss")
    assert min(text.get_fontsize() for text in (*bar.get_xticklabels(), bar.xaxis.label)) * fine / 72 > 7  # pixels
    values = surface_panel(read_surface(files / "s.h5"), "train_loss", "").values
    scale = choose_colour_scale([values], log=True)
    shown = [(tick.get_loc(), tick.label1.get_text()) for tick in bar.xaxis.get_major_ticks() if tick.label1.get_text()]
    assert len(shown) > 2
    for place, words in shown:
        assert scale.value_at(place) == pytest.approx(float(words), rel=1e-6)
    for frame in frames:
        assert all(side % 2 == 0 for side in frame.shape[:2])
        strip = frame[-int(colour_bars.STRIP_HEIGHT * fine) :]
        rows = strip[: len(strip) // 4]  # of the bar, from black to white
        line = rows[np.argmax((rows.max(-1) < 250).sum(1)), :, 0]
        coloured = np.flatnonzero(line < 250)
        assert line[coloured[: len(coloured) // 8]].max() < 60
        assert line[coloured[-len(coloured) // 8 :]].min() > 180


def test_surfaces_in_one_box_have_colours_of_their_own_and_no_bar(files, monkeypatch):
    monkeypatch.setattr(colour_bars, "bar_strip", lambda *_: pytest.fail("a bar"))
    shutil.copy(files / "s.h5", files / "t.h5")
    words = [
        "-f",
        *(str(files / name) for name in ("s.h5", "t.h5")),
        "--layout",
        "overlay",
        "--out",
        str(files / "o.gif"),
    ]
    assert animate_surface.main([*words, "--frames", "1", "--dpi", "40"]) == 0


def test_a_gif_may_have_a_largest_size(files, capsys):
    film(files, "--frames", "3", "--dpi", "40")
    whole = (files / "film.gif").stat().st_size
    film(files, "--frames", "3", "--dpi", "40", "--max_size", str(0.7 * whole / 1e6))
    assert (files / "film.gif").stat().st_size <= 0.7 * whole
    (files / "film.gif").unlink()
    film(files, "--frames", "3", "--dpi", "40", "--max_size", "0.001", code=2)
    assert "--max_size" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="there is no ffmpeg")
def test_a_webm_is_one(files):
    out = files / "film.webm"
    assert animate_surface.main(["-f", str(files / "s.h5"), "--frames", "3", "--dpi", "30", "--out", str(out)]) == 0
    assert out.read_bytes()[:4] == b"\x1aE\xdf\xa3"


def test_a_path_is_walked_with_its_losses(files):
    frames = film(files, "--kind", "path", "--proj_file", str(files / "p.h5"), "--frames", "9", "--dpi", "60")
    assert len(frames) == 9
    assert min(moved(frames)) > 0.05
    left = [frame[:, : frame.shape[1] // 2] for frame in frames]
    dark = [(frame.sum(-1) < 60).sum() for frame in left]
    assert dark[-1] > dark[0] + 10, "the path grows"
    durations = [frame.info["duration"] for frame in ImageSequence.Iterator(Image.open(files / "film.gif"))]
    assert 1990 <= durations[-1] - durations[0] <= 2010
    assert sum(durations) == 600 + 2000


def test_a_walk_ends_at_a_star_beside_a_bar_as_high_as_its_panel(files, monkeypatch):
    seen = []

    def keep(fig, dpi):
        seen.append(fig)
        return figure_pixels(fig, dpi)

    monkeypatch.setattr(animations, "figure_pixels", keep)
    film(files, "--kind", "path", "--proj_file", str(files / "p.h5"), "--frames", "2", "--dpi", "60")
    left, _, bar = seen[-1].axes
    assert bar.get_ylabel() == "training loss"
    (star,) = (line for line in left.lines if line.get_marker() == "*")
    np.testing.assert_allclose(star.get_xydata(), [[-0.9, 0.0]])
    assert bar.get_window_extent().height == pytest.approx(left.get_window_extent().height, rel=0.1)


@pytest.mark.parametrize("render", [False, True])
def test_a_turning_surface_carries_a_path(request, files, render):
    if render:
        request.getfixturevalue("rendering")
    args = ["--frames", "4", "--dpi", "40", *["--render"] * render]
    plain, with_path = film(files, *args), film(files, *args, "--proj_file", str(files / "p.h5"))
    for frame, other in zip(plain, with_path, strict=True):
        rows = min(len(frame), len(other))
        assert (np.abs(frame[:rows] - other[:rows]).sum(-1) > 100).sum() > 50


@pytest.mark.usefixtures("rendering")
def test_the_star_of_a_rendered_film_is_drawn_at_the_end_and_faint_where_a_ridge_hides_it():
    ridge = surface_panel(surface_of(lambda a, b: 1 + 5 * np.exp(-20 * a * a), "-1:1:33", "-1:1:33"), "train_loss", "a")
    scale = choose_colour_scale([ridge.values], log=False)
    path = Projection(np.linspace(0.6, -0.6, 7), np.zeros(7), loss=np.linspace(6, 1, 7))
    seen = []
    with figures.style() as plt:
        subject = Subject([ridge], scale, "train_loss")
        cameras = [Camera(12, 0), Camera(12, 180)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                turning_films, "figure_pixels", lambda fig, dpi: (seen.append(fig), figure_pixels(fig, dpi))[1]
            )
            frames = list(turning_films.rendered_turntable_frames(plt, subject, cameras, 40, paths=[path]))
    assert len(frames) == 2
    pictures = [fig for fig in seen if fig.axes]
    hidden, shown = ([line for line in fig.axes[0].lines if line.get_marker() == "*"] for fig in pictures)
    assert hidden[0].get_alpha() < 1
    assert shown[0].get_alpha() is None
    words = [text.get_text() for fig in seen for legend in fig.legends for text in legend.get_texts()]
    assert words == ["first checkpoint", "checkpoint, coloured by its own loss", "last checkpoint"]


def test_a_grid_is_filled_coarse_cells_first(files):
    frames = film(files, "--kind", "refine", "--frames", "5", "--dpi", "60")
    assert 2 < len(frames) <= 5
    assert min(moved(frames)) > 0.2


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="there is no ffmpeg")
def test_an_mp4_has_the_frames_and_the_rate(files):
    out = files / "film.mp4"
    common = ["-f", str(files / "s.h5"), "--frames", "6", "--fps", "3", "--dpi", "40", "--out", str(out)]
    assert animate_surface.main(common) == 0
    fields = "stream=nb_frames,avg_frame_rate,pix_fmt"
    command = ["ffprobe", "-v", "error", "-show_entries", fields, "-of", "json", str(out)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["streams"][0]
    assert found == {"nb_frames": "6", "avg_frame_rate": "3/1", "pix_fmt": "yuv420p"}


def test_without_ffmpeg_a_line_says_what_to_do(files, monkeypatch, capsys):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert animate_surface.main(["-f", str(files / "s.h5"), "--out", str(files / "film.mp4")]) == 2
    assert "name a .gif" in capsys.readouterr().err


@pytest.mark.parametrize(
    "args",
    [
        ["--kind", "path"],
        ["--kind", "refine", "--proj_file", "p.h5"],
        ["--layout", "overlay"],
        ["--out", "film.avi"],
        ["--kind", "refine", "--render"],
        ["--kind", "refine", "--swing", "30"],
        ["--labels", "a", "b"],
        ["--surf_name", "nothing"],
    ],
)
def test_bad_requests_are_one_line(files, capsys, args):
    film(files, *args, code=2)
    assert capsys.readouterr().err.count("\n") == 1


def test_a_path_that_is_not_on_the_grid(files, capsys):
    write_projection(files / "far.h5", Projection(np.full(3, 9.0), np.full(3, 9.0)), "d" * 64, "c" * 64)
    film(files, "--kind", "path", "--proj_file", str(files / "far.h5"), code=3)
    assert "lies on the grid" in capsys.readouterr().err


@pytest.mark.usefixtures("rendering")
def test_a_rendering_is_dark_below_and_bright_above(tmp_path):
    write_surface(tmp_path / "s.h5", surface_of(bowl, "-1:1:17", "-1:1:17"))
    args = ["-f", str(tmp_path / "s.h5"), "--render", "--elev", "89.5", "--azim", "-90", "--format", "png"]
    assert plot_2D.main(args) == 0
    pixels = np.asarray(Image.open(tmp_path / "s.h5_train_loss_3drender.png").convert("RGB")).astype(int)
    colour = pixels.max(-1) - pixels.min(-1) > 60  # neither white, nor grey, nor black
    rows, columns = np.nonzero(colour[:, : pixels.shape[1] * 3 // 4])
    top, bottom = rows.min(), rows.max()
    middle = pixels[(top + bottom) // 2, (columns.min() + columns.max()) // 2]
    edge = pixels[top + (bottom - top) // 20, (columns.min() + columns.max()) // 2]
    assert edge.sum() > middle.sum() + 150, "the rim is brighter than the minimum"
    assert middle[2] > middle[1] + 30, "the minimum is violet"
    assert edge[1] > edge[2] + 60, "the rim is yellow"


def test_where_nothing_can_be_rendered_nothing_is_drawn(tmp_path, monkeypatch, capsys):
    """The library is tried in a process of its own, which may end by a signal."""
    write_surface(tmp_path / "s.h5", surface_of(bowl))
    surface_renderer.rendering_problem.cache_clear()
    monkeypatch.setattr(surface_renderer, "PROBE", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    try:
        assert plot_2D.main(["-f", str(tmp_path / "s.h5"), "--render"]) == 2
    finally:
        surface_renderer.rendering_problem.cache_clear()
    said = capsys.readouterr().err
    assert "signal 11" in said
    assert 'pip install ".[render]"' in said
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.usefixtures("rendering")
def test_a_rendering_that_fails_late_leaves_nothing(tmp_path, monkeypatch, capsys):
    write_surface(tmp_path / "s.h5", surface_of(bowl))

    def broken(*_, **__):
        raise RuntimeError("no context")

    monkeypatch.setattr(rendered_plots, "SurfaceRenderer", broken)
    assert plot_2D.main(["-f", str(tmp_path / "s.h5"), "--render"]) == 2
    assert "pyvista failed" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.usefixtures("rendering")
def test_infinite_cells_are_holes_in_a_rendering_and_no_plateau():
    from lossatlas.figures.panels import surface_panel

    p = surface_panel(
        surface_of(lambda a, b: np.inf if a > 0.6 else bowl(a, b), "-1:1:11", "-1:1:11"), "train_loss", "one"
    )
    found = surface_renderer.surface_mesh(p, figures.choose_colour_scale([p.values]))
    used = found.points[np.unique(found.regular_faces)]
    assert used[:, 0].max() < 0.65
    assert used[:, 0].min() == -1


@pytest.mark.usefixtures("rendering")
def test_a_rendered_path_has_checkpoints_and_a_star_and_is_faint_where_a_ridge_hides_it():
    ridge = surface_panel(surface_of(lambda a, b: 1 + 5 * np.exp(-20 * a * a), "-1:1:33", "-1:1:33"), "train_loss", "a")
    scale = choose_colour_scale([ridge.values], log=False)
    x = np.linspace(0.6, -0.6, 7)
    stars = []
    for places in (x, -x):  # seen from x = inf, the path ends behind the ridge, and before it
        path = Projection(places, np.zeros(7), loss=np.linspace(6, 1, 7))
        with figures.style() as plt:
            axis = rendered_plots.rendered_figure(plt, [ridge], scale, "train_loss", Camera(12, 0), paths=[path]).axes[
                0
            ]
        faint, star = axis.lines
        assert faint.get_alpha() < 0.5
        assert faint.get_xydata()[-1] == pytest.approx(star.get_xydata()[0])
        stars.append(star.get_alpha())
        height, width = axis.images[0].get_array().shape[:2]
        assert ((star.get_xydata() > 0) & (star.get_xydata() < [width, height])).all()
    assert stars[0] < 1
    assert stars[1] is None


@pytest.mark.full
@pytest.mark.usefixtures("rendering")
def test_the_hidden_part_of_a_pin_is_drawn_dashed_down_to_the_lowest_cell():
    valley = surface_of(lambda a, b: 1 + 5 * np.exp(-20 * (a - 0.5) ** 2) + a * a + b * b, "-1:1:33", "-1:1:33")
    ridge = surface_panel(valley, "train_loss", "a")
    scale = choose_colour_scale([ridge.values], log=False)
    lines = []
    for azimuth in (0, 180):  # behind the ridge, and before it
        with figures.style() as plt:
            axis = rendered_plots.rendered_figure(plt, [ridge], scale, "train_loss", Camera(20, azimuth)).axes[0]
        lines.append(list(axis.lines))
    assert lines[1] == []
    dashed, ring = lines[0]
    assert ring.get_xydata()[0] == pytest.approx(dashed.get_xydata()[0])
    (foot, end), name = dashed.get_xydata()[[0, -1]], axis.texts[0]
    assert foot[1] > end[1]  # rows of pixels are counted downwards
    assert name.get_text() == f"minimum {ridge.values.min():.3g}"
