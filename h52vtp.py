"""Convert a surface to VTK's polygon format, for ParaView.

    python h52vtp.py --surf_file FILE.h5 --surf_name train_loss --log
    python h52vtp.py --surf_file FILE.h5 --zmax 10 --interp 200 --show_points --show_polys

Cells that are not finished or not finite are left out of the polygons.
"""

import guard

import argparse
import base64
from collections.abc import Sequence

import numpy as np

import options
from lossatlas.errors import BadInput, BadUsage, exit_code, say
from lossatlas.record import read_surface
from lossatlas.writing import put


def parser() -> argparse.ArgumentParser:
    p = options.Parser(__doc__)
    p.add_argument("--surf_file", "-f", required=True, help="surface file")
    p.add_argument("--surf_name", default="train_loss", help="field to convert (default: %(default)s)")
    p.add_argument("--zmax", type=options.finite, default=-1, help="cut the heights there (default: no cut)")
    p.add_argument("--interp", type=int, default=-1, metavar="N", help="interpolate to N x N points with cubic splines")
    p.add_argument("--log", action="store_true", help="natural logarithm of the field as height")
    p.add_argument("--show_points", action="store_true", help="mark the points as vertices")
    p.add_argument("--show_polys", action="store_true", help="draw the polygons, which is the default without points")
    p.add_argument("--out", help="file to write (default: beside the surface file)")
    return p


def heights(values: np.ndarray, log: bool, zmax: float) -> np.ndarray:
    """Heights (ny, nx) of a field: cut, then its logarithm. Values that have none become NaN."""
    cut = np.minimum(values, zmax) if zmax > 0 else values
    with np.errstate(invalid="ignore", divide="ignore"):
        result = np.log(cut) if log else cut
    return np.where(np.isfinite(result), result, np.nan)


def interpolated(x: np.ndarray, y: np.ndarray, z: np.ndarray, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The surface on number x number points. Raises BadUsage where a spline is not possible."""
    from scipy.interpolate import RectBivariateSpline

    if not np.isfinite(z).all():
        raise BadUsage("--interp needs a surface that is finished and finite everywhere; --zmax cuts large values only")
    order_x, order_y = (min(3, len(axis) - 1) for axis in (x, y))
    fine_x, fine_y = np.linspace(x[0], x[-1], number), np.linspace(y[0], y[-1], number)
    return fine_x, fine_y, RectBivariateSpline(y, x, z, kx=order_y, ky=order_x)(fine_y, fine_x)


def polygons(z: np.ndarray) -> np.ndarray:
    """Corner numbers (n, 4) of the quadrilaterals whose corners all have a height."""
    ny, nx = z.shape
    first = (np.arange(ny - 1)[:, None] * nx + np.arange(nx - 1)).ravel()
    corners = np.stack([first, first + 1, first + nx + 1, first + nx], 1)
    return corners[np.isfinite(z.ravel()[corners]).all(1)]


def data_array(values: np.ndarray, name: str, components: int = 1) -> str:
    """An array in VTK's inline binary encoding: base64 of its length in bytes (uint32) and its bytes."""
    kinds = {"float32": "Float32", "int64": "Int64"}
    raw = np.ascontiguousarray(values).tobytes()
    text = base64.b64encode(np.uint32(len(raw)).tobytes() + raw).decode()
    return (
        f'<DataArray type="{kinds[str(values.dtype)]}" Name="{name}" NumberOfComponents="{components}" '
        f'format="binary">{text}</DataArray>'
    )


def vtp(x: np.ndarray, y: np.ndarray, z: np.ndarray, name: str, *, points: bool, polys: bool) -> str:
    """A PolyData file. Points without a height lie at the lowest one, and in no polygon."""
    filled = np.where(np.isfinite(z), z, np.nanmin(z)).astype(np.float32)
    grid_x, grid_y = np.meshgrid(x, y)
    corners = polygons(z) if polys else np.empty((0, 4), np.int64)
    vertices = np.flatnonzero(np.isfinite(z)) if points else np.empty(0, np.int64)

    def cells(tag: str, members: np.ndarray, size: int) -> str:
        offsets = np.arange(1, len(members) + 1, dtype=np.int64) * size
        return (
            f"<{tag}>{data_array(members.astype(np.int64).ravel(), 'connectivity')}"
            f"{data_array(offsets, 'offsets')}</{tag}>"
        )

    coordinates = np.stack([grid_x, grid_y, filled], -1).reshape(-1, 3).astype(np.float32)
    return "\n".join(
        [
            '<?xml version="1.0"?>',
            '<VTKFile type="PolyData" version="0.1" byte_order="LittleEndian" header_type="UInt32">',
            f'<PolyData><Piece NumberOfPoints="{z.size}" NumberOfVerts="{len(vertices)}" NumberOfLines="0" '
            f'NumberOfStrips="0" NumberOfPolys="{len(corners)}">',
            f'<PointData Scalars="{name}">{data_array(filled.ravel(), name)}</PointData>',
            f"<Points>{data_array(coordinates.ravel(), 'Points', 3)}</Points>",
            cells("Verts", vertices, 1),
            cells("Polys", corners, 4),
            "</Piece></PolyData></VTKFile>",
            "",
        ]
    )


def run(args: argparse.Namespace) -> None:
    surface = read_surface(args.surf_file)
    if surface.grid.y is None or min(surface.grid.shape) < 2:
        raise BadInput(f"{args.surf_file} has the grid {surface.grid}: a surface needs two axes of at least 2 points")
    if args.surf_name not in surface.fields:
        raise BadUsage(f"{args.surf_file} has no field '{args.surf_name}': choose from {', '.join(surface.fields)}")
    if args.interp != -1 and args.interp < 2:
        raise BadUsage(f"--interp {args.interp}: give the number of points on each axis, at least 2")
    x, y = surface.grid.x, surface.grid.y
    z = heights(surface.fields[args.surf_name], args.log, args.zmax)
    if not np.isfinite(z).any():
        raise BadUsage(f"{args.surf_file}: no cell of '{args.surf_name}' has a height")
    if args.interp > 0:
        x, y, z = interpolated(x, y, z, args.interp)
    name = f"{args.surf_file}_{args.surf_name}" + (f"_zmax={args.zmax}" if args.zmax > 0 else "")
    out = args.out or name + ("_log" if args.log else "") + ".vtp"
    points, polys = args.show_points, args.show_polys or not args.show_points
    put(out, vtp(x, y, z, args.surf_name, points=points, polys=polys).encode())
    say(f"wrote {out}: {z.size} points, {len(polygons(z)) if polys else 0} polygons")


def main(argv: Sequence[str] | None = None) -> int:
    args = parser().parse_args(argv)
    return exit_code(lambda: run(args))


if __name__ == "__main__":
    guard.run(main)
