"""Colours of all figures, in one place: a look sets ground, ink, lines and colour maps together.

Modules that draw ask `current_look()` for colours when they draw, so that one context, see `matplotlib_style.style`,
changes all of them. Line colours are after Paul Tol's schemes, without pairs of red and green.
"""

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lossatlas.argument_checks import checked_word
from lossatlas.choices import LOOKS, LookName
from lossatlas.errors import BadUsage, did_you_mean, named

if TYPE_CHECKING:
    from matplotlib.colors import Colormap


@dataclass(frozen=True)
class Look:
    """Colours and widths of figures that belong together.

    Attributes:
        name: One of `choices.LOOKS`.
        ground: Colour of the paper.
        ink: Colour of texts, axes and marks.
        muted: Colour of guide lines and of what is less important.
        grid: Colour of faint lines.
        main: Colour of a single curve, and of losses.
        accent: Colour of a second quantity, and of warnings.
        lines: Colours of several curves, which colour-blind readers can tell apart; none is the ink, the colour of a
            single run.
        drop: Colour of checkpoints before which the learning rate dropped.
        not_done: Colour of cells without a value.
        colour_map: Sequential colour map of fields.
        map_part: Part of `colour_map` that fields take, so that nothing is lost in the ground; a map that the user
            names is taken whole.
        difference_colour_map: Diverging colour map of the difference of two surfaces.
        overlay_colour_maps: Colour maps of several surfaces in one box.
        line_width: Width of curves and of axes, relative to the house style.
    """

    name: LookName
    ground: str
    ink: str
    muted: str
    grid: str
    main: str
    accent: str
    lines: tuple[str, ...]
    drop: str
    not_done: str
    colour_map: "str | Colormap"
    map_part: tuple[float, float] = (0.0, 1.0)
    difference_colour_map: "str | Colormap" = "RdBu_r"
    overlay_colour_maps: tuple[str, ...] = ("Blues_r", "Oranges_r", "Purples_r", "Greys_r")
    line_width: float = 1.0


PAPER = Look(
    name="paper",
    ground="#ffffff",
    ink="#000000",
    muted="#737373",
    grid="#d9d9d9",
    main="#0077bb",
    accent="#cc3311",
    lines=("#0077bb", "#ee6a1c", "#aa3377", "#1a1a1a", "#2a9db8", "#a8901a"),
    drop="#cc3311",
    not_done="#d9d9d9",
    colour_map="viridis",
)
DARK = Look(
    name="dark",
    ground="#0d1017",
    ink="#e8eaf0",
    muted="#8f97a8",
    grid="#2a3040",
    main="#66b3ee",
    accent="#ff8866",
    lines=("#66b3ee", "#f5b14c", "#e85fb0", "#f6f6f6", "#44bbcc", "#ddcc66"),
    drop="#ff8866",
    not_done="#2a3040",
    colour_map="magma",
    map_part=(0.13, 1.0),
    difference_colour_map="berlin",
)
PRINT = Look(
    name="print",
    ground="#ffffff",
    ink="#000000",
    muted="#666666",
    grid="#d0d0d0",
    main="#004488",
    accent="#b04a5c",
    lines=("#1a1a1a", "#b04a5c", "#004488", "#ba8e22", "#8c8c8c", "#6a2a50"),
    drop="#b04a5c",
    not_done="#e0e0e0",
    colour_map="cividis",
    line_width=0.7,
)
LOOK_OF_NAME = {look.name: look for look in (PAPER, DARK, PRINT)}
assert tuple(LOOK_OF_NAME) == LOOKS
OVERLAY_PARTS = (0.05, 0.55), (0.42, 0.9), (0.0, 0.4), (0.6, 1.0)  # of the colour maps of surfaces in one box
CURRENT_LOOK: ContextVar[Look] = ContextVar("look", default=PAPER)


def current_look() -> Look:
    """Return the look of the surrounding `look_set`; outside of any, the look of paper."""
    return CURRENT_LOOK.get()


@contextmanager
def look_set(name: LookName | str | None = None, **changes: Any) -> Iterator[Look]:
    """Draw in another look within.

    Args:
        name: One of `choices.LOOKS`; None keeps the surrounding one.
        **changes: Attributes of `Look` to replace; None leaves the one of the look.

    Yields:
        The look.

    Raises:
        BadUsage: There is no look of this name.

    Example:
        >>> with look_set("dark", colour_map="cividis") as look:
        ...     look.ground
        '#0d1017'
    """
    known = checked_look(name)
    look = current_look() if known is None else LOOK_OF_NAME[known]
    token = CURRENT_LOOK.set(replace(look, **{key: value for key, value in changes.items() if value is not None}))
    try:
        yield CURRENT_LOOK.get()
    finally:
        CURRENT_LOOK.reset(token)


def checked_look(name: LookName | str | None) -> LookName | None:
    """Return the name of a look.

    Raises:
        BadUsage: There is no look of this name.
    """
    return checked_word("look", name, LOOKS)


def check_colour_map(name: Any) -> None:
    """Check that matplotlib or seaborn has a colour map.

    Raises:
        BadUsage: Neither has it; the message names similar ones.
    """
    import seaborn  # noqa: F401, it registers its colour maps
    from matplotlib import colormaps
    from matplotlib.colors import Colormap

    if isinstance(name, Colormap) or (isinstance(name, str) and name in colormaps):
        return
    meant = did_you_mean(name, (each for each in colormaps if not each.endswith("_r")), most=3)
    raise BadUsage(
        f"{named('cmap', name)} is no colour map of matplotlib{meant or ': give a name of matplotlib.colormaps'}"
    )


def colours_from(name: str, count: int = 6) -> tuple[str, ...]:
    """Return colours for lines: all colours of a map of separate colours, otherwise evenly spaced ones of a colour map.

    Args:
        name: A colour map of matplotlib.
        count: Number of the evenly spaced colours; the palest tenth of the map at either end is left out.

    Returns:
        The colours as "#rrggbb".

    Raises:
        BadUsage: There is no such map.
    """
    check_colour_map(name)
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap, to_hex

    colour_map = colormaps[name]
    if isinstance(colour_map, ListedColormap) and colour_map.N <= 20:
        return tuple(to_hex(colour_map(k)) for k in range(colour_map.N))
    return tuple(to_hex(colour_map(0.1 + 0.8 * k / (count - 1))) for k in range(count))


def field_colour_map() -> "str | Colormap":
    """Colour map of fields in the current look."""
    look = current_look()
    return look.colour_map if look.map_part == (0.0, 1.0) else part_of(look.colour_map, *look.map_part)


def part_of(colour_map: "str | Colormap", low: float, high: float) -> "Colormap":
    """Return the part of a colour map between two shares of it, as a map of its own."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    whole = colormaps.get_cmap(colour_map)
    return ListedColormap(whole([low + (high - low) * k / 255 for k in range(256)]), f"{whole.name}_{low:g}_{high:g}")


def line_colour_map(colour_map: "str | Colormap") -> "str | Colormap":
    """Colour map of contour lines: the part of a map, also of a user's, that stands out from the ground."""
    return visible_part(colour_map)


def visible_part(colour_map: "str | Colormap", least: float = 1.7) -> "Colormap":
    """Return the part of a colour map that stands out from the ground, for lines.

    Args:
        colour_map: A colour map.
        least: Smallest contrast to the ground, as WCAG defines it.

    Returns:
        The map without the ends whose contrast is lower, and with such colours between them, as in the middle of a
        diverging map, mixed with as much ink as they need; the whole map where no colour has it.
    """
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    whole = colormaps.get_cmap(colour_map)
    clear = [k / 255 for k, each in enumerate(whole([k / 255 for k in range(256)]).tolist()) if _is_clear(each, least)]
    if not clear:
        return whole
    part = part_of(colour_map, clear[0], clear[-1])
    colours = part([k / 255 for k in range(256)]).tolist()
    return ListedColormap([inked(each, least) for each in colours], part.name)


def _is_clear(colour: Sequence[float], least: float) -> bool:
    """Tell whether the contrast of a colour to the ground is at least so much."""
    from matplotlib.colors import to_rgb

    return contrast_of(luminance(colour[:3]), luminance(to_rgb(current_look().ground))) >= least


def inked(colour: Sequence[float], least: float) -> tuple[float, ...]:
    """Mix a colour with as little ink as needed.

    Args:
        colour: RGB in [0, 1].
        least: Smallest contrast to the ground, as WCAG defines it; texts need 4.5.

    Returns:
        RGB; the ink where no mixture has the contrast.
    """
    from matplotlib.colors import to_rgb

    ink = to_rgb(current_look().ink)
    mixed = (tuple(a + k / 20 * (b - a) for a, b in zip(colour[:3], ink, strict=True)) for k in range(21))
    return next((each for each in mixed if _is_clear(each, least)), ink)


def is_bright(colour_map: "str | Colormap", share: float) -> bool:
    """Tell whether dark lines are seen better than bright ones on the colour at a share of a map."""
    from matplotlib import colormaps

    return luminance(colormaps.get_cmap(colour_map)(float(share))[:3]) > 0.18


def luminance(rgb: Sequence[float]) -> float:
    """Return the relative luminance of an sRGB colour of three shares, from 0 for black to 1 for white (WCAG 2)."""
    parts = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in rgb]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast_of(a: float, b: float) -> float:
    """Return the contrast of two luminances, from 1 to 21 (WCAG 2)."""
    return (max(a, b) + 0.05) / (min(a, b) + 0.05)


def run_colour(index: int, count: int) -> str:
    """Colour of one of several runs; a single run has the colour of the ink."""
    look = current_look()
    return look.lines[index % len(look.lines)] if count > 1 else look.ink


def overlay_colour_map(index: int) -> "Colormap":
    """Colour map of one of several surfaces in one box: their hues differ, and in grey one is darker than the other."""
    maps = current_look().overlay_colour_maps
    return part_of(maps[index % len(maps)], *OVERLAY_PARTS[index % len(OVERLAY_PARTS)])


def curve_colours() -> Iterator[str]:
    """Return endless colours for curves, which colour-blind readers can tell apart."""
    return itertools.cycle(current_look().lines)
