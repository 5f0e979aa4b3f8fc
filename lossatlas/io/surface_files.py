"""Surface files, in this version's format and in the original release's.

A surface file holds `xcoordinates`, `ycoordinates`, of a volume `zcoordinates`, fields such as `train_loss` and
`train_acc` (percent), the mask `done`, `statistics/<split>/<name>`, `provenance/<name>`, with control variates
`samples/<split>/<name>` (one cell after the other, `n` of each), and the attributes `plan`, `request`, `about` (JSON)
and `sha256` over its own data. `directions` links to the direction file. A file of the original release holds
coordinates and fields only.
"""

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from lossatlas.errors import BadInput
from lossatlas.io.direction_files import Directions, fill_directions, read_directions
from lossatlas.io.hdf5 import (
    check_seal,
    checksum,
    get_text,
    opened,
    own_attribute,
    read_array,
    read_json,
    read_plan,
    seal,
    set_file_name,
    set_text,
    text,
    write,
)
from lossatlas.io.lock import Lock
from lossatlas.landscape.grid import Grid
from lossatlas.landscape.statistics import with_moments
from lossatlas.landscape.surface import Surface

FORMAT = "loss surface 1"
PLANE_MARK = ":z="  # between the name of a volume's file and the coordinate of one of its planes
SEALED = ("format", "layout", "plan", "request", "about", "populations")  # attributes with a checksum of their own
# Values that the original code stores in cells that are not computed.
MISSING = {"train_loss": -1, "train_acc": -1, "test_loss": -1, "test_acc": -1, "max_eig": -1, "min_eig": 1}


def write_surface(
    path: str | Path, surface: Surface, dir_file: str | Path | None = None, embed: Directions | None = None
) -> None:
    """Write a surface file as an atomic snapshot.

    Args:
        path: The file.
        surface: The surface.
        dir_file: The direction file, to which `directions` in the file links.
        embed: Directions that are copied into the file instead.

    Raises:
        CannotWrite: The file cannot be written.

    Example:
        >>> import tempfile
        >>> grid = Grid(np.array([0.0, 1.0]))
        >>> path = f"{tempfile.mkdtemp()}/s.h5"
        >>> write_surface(path, Surface.of_values(grid, ["max_eig"], plan={}, request={}, about={}))
        >>> read_surface(path).grid.size
        2
    """
    write(path, surface_writer(path, surface, dir_file, embed))


def surface_writer(
    path: str | Path, surface: Surface, dir_file: str | Path | None, embed: Directions | None
) -> Callable[[h5py.File], None]:
    """Return the function that writes a surface into an open file, see `write_surface`.

    Args:
        path: Path of the surface file, to which links are relative.
        surface: The surface.
        dir_file: The direction file, to which `directions` links; None for no link.
        embed: Directions to store in the file itself, instead of a link.
    """
    data = surface_data(surface)

    def fill(f: h5py.File) -> None:
        for group in sorted({name.rpartition("/")[0] for name in data} - {""}):
            f.create_group(group, track_order=True)  # the order of the statistics is that of the workers' columns
        for name, array in data.items():
            f.create_dataset(name, data=array)
        letters = "xyz"[: len(surface.grid.axes)][::-1]
        axes = [f"{letter}coordinates" for letter in letters]
        for name in axes:
            f[name].make_scale(name[0])
        for name, array in data.items():
            if array.shape == surface.grid.shape and name not in axes:
                for k, axis in enumerate(axes):
                    f[name].dims[k].attach_scale(f[axis])
        set_text(f, "format", FORMAT)
        set_text(f, "layout", "(nx,)" if letters == "x" else f"({', '.join(f'n{letter}' for letter in letters)})")
        set_text(f, "sha256", checksum(data))
        for name in ("plan", "request", "about", "populations"):
            set_text(f, name, json.dumps(dict(getattr(surface, name))))
        seal(f, SEALED)
        if dir_file is not None:
            set_file_name(f, "dir_file", dir_file)
        if embed is not None:
            fill_directions(f.create_group("directions", track_order=True), embed)
        elif dir_file is not None:
            here = Path(path).resolve().parent
            f["directions"] = h5py.ExternalLink(os.path.relpath(Path(dir_file).resolve(), here), "/")

    return fill


def surface_data(surface: Surface) -> dict[str, np.ndarray]:
    """Return all arrays of a surface by their names in the file."""
    data: dict[str, np.ndarray] = {"xcoordinates": surface.grid.x}
    if surface.grid.y is not None:
        data["ycoordinates"] = surface.grid.y
    if surface.grid.z is not None:
        data["zcoordinates"] = surface.grid.z
    data["done"] = surface.done
    if surface.foreign is not None:
        data["provenance_unknown"] = surface.foreign
    data |= surface.fields
    data |= {f"values/{name}": array for name, array in surface.values.items()}
    for split, arrays in surface.statistics.items():
        data |= {f"statistics/{split}/{name}": array for name, array in arrays.items()}
    for split, cells in surface.samples.items():
        data[f"samples/{split}/n"] = np.array([len(own.get("loss", ())) for own in cells], dtype=np.int64)
        names = dict.fromkeys(name for own in cells for name in own)
        for name in names:  # weights are stored only for cells in which one differs from 1
            parts = [own.get(name, np.ones_like(own["loss"])) for own in cells if own]
            data[f"samples/{split}/{name}"] = np.concatenate(parts)
    if surface.predicted:
        data["interpolated"] = surface.interpolated
    data |= {f"predicted/{name}": array for name, array in surface.predicted.items()}
    return data | {f"provenance/{name}": array for name, array in surface.provenance.items()}


def split_plane(path: str | Path) -> tuple[str, float | None]:
    """Split the name of a plane of a volume, 'FILE.h5:z=Z', into the file and the coordinate.

    Args:
        path: A file, or a plane of a volume.

    Returns:
        The file and Z; None of a file.

    Raises:
        BadInput: Z is no number, or a plane is named by x or y.

    Example:
        >>> split_plane("v.h5:z=0.5"), split_plane("s.h5")
        (('v.h5', 0.5), ('s.h5', None))
    """
    file, mark, text = str(path).rpartition(PLANE_MARK)
    if Path(path).exists():
        return str(path), None
    if not mark:
        if other := re.fullmatch(r"(.+\.(?:h5|hdf5)):[xy]=.*", str(path)):
            raise BadInput(f"{path}: planes of a volume are named by their z alone, as in {other[1]}{PLANE_MARK}0")
        return str(path), None
    try:
        return file, float(text)
    except ValueError:
        raise BadInput(f"{path}: '{text}' is no number: name a plane of a volume as in {file}{PLANE_MARK}0") from None


def read_surface(path: str | Path) -> Surface:
    """Read a surface file of this program or of the original one.

    Args:
        path: The file; 'FILE.h5:z=Z' reads one plane of a volume.

    Returns:
        The surface; of a file of the original program all cells have an unknown provenance.

    Raises:
        BadInput: The file is no surface file, of another version, or damaged.
        BadUsage: A plane is named that the volume does not have.

    Example:
        >>> read_surface("docs/surfaces/resnet56_cifar10.h5").grid.shape
        (51, 51)
    """
    file, z = split_plane(path)
    if z is not None:
        return read_surface(file).plane_at(z)
    with opened(path) as f:
        grid = read_grid(f, path)
        form = get_text(f, "format")
        if form is None and not (OURS_ALONE & {*f, *f.attrs}):
            return read_original(f, grid, path)
        if form is None:
            raise BadInput(f"{path} is damaged: its attribute 'format' is gone")
        if form != FORMAT:
            raise BadInput(f"{path} has the format '{form}', this version reads '{FORMAT}'")
        check_seal(f, SEALED)
        try:
            surface = read_own(f, grid)
            there = {name: f[name][()] for name in surface_data(surface) if name in f}
            matches = checksum(there) == get_text(f, "sha256")
        except (KeyError, ValueError, TypeError, OSError) as error:
            raise BadInput(f"{path} is damaged: {error}") from error
    if not matches:
        raise BadInput(f"{path} is damaged: its data do not have the checksum that it records")
    return surface


def read_grid(f: h5py.File, path: str | Path) -> Grid:
    """Read the grid of an open surface file.

    Raises:
        BadInput: There is none, or coordinates do not increase.
    """
    names = [name for letter in "xyz" if (name := f"{letter}coordinates") in f]
    if "xcoordinates" not in names:
        raise BadInput(f"{path} holds no 'xcoordinates': it is no surface file")
    if "zcoordinates" in names and "ycoordinates" not in names:
        raise BadInput(f"{path} is damaged: it has 'zcoordinates' and no 'ycoordinates'")
    grid = Grid(*(read_array(f, name, 1) for name in names))
    for name, axis in zip(names, reversed(grid.axes), strict=True):
        if not (np.diff(axis) > 0).all():
            raise BadInput(f"{path}: '{name}' does not increase from one point to the next: sort the cells first")
    return grid


def read_own(f: h5py.File, grid: Grid) -> Surface:
    """Read a surface of this program from an open file."""
    # In the order of the workers' rows, which the file's alphabetical groups do not keep.
    splits = [split for split in read_json(f, "populations") if f"statistics/{split}" in f]
    statistics = {split: complete(ordered(f, f"statistics/{split}")) for split in splits}
    return Surface(
        grid,
        f["done"][()].astype(bool),
        statistics,
        ordered(f, "values") if "values" in f else {},
        f["provenance_unknown"][()].astype(bool) if "provenance_unknown" in f else None,
        populations=read_json(f, "populations"),
        plan=read_plan(f),
        request=read_json(f, "request"),
        about=read_json(f, "about"),
        provenance=ordered(f, "provenance") if "provenance" in f else {},
        predicted=ordered(f, "predicted") if "predicted" in f else {},
        samples={split: cell_by_cell(ordered(f, f"samples/{split}")) for split in splits if "samples" in f},
    )


def cell_by_cell(arrays: Mapping[str, np.ndarray]) -> list[Mapping[str, np.ndarray]]:
    """Split the samples of all cells into one mapping for each cell.

    Raises:
        ValueError: A cell has a negative number of samples, or an array does not hold the samples of all cells.
    """
    counts = arrays["n"]
    edges = np.concatenate([[0], np.cumsum(counts)])
    named = {name: array for name, array in arrays.items() if name != "n"}
    if (counts < 0).any() or any(len(array) != edges[-1] for array in named.values()):
        raise ValueError("its samples are not as many as its cells say")
    pairs = zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    return [{name: array[start:stop] for name, array in named.items()} if stop > start else {} for start, stop in pairs]


def complete(statistics: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Add bounds for statistics that an earlier version did not record."""
    return statistics if "least_se" in statistics else with_moments(statistics)


OWN = {
    "done",
    "provenance_unknown",
    "provenance",
    "values",
    "statistics",
    "samples",
    "predicted",
    "interpolated",
    "directions",
    "dir_file",
    "xcoordinates",
    "ycoordinates",
    "zcoordinates",
}
OURS_ALONE = {
    "done",
    "values",
    "statistics",
    "samples",
    "predicted",
    "interpolated",
    "provenance_unknown",
    "directions",
    "plan",
    "request",
    "populations",
    "seal",
}
OWN_ATTRIBUTES = {"format", "layout", "sha256", "plan", "request", "about", "populations", "seal"}
SCALES = {"CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST", "DIMENSION_LABELS", "_Netcdf4Dimid"}


def added_by_others(path: str | Path) -> list[str]:
    """Name what other programs have added to a surface file, and what writing it again would lose."""
    known = OWN | set(read_surface(path).fields)
    with opened(path) as f:
        if get_text(f, "format") != FORMAT:
            return []
        found = [f"'{name}'" for name in f if name not in known]
        found += [f"the attribute {name}" for name in f.attrs if not own_attribute(name, OWN_ATTRIBUTES)]
        for name in known - {"directions", "values", "statistics", "samples", "predicted", "provenance"}:
            if name in f:
                found += [f"the attribute {key} of '{name}'" for key in f[name].attrs if key not in SCALES]
    return found


def ordered(f: h5py.File, group: str) -> dict[str, np.ndarray]:
    """Read the arrays of a group in the order in which they were written."""
    return {name: f[f"{group}/{name}"][()] for name in f[group]}


def read_original(f: h5py.File, grid: Grid, path: str | Path) -> Surface:
    """Read a file of the original program: no mask, and non-square grids stored as (nx, ny) but filled as (ny, nx)."""
    values, others = {}, [f"the attribute {name}" for name in f.attrs]
    for name, item in f.items():
        if name in ("xcoordinates", "ycoordinates", "zcoordinates", "dir_file"):
            continue
        others += [f"the attribute {key} of '{name}'" for key in item.attrs if key not in SCALES]
        if (
            not isinstance(item, h5py.Dataset)
            or item.shape not in {grid.shape, grid.shape[::-1]}
            or not is_real(item[()])
        ):
            others.append(f"'{name}'")
            continue
        array = np.asarray(item[()], dtype=np.float64).reshape(grid.shape)
        missing = array == MISSING.get(name, math.nan)
        values[name] = np.where(missing, np.nan, array)
    if not values:
        raise BadInput(f"{path} holds coordinates but no field on the grid {grid.shape}")
    about: dict[str, Any] = {"origin": "written by another program: no checksums, provenance unknown"}
    if others:
        about["others"] = others
    if "dir_file" in f:
        about["dir_file"] = text(f["dir_file"][()])
    computed = [array for name, array in values.items() if name in MISSING] or list(values.values())
    done = np.logical_or.reduce([~np.isnan(array) for array in computed])
    return Surface(grid, done, values=values, foreign=done.copy(), about=about)


def is_real(array: np.ndarray) -> bool:
    """Test that float64 represents an array exactly: no complex numbers, large integers or texts."""
    return array.dtype.kind in "fiu" and (
        array.dtype.itemsize <= 8
        and np.array_equal(array.astype(np.float64).astype(array.dtype), array, equal_nan=array.dtype.kind == "f")
    )


def embed_directions(path: str | Path, link: str) -> None:
    """Copy the directions into a surface file.

    Args:
        path: The surface file.
        link: Name of the direction file, which stays recorded.

    Raises:
        CannotWrite: The file cannot be written, or another run is writing it.
        BadInput: The directions are not those that the surface was computed along.
    """
    with Lock(path) as lock:
        embed_locked(path, link, lock)


def embed_locked(path: str | Path, link: str, lock: Lock) -> None:
    """Do `embed_directions` with the lock of the file."""
    surface, directions = read_surface(path), read_directions(path)
    used = directions.first(len(surface.grid.axes)).sha256
    if surface.request.get("directions") != used:
        raise BadInput(
            f"{path} was computed along directions with the sha256 {surface.request.get('directions')}, those in "
            f"{link} have {used}: nothing is embedded"
        )
    lock.check()
    write_surface(path, surface, link, embed=directions)
