"""Options of figures: checked before anything is computed, and as keywords of the functions that draw."""

from typing import TYPE_CHECKING, Any

from lossatlas import config
from lossatlas.errors import BadUsage, named

if TYPE_CHECKING:
    from lossatlas.figures import Camera, FigureFiles


def check_figures(args: Any) -> None:
    """Check the options of figures before anything is computed.

    Raises:
        BadUsage: There is no such colour map, the range of values is empty, or the distance of levels is not positive.
    """
    if getattr(args, "cmap", None) is not None:
        from lossatlas.figures.palette import check_colour_map

        check_colour_map(args.cmap)
    low, high, step = (getattr(args, name, None) for name in ("vmin", "vmax", "vlevel"))
    if low is not None and high is not None and low >= high:
        raise BadUsage(f"{named('vmin')} {low:g} is not below {named('vmax')} {high:g}: the range is empty")
    if step is not None and step <= 0:
        raise BadUsage(f"{named('vlevel')} {step:g}: give a distance above 0")


def plot_keywords(args: Any) -> dict[str, Any]:
    """Translate ContourOptions, DisplayOptions and FigureOptions for functions that draw.

    Raises:
        BadUsage: As `files_of`.
    """
    return {**file_keywords(args), **scale_keywords(args)}


def file_keywords(args: Any) -> dict[str, Any]:
    """Translate FigureOptions and ShowOptions for functions that draw.

    Raises:
        BadUsage: As `files_of`.
    """
    return {**look_keywords(args), "title": args.title, "files_as": files_of(args)}


def look_keywords(args: config.ShowOptions) -> dict[str, Any]:
    """Translate ShowOptions for functions that draw."""
    return {"show": args.show, "look": args.look, "cmap": args.cmap}


def scale_keywords(args: Any) -> dict[str, Any]:
    """Translate ContourOptions and `log` for functions that draw."""
    return {name: getattr(args, name) for name in ("vmin", "vmax", "vlevel", "colours", "log")}


def camera_of(args: config.CameraOptions, usual: "Camera | None" = None) -> "Camera":
    """Return the camera that the options choose; what they leave open is as of `usual`."""
    from lossatlas.figures import Camera

    usual = usual or Camera()
    return Camera(
        usual.elevation if args.elev is None else args.elev, usual.azimuth if args.azim is None else args.azim
    )


def files_of(args: config.FigureOptions) -> "FigureFiles":
    """Return the formats and sizes of figure files that the options choose.

    Raises:
        BadUsage: A format is none of pdf, png and svg, or the resolution is out of range.
    """
    from lossatlas.figures import FigureFiles

    formats = tuple(dict.fromkeys(args.format.split(",")))
    if unknown := [each for each in formats if each not in ("pdf", "png", "svg")]:
        raise BadUsage(f"{named('format', args.format)}: '{unknown[0]}' is none of pdf, png, svg")
    if args.dpi is not None and not 20 <= args.dpi <= 2400:
        raise BadUsage(f"{named('dpi', args.dpi)}: at least 20, at most 2400")
    return FigureFiles(formats, args.dpi or 0, args.columns or 0)
