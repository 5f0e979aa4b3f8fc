"""Style of all figures, and how figures are made. The only module that sets up matplotlib.

with style() as plt:
    fig, axis = plt.subplots(layout="constrained")
    ...
    save(fig, "name")
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import matplotlib

if TYPE_CHECKING:  # for annotations elsewhere too, where matplotlib itself is not imported
    from matplotlib.axes import Axes  # noqa: F401
    from matplotlib.figure import Figure

DPI = 200  # dots per inch where no other number is given
COLUMNS = {1: (3.4, 0.8), 2: (7.0, 0.9)}  # of a journal's page: width in inches, scale of the letters
FONT_SCALE = 1.1  # of a figure that has its own width


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
CURRENT_FILES: ContextVar[FigureFiles] = ContextVar("files", default=FigureFiles())  # noqa: B039, it is immutable


class FigureFactory(Protocol):
    """Maker of figures: `matplotlib.pyplot`, or `OffscreenFigures` where no window opens."""

    def figure(self, **options: Any) -> "Figure":
        """Make an empty figure."""

    def subplots(self, rows: int = 1, columns: int = 1, **options: Any) -> Any:
        """Make a figure and an array of axes, or a single one."""


class OffscreenFigures:
    """Makes figures as pyplot does, without a backend and without pyplot's knowledge of them."""

    def figure(self, **options: Any) -> "Figure":
        """Make an empty figure."""
        from matplotlib.figure import Figure

        return Figure(**options)

    def subplots(
        self, rows: int = 1, columns: int = 1, *, figsize: Any = None, layout: Any = None, **options: Any
    ) -> Any:
        """Make a figure and an array of axes, or a single one."""
        fig = self.figure(figsize=figsize, layout=layout)
        return fig, fig.subplots(rows, columns, **options)


@contextmanager
def house_style(font_scale: float = FONT_SCALE) -> Iterator[None]:
    """Set matplotlib's parameters for the figures that are made within, and restore them afterwards.

    Args:
        font_scale: Size of the letters, relative to seaborn's context "paper".
    """
    import seaborn as sns

    parameters = {
        **sns.axes_style("ticks"),
        **sns.plotting_context("paper", font_scale=font_scale),
        "pdf.fonttype": 42,
        "font.family": "sans-serif",
        "figure.dpi": 100,
        "savefig.dpi": DPI,
        "svg.hashsalt": "lossatlas",
        "axes.grid": False,
    }
    with matplotlib.rc_context(parameters):
        yield


@contextmanager
def style(*, show: bool = False, files: FigureFiles | None = None) -> Iterator[FigureFactory]:
    """Make figures in the house style within this context.

    Args:
        show: Open the figures in windows at the end.
        files: Formats in which `save` writes figures within; by default those of an enclosing context, or PDF and PNG.

    Yields:
        The maker of figures: pyplot where windows are asked for, otherwise `OffscreenFigures`.

    Example:
        >>> with style() as plt:
        ...     fig, axis = plt.subplots(figsize=(4, 3))
    """
    token = CURRENT_FILES.set(files or CURRENT_FILES.get())
    columns = CURRENT_FILES.get().columns
    try:
        with house_style(COLUMNS[columns][1] if columns else FONT_SCALE):
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
