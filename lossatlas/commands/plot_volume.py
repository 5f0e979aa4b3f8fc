"""Draw a volume, the loss along three directions, from a surface file of lossatlas surface --z alone.

lossatlas plot-volume --surf_file FILE.h5                 planes side by side
lossatlas plot-volume --surf_file FILE.h5 --render        with one eighth cut away, rendered (needs pyvista)
lossatlas plot --surf_file FILE.h5:z=0.5                  one of its planes, as every other command takes it
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Unpack

from lossatlas import config, figures
from lossatlas.commands import figure_keywords, options
from lossatlas.commands.figure_output import DrawingKeywords, ScaledFigureOutput
from lossatlas.commands.open_results import note_unfinished, read_volume
from lossatlas.config.option_fields import option
from lossatlas.errors import exit_code
from lossatlas.figures import rendered_plots, surface_renderer, volume_renderer
from lossatlas.figures.kinds import Kind
from lossatlas.figures.panels import panels_scale
from lossatlas.figures.volume_plots import slice_panels, slices_figure


@dataclass(frozen=True)
class VolumePlotOptions(config.ContourOptions, config.CameraOptions, config.FigureOptions, config.DisplayOptions):
    """A surface file of a volume, and the names and looks of its figures."""

    HEADING: ClassVar[str] = "input"

    surf_file: str = option("", "surface file of a volume", short="-f", required=True, metavar="FILE.h5")
    surf_name: str | None = option(None, "field to draw (default: train_loss)", metavar="FIELD")
    out: str | None = option(None, "beginning of the names of the figures (default: the name of the file)")
    render: bool = option(
        False, "render the volume too, with the eighth that faces the camera cut away (needs pyvista)"
    )


def parser() -> options.Parser[VolumePlotOptions]:
    return options.Parser(__doc__, VolumePlotOptions)


def draw(
    file: str | Path,
    *,
    surf_name: str | None = None,
    out: str | None = None,
    render: bool = False,
    camera: figures.Camera | None = None,
    **keywords: Unpack[DrawingKeywords],
) -> list[Path]:
    """Draw planes of a volume side by side, and the volume cut open.

    Args:
        file: Surface file of a volume.
        surf_name: Field to draw; by default train_loss, or the first one.
        out: Beginning of the figures' names; by default the file.
        render: Render the volume with one eighth cut away too.
        camera: Where the rendered volume is seen from; None for the usual place.
        **keywords: vmin, vmax, vlevel, log, colours, show, title, files_as, look and cmap, see `ScaledFigureOutput`.

    Returns:
        The files that were written.

    Raises:
        BadInput: The file is damaged, holds no volume, or has no finished cell.
        BadUsage: An argument does not suit the file, or pyvista is missing.
        CannotWrite: A figure cannot be written.
    """
    path, output = Path(file), ScaledFigureOutput(**keywords)
    surface, name = figures.chosen_field(read_volume(path), surf_name, path)
    note_unfinished(path, surface)
    if render:
        surface_renderer.require_rendering()
    with output.style() as plt:
        scale = panels_scale(slice_panels(surface, name), name, **output.limits)
        made = {Kind.SLICES: slices_figure(plt, surface, scale, name)}
        if render:
            made[Kind.CUTAWAY] = volume_renderer.cutaway_figure(plt, surface, scale, name, camera=camera)
        return output.save(made, [path], out, field=name)


def run(args: VolumePlotOptions) -> None:
    """Draw what the command line names."""
    draw(
        args.surf_file,
        surf_name=args.surf_name,
        out=args.out,
        render=args.render,
        camera=figure_keywords.camera_of(args, rendered_plots.CAMERA),
        **figure_keywords.plot_keywords(args),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parser().parse_args(argv)
    return exit_code(lambda: run(args))
