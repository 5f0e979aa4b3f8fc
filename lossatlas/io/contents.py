"""Contents of the HDF5 files: description, export, check, conversion and slim copies.

The command is `h5_util.py`; the formats are described in `surface_files`, `direction_files`, `spectrum_files` and
`trajectory_files`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lossatlas.errors import BadInput, BadUsage, Incomplete, named
from lossatlas.io import (
    Directions,
    Findings,
    read_directions,
    read_findings,
    read_projection,
    read_surface,
    write_surface,
)
from lossatlas.io.atomic_write import write_file
from lossatlas.io.direction_files import direction_link
from lossatlas.io.hdf5 import get_text, opened
from lossatlas.io.spectrum_files import FORMATS, WRITERS, FindingsKind, is_findings, write_findings
from lossatlas.io.surface_files import added_by_others, split_plane
from lossatlas.landscape import Surface
from lossatlas.landscape.chart_cells import CHART_SOURCES
from lossatlas.landscape.spectrum import matrix_name
from lossatlas.programs import program

ContentKind = Literal[FindingsKind, "trajectory", "surface", "directions"]
VECTORS = ("eigenvectors", "change")  # arrays of findings that are as large as the network
FIRST_FINDINGS = (
    "eigenvalues",
    "smallest",
    "bounds",
    "trace",
    "trace_se",
    "effective_dimension",
    "effective_dimension_estimate",
)


def has_checksum(path: str | Path) -> bool:
    """Return whether a file records a checksum over its contents, as files of this program do."""
    with opened(path) as f:
        return "sha256" in f.attrs


def kind_of(path: str | Path) -> ContentKind:
    """Tell what a file holds by the names in it.

    Args:
        path: Any file of this project, or of the release of 2018.

    Returns:
        'spectrum', 'sharpness', 'learning_coefficient', 'learning_coefficients', 'trajectory', 'surface' (curves too),
        or 'directions' for every other file.

    Raises:
        BadInput: It is no HDF5 file.
    """
    with opened(split_plane(path)[0]) as f:
        names, form = set(f), get_text(f, "format")
    findings = next((kind for kind, own in FORMATS.items() if own == form), None)
    return findings or (
        "trajectory" if "proj_xcoord" in names else "surface" if "xcoordinates" in names else "directions"
    )


def describe(path: str | Path) -> str:
    """Describe the contents of a file.

    Args:
        path: A file of this program or of the original one.

    Returns:
        Lines of text.

    Raises:
        BadInput: The file cannot be read.
    """
    kind = kind_of(path)
    if kind in FORMATS:
        return "\n".join(describe_findings(read_findings(path, "")))
    if kind == "trajectory":
        found = read_projection(path)
        x, y = found.x, found.y
        return f"trajectory: {len(x)} checkpoints, x {x.min():.6g} to {x.max():.6g}, y {y.min():.6g} to {y.max():.6g}"
    if kind == "directions":
        return "\n".join(describe_directions(read_directions(path)))
    return "\n".join(describe_surface(read_surface(path)))


def describe_directions(directions: Directions) -> list[str]:
    """Describe directions: numbers of tensors and entries, checksum and metadata."""
    return [
        f"directions: {('one', 'two', 'three')[len(directions.axes) - 1]}, {len(directions.x)} tensors each, "
        f"{sum(a.size for a in directions.x):,} numbers",
        f"sha256: {directions.sha256}",
        *(f"{key}: {value}" for key, value in directions.about.items()),
    ]


def describe_surface(surface: Surface) -> list[str]:
    """Describe a surface: grid, cells, range of each field, computers and records."""
    lines = [f"surface: {surface.grid}", f"done: {surface.done.sum()} of {surface.grid.size} cells"]
    if surface.predicted:
        lines[-1] += f", interpolated: {surface.interpolated.sum()} cells"
    for name, array in surface.fields.items():
        computed = array[surface.done]
        finite = computed[np.isfinite(computed)]
        span = f"{finite.min():.6g} to {finite.max():.6g}" if finite.size else "no finite value"
        others = computed.size - finite.size
        lines.append(f"{name}: {span}" + (f", {others} cells not finite" if others else ""))
    if surface.foreign is not None and surface.foreign.any():
        lines.append(f"provenance unknown: {surface.foreign.sum()} cells")
    return [*lines, *describe_computers(surface), *describe_records(surface)]


def describe_computers(surface: Surface) -> Iterator[str]:
    """Iterate over the processes that computed cells: their numbers of cells and times."""
    by = surface.provenance.get("computed_by")
    for number, who in enumerate(surface.about.get("computed_by", [])):
        if by is not None and (own := by == number).any():
            seconds = surface.provenance["seconds"][own]
            yield (
                f"computed by {who}: {own.sum()} cells, {seconds.sum():.3g} s, {np.median(seconds):.3g} s each "
                f"({seconds.min():.3g} to {seconds.max():.3g})"
            )


def describe_records(found: Surface | Findings) -> Iterator[str]:
    """Iterate over request, plan and metadata."""
    records: tuple[tuple[str, Mapping[str, Any]], ...] = (
        ("request", found.request),
        ("plan", found.plan),
        ("about", found.about),
    )
    for title, entries in records:
        for key, value in entries.items():
            yield f"{title}.{key}: {value}"


def describe_findings(findings: Findings) -> list[str]:
    """Return the content of a file of findings as lines of text."""
    titles: dict[FindingsKind, str] = {
        "spectrum": f"spectrum of a {matrix_name(findings.request)}",
        "sharpness": "sharpness of a minimum",
        "learning_coefficient": "local learning coefficient of a minimum",
        "learning_coefficients": "local learning coefficients of the checkpoints of a run",
    }
    lines = [titles[findings.kind]]
    names = dict.fromkeys(name for name in (*FIRST_FINDINGS, *findings.arrays) if name in findings.arrays)
    lines += [f"{name}: {describe_array(findings.arrays[name])}" for name in names]
    return [*lines, *describe_records(findings)]


def describe_array(array: np.ndarray) -> str:
    """Write a short array, or the shape of a long one."""
    if array.ndim == 0:
        return f"{array:.6g}"
    if array.size > 12:
        return f"{'x'.join(map(str, array.shape))} numbers"
    return " ".join(f"{value:.6g}" for value in array.ravel())


def export(path: str | Path, out: str | Path) -> None:
    """Write x, y, done and every field of a surface, or all arrays of a file of findings, as a compressed .npz.

    Args:
        path: The file.
        out: The .npz file; fields are (ny, nx) or (nx,).

    Raises:
        BadInput: The file cannot be read.
        CannotWrite: `out` cannot be written.
    """
    arrays: dict[str, np.ndarray]
    if is_findings(path):
        arrays = dict(read_findings(path, "").arrays)
    else:
        surface = read_surface(path)
        arrays = {"x": surface.grid.x, "done": surface.done, **surface.fields}
        if surface.predicted:
            arrays["interpolated"] = surface.interpolated
        for split in surface.splits if surface.samples else ():
            arrays[f"{split}_samples"] = surface.statistics[split]["n"]
        if surface.grid.y is not None:
            arrays["y"] = surface.grid.y
        if surface.grid.z is not None:
            arrays["z"] = surface.grid.z
    write_file(out, lambda file: np.savez_compressed(file, **arrays))  # type: ignore[arg-type]


def check(path: str | Path) -> list[str]:
    """Check that a file is complete and undamaged.

    Args:
        path: The file.

    Returns:
        Lines about what was checked.

    Raises:
        BadInput: The file is damaged.
        Incomplete: Something is not computed yet.
    """
    kind, sealed = kind_of(path), has_checksum(path)
    if kind in FORMATS:
        findings = read_findings(path, "")
        if not {"effective_dimension", "critical"} & set(findings.arrays):
            raise Incomplete(f"{path} is not complete: the same {program(WRITERS[findings.kind])} command continues it")
        return [f"the checksum over {len(findings.arrays)} arrays holds", "all parts are there"]
    if kind == "trajectory":
        return [f"a trajectory of {len(read_projection(path).x)} checkpoints"]
    if kind == "directions":
        return [f"the directions have the checksum that the file records: {read_directions(path).sha256}"]
    surface = read_surface(path)
    lines = ["the checksum holds" if sealed else "no checksum: the file is of another program, and read as it is"]
    lines += check_sample_counts(path, surface)
    lines.append(check_stored_directions(path, surface))
    if not surface.known.all():
        raise Incomplete(f"{path}: {int(surface.known.sum())} of {surface.grid.size} cells are done")
    left_out = f", {surface.interpolated.sum()} of them by interpolation" if surface.interpolated.any() else ""
    return [*lines, f"all {surface.grid.size} cells are done{left_out}"]


def check_sample_counts(path: str | Path, surface: Surface) -> list[str]:
    """Check the numbers of samples at the cells.

    Returns:
        A line for each split.

    Raises:
        BadInput: A cell has less than one sample, or more than the data hold.
    """
    lines = []
    for split, statistics in surface.statistics.items():
        used = statistics["n"][surface.done & np.isfinite(statistics["n"])]
        if not used.size:
            continue
        population = surface.populations[split]
        if not (used.min() >= 1 and used.max() <= population):
            raise BadInput(f"{path}: a cell says that it used {used.max():g} of {population} {split} samples")
        lines.append(f"{split}: {used.min():g} to {used.max():g} of {population} samples at each cell")
    return lines


def check_stored_directions(path: str | Path, surface: Surface) -> str:
    """Check that the directions are those that the surface was computed along.

    Returns:
        A line that says what was found.

    Raises:
        BadInput: The recorded directions cannot be read, or the directions are others.
    """
    recorded = surface.request.get("directions")
    if " " in str(recorded):  # a description, not a checksum: the surface has no direction file
        return f"no directions but {recorded}"
    if "slim" in surface.about:
        return "directions: a slim file has none"
    try:
        saved = read_directions(path)
    except BadInput as error:
        if recorded is None:
            return f"directions: not there ({direction_link(path) or 'the file names none'})"
        raise BadInput(f"{path}: its directions cannot be read: {error}") from error
    used = saved.first(len(surface.grid.axes))
    if recorded not in (None, used.sha256):
        raise BadInput(
            f"{path} was computed along directions with the sha256 {recorded}, those it leads to have {used.sha256}"
        )
    return "the directions are those it was computed along" if recorded else "directions are there"


def convert(path: str | Path, out: str | Path) -> None:
    """Write a surface file of another program as one of this version.

    Args:
        path: The file.
        out: A new file.

    Raises:
        BadInput: The file cannot be read, or holds something that would be lost.
        BadUsage: `out` exists, or `path` is a file of this program.
        CannotWrite: `out` cannot be written.
    """
    refuse_existing("convert", out)
    with opened(path) as f:
        if get_text(f, "format") is not None:
            raise BadUsage(f"{path} is a file of this program already")
    surface = read_surface(path)
    refuse_loss(path, surface.about.get("others", ()))
    write_surface(out, surface, direction_link(path))


def slim(path: str | Path, out: str | Path) -> None:
    """Write a small copy of a complete file, which can be drawn but not continued.

    A surface is written without statistics, directions and the seconds and ranks of its cells, findings without
    vectors as large as the network.

    Args:
        path: The file.
        out: A new file.

    Raises:
        BadInput: The file is not complete, or holds something that would be lost.
        BadUsage: `out` exists.
        CannotWrite: `out` cannot be written.
    """
    refuse_existing("slim", out)
    if is_findings(path):
        check(path)
        findings = read_findings(path, "")
        vectors = [name for name in findings.arrays if name.rpartition("/")[2] in VECTORS]
        write_findings(out, findings.without(*vectors).with_arrays({}, slim="without vectors as large as the network"))
        return
    surface = read_surface(path)
    if not surface.known.all():
        raise BadInput(f"{path} is not complete, and a slim file cannot be continued: nothing is written")
    refuse_loss(path, [*added_by_others(path), *surface.about.get("others", [])])
    zero = [name for name, values in surface.fields.items() if name.endswith("_se") and not values.any()]
    values = {name: values for name, values in surface.fields.items() if name not in zero}
    about = {**surface.about, "slim": "fields alone, of a file that holds more", "zero": zero}
    sources = {name: array for name, array in surface.provenance.items() if name in CHART_SOURCES}
    write_surface(out, replace(surface, statistics={}, samples={}, provenance=sources, values=values, about=about))


def refuse_existing(option: str, out: str | Path) -> None:
    if Path(out).exists():
        raise BadUsage(f"{named(option, str(out))}: the file exists: give another name")


def refuse_loss(path: str | Path, others: Iterable[str]) -> None:
    if names := ", ".join(others):
        raise BadInput(f"{path} holds {names}, which would be lost: nothing is written")
