"""Draw loss and accuracy along a line, from saved surface files alone.

python plot_1D.py --surf_file FILE.h5                      loss and accuracy of one file
python plot_1D.py --surf_file A.h5 B.h5 --labels A B       several files in one figure
python plot_1D.py --surf_file R.h5 [S.h5]                  repeats (plot_surface.py --repeat N): their mean and its confidence
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lossatlas import config, figures
from lossatlas.commands import options
from lossatlas.commands.open_results import check_labels, read_curve, read_started
from lossatlas.errors import BadInput, BadUsage, exit_code, say
from lossatlas.figures.line_plots import (
    AxisLimits,
    draw_eigenvalues,
    draw_kind,
    draw_one,
    draw_ratio,
    draw_repeated,
    draw_several,
    loss_names,
    steep,
)
from lossatlas.io import read_surface
from lossatlas.landscape import Surface
from lossatlas.option_fields import changed, finite, option, whole


@dataclass(frozen=True)
class LineOptions(config.FigureOptions, config.DisplayOptions):
    """The options of this command."""

    HEADING: ClassVar[str] = "input"

    surf_file: tuple[str, ...] | None = option(None, "surface files of lines", short="-f", many="+", metavar="FILE.h5")
    prefix: tuple[str, ...] | None = option(
        None, "repeats: files PREFIX_1.h5, PREFIX_2.h5, ...; several prefixes for several networks", many="+"
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
            raise BadUsage("one of the arguments --surf_file/-f --prefix is required")
        if self.surf_file and self.prefix:
            raise BadUsage("argument --prefix: not allowed with argument --surf_file/-f")


def parser() -> options.Parser[LineOptions]:
    return options.Parser(__doc__, LineOptions)


def draw(
    files: Sequence[str | Path],
    *,
    labels: Sequence[str] | None = None,
    out: str | None = None,
    axes: AxisLimits | None = None,
    show: bool = False,
    title: str = "",
    files_as: figures.FigureFiles | None = None,
) -> list[Path]:
    """Draw one file with loss and accuracy on two axes, or several files with a panel for each."""
    paths, axes = [Path(file) for file in files], axes or AxisLimits()
    check_labels(labels, paths)
    repeated = [read_surface(path).rows_of == "repeats" for path in paths]
    if any(repeated):
        if not all(repeated):
            odd = paths[repeated.index(False)]
            raise BadInput(f"{odd} holds no repeats, and {paths[repeated.index(True)]} does: draw them one by one")
        groups = [repeats_in(path) for path in paths]
        looks: dict[str, Any] = {"axes": axes, "show": show, "title": title, "files_as": files_as}
        return draw_groups(
            groups, paths, labels=labels or [path.name for path in paths], base=out or str(paths[0]), **looks
        )
    curves = [read_curve(path) for path in paths]
    names = [figures.words(name) for name in labels or [path.name for path in paths]]
    base = out or str(paths[0])
    drawn: list[Path] = []
    with figures.style(show, files_as) as plt:
        if any(loss_names(surface) for surface in curves):
            losses = np.concatenate([surface.fields[name] for surface in curves for name in loss_names(surface)])
            end = "_log" if axes.log else ""
            axes = replace(axes, log=axes.log or steep(losses))
            if len(curves) > 1:
                drawn += figures.save(draw_several(plt, curves, names, axes), f"{base}_1d_compare{end}", title)
            else:
                drawn += figures.save(draw_one(plt, curves[0], axes), f"{base}_1d_loss_acc{end}", title)
                measured = any(name.endswith("_acc") for name in curves[0].fields)
                for kind in ("loss", "err") if measured else ("loss",):
                    drawn += figures.save(draw_kind(plt, curves[0], axes, kind), f"{base}_1d_train_{kind}{end}", title)
        if all(figures.has_eigenvalues(surface) for surface in curves):
            drawn += figures.save(draw_eigenvalues(plt, curves, names, axes), f"{base}_1d_eig", title)
            drawn += figures.save(draw_ratio(plt, curves, names, axes), f"{base}_1d_eig_ratio", title)
    if not drawn:
        raise BadInput(f"{paths[0]} holds neither a loss nor eigenvalues: {', '.join(curves[0].fields)}")
    return drawn


def draw_repeats(
    prefixes: str | Sequence[str],
    idx_min: int,
    idx_max: int,
    *,
    labels: Sequence[str] | None = None,
    out: str | None = None,
    axes: AxisLimits | None = None,
    show: bool = False,
    title: str = "",
    files_as: figures.FigureFiles | None = None,
) -> list[Path]:
    """The mean over repeats PREFIX_<idx>.h5 with its confidence, and each of them; several networks on one grid.

    Raises BadInput.
    """
    prefixes = [prefixes] if isinstance(prefixes, str) else list(prefixes)
    check_labels(labels, [Path(prefix) for prefix in prefixes])
    if idx_max <= idx_min:
        raise BadUsage(
            f"--idx_min {idx_min} --idx_max {idx_max} name {max(0, idx_max - idx_min + 1)} files: a spread needs at least 2"
        )
    groups = [read_repeats(prefix, idx_min, idx_max) for prefix in prefixes]
    names = labels or [Path(prefix).name for prefix in prefixes]
    looks: dict[str, Any] = {"axes": axes or AxisLimits(), "show": show, "title": title, "files_as": files_as}
    return draw_groups(groups, prefixes, labels=names, base=out or prefixes[0], **looks)


def draw_groups(
    groups: Sequence[Sequence[Surface]],
    sources: Sequence[str | Path],
    *,
    labels: Sequence[str],
    base: str,
    axes: AxisLimits,
    show: bool,
    title: str,
    files_as: figures.FigureFiles | None,
) -> list[Path]:
    """Repeats of one or several networks in one figure. Raises BadInput where they are on different grids."""
    for source, curves in zip(sources, groups, strict=True):
        if not curves[0].grid.matches(groups[0][0].grid):
            raise BadInput(f"{source} has the grid {curves[0].grid}, {sources[0]} has {groups[0][0].grid}")
    names = [figures.words(name) for name in labels]
    end = "_log" if axes.log else ""
    with figures.style(show, files_as) as plt:
        losses = np.concatenate([s.fields[name] for curves in groups for s in curves for name in loss_names(s)])
        axes = replace(axes, log=axes.log or steep(losses))
        fig = draw_repeated(plt, groups, names, axes)
        return figures.save(fig, f"{base}_1d_loss_err_repeat{end}", title)


def repeats_in(path: Path) -> list[Surface]:
    """The curves of a file of repeats that are complete, at least two. Raises BadInput."""
    surface = read_started(path, "repeats")
    if not any(name.endswith("_loss") for name in surface.fields):
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
    """Complete curves on one grid along different directions. Raises BadInput."""
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
                f"{path} and {seen[along]} are along the same direction, which is no repeat: draw others with --idx or --seed"
            )
        seen[str(along)] = path
    return curves


def run(args: LineOptions) -> None:
    axes = AxisLimits(args.log, args.xmin, args.xmax, args.loss_max)
    looks: dict[str, Any] = {"axes": axes, "show": args.show, "title": args.title, "files_as": options.files_of(args)}
    if args.prefix:
        draw_repeats(args.prefix, args.idx_min, args.idx_max, labels=args.labels, out=args.out, **looks)
    else:
        draw(args.surf_file or (), labels=args.labels, out=args.out, **looks)


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return exit_code(lambda: run(args))
