"""The file formats: surfaces, directions and spectra in HDF5, new ones and those of the original release.

    python h5_util.py FILE                     what a file holds, and how much of it is done
    python h5_util.py FILE --export OUT.npz    x, y, done and every field as (ny, nx) or (nx,)
    python h5_util.py FILE --check             whether checksums hold, directions are there, all cells are done
    python h5_util.py FILE --embed             copy the directions into the surface file
    python h5_util.py FILE --convert OUT.h5    a file of the release of 2018 as one of this version, fields put right
    python h5_util.py FILE --slim OUT.h5       the fields alone, a tenth of the size: to draw and send, not to continue

A surface file holds `xcoordinates`, `ycoordinates`, fields such as `train_loss` and `train_acc` (percent), the mask
`done`, `statistics/<split>/<name>`, and the attributes `plan`, `request`, `about` (JSON) and `sha256` over its own
data. `directions` leads to the direction file. A file of the original release has none of these but the coordinates
and fields; it is read as it is. A spectrum file holds what hessian_spectrum.py has found, with the same attributes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from lossatlas.commands import options
from lossatlas.config.option_fields import option
from lossatlas.errors import BadInput, BadUsage, exit_code, named, printable, say
from lossatlas.io.contents import check, convert, describe, export, slim
from lossatlas.io.direction_files import direction_link
from lossatlas.io.surface_files import embed_directions


@dataclass(frozen=True)
class FileOptions:
    """A file, and whether to check, describe, convert or shorten it."""

    HEADING: ClassVar[str] = "file"

    file: str = option("", "surface, direction or spectrum file", positional=True, required=True, metavar="file")
    export: str | None = option(None, "write the fields as numpy arrays", metavar="OUT.npz")
    check: bool = option(False, "verify the file")
    convert: str | None = option(None, "write a file of the 2018 release as a file of this version", metavar="OUT.h5")
    slim: str | None = option(None, "write a small file with the fields alone, to draw and to share", metavar="OUT.h5")
    embed: bool = option(False, "copy the directions into the surface file")


def parser() -> options.Parser[FileOptions]:
    return options.Parser(__doc__, FileOptions)


def run(args: FileOptions) -> None:
    """Do all that the command line asks for; without a request, describe the file."""
    if args.export:
        if not args.export.endswith(".npz"):
            raise BadUsage(f"{named('export', args.export)}: the name has to end in .npz")
        export(args.file, args.export)
        say(f"wrote {args.export}")
    if args.embed:
        link = direction_link(args.file)
        if link is None:
            raise BadInput(f"{args.file} names no direction file")
        embed_directions(args.file, link)
        say(f"{args.file} now holds its directions")
    if args.convert:
        convert(args.file, args.convert)
        say(f"wrote {args.convert}")
    if args.slim:
        slim(args.file, args.slim)
        say(f"wrote {args.slim}")
    if args.check:
        for line in check(args.file):
            print(printable(line))
        print(printable(f"right: {args.file}"))
    if not (args.export or args.embed or args.convert or args.slim or args.check):
        print(printable(describe(args.file)))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parser().parse_args(argv)
    return exit_code(lambda: run(args))
