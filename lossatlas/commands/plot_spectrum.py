"""Draw the spectrum of a Hessian, and the traces of layers and activations, from a saved spectrum file alone.

lossatlas plot-spectrum --spectrum_file spectrum.h5
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Unpack

from lossatlas import config
from lossatlas.commands import figure_keywords, options
from lossatlas.commands.figure_output import FigureOutput, FileKeywords
from lossatlas.config.option_fields import option
from lossatlas.errors import BadInput, exit_code
from lossatlas.figures.spectrum_plots import DRAW_SPECTRUM, held_kinds
from lossatlas.io import read_findings


@dataclass(frozen=True)
class SpectrumPlotOptions(config.FigureOptions, config.ShowOptions):
    """A spectrum file, and the names and looks of its figures."""

    HEADING: ClassVar[str] = "input"

    spectrum_file: str = option("", "file written by hessian_spectrum.py", short="-f", required=True, metavar="FILE.h5")
    out: str | None = option(None, "beginning of the names of the figures (default: the name of the file)")


def parser() -> options.Parser[SpectrumPlotOptions]:
    return options.Parser(__doc__, SpectrumPlotOptions)


def draw(file: str | Path, *, out: str | None = None, **keywords: Unpack[FileKeywords]) -> list[Path]:
    """Draw the density, the layers and the activations of a spectrum file, as far as it holds them.

    Args:
        file: File written by hessian_spectrum.py.
        out: Beginning of the figures' names; by default the file.
        **keywords: show, title, files_as, look and cmap, see `FigureOutput`.

    Returns:
        The files that were written.

    Raises:
        BadInput: The file is damaged, of another kind, or holds none of these yet.
        CannotWrite: A figure cannot be written.
    """
    findings, output = read_findings(file), FigureOutput(**keywords)
    with output.style() as plt:
        drawn = {kind: DRAW_SPECTRUM[kind].draw(plt, findings) for kind in held_kinds(findings)}
        if not drawn:
            raise BadInput(f"{file} is not far enough to be drawn: it holds {', '.join(findings.arrays) or 'nothing'}")
        return output.save(drawn, [file], out)


def run(args: SpectrumPlotOptions) -> None:
    """Draw what the command line names."""
    draw(args.spectrum_file, out=args.out, **figure_keywords.file_keywords(args))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parser().parse_args(argv)
    return exit_code(lambda: run(args))
