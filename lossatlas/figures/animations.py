"""Animations as GIF, MP4 or WebM: a surface that turns, a training run on its surface, a grid computed coarse-first."""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lossatlas.figures.camera import Camera
from lossatlas.figures.colour_bars import with_bar_below
from lossatlas.figures.colour_scale import format_tick
from lossatlas.figures.contour_plots import draw_contours, draw_filled_contours, draw_flat, flat_size
from lossatlas.figures.film_frames import FRAME_DETAIL, Subject, figure_pixels
from lossatlas.figures.kinds import Film
from lossatlas.figures.matplotlib_style import FigureFactory
from lossatlas.figures.palette import current_look
from lossatlas.figures.panels import Panel
from lossatlas.figures.plotted_fields import field_title
from lossatlas.figures.solid_layout import WHOLE_BOX, keep_labels_inside
from lossatlas.figures.surface_plots import draw_solid
from lossatlas.figures.trajectory_plots import draw_star, halo, path_axis_names
from lossatlas.figures.turning_films import turning_cameras, turntable_frames
from lossatlas.io.trajectory_files import Projection
from lossatlas.landscape.surface import Surface

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOWEST_WALK = 2.8  # inches of a film of a path over a wide plane
FIRST_CELLS = 4  # of a grid that is refined


# Frames per second: a GIF counts hundredths of a second, and browsers slow down below two.
SLOWEST, FASTEST = 0.05, 50.0


def frames_of(
    plt: FigureFactory,
    kind: Film,
    subject: Subject,
    surface: Surface,
    camera: Camera,
    *,
    count: int,
    dpi: int,
    run: tuple[Projection, np.ndarray] | None = None,
    overlay: bool = False,
    zlim: float | None = None,
    swing: float | None = None,
) -> Iterator[np.ndarray]:
    """Draw the frames of an animation with matplotlib.

    Args:
        plt: Maker of figures, see `style`.
        kind: Kind of the film.
        subject: Surfaces to show.
        surface: The first one of them.
        camera: Where the first frame sees them from.
        count: Number of frames.
        dpi: Dots per inch.
        run: A training run and the values of the surface under its checkpoints; needed for `Film.PATH`.
        overlay: Draw turning surfaces in one box.
        zlim: Value at which turning surfaces are cut off.
        swing: See `turning_cameras`.

    Returns:
        Frames of (height, width, 3) bytes.
    """
    if kind is Film.PATH:
        assert run is not None
        return path_frames(plt, subject, *run, count=count, dpi=dpi)
    if kind is Film.REFINE:
        filled = refinement_frames(plt, surface, subject, camera, count=count, dpi=dpi)
        return with_bar_below(plt, subject, filled, dpi)
    cameras = turning_cameras(camera, count, swing)
    paths = [] if run is None else [run[0]]
    return turntable_frames(plt, subject, cameras, dpi, overlay=overlay, zlim=zlim, paths=paths)


def path_frames(
    plt: FigureFactory, subject: Subject, path: Projection, under: np.ndarray, *, count: int, dpi: int
) -> Iterator[np.ndarray]:
    """Follow a training run over the contours of a surface, beside its loss over the epochs.

    Args:
        plt: Maker of figures, see `style`.
        subject: One surface.
        path: Checkpoints in its plane.
        under: (checkpoints,) values of the surface under them, NaN off the surface.
        count: Number of frames.
        dpi: Dots per inch.

    Yields:
        Frames of (height, width, 3) bytes.
    """
    epochs = np.arange(len(path.x)) if path.epochs is None else path.epochs
    word = path.axis
    fig, (left, right) = plt.subplots(
        1, 2, figsize=(9.2, max(LOWEST_WALK, flat_size(subject.panels)[1])), layout="compressed"
    )
    draw_flat(fig, [left], subject.panels, subject.scale, subject.name, draw_panel=draw_contours)
    left.set(**dict(zip(("xlabel", "ylabel"), path_axis_names(path), strict=True)))
    ink, ground = current_look().ink, current_look().ground
    left.plot(path.x, path.y, ".", color=current_look().muted, markersize=4, zorder=4.6, path_effects=halo(0))
    draw_star(left, path, ink, zorder=4.5)
    (line,) = left.plot([], [], "-", color=ink, linewidth=1.3, zorder=5, path_effects=halo(1.3))
    (ball,) = left.plot([], [], "o", color=ink, markeredgecolor=ground, markersize=7, zorder=6)
    _draw_losses(right, subject, epochs, under, path.loss)
    (current,) = right.plot([], [], "o", color=ink, markersize=6)
    right.set(xlabel=word, ylabel=field_title(subject.name))
    right.legend(frameon=False, fontsize="small")
    for position in np.linspace(0, len(path.x) - 1, count):
        whole = int(position)
        x, y, e, v = (np.interp(position, np.arange(len(path.x)), each) for each in (path.x, path.y, epochs, under))
        line.set_data([*path.x[: whole + 1], x], [*path.y[: whole + 1], y])
        ball.set_data([x], [y])
        current.set_data([e], [v])
        right.set_title(f"{word} {e:.1f}")
        yield figure_pixels(fig, dpi)


def _draw_losses(axis: "Axes", subject: Subject, epochs: np.ndarray, under: np.ndarray, own: np.ndarray | None) -> None:
    """Draw the loss of the surface under the checkpoints and the checkpoints' own loss over the whole run."""
    for values, style, label in ((under, "-", "surface under the path"), (own, "--", "the checkpoint itself")):
        if values is not None and np.isfinite(values).any():
            known = np.isfinite(values)
            axis.plot(epochs[known], values[known], style, color=current_look().muted, linewidth=1.2, label=label)
    if subject.scale.log and np.nanmin(under) > 0:
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(lambda value, _: format_tick(value))
        axis.yaxis.set_minor_formatter(lambda value, _: "")


def refinement_frames(
    plt: FigureFactory, surface: Surface, subject: Subject, camera: Camera, *, count: int, dpi: int
) -> Iterator[np.ndarray]:
    """Show how a grid is computed coarse-first.

    Dots are cells in the order in which they are computed. Contours and surface go through the finest complete
    sub-grid.

    Args:
        plt: Maker of figures, see `style`.
        surface: The surface, of which `subject` holds the panel.
        subject: One surface.
        camera: Where it is seen from.
        count: Number of frames, at most.
        dpi: Dots per inch.

    Yields:
        Frames of (height, width, 3) bytes.
    """
    (whole,) = subject.panels
    order = surface.grid.coarse_first()
    for cells in np.unique(np.geomspace(FIRST_CELLS, surface.grid.size, count).round().astype(int)):
        reached = np.zeros(surface.grid.size, bool)
        reached[order[:cells]] = True
        done = reached.reshape(surface.grid.shape) & surface.known
        rows, columns = replace(surface, done=done).complete_part()
        if len(rows) < 2 or len(columns) < 2 or not done[np.ix_(rows, columns)].all():
            continue  # too few cells for a surface
        values = np.where(done, whole.values, np.nan)
        p = Panel(whole.label, whole.x, whole.y, values, done, rows, columns, FRAME_DETAIL)
        fig = plt.figure(figsize=(9.6, 4.2))
        flat = fig.add_axes((0.06, 0.13, 0.36, 0.74))
        part = replace(whole, rows=rows, columns=columns)
        draw_panel = draw_filled_contours
        draw_flat(fig, [flat], [part], subject.scale, subject.name, draw_panel=draw_panel, colour_bar=False)
        y, x = np.nonzero(done)
        flat.plot(whole.x[x], whole.y[y], ".", color="white", markersize=min(2.0, 40 / np.sqrt(cells)), zorder=4)
        flat.set_title(f"{cells} of {surface.grid.size} cells")
        solid = fig.add_axes((0.46, 0.0, 0.5, 1.0), projection="3d", computed_zorder=False)
        draw_solid(solid, [p], subject.scale, subject.name, camera=camera, notes=False)
        keep_labels_inside(fig, solid, (0.46, 0, 1, 1), WHOLE_BOX)
        yield figure_pixels(fig, dpi)
