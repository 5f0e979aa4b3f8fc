"""Animations as GIF, MP4 or WebM: a surface that turns, a training run on its surface, a grid computed coarse-first."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lossatlas.figures.camera import Camera
from lossatlas.figures.colour_scale import ColourScale, format_tick
from lossatlas.figures.contour_plots import draw_contours, draw_filled_contours, draw_flat
from lossatlas.figures.kinds import Film
from lossatlas.figures.matplotlib_style import FigureFactory
from lossatlas.figures.palette import current_look
from lossatlas.figures.panels import Panel
from lossatlas.figures.plotted_fields import field_title
from lossatlas.figures.solid_layout import WHOLE_BOX, keep_labels_inside, place_for_film
from lossatlas.figures.surface_plots import draw_solid, shape_of_solids, solid_figure
from lossatlas.figures.trajectory_plots import axis_names
from lossatlas.io.trajectory_files import Projection
from lossatlas.landscape.surface import Surface

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DETAIL = 110  # points along an axis of a surface, about: a frame is seen for a moment
FIRST_CELLS = 4  # of a grid that is refined
RENDERED_INCHES = (5.8, 4.6)  # width and height of a rendered picture


# Frames per second: a GIF counts hundredths of a second, and browsers slow down below two.
SLOWEST, FASTEST = 0.05, 50.0


@dataclass(frozen=True)
class Subject:
    """Surfaces that an animation shows.

    Attributes:
        panels: The surfaces, with one colour scale.
        scale: Their colour scale.
        name: Name of the field.
    """

    panels: Sequence[Panel]
    scale: ColourScale
    name: str


def figure_pixels(fig: "Figure", dpi: int) -> np.ndarray:
    """Draw a figure as pixels.

    Args:
        fig: The figure.
        dpi: Dots per inch.

    Returns:
        (height, width, 3) bytes; both sides are even, as video formats need them.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    fig.set_dpi(dpi)
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    return np.ascontiguousarray(pixels[: pixels.shape[0] // 2 * 2, : pixels.shape[1] // 2 * 2])


def frames_of(
    plt: FigureFactory,
    kind: Film,
    subject: Subject,
    surface: Surface,
    camera: Camera,
    count: int,
    dpi: int,
    *,
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
        run: For `Film.PATH`, the training run and the values of the surface under its checkpoints.
        overlay: Draw turning surfaces in one box.
        zlim: Value at which turning surfaces are cut off.
        swing: See `turning_cameras`.

    Returns:
        Frames of (height, width, 3) bytes.
    """
    if kind is Film.PATH:
        assert run is not None
        return path_frames(plt, subject, *run, count, dpi)
    if kind is Film.REFINE:
        return refinement_frames(plt, surface, subject, camera, count, dpi)
    cameras = turning_cameras(camera, count, swing)
    return turntable_frames(plt, subject, cameras, dpi, overlay=overlay, zlim=zlim)


def turning_cameras(camera: Camera, count: int, swing: float | None = None) -> list[Camera]:
    """List cameras of an endless loop around the vertical axis.

    Args:
        camera: The first one.
        count: Number of frames.
        swing: Degrees by which the camera swings to and fro around the first one; None turns once around.

    Returns:
        A camera for each frame.
    """
    shares = np.arange(count) / count
    turns = 360 * shares if swing is None else swing / 2 * np.sin(2 * np.pi * shares)
    return [Camera(camera.elevation, camera.azimuth + float(turn)) for turn in turns]


def turntable_frames(
    plt: FigureFactory,
    subject: Subject,
    cameras: Sequence[Camera],
    dpi: int,
    *,
    overlay: bool = False,
    zlim: float | None = None,
) -> Iterator[np.ndarray]:
    """Turn surfaces.

    Args:
        plt: Maker of figures, see `style`.
        subject: Surfaces to show.
        cameras: Where each frame sees them from.
        dpi: Dots per inch.
        overlay: Draw the surfaces in one box instead of side by side.
        zlim: Value at which the surfaces are cut off.

    Yields:
        Frames of (height, width, 3) bytes.
    """
    panels = [replace(p, detail=DETAIL) for p in subject.panels]
    for each in cameras:
        fig = solid_figure(plt, panels, subject.scale, subject.name, zlim, each, overlay=overlay, cut_from=cameras[0])
        axis: Any
        for axis in fig.axes:  # the label would jump from one side to the other
            axis.set_zlabel("")
        place_for_film(fig, *((1, 1) if overlay else shape_of_solids(len(panels))))
        fig.text(0.01, 0.02, field_title(subject.name), ha="left", fontsize="small")
        yield figure_pixels(fig, dpi)


def rendered_turntable_frames(
    plt: FigureFactory, subject: Subject, cameras: Sequence[Camera], dpi: int, *, overlay: bool = False
) -> Iterator[np.ndarray]:
    """Turn rendered surfaces, with their names below them.

    Args:
        plt: Maker of figures, see `style`.
        subject: Surfaces to show.
        cameras: Where each frame sees them from.
        dpi: Pixels of each picture along `RENDERED_INCHES`.
        overlay: Render the surfaces in one box instead of side by side.

    Yields:
        Frames of (height, width, 3) bytes.
    """
    from lossatlas.figures.rendered_view import fitted_views
    from lossatlas.figures.surface_renderer import SurfaceRenderer

    panels = subject.panels
    groups: list[Sequence[Panel]] = [panels] if overlay else [[p] for p in panels]
    size = _even(RENDERED_INCHES[0] * dpi), _even(RENDERED_INCHES[1] * dpi)
    renderers = [SurfaceRenderer(group, subject.scale, size, detail=2 * DETAIL) for group in groups]
    points = np.concatenate([renderer.points for renderer in renderers])
    names = _names_below(plt, [p.label for p in panels] if len(groups) > 1 else [], RENDERED_INCHES[0], dpi)
    for view in fitted_views(points, cameras, size[0] / size[1]):
        pictures = np.concatenate([renderer.picture(view) for renderer in renderers], axis=1)
        yield pictures if names is None else np.concatenate([pictures, names[:, : pictures.shape[1]]])
    for renderer in renderers:
        renderer.close()


def _even(number: float) -> int:
    """The nearest even number, as video formats need it."""
    return 2 * round(number / 2)


def _names_below(plt: FigureFactory, names: Sequence[str], width: float, dpi: int) -> np.ndarray | None:
    """A strip with a name below each picture, (height, width, 3) bytes; None where there is no name."""
    if not names:
        return None
    fig = plt.figure(figsize=(width * len(names) + 2 / dpi, 0.36))
    for k, name in enumerate(names):
        fig.text((k + 0.5) / len(names), 0.55, name, ha="center", va="center")
    return figure_pixels(fig, dpi)


def path_frames(
    plt: FigureFactory, subject: Subject, path: Projection, under: np.ndarray, count: int, dpi: int
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
    fig, (left, right) = plt.subplots(1, 2, figsize=(9.2, 4.2), layout="constrained")
    draw_flat(fig, [left], subject.panels, subject.scale, subject.name, draw_contours)
    fig.axes[-1].set_ylabel("")  # the axis of the curve has the same name
    left.set(**dict(zip(("xlabel", "ylabel"), axis_names(path), strict=True)))
    left.plot(path.x, path.y, ".", color=current_look().muted, markersize=4, zorder=4)
    (line,) = left.plot([], [], "-", color=current_look().ink, linewidth=1.3, zorder=5)
    (ball,) = left.plot(
        [], [], "o", color=current_look().ink, markeredgecolor=current_look().ground, markersize=7, zorder=6
    )
    _draw_losses(right, subject, epochs, under, path.loss)
    (current,) = right.plot([], [], "o", color=current_look().ink, markersize=6)
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
    """The whole curves, of the surface and of the checkpoints."""
    for values, style, label in ((under, "-", "surface under the path"), (own, "--", "the checkpoint itself")):
        if values is not None and np.isfinite(values).any():
            known = np.isfinite(values)
            axis.plot(epochs[known], values[known], style, color=current_look().muted, linewidth=1.2, label=label)
    if subject.scale.log and np.nanmin(under) > 0:
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(lambda value, _: format_tick(value))
        axis.yaxis.set_minor_formatter(lambda value, _: "")


def refinement_frames(
    plt: FigureFactory, surface: Surface, subject: Subject, camera: Camera, count: int, dpi: int
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
        p = Panel(whole.label, whole.x, whole.y, values, done, rows, columns, DETAIL)
        fig = plt.figure(figsize=(9.6, 4.2))
        flat = fig.add_axes((0.06, 0.13, 0.36, 0.74))
        part = replace(whole, rows=rows, columns=columns)
        draw_flat(fig, [flat], [part], subject.scale, subject.name, draw_filled_contours, colour_bar=False)
        y, x = np.nonzero(done)
        flat.plot(whole.x[x], whole.y[y], ".", color="white", markersize=min(2.0, 40 / np.sqrt(cells)), zorder=4)
        flat.set_title(f"{cells} of {surface.grid.size} cells")
        solid = fig.add_axes((0.46, 0.0, 0.5, 1.0), projection="3d", computed_zorder=False)
        draw_solid(solid, [p], subject.scale, subject.name, None, camera, notes=False)
        keep_labels_inside(fig, solid, (0.46, 0, 1, 1), WHOLE_BOX)
        yield figure_pixels(fig, dpi)
