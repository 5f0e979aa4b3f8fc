"""Draw the spectrum of a Hessian, and the traces of layers and activations, from a saved spectrum file alone.

lossatlas plot-spectrum --spectrum_file spectrum.h5
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lossatlas import config, figures
from lossatlas.commands import options
from lossatlas.errors import BadInput, exit_code
from lossatlas.figures.spectrum_plots import draw_activations, draw_density, draw_layers
from lossatlas.io import read_findings
from lossatlas.option_fields import option


@dataclass(frozen=True)
class SpectrumPlotOptions(config.FigureOptions, config.ShowOptions):
    """The options of this command."""

    HEADING: ClassVar[str] = "input"

    spectrum_file: str = option("", "file written by hessian_spectrum.py", short="-f", required=True, metavar="FILE.h5")
    out: str | None = option(None, "beginning of the names of the figures (default: the name of the file)")


def parser() -> options.Parser[SpectrumPlotOptions]:
    return options.Parser(__doc__, SpectrumPlotOptions)


def draw(
    file: str | Path,
    *,
    out: str | None = None,
    show: bool = False,
    title: str = "",
    files_as: figures.FigureFiles | None = None,
) -> list[Path]:
    """Draw whatever the file holds; returns the paths. Raises BadInput, CannotWrite."""
    findings, base, drawn = read_findings(file), out or str(file), list[Path]()
    with figures.style(show, files_as) as plt:
        if "density/grid" in findings.arrays:
            drawn += figures.save(draw_density(plt, findings), f"{base}_density", title)
        if "layers/trace" in findings.arrays:
            drawn += figures.save(draw_layers(plt, findings), f"{base}_layers", title)
        if "activations/trace" in findings.arrays:
            drawn += figures.save(draw_activations(plt, findings), f"{base}_activations", title)
    if not drawn:
        raise BadInput(f"{file} is not far enough to be drawn: it holds {', '.join(findings.arrays) or 'nothing'}")
    return drawn


def run(args: SpectrumPlotOptions) -> None:
    draw(args.spectrum_file, out=args.out, show=args.show, title=args.title, files_as=options.files_of(args))


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return exit_code(lambda: run(args))
