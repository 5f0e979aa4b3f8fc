"""Keywords of the functions that draw surfaces in memory: which there are for each kind of figure, and their checks."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, cast, get_type_hints

import matplotlib
import numpy as np

from lossatlas.argument_checks import checked_word, is_finite_number
from lossatlas.choices import COLOURS, Colours, LookName
from lossatlas.errors import BadUsage, did_you_mean, named
from lossatlas.figures.camera import Camera
from lossatlas.figures.colour_scale import ColourScale, choose_colour_scale
from lossatlas.figures.kinds import FLAT, Kind
from lossatlas.figures.matplotlib_style import PAGE_COLUMNS, Looks, changed_by_user
from lossatlas.figures.palette import check_colour_map, checked_look
from lossatlas.figures.panels import Panel
from lossatlas.figures.plotted_fields import default_field, is_accuracy
from lossatlas.landscape.derived_fields import Field, resolved_field
from lossatlas.landscape.surface import Surface

if TYPE_CHECKING:
    from matplotlib.colors import Colormap

F = TypeVar("F", bound=Callable[..., Any])
FIGURE_SIZE = (4.8, 4.0)  # of a figure in inches


class FigureKeywords(TypedDict, total=False):
    """Keywords of every kind of figure; None, or to leave one out, is the usual choice."""

    name: Field | None
    field: Field | None
    title: str | None
    vmin: float | None
    vmax: float | None
    log: bool | None
    figsize: tuple[float, float] | None
    columns: int | None
    look: LookName | str | None


class ContourKeywords(FigureKeywords, total=False):
    """Keywords of contours, filled contours and heat maps."""

    cmap: "str | Colormap | None"
    colours: Colours | str | None
    levels: int | Sequence[float] | None
    vlevel: float | None
    colorbar: bool | None


class SolidKeywords(ContourKeywords, total=False):
    """Keywords of a surface in three dimensions."""

    elev: float | None
    azim: float | None
    zlim: float | None


class CurveKeywords(FigureKeywords, total=False):
    """Keywords of a curve; those from `color` on are matplotlib's."""

    color: Any
    label: str | None
    linestyle: str | None
    linewidth: float | None
    marker: str | None
    markersize: float | None
    alpha: float | None
    zorder: float | None


class PlotKeywords(SolidKeywords, CurveKeywords, total=False):
    """Keywords of all kinds of figures."""


KIND_KEYWORDS: dict[Kind, type] = {
    Kind.CURVE: CurveKeywords,
    **dict.fromkeys(FLAT, ContourKeywords),
    Kind.SOLID: SolidKeywords,
    Kind.SLICES: ContourKeywords,
}
LOOK_KEYWORDS = tuple(name for name in CurveKeywords.__annotations__ if name not in FigureKeywords.__annotations__)


def types_of(keywords: type) -> dict[str, Any]:
    """List the keywords of a kind with their types."""
    colour_map = type("Colormap", (), {"__module__": "matplotlib.colors"})  # stands for the one that is not imported
    return get_type_hints(keywords, localns={"Colormap": colour_map})


def with_keywords(keywords: type) -> Callable[[F], F]:
    """Let the signature of a function, as `help` and notebooks show it, list each of its keywords.

    Args:
        keywords: The TypedDict of the keywords that the function takes as `**keywords`.

    Returns:
        A decorator.
    """

    def decorate(function: F) -> F:
        signature = inspect.signature(function)
        own = [each for each in signature.parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
        more = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
            for name, annotation in types_of(keywords).items()
            if name not in signature.parameters
        ]
        cast("Any", function).__signature__ = signature.replace(parameters=[*own, *more])
        return function

    return decorate


@dataclass(frozen=True)
class PlotOptions:
    """Checked keywords of one figure; None is the usual choice.

    Attributes:
        field: Field to draw, see `lossatlas.landscape.derived_fields.resolved_field`.
        title: Title of the figure; "" for none.
        vmin: Lowest value of the colours, or of the vertical axis of a curve.
        vmax: Highest value of them.
        log: Take a logarithmic scale, or a linear one (False).
        figsize: Width and height in inches.
        columns: Make the figure as wide as 1 or 2 columns of a page; 0 for its own width.
        look: "paper", "dark" or "print".
        cmap: Colour map.
        colours: "value" or "blended", see `choose_colour_scale`.
        levels: Number of the contours, or their values.
        vlevel: Distance of the contours.
        colorbar: Draw the colour bar.
        elev: Elevation of the camera, in degrees.
        azim: Azimuth of the camera, in degrees.
        zlim: Value at which the surface is cut off.
        looks: Keywords of matplotlib's `plot`.
    """

    field: Field | None = None
    title: str | None = None
    vmin: float | None = None
    vmax: float | None = None
    log: bool | None = None
    figsize: tuple[float, float] | None = None
    columns: int = 0
    look: LookName | None = None
    cmap: "str | Colormap | None" = None
    colours: Colours | None = None
    levels: int | Sequence[float] | None = None
    vlevel: float | None = None
    colorbar: bool | None = None
    elev: float | None = None
    azim: float | None = None
    zlim: float | None = None
    looks: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, kind: Kind, keywords: Mapping[str, Any]) -> "PlotOptions":
        """Check the keywords of a kind of figure.

        Args:
            kind: One of `kinds.OF_SURFACE`.
            keywords: Keywords as the user gives them.

        Raises:
            BadUsage: A keyword is unknown, does not apply to this kind, or has a value that cannot be used.
        """
        check_keyword_names(kind, keywords)
        given = {name: value for name, value in keywords.items() if value is not None}
        _check_values(given)
        _check_look(given)
        if "name" in given:
            if given.setdefault("field", given["name"]) != given["name"]:
                raise BadUsage(f"{named('name', given['name'])} and {named('field', given['field'])}: give one of them")
            del given["name"]
        looks: Looks = {name: given.pop(name) for name in LOOK_KEYWORDS if name in given}
        return cls(**given, looks=looks)

    @property
    def camera(self) -> Camera:
        """The direction from which a surface in three dimensions is seen."""
        usual = Camera()
        return Camera(
            usual.elevation if self.elev is None else self.elev, usual.azimuth if self.azim is None else self.azim
        )

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of a new figure, in inches."""
        if self.figsize is not None:
            return self.figsize
        if self.columns:
            width = PAGE_COLUMNS[self.columns][0]
            return width, min(width * FIGURE_SIZE[1] / FIGURE_SIZE[0], 4.4)
        if changed_by_user("figure.figsize"):
            width, height = matplotlib.rcParams["figure.figsize"]
            return float(width), float(height)
        return FIGURE_SIZE

    def find(self, surface: Surface) -> tuple[Surface, str]:
        """Return a surface that holds the field to draw, and the name of the field.

        Raises:
            BadUsage: As `resolved_field`.
        """
        return resolved_field(surface, default_field(surface) if self.field is None else self.field)

    def scale(self, panels: Sequence[Panel], name: str) -> ColourScale:
        """Choose the colour scale of panels.

        Args:
            panels: Panels of one field.
            name: Name of the field.

        Returns:
            The scale with the user's limits, levels and colour map.

        Raises:
            BadUsage: See `choose_colour_scale`, or no level lies within the range.
        """
        chosen = choose_colour_scale(
            [p.values for p in panels],
            vmin=self.vmin,
            vmax=self.vmax,
            vlevel=self.vlevel,
            log=bool(self.log),
            linear=is_accuracy(name) or self.log is False,
            colours=self.colours,
        )
        own = matplotlib.rcParams["image.cmap"] if changed_by_user("image.cmap") and self.look is None else None
        levels = chosen.levels if self.levels is None else _levels(self.levels, chosen)
        return replace(chosen, levels=levels, colour_map=self.cmap or own or chosen.colour_map)


def check_keyword_names(kind: Kind, keywords: Mapping[str, Any]) -> None:
    """Check that keywords apply to a kind of figure.

    Raises:
        BadUsage: A keyword does not; the message names those that do.
    """
    valid = list(types_of(KIND_KEYWORDS[kind]))
    everything = list(types_of(PlotKeywords))
    for name in keywords:
        if name in valid:
            continue
        choose = f"choose from {', '.join(valid)}"
        if name in everything:
            if keywords[name] is None:
                continue
            raise BadUsage(f"{name} does not apply to kind='{kind.word}': {choose}")
        meant = did_you_mean(name, valid) or did_you_mean(name, everything)
        raise BadUsage(f"a figure of kind='{kind.word}' has no option {name}{meant}: {choose}")


def _check_values(given: Mapping[str, Any]) -> None:
    for name in ("vmin", "vmax", "vlevel", "elev", "azim", "zlim"):
        if name in given and not is_finite_number(given[name]):
            raise BadUsage(f"{named(name, given[name])}: give a finite number")
    for name in ("log", "colorbar"):
        if name in given and not isinstance(given[name], bool | np.bool_):
            raise BadUsage(f"{named(name, given[name])}: give True or False")
    if "title" in given and not isinstance(given["title"], str):
        raise BadUsage(f"{named('title', given['title'])}: give a text")
    if "vmin" in given and "vmax" in given and not given["vmin"] < given["vmax"]:
        raise BadUsage(
            f"{named('vmin', given['vmin'])} is not below {named('vmax', given['vmax'])}: the range is empty"
        )
    if given.get("columns", 0) not in (0, *PAGE_COLUMNS) or isinstance(given.get("columns"), bool):
        raise BadUsage(f"{named('columns', given['columns'])}: a figure fills 1 or 2 columns of a page")
    if given.get("columns") and "figsize" in given:
        raise BadUsage(f"{named('columns')} gives the width of the figure: leave {named('figsize')} out")
    if "figsize" in given:
        _check_size(given["figsize"])
    if "cmap" in given:
        check_colour_map(given["cmap"])
    if "levels" in given:
        _check_levels(given["levels"])
        if "vlevel" in given:
            raise BadUsage(f"{named('levels')} and {named('vlevel')} both choose the contours: give one of them")


def _check_look(given: Mapping[str, Any]) -> None:
    if "look" in given:
        checked_look(given["look"])
    if "colours" in given:
        checked_word("colours", given["colours"], COLOURS)


def _check_size(size: Any) -> None:
    try:
        usable = len(size) == 2 and all(is_finite_number(side) and 0.5 <= side <= 100 for side in size)
    except TypeError:
        usable = False
    if not usable:
        raise BadUsage(f"{named('figsize', size)}: give width and height in inches, from 0.5 to 100")


def _check_levels(levels: Any) -> None:
    if isinstance(levels, int | np.integer) and not isinstance(levels, bool):
        usable = 1 <= levels <= 1000
    else:
        try:
            usable = not isinstance(levels, str) and 1 <= len(levels) <= 1000 and all(map(is_finite_number, levels))
        except TypeError:
            usable = False
    if not usable:
        raise BadUsage(f"{named('levels', levels)}: give a number of contours from 1 to 1000, or their values")


def _levels(wanted: int | Sequence[float], scale: ColourScale) -> np.ndarray:
    """Return the levels within the range of a scale: about so many at round numbers, or the given ones."""
    from matplotlib.ticker import MaxNLocator

    if isinstance(wanted, int | np.integer):
        if scale.log:
            inner = scale.value_at(np.linspace(*scale.limits, int(wanted) + 2)[1:-1])
            found = np.array([float(f"{value:.2g}") for value in inner])
        else:
            found = np.asarray(MaxNLocator(int(wanted)).tick_values(scale.low, scale.high))
    else:
        found = np.asarray(wanted, float)
    found = np.unique(found[(found >= scale.low) & (found <= scale.high)])
    if not len(found):
        raise BadUsage(
            f"{named('levels', wanted)}: none of them lies between {scale.low:.4g} and {scale.high:.4g}, the range of "
            "the colours"
        )
    return found
