"""Draw the spectrum of a Hessian, and the traces of layers and activations, from a saved spectrum file alone.

lossatlas plot-spectrum --spectrum_file spectrum.h5
lossatlas plot-spectrum --spectrum_file hessian.h5 ggn.h5             several densities in one figure
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Unpack

from lossatlas import config
from lossatlas.commands import figure_keywords, options
from lossatlas.commands.figure_output import FigureOutput, FileKeywords
from lossatlas.commands.open_results import check_label_count, figure_labels
from lossatlas.config.option_fields import option
from lossatlas.errors import BadInput, exit_code
from lossatlas.figures.kinds import Kind
from lossatlas.figures.spectra_plots import spectra_figure
from lossatlas.figures.spectrum_plots import DRAW_SPECTRUM, held_kinds
from lossatlas.io import read_findings
from lossatlas.io.spectrum_files import Findings
from lossatlas.landscape.spectrum import matrix_name


@dataclass(frozen=True)
class SpectrumPlotOptions(config.FigureOptions, config.ShowOptions):
    """Spectrum files, and the names and looks of its figures."""

    HEADING: ClassVar[str] = "input"

    spectrum_file: tuple[str, ...] = option(
        (),
        "files written by hessian_spectrum.py; the densities of several are drawn in one figure",
        short="-f",
        required=True,
        many="+",
        metavar="FILE.h5",
    )
    labels: tuple[str, ...] | None = option(
        None, "a name for each of several files (default: their matrices, or the names of the files)", many="+"
    )
    out: str | None = option(None, "beginning of the names of the figures (default: the name of the first file)")


def parser() -> options.Parser[SpectrumPlotOptions]:
    return options.Parser(__doc__, SpectrumPlotOptions)


def draw(
    files: str | Path | Sequence[str | Path],
    *,
    labels: Sequence[str] | None = None,
    out: str | None = None,
    **keywords: Unpack[FileKeywords],
) -> list[Path]:
    """Draw the density, the layers and the activations of a spectrum file, as far as it holds them.

    Args:
        files: File written by hessian_spectrum.py; the densities of several are drawn in one figure.
        labels: A name for each of several files; by default their matrices, or the names of the files.
        out: Beginning of the figures' names; by default the first file.
        **keywords: show, title, files_as, look and cmap, see `FigureOutput`.

    Returns:
        The files that were written.

    Raises:
        BadUsage: There are labels for one file, or not one for each.
        BadInput: A file is damaged, of another kind, or does not hold what is drawn yet.
        CannotWrite: A figure cannot be written.
    """
    paths, output = [Path(files)] if isinstance(files, str | Path) else [*map(Path, files)], FigureOutput(**keywords)
    check_label_count(labels, paths)
    findings = [read_findings(path) for path in paths]
    with output.style() as plt:
        if len(paths) > 1:
            names = figure_labels(labels or matrices(findings), paths)
            return output.save({Kind.SPECTRA: spectra_figure(plt, findings, names)}, paths, out)
        drawn = {kind: DRAW_SPECTRUM[kind].draw(plt, findings[0]) for kind in held_kinds(findings[0])}
        if not drawn:
            held = ", ".join(findings[0].arrays) or "nothing"
            raise BadInput(f"{paths[0]} is not far enough to be drawn: it holds {held}")
        return output.save(drawn, paths, out)


def matrices(findings: Sequence[Findings]) -> list[str] | None:
    """Return the names of the files' matrices; None unless they differ."""
    names = [matrix_name(each.request) for each in findings]
    return names if len(set(names)) == len(names) else None


def run(args: SpectrumPlotOptions) -> None:
    """Draw what the command line names."""
    draw(args.spectrum_file, labels=args.labels, out=args.out, **figure_keywords.file_keywords(args))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parser().parse_args(argv)
    return exit_code(lambda: run(args))
