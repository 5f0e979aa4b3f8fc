"""Draw which layers carry the loss, from a surface file of lossatlas surface --per_layer alone.

lossatlas plot-layers --surf_file FILE.h5                               a heat map of layer and distance
lossatlas plot-layers --surf_file FILE.h5 --spectrum_file SPECTRUM.h5   with the trace of each layer's Hessian block beside it
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lossatlas import config, figures
from lossatlas.commands import options
from lossatlas.commands.open_results import read_started
from lossatlas.errors import BadInput, exit_code, say
from lossatlas.figures.layer_plots import draw_by_layer
from lossatlas.figures.style import is_share
from lossatlas.io import read_findings
from lossatlas.option_fields import option


@dataclass(frozen=True)
class LayerPlotOptions(config.ContourOptions, config.FigureOptions, config.DisplayOptions):
    """The options of this command."""

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
    vmin: float | None = None,
    vmax: float | None = None,
    vlevel: float | None = None,
    log: bool = False,
    show: bool = False,
    title: str = "",
    files_as: figures.FigureFiles | None = None,
) -> list[Path]:
    """Draw the figure. Raises BadInput, BadUsage, CannotWrite."""
    path = Path(file)
    surface = read_started(path, "layers")
    name = figures.pick(surface, surf_name, path)
    findings = read_findings(spectrum_file) if spectrum_file else None
    if findings is not None:
        if "layers/trace" not in findings.arrays:
            raise BadInput(f"{spectrum_file} holds no traces of layers: its trace is not computed yet")
        if not set(map(str, surface.request["rows"])) & set(map(str, findings.about["layers"])):
            raise BadInput(f"{spectrum_file} knows none of the layers in {path}: it is of another network")
        if findings.request.get("checkpoint") != surface.request.get("checkpoint"):
            say(f"note: {spectrum_file} is of another checkpoint than {path}")
    scale = figures.scale([surface.fields[name]], vmin=vmin, vmax=vmax, vlevel=vlevel, log=log, linear=is_share(name))
    with figures.style(show, files_as) as plt:
        return figures.save(draw_by_layer(plt, surface, name, scale, findings), f"{out or path}_{name}_layers", title)


def run(args: LayerPlotOptions) -> None:
    draw(
        args.surf_file,
        spectrum_file=args.spectrum_file,
        surf_name=args.surf_name,
        out=args.out,
        **options.plot_keywords(args),
    )


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return exit_code(lambda: run(args))
