"""The file formats: surfaces, directions and spectra in HDF5, new ones and those of the original release.

    python h5_util.py FILE                     what a file holds, and how much of it is done
    python h5_util.py FILE --export OUT.npz    x, y, done and every field as (ny, nx) or (nx,)
    python h5_util.py FILE --embed             copy the directions into the surface file

A surface file holds `xcoordinates`, `ycoordinates`, fields such as `train_loss` and `train_acc` (percent), the mask
`done`, `statistics/<split>/<name>`, and the attributes `plan`, `request`, `about` (JSON) and `sha256` over its own
data. `directions` leads to the direction file. A file of the original release has none of these but the coordinates
and fields; it is read as it is. A spectrum file holds what hessian_spectrum.py has found, with the same attributes.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lossatlas.errors import BadInput, BadUsage, CannotWrite, exit_code
from lossatlas.record import Findings, read_directions, read_findings, read_projection, read_surface
from lossatlas.record.directions import direction_link
from lossatlas.record.files import opened
from lossatlas.record.spectra import SPECTRUM_FORMAT, is_findings
from lossatlas.record.surfaces import embed_directions


def describe(path: str | Path) -> str:
    """What a file holds, as lines of text. Raises BadInput."""
    with opened(path) as f:
        names, kind = set(f), f.attrs.get("format")
    if kind == SPECTRUM_FORMAT:
        return describe_findings(read_findings(path))
    if "proj_xcoord" in names:
        x, y, _ = read_projection(path)
        return f"trajectory: {len(x)} checkpoints, x {x.min():.6g} to {x.max():.6g}, y {y.min():.6g} to {y.max():.6g}"
    if "xcoordinates" not in names:
        directions = read_directions(path)
        lines = [f"directions: {'one' if directions.y is None else 'two'}, {len(directions.x)} tensors each, "
                 f"{sum(a.size for a in directions.x):,} numbers", f"sha256: {directions.sha256}"]  # fmt: skip
        return "\n".join(lines + [f"{key}: {value}" for key, value in directions.about.items()])
    surface = read_surface(path)
    lines = [f"surface: {surface.grid}", f"done: {surface.done.sum()} of {surface.grid.size} cells"]
    for name, array in surface.fields.items():
        known = array[np.isfinite(array)]
        span = f"{known.min():.6g} to {known.max():.6g}" if known.size else "no finite value"
        odd = int(surface.done.sum()) - known.size
        lines.append(f"{name}: {span}" + (f", {odd} cells not finite" if odd else ""))
    if surface.foreign is not None and surface.foreign.any():
        lines.append(f"provenance unknown: {surface.foreign.sum()} cells")
    for title in ("request", "plan", "about"):
        lines += [f"{title}.{key}: {value}" for key, value in getattr(surface, title).items()]
    return "\n".join(lines)


def describe_findings(findings: Findings) -> str:
    lines = ["spectrum of a Hessian"]
    for name, array in findings.arrays.items():
        shape = "x".join(map(str, array.shape))
        lines.append(f"{name}: {array:.6g}" if array.ndim == 0 else f"{name}: {shape} numbers" if array.size > 12
                     else f"{name}: " + " ".join(f"{value:.6g}" for value in array.ravel()))  # fmt: skip
    for title in ("request", "plan", "about"):
        lines += [f"{title}.{key}: {value}" for key, value in getattr(findings, title).items()]
    return "\n".join(lines)


def export(path: str | Path, out: str | Path) -> None:
    """Write x, y, done and every field of a surface, or all of a spectrum, as a compressed .npz.

    Raises BadInput, CannotWrite.
    """
    arrays: dict[str, np.ndarray]
    if is_findings(path):
        arrays = dict(read_findings(path).arrays)
    else:
        surface = read_surface(path)
        arrays = {"x": surface.grid.x, "done": surface.done, **surface.fields}
        if surface.grid.y is not None:
            arrays["y"] = surface.grid.y
    try:
        with open(out, "wb") as f:
            np.savez_compressed(f, **arrays)  # type: ignore[arg-type]
    except OSError as error:
        raise CannotWrite(f"cannot write {out}: {error.strerror}") from error


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("file", help="a surface or direction file")
    p.add_argument("--export", metavar="OUT.npz", help="write the fields as numpy arrays")
    p.add_argument("--embed", action="store_true", help="copy the directions into the surface file")
    return p


def run(args: argparse.Namespace) -> None:
    if args.export:
        if not args.export.endswith(".npz"):
            raise BadUsage(f"--export {args.export}: the name has to end in .npz")
        export(args.file, args.export)
        print(f"wrote {args.export}")
    if args.embed:
        link = direction_link(args.file)
        if link is None:
            raise BadInput(f"{args.file} names no direction file")
        embed_directions(args.file, link)
        print(f"{args.file} now holds its directions")
    if not args.export and not args.embed:
        print(describe(args.file))


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return exit_code(lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
