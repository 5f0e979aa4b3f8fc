"""Keywords that all drawing commands share, as functions take them, and how their figures are made and written."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from lossatlas import figures
from lossatlas.choices import Colours, LookName
from lossatlas.figures.kinds import Kind
from lossatlas.figures.matplotlib_style import FigureFactory

if TYPE_CHECKING:
    from lossatlas.figures.matplotlib_style import Figure


class FileKeywords(TypedDict, total=False):
    """Keywords of every function that draws: fields of `FigureOutput`."""

    show: bool
    title: str
    files_as: figures.FigureFiles | None
    look: LookName | None
    cmap: str | None


class DrawingKeywords(FileKeywords, total=False):
    """Keywords of every function that draws with a colour scale: fields of `ScaledFigureOutput`."""

    vmin: float | None
    vmax: float | None
    vlevel: float | None
    log: bool
    colours: Colours | None


class ScaleLimits(TypedDict):
    """Limits of a colour scale, see `choose_colour_scale`."""

    vmin: float | None
    vmax: float | None
    vlevel: float | None
    log: bool
    colours: Colours | None


@dataclass(frozen=True)
class FigureOutput:
    """Output of a drawing command.

    Attributes:
        show: Open them in windows too.
        title: Title above each figure; "" for none.
        files_as: Formats of the files; None for PDF and PNG.
        look: "paper", "dark" or "print"; None for paper.
        cmap: Colour map of fields, and of the lines of figures without a colour scale; None for the map of the look.
    """

    show: bool = False
    title: str = ""
    files_as: figures.FigureFiles | None = None
    look: LookName | None = None
    cmap: str | None = None

    def style(self) -> AbstractContextManager[FigureFactory]:
        """Make figures in the house style within this context, see `lossatlas.figures.style`."""
        return figures.style(
            show=self.show, files=self.files_as, look=self.look, cmap=self.cmap, line_cmap=self.line_colour_map
        )

    @property
    def line_colour_map(self) -> str | None:
        """Colour map from which lines take their colours."""
        return self.cmap

    def save(
        self,
        drawn: "Mapping[Kind, Figure]",
        files: Sequence[str | Path],
        out: str | None = None,
        *,
        field: str = "",
        log: bool = False,
    ) -> list[Path]:
        """Write figures by kind, see `lossatlas.figures.save_all`.

        Args:
            drawn: The figures.
            files: Files that are drawn, whose names the figures have.
            out: Beginning of the names; None for the names of `files`.
            field: Name of the field that is drawn, which stands in some names.
            log: The scale is logarithmic, which stands in some names.

        Returns:
            The files that were written.
        """
        return figures.save_all(drawn, files, out, field=field, log=log, title=self.title)


@dataclass(frozen=True)
class ScaledFigureOutput(FigureOutput):
    """Output of a drawing command, with the limits of its colour scale; None is chosen from the data.

    Attributes:
        vmin: Lowest contour.
        vmax: Highest contour.
        vlevel: Distance of the contours.
        log: Take a logarithmic scale even where a linear one would do.
        colours: "value", "blended", or None, see `choose_colour_scale`.
    """

    vmin: float | None = None
    vmax: float | None = None
    vlevel: float | None = None
    log: bool = False
    colours: Colours | None = None

    @property
    def line_colour_map(self) -> None:
        """No colour map: lines keep the colours of the look, and the colour map applies to the field."""

    @property
    def limits(self) -> ScaleLimits:
        """Keywords of `choose_colour_scale`."""
        return {
            "vmin": self.vmin,
            "vmax": self.vmax,
            "vlevel": self.vlevel,
            "log": self.log,
            "colours": self.colours,
        }
