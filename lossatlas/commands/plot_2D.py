"""Draw a surface as contours, filled contours, a heat map and in 3-D, from saved surface files alone.

python plot_2D.py --surf_file FILE.h5                                  four figures beside the file
python plot_2D.py --surf_file A.h5 B.h5 --labels shortcuts none        the same, side by side on one scale
python plot_2D.py --surf_file FILE.h5 --vmin 0.1 --vmax 10 --vlevel 0.5
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lossatlas import config, figures
from lossatlas.commands import options
from lossatlas.commands.open_results import check_labels, check_plane, read_plane
from lossatlas.errors import BadUsage, exit_code
from lossatlas.figures import rendered_plots
from lossatlas.figures.contour_plots import PATHS, contour, draw_trajectory, filled, flat_figure, heat, panel
from lossatlas.figures.style import is_share
from lossatlas.figures.surface_plots import solid_figure
from lossatlas.figures.trajectory_plots import along_figure, beneath
from lossatlas.io import read_projection
from lossatlas.landscape import Surface
from lossatlas.option_fields import finite, option


@dataclass(frozen=True)
class ContourPlotOptions(config.ContourOptions, config.CameraOptions, config.FigureOptions, config.DisplayOptions):
    """The options of this command."""

    HEADING: ClassVar[str] = "input"

    surf_file: tuple[str, ...] | None = option(
        None, "surface files; several are drawn on one scale", short="-f", many="+", metavar="FILE.h5"
    )
    labels: tuple[str, ...] | None = option(None, "a name for each file", many="+")
    out: str | None = option(None, "beginning of the names of the figures (default: the name of the first file)")
    surf_name: str | None = option(None, "field to draw (default: train_loss)", metavar="FIELD")
    dir_file: str | None = option(
        None, "direction file of a trajectory, for the variance that its axes explain", metavar="FILE.h5"
    )
    proj_file: tuple[str, ...] | None = option(
        None,
        "trajectories to draw on the surface (files with proj_xcoord and proj_ycoord)",
        many="+",
        metavar="FILE.h5",
    )
    zlim: float | None = option(None, "top of the 3-D figure", kind=finite)
    infinite: str = option(
        "hole",
        "draw infinite values as holes, or as the largest finite value, as the Julia notebook does",
        choices=("hole", "largest"),
    )
    render: bool = option(
        False,
        "render the surface as well, with light and shadow and without axes (needs pyvista); with --vmax V values above V are "
        "drawn as a plateau",
    )


def parser() -> options.Parser[ContourPlotOptions]:
    return options.Parser(__doc__, ContourPlotOptions)


def draw(
    files: Sequence[str | Path],
    *,
    labels: Sequence[str] | None = None,
    out: str | None = None,
    surf_name: str | None = None,
    dir_file: str | None = None,
    proj_file: str | Sequence[str] | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    vlevel: float | None = None,
    zlim: float | None = None,
    log: bool = False,
    show: bool = False,
    camera: figures.Camera | None = None,
    layout: str = "grid",
    render: bool = False,
    infinite: str = "hole",
    title: str = "",
    files_as: figures.FigureFiles | None = None,
) -> list[Path]:
    """Draw the four figures of one field; returns the paths. Raises BadInput, BadUsage, CannotWrite."""
    paths = [Path(file) for file in files]
    check_labels(labels, paths)
    surfaces = [read_plane(path) for path in paths]
    names = [figures.pick(surfaces[0], surf_name, paths[0])]
    eigenvalues = surf_name is None and all(figures.has_eigenvalues(surface) for surface in surfaces)
    if eigenvalues and names[0] == "max_eig":
        names.append("min_eig")
    for surface, path in zip(surfaces[1:], paths[1:], strict=True):
        for name in names:
            figures.pick(surface, name, path)
    own_labels = [figures.words(label) for label in labels or [p.name for p in paths]]
    proj_files = [proj_file] if isinstance(proj_file, str) else proj_file or ()
    projections = [read_projection(file, dir_file) for file in proj_files]
    for file in proj_files:
        check_plane(file, surfaces, paths)
    drawn: list[Path] = []
    if render:
        rendered_plots.need()
    if layout == "overlay" and len(paths) < 2:
        raise BadUsage("--layout overlay needs at least two surface files")
    with figures.style(show, files_as) as plt:
        for name in names:
            panels = [
                panel(s, name, label, infinite == "largest") for s, label in zip(surfaces, own_labels, strict=True)
            ]
            runs = [run.of(name) for run in projections]
            shared = figures.scale(
                [p.values for p in panels], vmin=vmin, vmax=vmax, vlevel=vlevel, log=log, linear=is_share(name)
            )
            base = f"{out or paths[0]}{'_compare' if len(paths) > 1 and not out else ''}_{name}"
            made: dict[str, Any] = {}  # all of them before any is written: one may be refused
            solid = solid_figure(plt, panels, shared, name, zlim, camera, layout == "overlay", runs)
            if render:
                made["3drender"] = rendered_plots.rendered_figure(
                    plt, panels, shared, name, camera, layout == "overlay", runs
                )
            kinds: dict[str, Callable[..., Any]] = {"2dcontour": contour, "2dcontourf": filled, "2dheat": heat}
            flat = {kind: flat_figure(plt, panels, shared, name, one, runs) for kind, one in kinds.items()}
            made = {**flat, "3dsurface": solid, **made}
            if runs and name == names[0] and name.endswith("_loss"):
                along = [(run, beneath(surfaces[0], name, run, shared)) for run in runs]
                made["along_path"] = along_figure(plt, along, name, shared.log)
            for kind, fig in made.items():
                drawn += figures.save(fig, f"{base}_{kind}", title)
        if eigenvalues:
            drawn += draw_ratio(plt, surfaces, own_labels, out or str(paths[0]), title)
    return drawn


def draw_ratio(plt: Any, surfaces: Sequence[Surface], labels: Sequence[str], base: str, title: str) -> list[Path]:
    """Heat map of |smallest / largest| eigenvalue of the Hessian from 0 to 1; cells without a positive largest are
    marked."""
    panels = [
        replace(panel(surface, "min_eig", label), values=figures.eigen_ratio(surface))
        for surface, label in zip(surfaces, labels, strict=True)
    ]
    shared = figures.Scale(0.0, 1.0, np.linspace(0, 1, 11), log=False, cut=any((p.values > 1).any() for p in panels))
    fig = flat_figure(plt, panels, shared, r"$|\lambda_{\min} / \lambda_{\max}|$", heat, ())
    return figures.save(fig, f"{base}_min_eig_max_eig_abs_ratio_heat_sns", title)


def draw_path(
    proj_file: str | Path | Sequence[str],
    dir_file: str | Path | None = None,
    show: bool = False,
    out: str | None = None,
    title: str = "",
    files_as: figures.FigureFiles | None = None,
) -> list[Path]:
    """Draw projected trajectories by themselves, as <the first proj_file>.pdf and .png."""
    files = [proj_file] if isinstance(proj_file, str | Path) else list(proj_file)
    runs = [read_projection(file, dir_file) for file in files]
    with figures.style(show, files_as) as plt:
        fig, axis = plt.subplots(figsize=(4.2, 3.8), layout="constrained")
        axis.set(xlabel="x", ylabel="y")
        axis.grid(alpha=0.25)
        for k, path in enumerate(runs):
            draw_trajectory(axis, path, colour=PATHS[k % len(PATHS)] if len(runs) > 1 else "black")
        if len(runs) > 1:
            axis.legend(fontsize="x-small")
        axis.margins(0.08)
        return figures.save(fig, out or str(files[0]), title)


def run(args: ContourPlotOptions) -> None:
    if not args.surf_file:
        if not args.proj_file:
            raise BadUsage("name a --surf_file to draw, or a --proj_file")
        draw_path(args.proj_file, args.dir_file, args.show, args.out, args.title, options.files_of(args))
        return
    draw(
        args.surf_file,
        labels=args.labels,
        out=args.out,
        surf_name=args.surf_name,
        dir_file=args.dir_file,
        proj_file=args.proj_file,
        zlim=args.zlim,
        camera=figures.Camera(args.elev, args.azim),
        layout=args.layout,
        render=args.render,
        infinite=args.infinite,
        **options.plot_keywords(args),
    )


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return exit_code(lambda: run(args))
