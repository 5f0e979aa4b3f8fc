"""Small pictures of results for a notebook, which pyplot does not know."""

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lossatlas.errors import BadUsage
from lossatlas.figures import spectrum_plots
from lossatlas.figures.comparison_plots import comparison_figure
from lossatlas.figures.kinds import Kind
from lossatlas.figures.matplotlib_style import OffscreenFigures, users_style
from lossatlas.figures.plot_functions import PATH_MARGIN, path, path_on, plot
from lossatlas.figures.plot_options import PlotOptions
from lossatlas.figures.plotted_fields import default_field, loss_names
from lossatlas.io.spectrum_files import Findings
from lossatlas.io.trajectory_files import Projection
from lossatlas.landscape.surface import Surface

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE, DPI = (3.6, 3.0), 150  # inches, and dots per inch
CARD = (4.8, 2.7)  # inches of the picture of a page
MORE = 0.12  # by which a surface may be larger than its part of that picture, where axes would be


def surface_picture(surface: Surface) -> bytes | None:
    """Draw a plane as filled contours, of a volume the plane nearest to the origin, or a line as a curve.

    Args:
        surface: The surface.

    Returns:
        PNG; None where nothing can be drawn: no finite value, values near the largest numbers, or one point along an
        axis of a plane.
    """
    if surface.grid.z is not None:
        surface = surface.plane_at(float(surface.grid.z[np.abs(surface.grid.z).argmin()]))
    is_plane = surface.grid.y is not None and not surface.rows_of
    names = [default_field(surface)] if is_plane else loss_names(surface) or [default_field(surface)]
    finite = any(np.isfinite(surface.fields[name][surface.known]).any() for name in names)
    if not finite or (is_plane and min(surface.grid.shape) < 2):
        return None
    try:
        return picture_of(lambda axis: plot(surface, axis, kind=(Kind.FILLED if is_plane else Kind.CURVE).word))
    except BadUsage:  # the values are too large to be drawn
        return None


def path_picture(run: Projection, surface: Surface | None) -> bytes | None:
    """Draw a trajectory in its plane, on the surface under it where there is one; None where nothing can be drawn."""
    if not (np.isfinite(run.x) & np.isfinite(run.y)).any():
        return None

    def draw(axis: "Axes") -> None:
        path(np.column_stack([run.x, run.y]), run.explained, axis)
        axis.margins(PATH_MARGIN)

    try:
        return picture_of(draw if surface is None else lambda axis: path_on(surface, run, axis, Kind.FILLED.word))
    except BadUsage:  # the values of the surface are too large to be drawn
        return picture_of(draw)


def spectrum_picture(findings: Findings) -> bytes | None:
    """Draw the density of a spectrum; None where it is not computed."""
    if "density/grid" not in findings.arrays:
        return None
    with users_style():
        return png_of(spectrum_plots.density_figure(OffscreenFigures(), findings))


def card_picture(surfaces: Sequence[Surface], run: Projection | None = None, vmax: float | None = None) -> bytes:
    """Draw the picture of a page for a gallery, without axes: surfaces in three dimensions side by side, or curves.

    Args:
        surfaces: Planes, or lines.
        run: A trajectory on the first one, which is then seen from above.
        vmax: Highest value of the colours and of the vertical axis; None for the usual one.

    Returns:
        PNG of `CARD` inches.

    Raises:
        BadUsage: The values are too large to be drawn, or the surfaces have no field in common.
    """
    kind = Kind.CURVE if surfaces[0].grid.y is None else Kind.SOLID
    with users_style():
        if run is not None:
            fig, axis = OffscreenFigures().subplots()
            path_on(surfaces[0], run, axis, Kind.FILLED.word, colorbar=False, title="", vmax=vmax)
            axis.set_aspect("auto")
        else:
            options = PlotOptions.of(kind, {"title": "", "vmax": vmax})
            fig = comparison_figure(OffscreenFigures(), surfaces, [""] * len(surfaces), kind, options)
        fig.set_layout_engine("none")
        fig.set_size_inches(*CARD)
        for k, axis in enumerate(fig.axes):
            without_words(axis)
            more = 0.0 if kind is Kind.CURVE or run is not None else MORE
            wide = 1 / len(fig.axes)
            axis.set_position(((k - more / 2) * wide, -more / 2, (1 + more) * wide, 1 + more))
        return png_of(fig)


def without_words(axis: "Axes") -> None:
    """Remove axes, texts and legend from a picture that is too small for them."""
    axis.set_axis_off()
    for text in list(axis.texts):
        text.remove()
    if legend := axis.get_legend():
        legend.remove()


def picture_of(draw: "Callable[[Axes], object]") -> bytes:
    """Draw on the Axes of a new figure that pyplot does not know. Returns PNG."""
    with users_style():
        fig, axis = OffscreenFigures().subplots(figsize=SIZE, layout="compressed")
        draw(axis)
        return png_of(fig)


def png_of(fig: "Figure") -> bytes:
    """Return a figure as PNG."""
    out = io.BytesIO()
    fig.savefig(out, format="png", dpi=DPI)
    return out.getvalue()
