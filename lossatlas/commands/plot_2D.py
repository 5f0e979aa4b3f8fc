"""Draw a surface as contours, filled contours, a heat map and in 3-D, from saved surface files alone.

python plot_2D.py --surf_file FILE.h5                                  four figures beside the file
python plot_2D.py --surf_file A.h5 B.h5 --labels shortcuts none        the same, side by side on one scale
python plot_2D.py --surf_file FILE.h5 --vmin 0.1 --vmax 10 --vlevel 0.5
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Unpack

from lossatlas import config, figures
from lossatlas.choices import InfiniteValues, SurfaceLayout
from lossatlas.commands import figure_keywords, options
from lossatlas.commands.figure_output import DrawingKeywords, FigureOutput, FileKeywords, ScaledFigureOutput
from lossatlas.commands.open_results import (
    check_label_count,
    check_layout,
    check_plane,
    figure_labels,
    read_plane,
    with_common_field,
)
from lossatlas.config.option_fields import finite, option
from lossatlas.errors import BadUsage, exit_code, named
from lossatlas.figures import rendered_plots, surface_renderer
from lossatlas.figures.contour_plots import DRAW_FLAT, draw_heat_map, flat_figure
from lossatlas.figures.kinds import Kind
from lossatlas.figures.matplotlib_style import FigureFactory
from lossatlas.figures.panels import Panel, panels_scale, ratio_scale, surface_panel
from lossatlas.figures.plotted_fields import field_title
from lossatlas.figures.solid_layout import fit_height
from lossatlas.figures.surface_plots import solid_figure
from lossatlas.figures.trajectory_plots import path_figure, path_losses_figure, surface_under_path
from lossatlas.io import Projection, read_projection
from lossatlas.landscape import Surface

if TYPE_CHECKING:
    from lossatlas.figures.matplotlib_style import Figure


@dataclass(frozen=True)
class ContourPlotOptions(config.ContourOptions, config.CameraOptions, config.FigureOptions, config.DisplayOptions):
    """Surface files, trajectories on them, and the names and looks of their figures."""

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
    infinite: InfiniteValues = option(
        "hole",
        "draw infinite values as holes, or as the largest finite value, as the Julia notebook does",
    )
    render: bool = option(
        False,
        "render the surface as well, with light and shadow and without axes (needs pyvista); with --vmax V values "
        "above V are drawn as a plateau",
    )


def parser() -> options.Parser[ContourPlotOptions]:
    return options.Parser(__doc__, ContourPlotOptions)


@dataclass(frozen=True)
class SolidLook:
    """Appearance of the 3-D figures.

    Attributes:
        zlim: Value at which surfaces are cut off; None cuts at the top of the colour scale.
        camera: Where they are seen from; None for the usual place.
        rendered_camera: Where rendered ones are seen from; None for the usual place.
        overlay: Draw several surfaces in one box.
        render: Render them with pyvista too.
    """

    zlim: float | None
    camera: figures.Camera | None
    rendered_camera: figures.Camera | None
    overlay: bool
    render: bool


def draw(
    files: Sequence[str | Path],
    *,
    labels: Sequence[str] | None = None,
    out: str | None = None,
    surf_name: str | None = None,
    dir_file: str | None = None,
    proj_file: str | Sequence[str] | None = None,
    zlim: float | None = None,
    camera: figures.Camera | None = None,
    rendered_camera: figures.Camera | None = None,
    layout: SurfaceLayout = "grid",
    render: bool = False,
    infinite: InfiniteValues = "hole",
    **keywords: Unpack[DrawingKeywords],
) -> list[Path]:
    """Draw a field as contours, filled contours, a heat map and in three dimensions.

    Args:
        files: Surface files; several share one scale.
        labels: Name of each file in the figures; by default the names of the files.
        out: Beginning of the figures' names; by default the first file.
        surf_name: Field to draw; by default train_loss, or both extreme eigenvalues of a file that holds these alone.
        dir_file: Direction file of the trajectories, for the variance that its axes explain.
        proj_file: Projection files of trajectories to draw on the surfaces.
        zlim: Value at which the 3-D surfaces are cut off.
        camera: Where the 3-D surfaces are seen from.
        rendered_camera: Where rendered ones are seen from; None for `rendered_plots.CAMERA`.
        layout: "grid", or "overlay" for several surfaces in one box.
        render: Render the 3-D surfaces with pyvista too.
        infinite: "hole", or "largest" to draw infinite values as the largest finite one.
        **keywords: vmin, vmax, vlevel, log, colours, show, title, files_as, look and cmap, see `ScaledFigureOutput`.

    Returns:
        The files that were written.

    Raises:
        BadInput: A file is damaged, of another kind, or has no finished cell, or a trajectory lies in another plane.
        BadUsage: An argument does not suit the files.
        CannotWrite: A figure cannot be written.
    """
    paths, output = [Path(file) for file in files], ScaledFigureOutput(**keywords)
    check_label_count(labels, paths)
    surfaces = [read_plane(path) for path in paths]
    surfaces, first_name = with_common_field(surfaces, paths, surf_name)
    names = [first_name]
    with_eigenvalues = surf_name is None and all(figures.has_eigenvalues(surface) for surface in surfaces)
    if with_eigenvalues and names[0] == "max_eig":
        names.append("min_eig")
    labels = figure_labels(labels, paths)
    proj_files = [proj_file] if isinstance(proj_file, str) else proj_file or ()
    runs = [read_projection(file, dir_file) for file in proj_files]
    for file in proj_files:
        check_plane(file, surfaces, paths)
    if render:
        surface_renderer.require_rendering()
    look = SolidLook(zlim, camera, rendered_camera, check_layout(layout, paths), render)
    drawn: list[Path] = []
    with output.style() as plt:
        for name in names:
            panels = [
                surface_panel(surface, name, label, infinite_as_largest=infinite == "largest")
                for surface, label in zip(surfaces, labels, strict=True)
            ]
            scale = panels_scale(panels, name, **output.limits)
            own_runs = [run.of(name) for run in runs]
            made = _field_figures(plt, panels, scale, name, runs=own_runs, look=look)
            if runs and name == names[0] and name.endswith("_loss"):
                under = [(run, surface_under_path(surfaces[0], name, run, scale)) for run in own_runs]
                made[Kind.PATH_LOSSES] = path_losses_figure(plt, under, name, log=scale.log)
            drawn += output.save(made, paths, out, field=name)
        if with_eigenvalues:
            drawn += output.save({Kind.RATIO: _eigen_ratio_figure(plt, surfaces, labels)}, paths, out)
    return drawn


def _field_figures(
    plt: FigureFactory,
    panels: Sequence[Panel],
    scale: figures.ColourScale,
    name: str,
    *,
    runs: Sequence[Projection],
    look: SolidLook,
) -> "dict[Kind, Figure]":
    """Draw figures of one field by kind. All are made before any is written, because one of them may be refused."""
    solid = solid_figure(
        plt,
        panels,
        scale,
        name,
        zlim=look.zlim,
        camera=look.camera,
        overlay=look.overlay,
        paths=runs,
        title=field_title(name),
    )
    fit_height(solid)
    made = {kind: flat_figure(plt, panels, scale, name, each, paths=runs) for kind, each in DRAW_FLAT.items()}
    made[Kind.SOLID] = solid
    if look.render:
        made[Kind.RENDERED] = rendered_plots.rendered_figure(
            plt, panels, scale, name, look.rendered_camera, overlay=look.overlay, paths=runs
        )
    return made


def _eigen_ratio_figure(plt: FigureFactory, surfaces: Sequence[Surface], labels: Sequence[str]) -> "Figure":
    """Draw a heat map of |smallest / largest| eigenvalue of the Hessian, with marks where it is not defined."""
    panels = [
        replace(surface_panel(surface, "min_eig", label), values=figures.eigen_ratio(surface))
        for surface, label in zip(surfaces, labels, strict=True)
    ]
    return flat_figure(plt, panels, ratio_scale(panels), figures.RATIO_TITLE, draw_heat_map)


def draw_path(
    proj_file: str | Path | Sequence[str],
    dir_file: str | Path | None = None,
    *,
    out: str | None = None,
    **keywords: Unpack[FileKeywords],
) -> list[Path]:
    """Draw trajectories in their plane, without a surface.

    Args:
        proj_file: Projection file, or several of one plane.
        dir_file: Direction file, for the variance that its axes explain.
        out: Name of the figure without an ending; by default the first projection file.
        **keywords: show, title, files_as, look and cmap, see `FigureOutput`.

    Returns:
        The files that were written.

    Raises:
        BadInput: A file is missing, damaged or of another kind.
        CannotWrite: The figure cannot be written.
    """
    files = [proj_file] if isinstance(proj_file, str | Path) else list(proj_file)
    output = FigureOutput(**keywords)
    runs = [read_projection(file, dir_file) for file in files]
    with output.style() as plt:
        return output.save({Kind.PATH: path_figure(plt, runs)}, files, out)


def run(args: ContourPlotOptions) -> None:
    """Draw what the command line names."""
    if not args.surf_file:
        if not args.proj_file:
            raise BadUsage(f"name a {named('surf_file')} to draw, or a {named('proj_file')}")
        draw_path(args.proj_file, args.dir_file, out=args.out, **figure_keywords.file_keywords(args))
        return
    draw(
        args.surf_file,
        labels=args.labels,
        out=args.out,
        surf_name=args.surf_name,
        dir_file=args.dir_file,
        proj_file=args.proj_file,
        zlim=args.zlim,
        camera=figure_keywords.camera_of(args),
        rendered_camera=figure_keywords.camera_of(args, rendered_plots.CAMERA),
        layout=args.layout,
        render=args.render,
        infinite=args.infinite,
        **figure_keywords.plot_keywords(args),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parser().parse_args(argv)
    return exit_code(lambda: run(args))
