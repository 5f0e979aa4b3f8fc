"""Colours of all figures, in one place."""

import itertools
from collections.abc import Iterator

BLUE, RED, GREY = "#1f5fa8", "#c0392b", "0.5"
COLOUR_MAP = "viridis"  # of contours, heat maps and solids
RENDERED_COLOUR_MAP = "coolwarm"  # of what pyvista renders: blue, grey, red
DIFFERENCE_COLOUR_MAP = "RdBu_r"  # of the difference of two surfaces: blue below zero, red above
OVERLAY_COLOUR_MAPS = ("Blues_r", "Oranges_r", "Greens_r", "Purples_r")  # of surfaces in one box
RUN_COLOURS = ("#d81b60", "#e69f00", "#1e88e5", "#009e73", "#7b3fa0")  # of several training runs
LR_DROP_COLOUR = "#e4312b"  # of checkpoints before which the learning rate dropped
NOT_DONE_COLOUR, NOT_FINITE_COLOUR = "0.85", RED  # grey cells, red crosses


def run_colour(index: int, count: int) -> str:
    """Colour of one of several runs; a single run is black."""
    return RUN_COLOURS[index % len(RUN_COLOURS)] if count > 1 else "black"


def overlay_colour_map(index: int) -> str:
    """Colour map of one of several surfaces in one box."""
    return OVERLAY_COLOUR_MAPS[index % len(OVERLAY_COLOUR_MAPS)]


def curve_colours() -> Iterator[tuple[float, float, float]]:
    """Endless RGB colours for curves, which colour-blind readers can tell apart."""
    import seaborn as sns

    return itertools.cycle(sns.color_palette("colorblind"))
