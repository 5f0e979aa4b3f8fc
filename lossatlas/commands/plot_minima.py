"""Draw the minima of a saved surface and how deep each is: where they are, and a bar from the bottom of each to the level at
which it runs into a deeper one.

lossatlas minima --surf_file FILE.h5
lossatlas minima --surf_file FILE.h5 --depth 0.5       counts those deeper than that
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from lossatlas import config, figures
from lossatlas.commands import options
from lossatlas.commands.open_results import note_interpolated, note_not_finite, read_plane
from lossatlas.errors import exit_code, say
from lossatlas.figures.contour_plots import panel
from lossatlas.figures.minima_plots import draw_minima
from lossatlas.figures.style import is_share
from lossatlas.landscape.topology import Minimum, minima
from lossatlas.option_fields import above_zero, option


@dataclass(frozen=True)
class MinimaOptions(config.ContourOptions, config.FigureOptions, config.DisplayOptions):
    """The options of this command."""

    HEADING: ClassVar[str] = "input"

    surf_file: str = option("", "surface file", short="-f", required=True, metavar="FILE.h5")
    surf_name: str | None = option(None, "field to draw (default: train_loss)", metavar="FIELD")
    depth: float = option(0.1, "count minima that are deeper than this", kind=above_zero)
    out: str | None = option(None, "beginning of the name of the figure (default: the name of the file)")


def parser() -> options.Parser[MinimaOptions]:
    return options.Parser(__doc__, MinimaOptions)


def draw(
    file: str | Path,
    *,
    surf_name: str | None = None,
    depth: float = 0.1,
    out: str | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    vlevel: float | None = None,
    log: bool = False,
    show: bool = False,
    title: str = "",
    files_as: figures.FigureFiles | None = None,
) -> list[Path]:
    """Draw the figure, and say how many minima there are. Raises BadInput, BadUsage, CannotWrite."""
    path = Path(file)
    surface = read_plane(path)
    name = figures.pick(surface, surf_name, path)
    note_interpolated(path, surface)
    one = panel(surface, name, path.name)
    shared = figures.scale([one.values], vmin=vmin, vmax=vmax, vlevel=vlevel, log=log, linear=is_share(name))
    note_not_finite(path, surface, name)
    found = minima(surface, name)
    deep = [each for each in found if each.depth > depth]
    unsure = sum(bool(each.error) and not abs(each.depth - depth) > each.error for each in found)  # NaN: not known
    say(
        f"{len(found)} minima, {len(deep)} deeper than {depth:g}"
        + f"; of {unsure} the interpolated cells leave open whether they are" * bool(unsure)
    )
    for number, each in enumerate(deep[:10], 1):
        j, i = divmod(each.cell, len(one.x))
        say(f"  {number}: {each.value:.4g} at ({one.x[i]:.4g}, {one.y[j]:.4g}), {end_of(each)}")
    with figures.style(show, files_as) as plt:
        fig = draw_minima(plt, one, shared, name, found, depth)
        return figures.save(fig, f"{out or path}_{name}_minima", title)


def end_of(found: Minimum) -> str:
    """Where a pool ends, in words."""
    if not np.isfinite(found.end):
        return "runs into none"
    error = ", +- unknown" if np.isnan(found.error) else f" +- {found.error:.2g}" if found.error else ""
    return f"runs into a deeper one at {found.end:.4g}{error}"


def run(args: MinimaOptions) -> None:
    draw(
        args.surf_file,
        surf_name=args.surf_name,
        depth=args.depth,
        out=args.out,
        **options.plot_keywords(args),
    )


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return exit_code(lambda: run(args))
