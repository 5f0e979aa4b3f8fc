"""The Axes that a function draws on: the user's Axes, whose texts stay, or the Axes of a new figure."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from lossatlas.errors import BadUsage, named
from lossatlas.figures.matplotlib_style import texts_kept, users_style
from lossatlas.figures.palette import look_set
from lossatlas.figures.plot_options import PlotOptions
from lossatlas.figures.plotted_fields import mathtext

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@contextmanager
def figure_and_axes(
    ax: "Axes | None", options: PlotOptions, *, solid: bool = False, size: tuple[float, float] | None = None
) -> "Iterator[tuple[Figure, Axes]]":
    """Yield the user's Axes and its figure, or a new pair that pyplot knows, so that plt.show() shows it.

    Texts on the user's Axes stay; a title is set where the options give one.

    Args:
        ax: The user's Axes; None makes a figure.
        options: Look, size, columns and title of the figure.
        solid: The axis has three dimensions.
        size: Width and height of a new figure in inches; None for the size of the options.

    Yields:
        The figure and the axis.

    Raises:
        BadUsage: `ax` is no Axes of the required kind, or the options set the size of a new figure.
    """
    if ax is None:
        with users_style(options.columns, options.look):
            import matplotlib.pyplot as plt

            layout, kind = (None, {"projection": "3d", "computed_zorder": False}) if solid else ("compressed", None)
            fig, ax = plt.subplots(figsize=size or options.size, layout=layout, subplot_kw=kind)
            yield fig, ax
            if not solid:
                ax.title.set_wrap(True)
        return
    _check_axes(ax, options, solid=solid)
    with look_set(options.look), texts_kept(ax):
        yield cast("Figure", ax.figure), ax
    if options.title is not None:
        ax.title.set_text(mathtext(options.title))


def _check_axes(ax: "Axes", options: PlotOptions, *, solid: bool) -> None:
    """Refuse what is no Axes of the kind that is drawn on, and options of a new figure."""
    if not hasattr(ax, "get_legend_handles_labels"):
        raise BadUsage(f"{named('ax')}: {type(ax).__name__} is no Axes of matplotlib")
    if solid != hasattr(ax, "zaxis"):
        raise BadUsage(
            f"{named('ax')}: "
            + ("make the Axes of a solid with projection='3d'" if solid else "this figure is flat, the Axes is not")
        )
    for name in ("figsize", "columns"):
        if getattr(options, name):
            raise BadUsage(f"{named(name)} is of a new figure, and an Axes has its own: leave one of them out")
