"""Style of all figures, and how figures are made. The only module that sets up matplotlib.

with style() as plt:
    fig, axis = plt.subplots(layout="constrained")
    ...
    save(fig, "name")
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, cast

import matplotlib

from lossatlas.choices import LookName
from lossatlas.figures.palette import Look, check_colour_map, colours_from, current_look, look_set

if TYPE_CHECKING:  # for annotations elsewhere too, where matplotlib itself is not imported
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 200  # dots per inch where no other number is given
PAGE_COLUMNS = {1: (3.4, 0.8), 2: (7.0, 0.9)}  # of a journal's page: width in inches, scale of the letters
FONT_SCALE = 1.1  # of a figure that has its own width
HOUSE_FONT_SIZE = 10.56  # points, of a figure that has its own width


@dataclass(frozen=True)
class FigureFiles:
    """Formats in which figures are written.

    Attributes:
        formats: Endings of the files: pdf, png, svg.
        dpi: Dots per inch of raster formats; 0 for `DPI`.
        columns: Columns of a page that a figure fills; 0 leaves each figure its own width.
    """

    formats: tuple[str, ...] = ("pdf", "png")
    dpi: int = 0
    columns: int = 0


Looks = dict[str, Any]  # keywords of a matplotlib artist
CHANGED: ContextVar[frozenset[str] | None] = ContextVar(
    "changed", default=None
)  # by the user, outside of `users_style`
BASELINE: ContextVar[Mapping[str, Any]] = ContextVar("baseline", default={})  # noqa: B039, parameters of `house_style`
OWN_WORDS = ("", "x", "y")  # names of axes that an earlier drawing has left on an Axes
FONT_FACTOR: ContextVar[float] = ContextVar("font_factor", default=1.0)  # see `letters`
CURRENT_FILES: ContextVar[FigureFiles] = ContextVar("files", default=FigureFiles())  # noqa: B039, it is immutable


class FigureFactory(Protocol):
    """Maker of figures: `matplotlib.pyplot`, or `OffscreenFigures` where no window opens."""

    def figure(self, **options: Any) -> "Figure":
        """Make an empty figure."""

    def subplots(self, nrows: int = 1, ncols: int = 1, **options: Any) -> Any:
        """Make a figure and an array of axes, or a single one."""


class OffscreenFigures:
    """Maker of figures as pyplot is one, without a backend and without pyplot's knowledge of them."""

    def figure(self, **options: Any) -> "Figure":
        """Make an empty figure."""
        from matplotlib.figure import Figure

        return Figure(**options)

    def subplots(
        self, nrows: int = 1, ncols: int = 1, *, figsize: Any = None, layout: Any = None, **options: Any
    ) -> Any:
        """Make a figure and an array of axes, or a single one.

        Args:
            nrows: Number of rows of axes.
            ncols: Number of columns of axes.
            figsize: Width and height of the figure in inches; None for matplotlib's default.
            layout: Layout engine of the figure, as in matplotlib.
            **options: Further arguments of matplotlib's `Figure.subplots`.

        Returns:
            The figure, and its axes.
        """
        fig = self.figure(figsize=figsize, layout=layout)
        return fig, fig.subplots(nrows, ncols, **options)


def house_parameters(font_scale: float = FONT_SCALE) -> dict[str, Any]:
    """Return matplotlib's parameters in the house style and the current look.

    Args:
        font_scale: Size of the letters, relative to seaborn's context "paper".
    """
    import seaborn as sns

    look, context = current_look(), sns.plotting_context("paper", font_scale=font_scale)
    widths = {name: value * look.line_width for name, value in context.items() if name.endswith("linewidth")}
    return {
        **sns.axes_style("ticks"),
        **context,
        **widths,
        **look_parameters(look),
        "pdf.fonttype": 42,  # texts of PDF and SVG stay texts, to be searched and edited
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "figure.dpi": 100,
        "savefig.dpi": DPI,
        "svg.hashsalt": "lossatlas",
        "axes.grid": False,
    }


def look_parameters(look: Look) -> dict[str, Any]:
    """Return matplotlib's parameters of the colours of a look."""
    from cycler import cycler

    named_map = look.colour_map if isinstance(look.colour_map, str) else "viridis"
    ground = ("figure.facecolor", "axes.facecolor", "savefig.facecolor", "legend.facecolor")
    ink = ("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
    return {
        **dict.fromkeys(ground, look.ground),
        **dict.fromkeys(ink, look.ink),
        "image.cmap": named_map,  # not seaborn's
        "grid.color": look.grid,
        "legend.edgecolor": look.grid,
        "axes.prop_cycle": cycler(color=look.lines),
    }


@contextmanager
def house_style(font_scale: float = FONT_SCALE) -> Iterator[None]:
    """Set matplotlib's parameters for the figures that are made within, and restore them afterwards.

    They are no changes of the user's, see `changed_by_user`.

    Args:
        font_scale: Size of the letters, relative to seaborn's context "paper".
    """
    parameters = house_parameters(font_scale)
    with _parameters_set(parameters):
        present = cast("dict[str, Any]", matplotlib.rcParams)
        baseline = BASELINE.set({name: present[name] for name in parameters})
        changed = CHANGED.set(None)
        try:
            yield
        finally:
            CHANGED.reset(changed)
            BASELINE.reset(baseline)


@contextmanager
def _parameters_set(parameters: Mapping[str, Any]) -> Iterator[None]:
    """Set these parameters within, and no others.

    `matplotlib.rc_context` restores all of them, also `interactive`, which the backend of a notebook sets when the
    first figure is made: later figures would not be shown.
    """
    present = cast("dict[str, Any]", matplotlib.rcParams)
    before = {name: present[name] for name in parameters}
    present.update(parameters)
    try:
        yield
    finally:
        present.update(before)


def changed_by_user(name: str) -> bool:
    """Tell whether the user has changed a parameter of matplotlib, also within `users_style`, which changes others."""
    changed = CHANGED.get()
    return name in (_differing() if changed is None else changed)


def _differing() -> frozenset[str]:
    """Return the parameters that differ from matplotlib's defaults, or from those of a surrounding `house_style`."""
    watched = [*house_parameters(), "figure.figsize"]
    present = cast("dict[str, Any]", matplotlib.rcParams)
    defaults = {**cast("dict[str, Any]", matplotlib.rcParamsDefault), **BASELINE.get()}
    return frozenset(name for name in watched if bool(present[name] != defaults[name]))


@contextmanager
def users_style(columns: int = 0, look: LookName | None = None) -> Iterator[None]:
    """Set the house style within, except for what the user has changed from matplotlib's defaults.

    Where the user has changed `font.size`, sizes of titles, labels and ticks follow it as matplotlib's defaults do.

    Args:
        columns: Columns of a page that the figure fills, see `PAGE_COLUMNS`; 0 for a figure of its own width.
        look: Look of the figure, see `palette.look_set`, whose colours override the user's; None for the surrounding
            one.
    """
    with look_set(look):
        yield from _users_style(columns, asked=look is not None)


def _users_style(columns: int, *, asked: bool) -> Iterator[None]:
    before = CHANGED.get()
    changed = CHANGED.set(_differing() if before is None else before)
    parameters = house_parameters(PAGE_COLUMNS[columns][1] if columns else FONT_SCALE)
    own_size = changed_by_user("font.size")
    colours = look_parameters(current_look()) if asked else {}
    kept = {name: value for name, value in parameters.items() if name in colours or not changed_by_user(name)}
    if own_size:
        kept = {
            name: value for name, value in kept.items() if not name.endswith(("labelsize", "titlesize", "fontsize"))
        }
    token = CURRENT_FILES.set(replace(CURRENT_FILES.get(), columns=columns))
    try:
        with _parameters_set(kept), own_letters() if own_size else nullcontext():
            yield
    finally:
        CURRENT_FILES.reset(token)
        CHANGED.reset(changed)


@contextmanager
def own_letters() -> Iterator[None]:
    """Let `letters` follow the user's `font.size` within."""
    token = FONT_FACTOR.set(float(matplotlib.rcParams["font.size"]) / HOUSE_FONT_SIZE)
    try:
        yield
    finally:
        FONT_FACTOR.reset(token)


def letters(points: float) -> float:
    """Return the size of letters that are smaller than the text of a figure, from their size in the house style."""
    return points * FONT_FACTOR.get()


@contextmanager
def texts_kept(axis: "Axes") -> Iterator[None]:
    """Keep the texts of a user's Axes within: its title, axis names, legend and all their fonts stay as they are.

    A text that is empty before, or one of `OWN_WORDS`, may be written, in the font that it has.
    """
    names = [getattr(axis, f"{letter}axis") for letter in "xyz" if hasattr(axis, f"{letter}axis")]
    texts = [axis.title, *(each.label for each in names)]
    before = [(text, text.get_text(), text.get_fontproperties().copy(), text.get_color()) for text in texts]
    ticks = [(each, each.get_major_ticks(1)[0].label1.get_fontsize()) for each in names]
    legend = axis.get_legend()
    with own_letters():
        yield
    for text, words, font, colour in before:
        text.set(fontproperties=font, color=colour, text=text.get_text() if words in OWN_WORDS else words)
    for each, size in ticks:
        each.set_tick_params(labelsize=size)
    if legend is not None:
        axis.legend_ = legend


def pyplot() -> FigureFactory:
    """Return matplotlib.pyplot, whose figures a notebook and plt.show() show."""
    import matplotlib.pyplot as plt

    return plt


@contextmanager
def style(
    *,
    show: bool = False,
    files: FigureFiles | None = None,
    look: LookName | str | None = None,
    cmap: str | None = None,
    line_cmap: str | None = None,
) -> Iterator[FigureFactory]:
    """Make figures in the house style within this context.

    Args:
        show: Open the figures in windows at the end.
        files: Formats in which `save` writes figures within; by default the formats of an enclosing context, or PDF
            and PNG.
        look: "paper", "dark" or "print"; None for the look of an enclosing context, or paper.
        cmap: Colour map of fields; None for the colour map of the look.
        line_cmap: Colour map from which lines take their colours; None for the line colours of the look.

    Yields:
        The maker of figures: pyplot where windows are asked for, otherwise `OffscreenFigures`.

    Raises:
        BadUsage: There is no such look or colour map.

    Example:
        >>> with style(look="dark") as plt:
        ...     fig, axis = plt.subplots(figsize=(4, 3))
    """
    changes: dict[str, Any] = {}
    if cmap is not None:
        check_colour_map(cmap)
        changes = {"colour_map": cmap, "map_part": (0.0, 1.0)}
    if line_cmap is not None:
        lines = colours_from(line_cmap)
        changes |= {"lines": lines, "main": lines[0], "accent": lines[len(lines) // 2]}
    with look_set(look, **changes):
        yield from _style(show, files)


def _style(show: bool, files: FigureFiles | None) -> Iterator[FigureFactory]:
    token = CURRENT_FILES.set(files or CURRENT_FILES.get())
    columns = CURRENT_FILES.get().columns
    try:
        with house_style(PAGE_COLUMNS[columns][1] if columns else FONT_SCALE):
            if not show:
                yield OffscreenFigures()
                return
            import matplotlib.pyplot as plt

            before = set(plt.get_fignums())
            yield plt
            plt.show()
            for number in set(plt.get_fignums()) - before:
                plt.close(number)
    finally:
        CURRENT_FILES.reset(token)


def is_single_column() -> bool:
    """Tell whether figures are made for one column of a page, where panels stand one below the other."""
    return CURRENT_FILES.get().columns == 1
