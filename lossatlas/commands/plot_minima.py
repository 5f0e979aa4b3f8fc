"""Draw the minima of a saved surface, and the depth of each as a bar from its bottom to its pass into a deeper one.

Of a volume the depths are drawn alone.

lossatlas minima --surf_file FILE.h5
lossatlas minima --surf_file FILE.h5 --depth 0.5       counts those deeper than that
lossatlas minima --surf_file FILE.h5 --tree            their merge tree: the levels at which basins join
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Unpack

import numpy as np

from lossatlas import config, figures
from lossatlas.commands import figure_keywords, options
from lossatlas.commands.figure_output import DrawingKeywords, ScaledFigureOutput
from lossatlas.commands.open_results import note_interpolated, note_not_finite, read_plane, read_volume
from lossatlas.config.option_fields import above_zero, option
from lossatlas.errors import counted, exit_code, say
from lossatlas.figures.kinds import Kind
from lossatlas.figures.minima_plots import minima_figure, volume_minima_figure
from lossatlas.figures.panels import panels_scale, surface_panel
from lossatlas.figures.plotted_fields import is_accuracy
from lossatlas.io import read_surface
from lossatlas.landscape import Surface
from lossatlas.landscape.grid import coordinates_text
from lossatlas.landscape.topology import Minimum, minima

LISTED = 10  # minima that are printed


@dataclass(frozen=True)
class MinimaOptions(config.ContourOptions, config.FigureOptions, config.DisplayOptions):
    """A surface file, the least depth, and the name and look of its figure."""

    HEADING: ClassVar[str] = "input"

    surf_file: str = option("", "surface file", short="-f", required=True, metavar="FILE.h5")
    surf_name: str | None = option(None, "field to draw (default: train_loss)", metavar="FIELD")
    depth: float = option(0.1, "count minima that are deeper than this", kind=above_zero)
    tree: bool = option(
        False, "draw the merge tree of the minima, which shows at which level basins join, instead of their depths"
    )
    out: str | None = option(None, "beginning of the name of the figure (default: the name of the file)")


def parser() -> options.Parser[MinimaOptions]:
    return options.Parser(__doc__, MinimaOptions)


def draw(
    file: str | Path,
    *,
    surf_name: str | None = None,
    depth: float = 0.1,
    tree: bool = False,
    out: str | None = None,
    **keywords: Unpack[DrawingKeywords],
) -> list[Path]:
    """Draw the minima of a surface or of a volume, and print how many there are.

    Args:
        file: Surface file.
        surf_name: Field; by default train_loss, or the first one.
        depth: A minimum that is deeper counts as deep, in units of the field.
        tree: Draw the merge tree of the minima instead of their depths.
        out: Beginning of the figure's name; by default the file.
        **keywords: vmin, vmax, vlevel, log, colours, show, title, files_as, look and cmap, see `ScaledFigureOutput`.

    Returns:
        The files that were written.

    Raises:
        BadInput: The file is damaged, holds no plane and no volume, or has no finished cell.
        BadUsage: An argument does not suit the file.
        CannotWrite: The figure cannot be written.
    """
    path, output = Path(file), ScaledFigureOutput(**keywords)
    is_volume = read_surface(path).grid.z is not None
    surface, name = figures.chosen_field((read_volume if is_volume else read_plane)(path), surf_name, path)
    note_interpolated(path, surface)
    note_not_finite(path, surface, name)
    found = minima(surface, name)
    _print_minima(surface, found, depth)
    with output.style() as plt:
        if is_volume:
            values = surface.fields[name]
            scale = figures.choose_colour_scale([values], linear=is_accuracy(name), **output.limits)
            fig = volume_minima_figure(plt, scale, name, minima=found, depth=depth, tree=tree)
        else:
            panel = surface_panel(surface, name, path.name)
            scale = panels_scale([panel], name, **output.limits)
            fig = minima_figure(plt, panel, scale, name, minima=found, depth=depth, tree=tree)
        return output.save({Kind.MERGE_TREE if tree else Kind.MINIMA: fig}, [path], out, field=name)


def _print_minima(surface: Surface, found: Sequence[Minimum], depth: float) -> None:
    deep = [each for each in found if each.depth > depth]
    unsure = sum(bool(each.error) and not abs(each.depth - depth) > each.error for each in found)  # NaN: not known
    say(
        f"{counted(len(found), 'minimum', 'minima')}, {len(deep)} deeper than {depth:g}"
        + f"; of {unsure} the interpolated cells leave open whether they are" * bool(unsure)
    )
    for number, each in enumerate(deep[:LISTED], 1):
        place = coordinates_text(surface.grid.point(each.cell))
        say(f"  {number}: {each.value:.4g} at {place}, {_pass_in_words(each)}")


def _pass_in_words(minimum: Minimum) -> str:
    """State the level at which a minimum runs into a deeper one."""
    if not np.isfinite(minimum.end):
        return "runs into none"
    error = ", +- unknown" if np.isnan(minimum.error) else f" +- {minimum.error:.2g}" if minimum.error else ""
    return f"runs into a deeper one at {minimum.end:.4g}{error}"


def run(args: MinimaOptions) -> None:
    """Draw what the command line names."""
    draw(
        args.surf_file,
        surf_name=args.surf_name,
        depth=args.depth,
        tree=args.tree,
        out=args.out,
        **figure_keywords.plot_keywords(args),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parser().parse_args(argv)
    return exit_code(lambda: run(args))
