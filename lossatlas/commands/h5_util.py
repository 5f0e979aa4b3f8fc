"""Inspect, check and convert files: surfaces, directions and spectra in HDF5, of this and of the original release.

    python h5_util.py FILE                     what a file holds, and how much of it is done
    python h5_util.py FILE --export OUT.npz    x, y, done and every field as (ny, nx) or (nx,)
    python h5_util.py FILE --check             check the checksums, the directions, and that all cells are done
    python h5_util.py FILE --embed             copy the directions into the surface file
    python h5_util.py FILE --convert OUT.h5    a file of the release of 2018 as one of this version, fields put right
    python h5_util.py FILE --slim OUT.h5       the fields alone, a tenth of the size: to be drawn and sent, not continued

A surface file holds `xcoordinates`, `ycoordinates`, fields such as `train_loss` and `train_acc` (percent), the mask
`done`, `statistics/<split>/<name>`, and the attributes `plan`, `request`, `about` (JSON) and `sha256` over its own
data. `directions` leads to the direction file. A file of the original release has none of these but the coordinates
and fields; it is read as it is. A spectrum file holds the results of hessian_spectrum.py, with the same attributes.
"""

import argparse
from collections.abc import Sequence

from lossatlas.errors import BadInput, BadUsage, exit_code, named, printable, say
from lossatlas.io.contents import check, convert, describe, export, slim
from lossatlas.io.direction_files import direction_link
from lossatlas.io.surface_files import embed_directions


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("file", help="a surface or direction file")
    p.add_argument("--export", metavar="OUT.npz", help="write the fields as numpy arrays")
    p.add_argument("--check", action="store_true", help="verify the file")
    p.add_argument("--convert", metavar="OUT.h5", help="write a file of the release of 2018 as one of this version")
    p.add_argument("--slim", metavar="OUT.h5", help="write a small file with the fields alone, to be drawn and sent")
    p.add_argument("--embed", action="store_true", help="copy the directions into the surface file")
    return p


def run(args: argparse.Namespace) -> None:
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
