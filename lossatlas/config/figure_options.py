"""Options of figures: looks, contours, cameras and files."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from lossatlas.choices import Colours, LookName, SurfaceLayout
from lossatlas.config.option_fields import finite, natural, option, positive


@dataclass(frozen=True)
class LookOptions:
    """The look of figures."""

    HEADING: ClassVar[str] = "figures"

    look: LookName | None = option(
        None,
        "colours, ground and line widths: white (paper, the default), for slides and dark pages (dark), or thin lines "
        "that stay readable in greyscale (print)",
    )
    cmap: str | None = option(
        None,
        "colour map of matplotlib for fields, and for the colours of lines in figures of lines alone (default: that of "
        "the look)",
        metavar="NAME",
    )


@dataclass(frozen=True)
class ContourOptions:
    """The levels and colours of contours."""

    HEADING: ClassVar[str] = "figures"

    vmin: float | None = option(None, "lowest contour (default: from the data)", kind=finite)
    vmax: float | None = option(None, "highest contour (default: from the data)", kind=finite)
    vlevel: float | None = option(None, "distance between contours (default: from the data)", kind=finite)
    colours: Colours | None = option(
        None,
        "colours in proportion to the height (value), or 40 % value and 60 % rank among the cells (blended); ticks of "
        "the colour bar are exact in both (default: blended where 70 % of the cells lie in a fifth of the range)",
    )


@dataclass(frozen=True)
class ShowOptions(LookOptions):
    """Looks and windows."""

    HEADING: ClassVar[str] = "figures"

    show: bool = option(False, "open the figures in windows as well")


@dataclass(frozen=True)
class DisplayOptions(ShowOptions):
    """Scale, looks and windows."""

    HEADING: ClassVar[str] = "figures"

    log: bool = option(False, "use a logarithmic scale even where a linear one would be chosen")


@dataclass(frozen=True)
class CameraOptions:
    """The view of a surface in 3-D."""

    HEADING: ClassVar[str] = "figures"

    elev: float | None = option(
        None, "elevation of the camera in degrees (default: 32, rendered: 42)", kind=finite, metavar="DEGREES"
    )
    azim: float | None = option(
        None, "azimuth of the camera in degrees (default: -60, rendered: -62)", kind=finite, metavar="DEGREES"
    )
    layout: SurfaceLayout = option("grid", "3-D surfaces side by side (grid), or in one plot (overlay)")


@dataclass(frozen=True)
class FigureOptions:
    """Files of figures."""

    HEADING: ClassVar[str] = "figures"

    format: str = option("pdf,png", "file formats, of pdf, png and svg, with commas between them", metavar="LIST")
    dpi: int | None = option(None, "resolution of pictures (default: 200)", kind=positive)
    columns: Literal[1, 2] | None = option(
        None,
        "width of the figure in columns of a paper: 1 (3.4 inches) or 2 (7 inches) (default: any width)",
        kind=natural,
    )
    title: str = option("", "title of the figure", metavar="TEXT")


@dataclass(frozen=True)
class DrawOptions(ShowOptions):
    """Figures of a result when it is complete."""

    HEADING: ClassVar[str] = "figures"

    plot: bool = option(False, "draw the figures when the result is complete")


@dataclass(frozen=True)
class PlotConfig(DrawOptions, ContourOptions, DisplayOptions):
    """The figures of a finished surface."""

    HEADING: ClassVar[str] = "figures"

    loss_max: float | None = option(None, "top of the loss axis of curves", kind=finite)
    proj_file: str | None = option(
        None, "trajectory to draw on the contours (file with proj_xcoord and proj_ycoord)", metavar="FILE.h5"
    )
