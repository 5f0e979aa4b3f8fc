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
import hashlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from errors import BadInput, BadUsage, CannotWrite, exit_code
from surface import Grid, Surface, with_moments

FORMAT = "loss surface 1"
SPECTRUM_FORMAT = "hessian spectrum 1"
DAMAGE = (OSError, LookupError, RuntimeError, TypeError, ValueError, AttributeError, MemoryError, EOFError)
# What the original stores where nothing is computed.
MISSING = {"train_loss": -1, "train_acc": -1, "test_loss": -1, "test_acc": -1, "max_eig": -1, "min_eig": 1}


@dataclass(frozen=True)
class Directions:
    """One or two directions as lists of arrays, in the order of the network's parameters or states.

    extra: what else the file holds by name, such as the variance that principal components explain.
    """

    x: Sequence[np.ndarray]
    y: Sequence[np.ndarray] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Over the values of both directions."""
        digest = hashlib.sha256()
        for axis in (self.x, self.y or ()):
            digest.update(b"direction")
            for array in axis:
                digest.update(repr((array.shape, str(array.dtype))).encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def write_directions(path: str | Path, directions: Directions) -> None:
    """Write a direction file atomically. Raises CannotWrite."""
    write(path, lambda f: fill_directions(f, directions))


def fill_directions(group: h5py.Group, directions: Directions) -> None:
    for name, arrays in (("xdirection", directions.x), ("ydirection", directions.y)):
        for k, array in enumerate(arrays or ()):
            group.create_dataset(f"{name}/{k}", data=array)
    for name, array in directions.extra.items():
        group.create_dataset(name, data=array)
    group.attrs["about"] = json.dumps(dict(directions.about))
    group.attrs["sha256"] = directions.sha256


def read_directions(path: str | Path) -> Directions:
    """Read a direction file. Raises BadInput when it is none, or when its checksum does not fit."""
    with opened(path) as f:
        link = f.get("directions", getlink=True)
        try:
            root = f if link is None else f["directions"]
        except KeyError:
            where = getattr(link, "filename", path)
            raise BadInput(f"{path} leads to the directions in {where}, which are not there") from None
        if "xdirection" not in root:
            raise BadInput(f"{path} holds no 'xdirection': it is no direction file")
        axes: list[list[np.ndarray] | None] = []
        for name in ("xdirection", "ydirection"):
            if name not in root:
                axes.append(None)
                continue
            try:
                axes.append([np.asarray(root[name][str(k)][()]) for k in range(len(root[name]))])
            except (KeyError, AttributeError, TypeError):
                raise BadInput(f"{path}: '{name}' does not hold the datasets 0 to {len(root[name]) - 1}") from None
        extra = {name: item[()] for name, item in root.items() if isinstance(item, h5py.Dataset)}
        directions = Directions(axes[0] or [], axes[1], read_json(root, "about"), extra)
        if "sha256" in root.attrs and root.attrs["sha256"] != directions.sha256:
            raise BadInput(f"{path} is damaged: its directions do not have the checksum that it records")
    return directions


def write_surface(
    path: str | Path, surface: Surface, dir_file: str | Path | None = None, embed: Directions | None = None
) -> None:
    """Write a surface file as an atomic snapshot. Raises CannotWrite.

    `directions` in it is a link to `dir_file`, or a copy of the directions to `embed`.
    """
    data = surface_data(surface)

    def fill(f: h5py.File) -> None:
        for group in sorted({name.rpartition("/")[0] for name in data} - {""}):
            f.create_group(group, track_order=True)  # the order of the statistics is that of the workers' columns
        for name, array in data.items():
            f.create_dataset(name, data=array)
        axes = ["xcoordinates"] if surface.grid.y is None else ["ycoordinates", "xcoordinates"]
        for name in axes:
            f[name].make_scale(name[0])
        for name, array in data.items():
            if array.shape == surface.grid.shape and name not in axes:
                for k, axis in enumerate(axes):
                    f[name].dims[k].attach_scale(f[axis])
        f.attrs["format"] = FORMAT
        f.attrs["layout"] = "(nx,)" if surface.grid.y is None else "(ny, nx)"
        f.attrs["sha256"] = checksum(data)
        for name in ("plan", "request", "about", "populations"):
            f.attrs[name] = json.dumps(dict(getattr(surface, name)))
        if dir_file is not None:
            f["dir_file"] = str(dir_file)
        if embed is not None:
            fill_directions(f.create_group("directions", track_order=True), embed)
        elif dir_file is not None:
            here = Path(path).resolve().parent
            f["directions"] = h5py.ExternalLink(os.path.relpath(Path(dir_file).resolve(), here), "/")

    write(path, fill)


def surface_data(surface: Surface) -> dict[str, np.ndarray]:
    """Everything numeric in a surface file, by its name in the file."""
    data: dict[str, np.ndarray] = {"xcoordinates": surface.grid.x}
    if surface.grid.y is not None:
        data["ycoordinates"] = surface.grid.y
    data["done"] = surface.done
    if surface.foreign is not None:
        data["provenance_unknown"] = surface.foreign
    data |= surface.fields
    data |= {f"values/{name}": array for name, array in surface.values.items()}
    for split, arrays in surface.statistics.items():
        data |= {f"statistics/{split}/{name}": array for name, array in arrays.items()}
    return data


def read_surface(path: str | Path) -> Surface:
    """Read a surface file of this tool or of the original. Raises BadInput."""
    with opened(path) as f:
        if "xcoordinates" not in f:
            raise BadInput(f"{path} holds no 'xcoordinates': it is no surface file")
        grid = Grid(read_array(f, "xcoordinates", 1), read_array(f, "ycoordinates", 1) if "ycoordinates" in f else None)
        if f.attrs.get("format") is None:
            return read_original(f, grid, path)
        if f.attrs["format"] != FORMAT:
            raise BadInput(f"{path} has the format '{f.attrs['format']}', this version reads '{FORMAT}'")
        try:
            # In the order of the workers' rows, which the file's alphabetical groups do not keep.
            splits = [split for split in read_json(f, "populations") if f"statistics/{split}" in f]
            statistics = {split: ordered(f, f"statistics/{split}") for split in splits}
            surface = Surface(
                grid,
                f["done"][()].astype(bool),
                statistics,
                ordered(f, "values") if "values" in f else {},
                f["provenance_unknown"][()].astype(bool) if "provenance_unknown" in f else None,
                **{name: read_json(f, name) for name in ("populations", "plan", "request", "about")},
            )
            matches = checksum({name: f[name][()] for name in surface_data(surface)}) == f.attrs["sha256"]
        except (KeyError, ValueError, TypeError, OSError) as error:
            raise BadInput(f"{path} is damaged: {error}") from error
    if not matches:
        raise BadInput(f"{path} is damaged: its data do not have the checksum that it records")
    if any("least_se" not in arrays for arrays in surface.statistics.values()):
        surface = replace(surface, statistics={split: with_moments(a) for split, a in surface.statistics.items()})
    return surface


OWN = {"done", "provenance_unknown", "values", "statistics", "directions", "dir_file", "xcoordinates", "ycoordinates"}
OWN_ATTRIBUTES = {"format", "layout", "sha256", "plan", "request", "about", "populations"}
SCALES = {"CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST", "DIMENSION_LABELS", "_Netcdf4Dimid"}


def added_by_others(path: str | Path) -> list[str]:
    """What a surface file of this tool holds beside what is read from it, and would be lost when it is written again."""
    known = OWN | set(read_surface(path).fields)
    with opened(path) as f:
        if f.attrs.get("format") != FORMAT:
            return []
        found = [f"'{name}'" for name in f if name not in known]
        found += [f"the attribute {name}" for name in f.attrs if name not in OWN_ATTRIBUTES]
        for name in known - {"directions", "values", "statistics"}:
            if name in f:
                found += [f"the attribute {key} of '{name}'" for key in f[name].attrs if key not in SCALES]
    return found


def ordered(f: h5py.File, group: str) -> dict[str, np.ndarray]:
    """The arrays of a group in the order in which they were written."""
    return {name: f[f"{group}/{name}"][()] for name in f[group]}


def read_original(f: h5py.File, grid: Grid, path: str | Path) -> Surface:
    """A file of the original release: no mask, and non-square grids stored as (nx, ny) but filled as (ny, nx)."""
    values, others = {}, [f"the attribute {name}" for name in f.attrs]
    for name, item in f.items():
        if name in ("xcoordinates", "ycoordinates", "dir_file"):
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
    """Whether float64 holds these numbers: complex ones, large integers and texts are others' business."""
    return array.dtype.kind in "fiu" and (
        array.dtype.itemsize <= 8
        and np.array_equal(array.astype(np.float64).astype(array.dtype), array, equal_nan=array.dtype.kind == "f")
    )


def embeds_directions(path: str | Path) -> bool:
    """Whether a surface file holds its directions itself."""
    with opened(path) as f:
        return isinstance(f.get("directions", getlink=True), h5py.HardLink)


def direction_link(path: str | Path) -> str | None:
    """The direction file that a surface file names, or None."""
    with opened(path) as f:
        return text(f["dir_file"][()]) if "dir_file" in f else None


def write_projection(path: str | Path, coordinates: np.ndarray, plane: str, origin: str, **more: np.ndarray) -> None:
    """Write a trajectory projected on the directions with the hash `plane`, atomically. Raises CannotWrite.

    coordinates: (checkpoints, 2). origin: the hash of the checkpoint that they are relative to.
    """

    def fill(f: h5py.File) -> None:
        f.attrs["directions"], f.attrs["checkpoint"] = plane, origin
        f["proj_xcoord"], f["proj_ycoord"] = coordinates[:, 0], coordinates[:, 1]
        for name, array in more.items():
            f[name] = array

    write(path, fill)


def read_projection(
    path: str | Path, dir_file: str | Path | None = None
) -> tuple[np.ndarray, np.ndarray, Sequence[float]]:
    """A projected trajectory: x and y, and the shares of variance that the direction file says its axes explain."""
    with opened(path) as f:
        if "proj_xcoord" not in f or "proj_ycoord" not in f:
            raise BadInput(f"{path} holds no 'proj_xcoord' and 'proj_ycoord': it is no projected trajectory")
        x, y = (read_array(f, name, 1) for name in ("proj_xcoord", "proj_ycoord"))
        if len(x) != len(y):
            raise BadInput(f"{path} holds {len(x)} and {len(y)} coordinates: they do not fit")
    explained: Sequence[float] = ()
    if dir_file:
        with opened(dir_file) as f:
            if "explained_variance_ratio_" in f:
                explained = read_array(f, "explained_variance_ratio_", 1).tolist()
    return x, y, explained


@dataclass(frozen=True)
class Findings:
    """What is known of a Hessian: arrays by name, and request, plan and provenance as of a surface."""

    arrays: Mapping[str, np.ndarray]
    request: Mapping[str, Any]
    plan: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        return checksum(self.arrays)

    def with_arrays(self, arrays: Mapping[str, Any], **about: Any) -> "Findings":
        new = {name: np.asarray(array) for name, array in arrays.items()}
        return replace(self, arrays={**self.arrays, **new}, about={**self.about, **about})


def write_findings(path: str | Path, findings: Findings) -> None:
    """Write a spectrum file as an atomic snapshot. Raises CannotWrite."""

    def fill(f: h5py.File) -> None:
        for name, array in findings.arrays.items():
            f.create_dataset(name, data=array)
        f.attrs["format"] = SPECTRUM_FORMAT
        f.attrs["sha256"] = findings.sha256
        for name in ("request", "plan", "about"):
            f.attrs[name] = json.dumps(dict(getattr(findings, name)))

    write(path, fill)


def is_findings(path: str | Path) -> bool:
    with opened(path) as f:
        return bool(f.attrs.get("format") == SPECTRUM_FORMAT)


def read_findings(path: str | Path) -> Findings:
    """Read a spectrum file. Raises BadInput."""
    with opened(path) as f:
        if f.attrs.get("format") != SPECTRUM_FORMAT:
            raise BadInput(f"{path} is no spectrum file of hessian_spectrum.py")
        arrays: dict[str, np.ndarray] = {}
        f.visititems(lambda name, item: arrays.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
        if checksum(arrays) != f.attrs["sha256"]:
            raise BadInput(f"{path} is damaged: its data do not have the checksum that it records")
        return Findings(arrays, *(read_json(f, name) for name in ("request", "plan", "about")))


def write(path: str | Path, fill: Any) -> None:
    """Build a file in memory, then put it in place: temporary file, fsync, replace, fsync of the folder.

    The image is built in memory because libhdf5 crashes on a full disk, and because an interrupted write must leave
    the previous file as it was.
    """
    path = Path(os.path.realpath(path))  # a symbolic link stays one
    temporary = path.with_name(f".{path.name[:200]}.{os.getpid()}.part")
    try:
        with h5py.File(str(path), "w", driver="core", backing_store=False, track_order=True) as f:
            fill(f)
            f.flush()
            image = f.id.get_file_image()
        with open(temporary, "wb") as out:
            out.write(image)
            out.flush()
            os.fsync(out.fileno())
        os.replace(temporary, path)
        folder = os.open(path.resolve().parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise CannotWrite(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def opened(path: str | Path) -> Iterator[h5py.File]:
    """An HDF5 file for reading. Raises BadInput for whatever goes wrong in it, since any byte may be damaged."""
    if not Path(path).is_file():
        raise BadInput(f"no file {path}")
    try:
        f = h5py.File(path, "r", locking=False, track_order=True)
    except OSError as error:
        raise BadInput(f"{path} is not a readable HDF5 file: {str(error).splitlines()[0][:150]}") from error
    with f:
        try:
            yield f
        except (BadInput, BadUsage, CannotWrite):
            raise
        except DAMAGE as error:
            raise BadInput(f"{path} is damaged, or not what it should be: {type(error).__name__}: {error}") from error


def read_array(f: h5py.File, name: str, axes: int) -> np.ndarray:
    array = np.asarray(f[name][()], dtype=np.float64)
    if array.ndim != axes or array.size == 0 or not np.isfinite(array).all():
        raise BadInput(f"{f.filename}: '{name}' has shape {array.shape}, or values that are no coordinates")
    return array


def read_json(item: h5py.HLObject, name: str) -> dict[str, Any]:
    return json.loads(item.attrs[name]) if name in item.attrs else {}


def projection_plane(path: str | Path) -> dict[str, str]:
    """The hashes of the directions and of the origin of a trajectory's coordinates, as far as the file says."""
    with opened(path) as f:
        return {name: text(f.attrs[name]) for name in ("directions", "checkpoint") if name in f.attrs}


def text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def checksum(data: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(data):
        array = np.ascontiguousarray(data[name])
        digest.update(repr((name, array.shape, str(array.dtype))).encode())
        digest.update(array.data)
    return digest.hexdigest()


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


def embed_directions(path: str | Path, link: str) -> None:
    """Copy the directions into a surface file. Raises BadInput where they are not those it was computed along."""
    surface, directions = read_surface(path), read_directions(path)
    used = Directions(directions.x, directions.y if surface.grid.y is not None else None).sha256
    if surface.request.get("directions") != used:
        raise BadInput(f"{path} was computed along directions with the sha256 {surface.request.get('directions')}, those in "
                       f"{link} have {used}: nothing is embedded")  # fmt: skip
    write_surface(path, surface, link, embed=directions)


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
