"""Draw which layers carry the loss, from a surface file of lossatlas surface --per_layer alone.

lossatlas plot-layers --surf_file FILE.h5                               a heat map of layer and distance
lossatlas plot-layers --surf_file FILE.h5 --spectrum_file SPECTRUM.h5   with the trace of each layer's Hessian block
beside it
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Unpack

from lossatlas import config, figures
from lossatlas.commands import figure_keywords, options
from lossatlas.commands.figure_output import DrawingKeywords, ScaledFigureOutput
from lossatlas.commands.open_results import read_started
from lossatlas.config.option_fields import option
from lossatlas.errors import BadInput, exit_code, say
from lossatlas.figures.kinds import Kind
from lossatlas.figures.layer_plots import layer_map_figure
from lossatlas.figures.plotted_fields import is_accuracy
from lossatlas.io import Findings, read_findings
from lossatlas.landscape import Surface


@dataclass(frozen=True)
class LayerPlotOptions(config.ContourOptions, config.FigureOptions, config.DisplayOptions):
    """A surface file of layers, a spectrum file, and the name and look of their figure."""

    HEADING: ClassVar[str] = "input"

    surf_file: str = option(
        "", "surface file of plot_surface.py --per_layer", short="-f", required=True, metavar="FILE.h5"
    )
    spectrum_file: str | None = option(
        None, "spectrum file of the same network, with the traces of its layers", metavar="FILE.h5"
    )
    surf_name: str | None = option(None, "field to draw (default: train_loss)", metavar="FIELD")
    out: str | None = option(None, "beginning of the name of the figure (default: the name of the file)")


def parser() -> options.Parser[LayerPlotOptions]:
    return options.Parser(__doc__, LayerPlotOptions)


def draw(
    file: str | Path,
    *,
    spectrum_file: str | Path | None = None,
    surf_name: str | None = None,
    out: str | None = None,
    **keywords: Unpack[DrawingKeywords],
) -> list[Path]:
    """Draw a map of layer and distance.

    Args:
        file: Surface file with a curve for each layer.
        spectrum_file: Spectrum file of the same network with the traces of its layers, which are drawn beside the map.
        surf_name: Field to draw; by default train_loss, or the first one.
        out: Beginning of the figure's name; by default the file.
        **keywords: vmin, vmax, vlevel, log, colours, show, title, files_as, look and cmap, see `ScaledFigureOutput`.

    Returns:
        The files that were written.

    Raises:
        BadInput: A file is damaged or of another kind, or the spectrum is of another network.
        BadUsage: An argument does not suit the file.
        CannotWrite: The figure cannot be written.
    """
    path, output = Path(file), ScaledFigureOutput(**keywords)
    surface, name = figures.chosen_field(read_started(path, "layers"), surf_name, path)
    findings = _read_traces(spectrum_file, path, surface) if spectrum_file else None
    with output.style() as plt:
        scale = figures.choose_colour_scale([surface.fields[name]], linear=is_accuracy(name), **output.limits)
        fig = layer_map_figure(plt, surface, name, scale, findings)
        return output.save({Kind.LAYER_MAP: fig}, [path], out, field=name)


def _read_traces(spectrum_file: str | Path, path: Path, surface: Surface) -> Findings:
    """Read the traces of layers that belong to a surface."""
    findings = read_findings(spectrum_file)
    if "layers/trace" not in findings.arrays:
        raise BadInput(f"{spectrum_file} holds no traces of layers: its trace is not computed yet")
    if not set(map(str, surface.request["rows"])) & set(map(str, findings.about["layers"])):
        raise BadInput(f"{spectrum_file} knows none of the layers in {path}: it is of another network")
    if findings.request.get("checkpoint") != surface.request.get("checkpoint"):
        say(f"note: {spectrum_file} is of another checkpoint than {path}")
    return findings


def run(args: LayerPlotOptions) -> None:
    """Draw what the command line names."""
    draw(
        args.surf_file,
        spectrum_file=args.spectrum_file,
        surf_name=args.surf_name,
        out=args.out,
        **figure_keywords.plot_keywords(args),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parser().parse_args(argv)
    return exit_code(lambda: run(args))
