"""Draw saved files of any kind with the command for their content.

lossatlas plot FILE.h5                                  its figures beside the file
lossatlas plot A.h5 B.h5 --labels shortcuts none        several files of one kind in one figure
lossatlas plot SURFACE.h5 --proj_file PATH.h5           a surface and the path of a training on it

Every other option is one of that command: lossatlas plot FILE.h5 --help lists those for this file.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import ClassVar, NamedTuple

from lossatlas import programs
from lossatlas.commands import options
from lossatlas.config.option_fields import option
from lossatlas.errors import BadUsage, exit_code
from lossatlas.io import read_surface
from lossatlas.io.contents import kind_of


class Drawing(NamedTuple):
    """The command that draws a kind of file.

    Attributes:
        module: The module of the command in `lossatlas.commands`.
        option: The option before the names of the files.
        what: The content of such a file in words.
        several: The command draws more than one file.
    """

    module: str
    option: str
    what: str
    several: bool = True


DRAWINGS = {
    "curve": Drawing("plot_1D", "--surf_file", "a curve"),
    "plane": Drawing("plot_2D", "--surf_file", "a surface"),
    "volume": Drawing("plot_volume", "--surf_file", "a volume", several=False),
    "repeats": Drawing("plot_1D", "--surf_file", "curves of repeats"),
    "layers": Drawing("plot_layers", "--surf_file", "curves of layers", several=False),
    "spectrum": Drawing("plot_spectrum", "--spectrum_file", "a spectrum"),
    "sharpness": Drawing("plot_sharpness", "--sharpness_file", "a sharpness"),
    "learning_coefficient": Drawing("plot_learning_coefficient", "--coefficient_file", "a learning coefficient"),
    "learning_coefficients": Drawing(
        "plot_learning_coefficient", "--coefficient_file", "the learning coefficients of a run"
    ),
    "trajectory": Drawing("plot_2D", "--proj_file", "the path of a training"),
}


@dataclass(frozen=True)
class PlotFileOptions:
    """The files to draw; every other option is one of the command that draws them."""

    HEADING: ClassVar[str] = "input"

    files: tuple[str, ...] = option((), "files of one kind", many="+", positional=True, required=True, metavar="FILE")


def parser() -> options.Parser[PlotFileOptions]:
    return options.Parser(__doc__, PlotFileOptions)


def drawing_of(file: str) -> Drawing:
    """Return the command that draws a file.

    Raises:
        BadUsage: There is no figure of the content of the file.
        BadInput: The file cannot be read.
    """
    kind: str = kind_of(file)
    if kind == "surface":
        surface = read_surface(file)
        kind = surface.rows_of or ("curve", "plane", "volume")[len(surface.grid.axes) - 1]
    if kind not in DRAWINGS:
        raise BadUsage(f"{file} holds {kind}, of which there is no figure: {programs.program('h5_util')} describes it")
    return DRAWINGS[kind]


def command_for(files: Sequence[str]) -> Drawing:
    """Return the command that draws all of these files.

    Raises:
        BadUsage: As `drawing_of`, the files are of several kinds, or the command draws one file alone.
        BadInput: As `drawing_of`.
    """
    first, *others = [drawing_of(file) for file in files]
    for file, other in zip(files[1:], others, strict=True):
        if other != first:
            raise BadUsage(f"{files[0]} holds {first.what}, {file} {other.what}: draw them one by one")
    if others and not first.several:
        raise BadUsage(f"{programs.program(first.module)} draws one file: draw the {len(files)} files one by one")
    return first


def files_and_options(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split arguments at the first option: files come before it."""
    end = next((k for k, word in enumerate(argv) if word.startswith("-")), len(argv))
    return list(argv[:end]), list(argv[end:])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that draws the given files; returns its exit code."""
    files, rest = files_and_options(sys.argv[1:] if argv is None else argv)
    if not files:
        own = parser()
        own.parse_args(rest[:1] if rest[:1] in (["--help"], ["-h"]) else [])
    found: list[Drawing] = []
    if code := exit_code(lambda: found.append(command_for(files))):
        return code
    (drawing,) = found
    return int(import_module(f"lossatlas.commands.{drawing.module}").main([drawing.option, *files, *rest]))
