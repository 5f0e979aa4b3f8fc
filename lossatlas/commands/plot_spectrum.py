"""Draw the spectrum of a Hessian, and the traces of layers and activations, from a saved spectrum file alone.

lossatlas plot-spectrum --spectrum_file spectrum.h5
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from lossatlas import figures
from lossatlas.commands import options
from lossatlas.errors import BadInput, exit_code
from lossatlas.figures.spectrum_plots import draw_activations, draw_density, draw_layers
from lossatlas.io import read_findings


def parser() -> argparse.ArgumentParser:
    p = options.Parser(__doc__)
    p.add_argument("--spectrum_file", "-f", required=True, help="file written by hessian_spectrum.py")
    p.add_argument("--out", help="beginning of the figures' names (default: the file's name)")
    options.add_files(p)
    p.add_argument("--show", action="store_true", help="open windows too")
    return p


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


def run(args: argparse.Namespace) -> None:
    draw(args.spectrum_file, out=args.out, show=args.show, title=args.title, files_as=options.files_of(args))


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return exit_code(lambda: run(args))
