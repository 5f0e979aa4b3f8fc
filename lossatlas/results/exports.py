"""Surfaces for other programs: xarray, pandas, numpy and netCDF files; results are saved by the ending of a name."""

import json
import tempfile
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np

from lossatlas.errors import BadUsage, CannotWrite, error_line
from lossatlas.figures.plotted_fields import FIELD_TITLES, is_accuracy
from lossatlas.io import Directions, Findings, write_findings, write_surface
from lossatlas.io.atomic_write import write_file
from lossatlas.landscape import Surface

if TYPE_CHECKING:
    import pandas
    import xarray

NETCDF = ("netCDF4", "h5netcdf")  # packages that write netCDF files, the preferred one first


def optional_package(name: str, purpose: str) -> Any:
    """Import a package that is not needed otherwise.

    Raises:
        BadUsage: It is not installed; the message says how to install it.
    """
    if find_spec(name) is None:
        raise BadUsage(f"{purpose} needs {name}, which is not installed: pip install {name}")
    return import_module(name)


def dataset(surface: Surface) -> "xarray.Dataset":
    """Convert a surface to a Dataset.

    Args:
        surface: The surface.

    Returns:
        A variable for each field, `done` and, where cells are interpolated, `interpolated`, over the coordinates z, y
        and x, as far as there are ("row" and x where rows are repeats or layers), with `long_name` and `units`;
        request, metadata and numbers of samples as JSON in the attributes.

    Raises:
        BadUsage: xarray is not installed.
    """
    xarray = optional_package("xarray", "to_xarray()")
    axes = axes_by_name(surface)
    dims = list(reversed(axes))
    which = {"x": "first", "y": "second", "z": "third"}
    coordinates = {
        name: (name, axis, {"long_name": surface.rows_of} if name == "row" else _about_axis(which[name]))
        for name, axis in axes.items()
    }
    variables = {name: (dims, values, _about_field(name)) for name, values in surface.fields.items()}
    variables["done"] = (dims, surface.done, {"long_name": "the cell is computed"})
    if surface.interpolated.any():
        variables["interpolated"] = (dims, surface.interpolated, {"long_name": "the cell is interpolated from others"})
    return xarray.Dataset(variables, coordinates, {"title": "loss landscape", **metadata(surface)})


def axes_by_name(surface: Surface) -> dict[str, np.ndarray]:
    """Return the coordinates along x, y and z, as far as there are; "row" are the names of repeats or layers."""
    axes = dict(zip("xyz", reversed(surface.grid.axes), strict=False))
    return {"x": axes["x"], "row": row_names(surface)} if surface.rows_of else axes


def row_names(surface: Surface) -> np.ndarray:
    """Return the names of the rows of a surface whose rows are repeats or layers."""
    return np.array([str(each) for each in surface.request["rows"]])


def metadata(surface: Surface) -> dict[str, str]:
    """Return request, metadata and numbers of samples of a surface as JSON."""
    parts = {"request": surface.request, "about": surface.about, "samples": surface.populations}
    return {name: json.dumps(dict(part)) for name, part in parts.items()}


def _about_axis(which: str) -> dict[str, str]:
    return {"long_name": f"coordinate along the {which} direction", "units": "1"}


def _about_field(name: str) -> dict[str, str]:
    title = FIELD_TITLES.get(name, name.replace("_", " ")).removesuffix(" (%)")
    of_accuracy = is_accuracy(name) or is_accuracy(name.removesuffix("_se"))
    return {"long_name": title, "units": "percent" if of_accuracy else "1"}


def dataframe(surface: Surface) -> "pandas.DataFrame":
    """Convert a surface to a table with one row for each cell.

    Args:
        surface: The surface.

    Returns:
        Columns x, y, z, as far as there are ("row" where rows are repeats or layers), each field, `done` and, where
        cells are interpolated, `interpolated`; the cells row by row.

    Raises:
        BadUsage: pandas is not installed.
    """
    pandas = optional_package("pandas", "to_dataframe()")
    axes = axes_by_name(surface)
    meshes = np.meshgrid(*reversed(axes.values()), indexing="ij")
    columns = {name: mesh.ravel() for name, mesh in zip(axes, reversed(meshes), strict=True)}
    columns |= {name: values.ravel() for name, values in surface.fields.items()}
    columns["done"] = surface.done.ravel()
    if surface.interpolated.any():
        columns["interpolated"] = surface.interpolated.ravel()
    return pandas.DataFrame(columns)


def save_surface(file: str | Path, surface: Surface, directions: Directions | None) -> None:
    """Write a surface in the format that the ending of the name says.

    Args:
        file: A name that ends in .h5 or .hdf5 (which `read` and the commands read), .npz or .nc.
        surface: The surface.
        directions: Its directions, which an HDF5 file contains.

    Raises:
        BadUsage: The ending is another one, or the package for netCDF is not installed.
        CannotWrite: The file cannot be written.
    """
    writers: dict[str, Callable[[], object]] = {
        ".h5": lambda: write_surface(file, surface, embed=directions),
        ".hdf5": lambda: write_surface(file, surface, embed=directions),
        ".npz": lambda: write_npz(file, surface_arrays(surface)),
        ".nc": lambda: write_netcdf(file, surface),
    }
    writer_for(file, writers)()


def save_findings(file: str | Path, findings: Findings) -> None:
    """Write findings in the format that the ending of the name says.

    Args:
        file: A name that ends in .h5, .hdf5 or .npz.
        findings: The findings.

    Raises:
        BadUsage: The ending is another one.
        CannotWrite: The file cannot be written.
    """
    writers: dict[str, Callable[[], object]] = {
        ".h5": lambda: write_findings(file, findings),
        ".hdf5": lambda: write_findings(file, findings),
        ".npz": lambda: write_npz(file, findings.arrays),
    }
    writer_for(file, writers)()


def writer_for(file: str | Path, writers: Mapping[str, Callable[[], object]]) -> Callable[[], object]:
    """Return the writer for the ending of a name.

    Raises:
        BadUsage: There is no writer for it.
    """
    ending = Path(file).suffix.lower()
    if ending not in writers:
        what = f"the ending '{ending}'" if ending else "no ending"
        raise BadUsage(f"{file} has {what}, which says no format: choose from {', '.join(writers)}")
    return writers[ending]


def surface_arrays(surface: Surface) -> dict[str, np.ndarray]:
    """Return coordinates, fields and masks of a surface by name; names of rows, request and metadata are texts."""
    masks = {"done": surface.done} | ({"interpolated": surface.interpolated} if surface.interpolated.any() else {})
    texts = {name: np.array(text) for name, text in metadata(surface).items()}
    return {**axes_by_name(surface), **surface.fields, **masks, **texts}


def write_npz(file: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays atomically, so that `numpy.load` reads them without pickle.

    Raises:
        CannotWrite: The file cannot be written.
    """
    named: dict[str, Any] = dict(arrays)

    def fill(out: BinaryIO) -> None:
        np.savez_compressed(out, **named)

    write_file(file, fill)


def write_netcdf(file: str | Path, surface: Surface) -> None:
    """Write a surface as a netCDF file atomically.

    Raises:
        BadUsage: No package that writes netCDF is installed.
        CannotWrite: The file cannot be written.
    """
    found = next((name for name in NETCDF if find_spec(name) is not None), None)
    if found is None:
        raise BadUsage(f"{file} needs {' or '.join(NETCDF)}, of which none is installed: pip install {NETCDF[1]}")
    engine: Literal["netcdf4", "h5netcdf"] = "netcdf4" if found == "netCDF4" else "h5netcdf"
    content = dataset(surface)
    with tempfile.TemporaryDirectory() as folder:
        temporary = Path(folder) / "surface.nc"
        try:
            content.to_netcdf(temporary, engine=engine)
        except OSError as error:
            raise CannotWrite(f"cannot write {file}: {error_line(error)}") from error
        write_file(file, temporary.read_bytes())
