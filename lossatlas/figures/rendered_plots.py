"""Figures of surfaces that pyvista renders: side by side or in one box, with their names and a slim colour bar."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from lossatlas.errors import BadUsage, error_line, named
from lossatlas.figures.camera import Camera
from lossatlas.figures.colour_bars import draw_bar_below
from lossatlas.figures.colour_scale import ColourScale, format_value
from lossatlas.figures.matplotlib_style import FigureFactory, Looks, is_single_column
from lossatlas.figures.palette import overlay_colour_map
from lossatlas.figures.panels import Panel
from lossatlas.figures.plotted_fields import field_title
from lossatlas.figures.rendered_view import View, fitted_views
from lossatlas.figures.surface_paths import HIDDEN_OPACITY, end_look, path_handles
from lossatlas.figures.surface_plots import check_overlay
from lossatlas.figures.surface_renderer import DARK_LINE, PIN_COLOUR, RENDERED_SIZE, SurfaceRenderer
from lossatlas.io.trajectory_files import Projection

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CAMERA = Camera(42, -62)  # from which a ravine is seen and hills do not hide what is behind them
HIDDEN_DASHES = (0, (2.5, 2))  # of the hidden part of a pin
PIN_POINTS = 41  # at which it is asked whether a surface hides a pin
RENDERED_NOISE = 5  # of the colour of the ground, in levels of 255


@dataclass(frozen=True)
class Picture:
    """A picture of surfaces.

    Attributes:
        pixels: (height, width, 3) bytes.
        pin: Place of the top of the pin in pixels, from the left and upper edge; None where there is none.
        hidden: Places (n, 2) in pixels from the foot of the pin up to where it is seen; none where no surface hides it.
        lowest: Value at the foot of the pin.
        paths: Places (n, 2) along each training run in pixels, its colour, and whether a surface hides its end.
    """

    pixels: np.ndarray
    pin: tuple[float, float] | None = None
    hidden: np.ndarray = field(default_factory=lambda: np.empty((0, 2)))
    lowest: float = float("nan")
    paths: Sequence[tuple[np.ndarray, str, bool]] = ()


def rendered_figure(
    plt: FigureFactory,
    panels: Sequence[Panel],
    scale: ColourScale,
    name: str,
    camera: Camera | None = None,
    *,
    overlay: bool = False,
    paths: Sequence[Projection] = (),
) -> "Figure":
    """Render surfaces side by side or in one box, with their names below them and a slim colour bar.

    Args:
        plt: Maker of figures, see `style`.
        panels: Surfaces to draw.
        scale: Their colour scale.
        name: Name of the field.
        camera: Where they are seen from; None for the usual camera of rendered figures.
        overlay: Draw them in one box instead of side by side.
        paths: Training runs, which lie on the first surface.

    Returns:
        The figure.

    Raises:
        BadUsage: The surfaces do not cover the same part of a plane, or pyvista fails.
    """
    check_overlay(panels, overlay=overlay)
    groups = [list(panels)] if overlay else [[p] for p in panels]
    pictures = _cropped(_pictures(groups, scale, paths, camera or CAMERA))
    shape = pictures[0].pixels.shape
    rows, columns = (len(pictures), 1) if is_single_column() else (1, len(pictures))
    size = 4.8 * columns, 4.8 * shape[0] / shape[1] * rows + 0.3 * rows + 0.7
    fig, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for axis, picture, group in zip(axes.ravel(), pictures, groups, strict=True):
        axis.imshow(picture.pixels, interpolation="antialiased")
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
        label = group[0].label if len(panels) > 1 else field_title(name)
        words = "\n".join(([] if overlay else [label]) + _notes(group))
        axis.set_xlabel(words, labelpad=2, fontsize="large")
        draw_paths(axis, picture)
        _name_pin(axis, picture, more_is_better=group[0].more_is_better)
        if handles := legend_handles(group if overlay else [], paths, scale):
            where: Looks = {"loc": "upper right", "framealpha": 0.9}
            if paths:  # above the picture, in which paths may run anywhere
                where = {"loc": "lower center", "bbox_to_anchor": (0.5, 1.0), "frameon": False, "ncols": 2}
            axis.legend(handles=handles, fontsize="small", **where)
    if not overlay:
        draw_bar_below(fig, axes.ravel().tolist(), scale, name)
    return fig


def _pictures(
    groups: Sequence[Sequence[Panel]], scale: ColourScale, paths: Sequence[Projection], camera: Camera
) -> list[Picture]:
    """Render a picture of each group, all from the same place."""
    try:
        renderers = [SurfaceRenderer(group, scale, paths=paths) for group in groups]
        (view,) = fitted_views(
            np.concatenate([each.points for each in renderers]), [camera], RENDERED_SIZE[0] / RENDERED_SIZE[1]
        )
        pictures = [with_hidden_pin(picture_from(each, view), each, view) for each in renderers]
        for renderer in renderers:
            renderer.close()
    except BadUsage:
        raise
    except Exception as error:  # pyvista and the graphics driver raise nearly anything
        raise BadUsage(f"{named('render')}: pyvista failed ({error_line(error)}): leave it out") from error
    return pictures


def picture_from(renderer: SurfaceRenderer, view: View) -> Picture:
    """Render surfaces from one side, with the places of the pin and the paths in pixels of the picture."""
    pixels = renderer.picture(view)
    drawn = [
        (_in_pixels(view.project(points), pixels), colour, renderer.hides(points[np.isfinite(points).all(1)][-1], view))
        for points, colour in renderer.lines
    ]
    if renderer.pin is None or not renderer.has_pin:
        return Picture(pixels, paths=drawn)
    p = renderer.panels[0]
    best = p.best_cell()
    assert best is not None
    ((x, y),) = _in_pixels(view.project(renderer.pin[1:]), pixels)
    return Picture(pixels, (x, y), lowest=float(p.values[best]))


def with_hidden_pin(picture: Picture, renderer: SurfaceRenderer, view: View) -> Picture:
    """Add the part of the pin that a surface hides to a picture."""
    if renderer.pin is None or picture.pin is None:
        return picture
    foot, top = renderer.pin
    points = foot + np.linspace(0, 1, PIN_POINTS)[:, None] * (top - foot)
    seen = [not renderer.hides(each, view) for each in points]
    end = seen.index(True) if True in seen else PIN_POINTS
    return replace(picture, hidden=_in_pixels(view.project(points[: end + 1]), picture.pixels)) if end else picture


def _in_pixels(places: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Return the pixels (n, 2) from the left and upper edge at places from -1 to 1, see `View.project`."""
    height, width = pixels.shape[:2]
    return np.column_stack([(places[:, 0] + 1) / 2 * width, (1 - places[:, 1]) / 2 * height])


def draw_paths(axis: "Axes", picture: Picture) -> None:
    """Draw each path once more, faint, to be seen behind a surface, and a star at its end, faint where hidden."""
    for places, colour, is_hidden in picture.paths:
        axis.plot(*places.T, color=colour, linewidth=1.0, alpha=HIDDEN_OPACITY, zorder=4)
        end = places[np.isfinite(places).all(1)][-1:]
        look = end_look("*", colour) | ({"alpha": 2 * HIDDEN_OPACITY, "path_effects": None} if is_hidden else {})
        axis.plot(*end.T, zorder=6, **look)


def _name_pin(axis: "Axes", picture: Picture, *, more_is_better: bool) -> None:
    """Write the value of the best cell beside the top of its pin, and draw the part that a surface hides, dashed."""
    from matplotlib.patheffects import withStroke

    if picture.pin is None:
        return
    words = f"{'maximum' if more_is_better else 'minimum'} {format_value(picture.lowest)}"
    note = axis.annotate(
        words, picture.pin, (0, 5), textcoords="offset points", ha="center", va="bottom", color=PIN_COLOUR
    )
    note.set_path_effects([withStroke(linewidth=2, foreground=DARK_LINE[0])])
    if len(picture.hidden):
        looks: Looks = {"color": PIN_COLOUR, "path_effects": [withStroke(linewidth=2, foreground=DARK_LINE[0])]}
        axis.plot(*picture.hidden.T, linestyle=HIDDEN_DASHES, linewidth=0.9, zorder=4, **looks)
        ring: Looks = {"markersize": 4.5, "markerfacecolor": "none", "markeredgewidth": 0.9, "zorder": 4}
        axis.plot(*picture.hidden[0], "o", **looks, **ring)


def _notes(group: Sequence[Panel]) -> list[str]:
    notes = [p.note for p in group if p.note]
    if holes := sum(int(p.not_finite.sum()) for p in group):
        notes.append(f"{holes} cells not finite: holes")
    return notes


def legend_handles(overlaid: Sequence[Panel], paths: Sequence[Projection], scale: ColourScale) -> "list[Artist]":
    from matplotlib.patches import Patch

    handles: list[Artist] = [Patch(color=overlay_colour_map(k)(0.5), label=p.label) for k, p in enumerate(overlaid)]
    return handles + (path_handles(paths, scale) if paths else [])


def _cropped(pictures: Sequence[Picture]) -> list[Picture]:
    """Cut the same part from each picture, without margins that have the colour of the ground in all of them."""
    ground = pictures[0].pixels[0, 0].astype(int)
    ink = np.any([(np.abs(each.pixels - ground) > RENDERED_NOISE).any(-1) for each in pictures], 0)
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return [
        replace(
            each,
            pixels=each.pixels[part],
            pin=None if each.pin is None else (each.pin[0] - columns[0], each.pin[1] - rows[0]),
            hidden=each.hidden - [columns[0], rows[0]],
            paths=[(places - [columns[0], rows[0]], *more) for places, *more in each.paths],
        )
        for each in pictures
    ]
