"""Frames of surfaces that turn, drawn with matplotlib or rendered, with the path of a training run on them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lossatlas.figures.camera import Camera
from lossatlas.figures.colour_bars import with_bar_below
from lossatlas.figures.film_frames import FRAME_DETAIL, Subject, figure_pixels
from lossatlas.figures.matplotlib_style import FigureFactory, Looks
from lossatlas.figures.panels import Panel
from lossatlas.figures.plotted_fields import field_title
from lossatlas.figures.solid_layout import place_for_film
from lossatlas.figures.surface_plots import shape_of_solids, solid_figure
from lossatlas.io.trajectory_files import Projection

if TYPE_CHECKING:
    from lossatlas.figures.rendered_plots import Picture


RENDERED_INCHES = (5.8, 4.6)  # width and height of a rendered picture
WORDS_LINE, WORDS_MARGIN = 0.24, 0.12  # inches of a line below rendered pictures, and around all of them
MOST_BESIDE = 3  # entries of a legend in a line


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
    paths: Sequence[Projection] = (),
) -> Iterator[np.ndarray]:
    """Turn surfaces, with their colour bar below them unless they share one box.

    Args:
        plt: Maker of figures, see `style`.
        subject: Surfaces to show.
        cameras: Where each frame sees them from.
        dpi: Dots per inch.
        overlay: Draw the surfaces in one box instead of side by side.
        zlim: Value at which the surfaces are cut off.
        paths: Training runs, which lie on the first surface.

    Returns:
        Frames of (height, width, 3) bytes.
    """
    frames = _turned_frames(plt, subject, cameras, dpi, overlay=overlay, zlim=zlim, paths=paths)
    return frames if overlay else with_bar_below(plt, subject, frames, dpi)


def _turned_frames(
    plt: FigureFactory,
    subject: Subject,
    cameras: Sequence[Camera],
    dpi: int,
    *,
    overlay: bool,
    zlim: float | None,
    paths: Sequence[Projection],
) -> Iterator[np.ndarray]:
    """Turn surfaces; arguments as for `turntable_frames`."""
    panels = [replace(p, detail=FRAME_DETAIL) for p in subject.panels]
    looks: Looks = {"overlay": overlay, "cut_from": cameras[0], "paths": paths}
    for each in cameras:
        fig = solid_figure(plt, panels, subject.scale, subject.name, zlim=zlim, camera=each, **looks)
        axis: Any
        for axis in fig.axes:  # the label would jump from one side to the other
            axis.set_zlabel("")
        place_for_film(fig, *((1, 1) if overlay else shape_of_solids(len(panels))))
        if overlay:  # surfaces have colours of their own, and no bar
            fig.text(0.01, 0.02, field_title(subject.name), ha="left", fontsize="small")
        yield figure_pixels(fig, dpi)


def rendered_turntable_frames(
    plt: FigureFactory,
    subject: Subject,
    cameras: Sequence[Camera],
    dpi: int,
    *,
    overlay: bool = False,
    paths: Sequence[Projection] = (),
) -> Iterator[np.ndarray]:
    """Turn rendered surfaces, with their names, the legend and the colour bar below them.

    Args:
        plt: Maker of figures, see `style`.
        subject: Surfaces to show.
        cameras: Where each frame sees them from.
        dpi: Pixels of each picture along `RENDERED_INCHES`.
        overlay: Render the surfaces in one box instead of side by side.
        paths: Training runs, which lie on each surface.

    Returns:
        Frames of (height, width, 3) bytes.
    """
    frames = _rendered_frames(plt, subject, cameras, dpi, overlay=overlay, paths=paths)
    return frames if overlay else with_bar_below(plt, subject, frames, dpi)


def _rendered_frames(
    plt: FigureFactory,
    subject: Subject,
    cameras: Sequence[Camera],
    dpi: int,
    *,
    overlay: bool,
    paths: Sequence[Projection],
) -> Iterator[np.ndarray]:
    """Turn rendered surfaces; arguments as for `rendered_turntable_frames`."""
    from lossatlas.figures.rendered_plots import picture_from
    from lossatlas.figures.rendered_view import fitted_views
    from lossatlas.figures.surface_renderer import SurfaceRenderer

    panels = subject.panels
    groups: list[Sequence[Panel]] = [panels] if overlay else [[p] for p in panels]
    size = _even(RENDERED_INCHES[0] * dpi), _even(RENDERED_INCHES[1] * dpi)
    renderers = [SurfaceRenderer(group, subject.scale, size, paths, detail=2 * FRAME_DETAIL) for group in groups]
    points = np.concatenate([renderer.points for renderer in renderers])
    below = _words_below(plt, subject, len(groups), paths, dpi)
    for view in fitted_views(points, cameras, size[0] / size[1]):
        pictures = [picture_from(renderer, view) for renderer in renderers]
        shown = np.concatenate([_with_paths(plt, each, dpi) if paths else each.pixels for each in pictures], axis=1)
        yield shown if below is None else np.concatenate([shown, below[:, : shown.shape[1]]])
    for renderer in renderers:
        renderer.close()


def _even(number: float) -> int:
    """Return the nearest even number, as video formats need it."""
    return 2 * round(number / 2)


def _with_paths(plt: FigureFactory, picture: "Picture", dpi: int) -> np.ndarray:
    """Return the pixels of a picture with its paths, see `draw_paths`."""
    from lossatlas.figures.rendered_plots import draw_paths

    height, width = picture.pixels.shape[:2]
    fig = plt.figure(figsize=(width / dpi, height / dpi))
    axis = fig.add_axes((0, 0, 1, 1))
    axis.imshow(picture.pixels, interpolation="none", aspect="auto", extent=(0, width, height, 0))
    axis.set_axis_off()
    draw_paths(axis, picture)
    axis.set(xlim=(0, width), ylim=(height, 0))
    return figure_pixels(fig, dpi)[:height, :width]


def _words_below(
    plt: FigureFactory, subject: Subject, pictures: int, paths: Sequence[Projection], dpi: int
) -> np.ndarray | None:
    """Draw a strip with a name below each picture and a legend, (height, width, 3) bytes; None without words."""
    from lossatlas.figures.rendered_plots import legend_handles

    names = [p.label for p in subject.panels] if pictures > 1 else []
    handles = legend_handles(subject.panels if pictures < len(subject.panels) else (), paths, subject.scale)
    if not names and not handles:
        return None
    lines = bool(names) + (math.ceil(len(handles) / MOST_BESIDE) if handles else 0)
    height = WORDS_LINE * lines + WORDS_MARGIN
    fig = plt.figure(figsize=(RENDERED_INCHES[0] * pictures + 2 / dpi, height))
    for k, name in enumerate(names):
        fig.text(
            (k + 0.5) / len(names), 1 - (WORDS_LINE / 2 + WORDS_MARGIN / 2) / height, name, ha="center", va="center"
        )
    if handles:
        looks: Looks = {"loc": "lower center", "ncols": MOST_BESIDE, "frameon": False, "fontsize": "small"}
        fig.legend(handles=handles, borderaxespad=0.3, **looks)
    return figure_pixels(fig, dpi)
