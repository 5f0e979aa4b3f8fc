"""Convert a surface to VTK's polygon format, or a volume to its format of rectilinear grids, for ParaView.

    python h52vtp.py --surf_file FILE.h5 --surf_name train_loss --log
    python h52vtp.py --surf_file FILE.h5 --zmax 10 --interp 200 --show_points --show_polys

Cells that are not finished or not finite are left out of the polygons; in a volume they are NaN. VTK writes the file:
pip install vtk.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lossatlas.commands import options
from lossatlas.commands.open_results import check_out
from lossatlas.config.option_fields import finite, option, whole
from lossatlas.errors import BadInput, BadUsage, exit_code, named, say
from lossatlas.figures import chosen_field, vtk_meshes
from lossatlas.figures.figure_files import field_word
from lossatlas.io import read_surface
from lossatlas.io.atomic_write import write_file
from lossatlas.io.surface_files import PLANE_MARK
from lossatlas.landscape import Grid, Surface

if TYPE_CHECKING:
    from vtkmodules.vtkCommonDataModel import vtkDataSet
    from vtkmodules.vtkIOXML import vtkXMLWriter

LARGEST = 3e38  # the format's numbers are float32


@dataclass(frozen=True)
class VtkOptions:
    """A surface file, the part of it that becomes a VTK file, and the name of that."""

    HEADING: ClassVar[str] = "conversion"

    surf_file: str = option("", "surface file", short="-f", required=True, metavar="FILE.h5")
    surf_name: str = option("train_loss", "field to convert", metavar="FIELD")
    zmax: float = option(-1.0, "cut off larger heights (default: no cut)", kind=finite)
    interp: int = option(-1, "interpolate to N x N points with cubic splines (default: none)", kind=whole, metavar="N")
    log: bool = option(False, "use the natural logarithm of the field as height")
    show_points: bool = option(False, "mark the points as vertices")
    show_polys: bool = option(False, "write the polygons, which is the default without --show_points")
    out: str | None = option(None, "file to write (default: beside the surface file)", metavar="FILE.vtp")


def parser() -> options.Parser[VtkOptions]:
    return options.Parser(__doc__, VtkOptions)


def heights(values: np.ndarray, zmax: float, *, log: bool) -> np.ndarray:
    """Compute the heights of a field: cut, then its natural logarithm.

    Args:
        values: (ny, nx) values, of a volume (nz, ny, nx).
        zmax: Value at which they are cut; no cut if it is not positive.
        log: Take the logarithm.

    Returns:
        Heights of the same shape; NaN where a value has none.
    """
    cut = np.minimum(values, zmax) if zmax > 0 else values
    with np.errstate(invalid="ignore", divide="ignore"):
        result = np.log(cut) if log else cut
    return np.where(np.abs(result) < LARGEST, result, np.nan)


def interpolated(x: np.ndarray, y: np.ndarray, z: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Interpolate a surface with splines of degree 3, or less where there are few points.

    Args:
        x: (nx,) axis.
        y: (ny,) axis.
        z: (ny, nx) heights, all finite.
        count: Points along each axis.

    Returns:
        Axes x (count,) and y (count,) and heights (count, count).

    Raises:
        BadUsage: A height is not finite.
    """
    from scipy.interpolate import RectBivariateSpline

    if not np.isfinite(z).all():
        raise BadUsage(
            f"{named('interp')} needs a surface that is finished and finite everywhere; {named('zmax')} cuts large "
            "values only"
        )
    order_x, order_y = (min(3, len(axis) - 1) for axis in (x, y))
    fine_x, fine_y = np.linspace(x[0], x[-1], count), np.linspace(y[0], y[-1], count)
    return fine_x, fine_y, RectBivariateSpline(y, x, z, kx=order_y, ky=order_x)(fine_y, fine_x)


def vtp(x: np.ndarray, y: np.ndarray, fields: Mapping[str, np.ndarray], *, points: bool, polys: bool) -> bytes:
    """Encode a surface as a PolyData file.

    Args:
        x: (nx,) axis.
        y: (ny,) axis.
        fields: (ny, nx) values by name, which become numbers of the points. The first field is the height; a point
            without a height gets the lowest one, and belongs to no polygon and no vertex.
        points: Add the points as vertices.
        polys: Add the polygons.

    Returns:
        Content of the file.

    Raises:
        BadUsage: VTK is not installed.
        BadInput: VTK cannot encode the surface.
    """
    require_vtk()
    from vtkmodules.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray
    from vtkmodules.vtkCommonCore import vtkPoints
    from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData
    from vtkmodules.vtkIOXML import vtkXMLPolyDataWriter

    def cells(members: np.ndarray) -> "vtkCellArray":
        array = vtkCellArray()
        offsets = np.arange(len(members) + 1) * members.shape[1]
        array.SetData(
            *(numpy_to_vtkIdTypeArray(each.astype(np.int64), deep=True) for each in (offsets, members.ravel()))
        )
        return array

    z = next(iter(fields.values()))
    coordinates = vtkPoints()
    coordinates.SetData(numpy_to_vtk(vtk_meshes.points(x, y, z).astype(np.float32), deep=True))
    data = vtkPolyData()
    data.SetPoints(coordinates)
    if polys:
        data.SetPolys(cells(vtk_meshes.quadrilaterals(z)))
    if points:
        data.SetVerts(cells(np.flatnonzero(np.isfinite(z))[:, None]))
    add_fields(data, fields)
    return encoded(vtkXMLPolyDataWriter(), data)


def vtr(grid: Grid, fields: Mapping[str, np.ndarray]) -> bytes:
    """Encode a volume as a file of a rectilinear grid.

    Args:
        grid: The grid of the volume.
        fields: (nz, ny, nx) values by name, which become numbers of the points.

    Returns:
        Content of the file.

    Raises:
        BadUsage: VTK is not installed.
        BadInput: VTK cannot encode the volume.
    """
    require_vtk()
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkCommonDataModel import vtkRectilinearGrid
    from vtkmodules.vtkIOXML import vtkXMLRectilinearGridWriter

    data = vtkRectilinearGrid()
    data.SetDimensions(*map(len, grid.point_axes))
    for setter, axis in zip(
        (data.SetXCoordinates, data.SetYCoordinates, data.SetZCoordinates), grid.point_axes, strict=True
    ):
        setter(numpy_to_vtk(np.asarray(axis, float), deep=True))
    add_fields(data, fields)
    return encoded(vtkXMLRectilinearGridWriter(), data)


def require_vtk() -> None:
    """Raise BadUsage where VTK is not installed."""
    try:
        import vtkmodules.vtkIOXML  # noqa: F401
    except ImportError as error:
        raise BadUsage(f"VTK writes this format, and is not there ({error}): pip install vtk") from error


def add_fields(data: "vtkDataSet", fields: Mapping[str, np.ndarray]) -> None:
    """Add values by name to the points of a VTK data set; the first ones are active."""
    from vtkmodules.util.numpy_support import numpy_to_vtk

    for name, values in fields.items():
        array = numpy_to_vtk(values.astype(np.float32).ravel(), deep=True)
        array.SetName(name)
        data.GetPointData().AddArray(array)
    data.GetPointData().SetActiveScalars(next(iter(fields)))


def encoded(writer: "vtkXMLWriter", data: "vtkDataSet") -> bytes:
    """Return the content of the file that a writer of VTK makes of a data set.

    Raises:
        BadInput: VTK cannot encode it.
    """
    writer.SetInputData(data)
    writer.WriteToOutputStringOn()
    writer.SetDataModeToBinary()
    if not writer.Write():
        raise BadInput("VTK could not write the surface")
    return str(writer.GetOutputString()).encode()


def read_convertible(file: str, name: str) -> tuple[Surface, str]:
    """Read a plane or a volume that has a field.

    Raises:
        BadInput: The file is damaged, or holds no plane or volume of at least 2 points on each axis.
        BadUsage: The surface has no field of this name.
    """
    surface = read_surface(file)
    if surface.rows_of:
        raise BadInput(f"{file} holds curves of {surface.rows_of}, and no surface")
    if surface.grid.y is None or min(surface.grid.shape) < 2:
        raise BadInput(f"{file} has the grid {surface.grid}: a surface needs two axes of at least 2 points")
    return chosen_field(surface, name, file)


def polygons(args: VtkOptions, surface: Surface, field: str, z: np.ndarray) -> tuple[bytes, str]:
    """Return the content of a polygon file of a plane, and what it holds in words.

    Args:
        args: The options.
        surface: The plane.
        field: Name of the field that is the height.
        z: (ny, nx) heights.

    Raises:
        BadUsage: As `interpolated` and `vtp`.
        BadInput: As `vtp`.
    """
    x, y = surface.grid.x, surface.grid.y
    assert y is not None
    if args.interp > 0:
        x, y, z = interpolated(x, y, z, args.interp)
    fields = {field: z}
    if args.interp <= 0:  # the other fields can serve as colours
        fields |= with_mask(surface, field)
    points, polys = args.show_points, args.show_polys or not args.show_points
    content = vtp(x, y, fields, points=points, polys=polys)
    return content, f"{z.size} points, {len(vtk_meshes.quadrilaterals(z)) if polys else 0} polygons"


def with_mask(surface: Surface, field: str) -> dict[str, np.ndarray]:
    """Return all fields of a surface but one, and the mask of its interpolated cells where there are some."""
    fields = {each: own for each, own in surface.fields.items() if each != field}
    return fields | ({"interpolated": surface.interpolated.astype(float)} if surface.interpolated.any() else {})


def volume_points(args: VtkOptions, surface: Surface, field: str, values: np.ndarray) -> tuple[bytes, str]:
    """Return the content of a file of a volume, and what it holds in words.

    Args:
        args: The options.
        surface: The volume.
        field: Name of the field.
        values: (nz, ny, nx) its values.

    Raises:
        BadUsage: An option is of polygons alone, or VTK is not installed.
    """
    for name in ("interp", "show_points", "show_polys"):
        if getattr(args, name) not in (-1, False):
            raise BadUsage(f"{named(name)} is of the polygons of a plane, and this is a volume: leave it out")
    return vtr(surface.grid, {field: values, **with_mask(surface, field)}), f"{values.size} points of a volume"


def run(args: VtkOptions) -> None:
    """Convert the file that the command line names."""
    check_out("out", args.out, [args.surf_file])
    surface, field = read_convertible(args.surf_file, args.surf_name)
    if args.interp != -1 and args.interp < 2:
        raise BadUsage(f"{named('interp', args.interp)}: give the number of points on each axis, at least 2")
    values = surface.fields[field]
    z = heights(values, args.zmax, log=args.log)
    if not np.isfinite(z).any():
        raise BadUsage(f"{args.surf_file}: no cell of '{field}' has a height")
    is_volume = surface.grid.z is not None
    content, words = (volume_points if is_volume else polygons)(args, surface, field, z)
    name = f"{args.surf_file}_{field_word(field)}" + (f"_zmax={args.zmax}" if args.zmax > 0 else "")
    base = name.replace(PLANE_MARK, "_z=") + ("_log" if args.log else "")
    out = args.out or base + (".vtr" if is_volume else ".vtp")
    write_file(out, content)
    if missing := int(np.isfinite(values).sum() - np.isfinite(z).sum()):
        say(f"note: {missing} cells have no height on this scale, and are left out")
    say(f"wrote {out}: {words}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    args = parser().parse_args(argv)
    return exit_code(lambda: run(args))
