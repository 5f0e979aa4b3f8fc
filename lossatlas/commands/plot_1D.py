"""Draw loss and accuracy along a line, from saved surface files alone.

python plot_1D.py --surf_file FILE.h5                      loss and accuracy of one file
python plot_1D.py --surf_file A.h5 B.h5 --labels A B       several files in one figure
python plot_1D.py --surf_file R.h5 [S.h5]           repeats (plot_surface.py --repeat N): their mean and its confidence
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Unpack

import numpy as np

from lossatlas import config
from lossatlas.commands import figure_keywords, options
from lossatlas.commands.figure_output import FigureOutput, FileKeywords
from lossatlas.commands.open_results import (
    check_label_count,
    figure_labels,
    read_curve,
    read_started,
    with_common_field,
)
from lossatlas.config.option_fields import changed, finite, option, whole
from lossatlas.errors import BadInput, BadUsage, exit_code, named, say
from lossatlas.figures import extreme_eigenvalues, has_eigenvalues
from lossatlas.figures.kinds import Kind
from lossatlas.figures.line_plots import (
    AxisLimits,
    eigen_ratio_figure,
    eigenvalues_figure,
    field_figure,
    line_figure,
    lines_figure,
    loss_or_error_figure,
    needs_log_axis,
)
from lossatlas.figures.matplotlib_style import FigureFactory
from lossatlas.figures.plotted_fields import loss_names
from lossatlas.figures.repeats_plots import repeats_figure
from lossatlas.io import read_surface
from lossatlas.landscape import Surface

if TYPE_CHECKING:
    from lossatlas.figures.matplotlib_style import Figure


@dataclass(frozen=True)
class LineOptions(config.FigureOptions, config.DisplayOptions):
    """Files of lines or of their repeats, and the axes, names and looks of their figures."""

    HEADING: ClassVar[str] = "input"

    surf_file: tuple[str, ...] | None = option(None, "surface files of lines", short="-f", many="+", metavar="FILE.h5")
    prefix: tuple[str, ...] | None = option(
        None, "repeats: files PREFIX_1.h5, PREFIX_2.h5, ...; several prefixes for several networks", many="+"
    )
    surf_name: str | None = option(
        None,
        "one field to draw, or an expression of fields (default: loss and accuracy, or eigenvalues)",
        metavar="FIELD",
    )
    idx_min: int = option(1, "number of the first repeat", kind=whole, metavar="N")
    idx_max: int = option(10, "number of the last repeat", kind=whole, metavar="N")
    labels: tuple[str, ...] | None = option(None, "a name for each file or prefix (default: their names)", many="+")
    out: str | None = option(None, "beginning of the names of the figures (default: the name of the first file)")
    xmin: float | None = option(None, "left end of the x axis", kind=finite)
    xmax: float | None = option(None, "right end of the x axis", kind=finite)
    loss_max: float | None = changed(config.PlotConfig, "loss_max")

    def __post_init__(self) -> None:
        if not self.surf_file and not self.prefix:
            raise BadUsage(f"say which curves to draw: {named('surf_file')} or {named('prefix')}")
        if self.surf_file and self.prefix:
            raise BadUsage(f"{named('prefix')} and {named('surf_file')} contradict each other: leave one of them out")
        if self.prefix and self.surf_name:
            raise BadUsage(f"{named('surf_name', self.surf_name)} is for {named('surf_file')}")


def parser() -> options.Parser[LineOptions]:
    return options.Parser(__doc__, LineOptions)


def draw(
    files: Sequence[str | Path],
    *,
    labels: Sequence[str] | None = None,
    out: str | None = None,
    surf_name: str | None = None,
    axes: AxisLimits | None = None,
    **keywords: Unpack[FileKeywords],
) -> list[Path]:
    """Draw curves: one file with loss and accuracy on two axes, several with a panel for each.

    Args:
        files: Surface files of lines, or of repeats.
        labels: Name of each file in the figures; by default the names of the files.
        out: Beginning of the figures' names; by default the first file.
        surf_name: The one field to draw, or an expression of fields; by default loss and accuracy, or eigenvalues.
        axes: Limits of the axes.
        **keywords: show, title, files_as, look and cmap, see `FigureOutput`.

    Returns:
        The files that were written.

    Raises:
        BadInput: A file is damaged, of another kind, or has no finished cell.
        BadUsage: There is not one label for each file, or a file has no such field.
        CannotWrite: A figure cannot be written.
    """
    paths, axes, output = [Path(file) for file in files], axes or AxisLimits(), FigureOutput(**keywords)
    check_label_count(labels, paths)
    repeated = [read_surface(path).rows_of == "repeats" for path in paths]
    if any(repeated):
        if not all(repeated):
            odd = paths[repeated.index(False)]
            raise BadInput(f"{odd} holds no repeats, and {paths[repeated.index(True)]} does: draw them one by one")
        if surf_name is not None:
            raise BadUsage(f"{named('surf_name', surf_name)}: of repeats, loss and accuracy are drawn")
        return _draw_groups([repeats_in(path) for path in paths], paths, labels, out, axes=axes, output=output)
    curves = [read_curve(path) for path in paths]
    names = figure_labels(labels, paths)
    with output.style() as plt:
        if surf_name is not None:
            curves, field = with_common_field(curves, paths, surf_name)
            return output.save(
                {Kind.CURVE_FIELD: field_figure(plt, curves, names, field, axes)}, paths, out, field=field
            )
        for path, surface in zip(paths, curves, strict=True):
            if not loss_names(surface) and not extreme_eigenvalues(surface):
                raise BadInput(f"{path} holds neither a loss nor eigenvalues: {', '.join(surface.fields)}")
        drawn = _curve_figures(plt, curves, names, axes)
        return output.save(drawn, paths, out, log=axes.log)


def _curve_figures(
    plt: FigureFactory, curves: Sequence[Surface], names: Sequence[str], axes: AxisLimits
) -> "dict[Kind, Figure]":
    """Draw figures by kind of all that the curves hold, each of the curves that hold what it shows."""
    drawn: dict[Kind, Figure] = {}
    if any(loss_names(surface) for surface in curves):
        lines = _having(loss_names, curves, names)
        axes = _with_log_where_needed(axes, lines.curves)
        if len(curves) > 1:
            drawn[Kind.CURVES] = lines_figure(plt, *lines, axes)
        else:
            drawn[Kind.CURVE] = line_figure(plt, curves[0], axes)
            drawn[Kind.CURVE_LOSS] = loss_or_error_figure(plt, curves[0], axes, "loss")
            if any(name.endswith("_acc") for name in curves[0].fields):
                drawn[Kind.CURVE_ERROR] = loss_or_error_figure(plt, curves[0], axes, "error")
    for has, kind, draw_one in (
        (extreme_eigenvalues, Kind.CURVE_EIGENVALUES, eigenvalues_figure),
        (has_eigenvalues, Kind.CURVE_RATIO, eigen_ratio_figure),
    ):
        if any(has(surface) for surface in curves):
            drawn[kind] = draw_one(plt, *_having(has, curves, names), axes)
    return drawn


class NamedCurves(NamedTuple):
    """Curves with their names."""

    curves: Sequence[Surface]
    names: Sequence[str]


def _having(has: Callable[[Surface], object], curves: Sequence[Surface], names: Sequence[str]) -> NamedCurves:
    """Return the curves that have what a figure shows."""
    chosen = [k for k, surface in enumerate(curves) if has(surface)]
    return NamedCurves([curves[k] for k in chosen], [names[k] for k in chosen])


def _with_log_where_needed(axes: AxisLimits, curves: Sequence[Surface]) -> AxisLimits:
    losses = np.concatenate([surface.fields[name] for surface in curves for name in loss_names(surface)])
    return replace(axes, log=axes.log or needs_log_axis(losses))


def draw_repeats(
    prefixes: str | Sequence[str],
    idx_min: int,
    idx_max: int,
    *,
    labels: Sequence[str] | None = None,
    out: str | None = None,
    axes: AxisLimits | None = None,
    **keywords: Unpack[FileKeywords],
) -> list[Path]:
    """Draw repeats along different directions: each of them, their mean and its confidence.

    Args:
        prefixes: Beginning of the files PREFIX_<idx>.h5 of a network, or of several networks.
        idx_min: First repeat.
        idx_max: Last repeat.
        labels: Name of each network; by default the names of the prefixes.
        out: Beginning of the figure's name; by default the first prefix.
        axes: Limits of the axes.
        **keywords: show, title, files_as, look and cmap, see `FigureOutput`.

    Returns:
        The files that were written.

    Raises:
        BadInput: A file is missing, damaged or unfinished, or grids differ.
        BadUsage: There are fewer than two repeats, or not one label for each prefix.
        CannotWrite: The figure cannot be written.
    """
    prefixes = [prefixes] if isinstance(prefixes, str) else list(prefixes)
    paths = [Path(prefix) for prefix in prefixes]
    check_label_count(labels, paths)
    if idx_max <= idx_min:
        raise BadUsage(
            f"{named('idx_min', idx_min)} {named('idx_max', idx_max)} name {max(0, idx_max - idx_min + 1)} files: a "
            "spread needs at least 2"
        )
    groups = [read_repeats(prefix, idx_min, idx_max) for prefix in prefixes]
    return _draw_groups(
        groups, paths, labels, out or prefixes[0], axes=axes or AxisLimits(), output=FigureOutput(**keywords)
    )


def _draw_groups(
    groups: Sequence[Sequence[Surface]],
    sources: Sequence[Path],
    labels: Sequence[str] | None,
    out: str | None,
    *,
    axes: AxisLimits,
    output: FigureOutput,
) -> list[Path]:
    """Draw repeats of one or several networks in one figure."""
    for source, curves in zip(sources, groups, strict=True):
        if not curves[0].grid.matches(groups[0][0].grid):
            raise BadInput(f"{source} has the grid {curves[0].grid}, {sources[0]} has {groups[0][0].grid}")
    everything = [surface for curves in groups for surface in curves]
    with output.style() as plt:
        fig = repeats_figure(plt, groups, figure_labels(labels, sources), _with_log_where_needed(axes, everything))
        return output.save({Kind.REPEATS: fig}, sources, out, log=axes.log)


def repeats_in(path: Path) -> list[Surface]:
    """Read the complete curves of a file of repeats, at least two.

    Raises:
        BadInput: The file holds no repeats, no loss, or fewer than two complete curves.
    """
    surface = read_started(path, "repeats")
    if not loss_names(surface):
        raise BadInput(f"{path} holds no loss: {', '.join(surface.fields)}")
    whole = [k for k, done in enumerate(surface.known) if done.all()]
    if len(whole) < 2:
        raise BadInput(
            f"{path} is not finished: {len(whole)} of {len(surface.known)} curves are complete, a spread needs 2"
        )
    if len(whole) < len(surface.known):
        say(f"note: {path} is not finished: {len(whole)} of {len(surface.known)} curves are complete, and drawn")
    return [surface.curve(k) for k in whole]


def read_repeats(prefix: str, idx_min: int, idx_max: int) -> list[Surface]:
    """Read complete curves on one grid along different directions.

    Args:
        prefix: Beginning of the files PREFIX_<idx>.h5.
        idx_min: First repeat.
        idx_max: Last repeat.

    Returns:
        A curve for each repeat.

    Raises:
        BadInput: A file is missing, damaged or unfinished, grids differ, or two are along one direction.
    """
    paths = [Path(f"{prefix}_{idx}.h5") for idx in range(idx_min, idx_max + 1)]
    curves = [read_curve(path) for path in paths]
    seen: dict[str, Path] = {}
    for path, surface in zip(paths, curves, strict=True):
        if not surface.grid.matches(curves[0].grid):
            raise BadInput(f"{path} has the grid {surface.grid}, {paths[0]} has {curves[0].grid}")
        if not surface.known.all():
            raise BadInput(f"{path} is not finished: {surface.known.sum()} of {surface.grid.size} cells")
        if not loss_names(surface):
            raise BadInput(f"{path} holds no loss: {', '.join(surface.fields)}")
        along = surface.request.get("directions")
        if along and along in seen:
            raise BadInput(
                f"{path} and {seen[along]} are along the same direction, which is no repeat: draw others with "
                f"{named('idx')} or {named('seed')}"
            )
        seen[str(along)] = path
    return curves


def run(args: LineOptions) -> None:
    """Draw what the command line names."""
    axes = AxisLimits(args.log, args.xmin, args.xmax, args.loss_max)
    if args.prefix:
        indices = args.idx_min, args.idx_max
        draw_repeats(
            args.prefix, *indices, labels=args.labels, out=args.out, axes=axes, **figure_keywords.file_keywords(args)
        )
    else:
        draw(
            args.surf_file or (),
            labels=args.labels,
            out=args.out,
            surf_name=args.surf_name,
            axes=axes,
            **figure_keywords.file_keywords(args),
        )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parser().parse_args(argv)
    return exit_code(lambda: run(args))
