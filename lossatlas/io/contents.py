"""The file formats: surfaces, directions and spectra in HDF5, new ones and those of the original release.

    python h5_util.py FILE                     what a file holds, and how much of it is done
    python h5_util.py FILE --export OUT.npz    x, y, done and every field as (ny, nx) or (nx,)
    python h5_util.py FILE --check             whether checksums hold, directions are there, all cells are done
    python h5_util.py FILE --embed             copy the directions into the surface file
    python h5_util.py FILE --convert OUT.h5    a file of the release of 2018 as one of this version, fields put right
    python h5_util.py FILE --slim OUT.h5       the fields alone, a tenth of the size: to be drawn and sent, not continued

A surface file holds `xcoordinates`, `ycoordinates`, fields such as `train_loss` and `train_acc` (percent), the mask
`done`, `statistics/<split>/<name>`, and the attributes `plan`, `request`, `about` (JSON) and `sha256` over its own
data. `directions` leads to the direction file. A file of the original release has none of these but the coordinates
and fields; it is read as it is. A spectrum file holds what hessian_spectrum.py has found, with the same attributes.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from lossatlas.errors import BadInput, BadUsage, Incomplete
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
from lossatlas.io.spectrum_files import FORMATS, WRITERS, is_findings, write_findings
from lossatlas.io.surface_files import added_by_others
from lossatlas.landscape import Surface
from lossatlas.programs import program

VECTORS = ("eigenvectors", "change")  # of files of findings: each as large as the network


def kind_of(path: str | Path) -> str:
    """Tell what a file holds by the names in it.

    Args:
        path: Any file of this project, or of the release of 2018.

    Returns:
        'spectrum', 'sharpness', 'trajectory', 'surface' (curves too), or 'directions' for every other file.

    Raises:
        BadInput: It is no HDF5 file.
    """
    with opened(path) as f:
        names, form = set(f), get_text(f, "format")
    findings = next((kind for kind, own in FORMATS.items() if own == form), "")
    return findings or (
        "trajectory" if "proj_xcoord" in names else "surface" if "xcoordinates" in names else "directions"
    )


def describe(path: str | Path) -> str:
    """What a file holds, as lines of text. Raises BadInput."""
    kind = kind_of(path)
    if kind in FORMATS:
        return describe_findings(read_findings(path, ""))
    if kind == "trajectory":
        path_ = read_projection(path)
        x, y = path_.x, path_.y
        return f"trajectory: {len(x)} checkpoints, x {x.min():.6g} to {x.max():.6g}, y {y.min():.6g} to {y.max():.6g}"
    if kind == "directions":
        directions = read_directions(path)
        lines = [
            f"directions: {'one' if directions.y is None else 'two'}, {len(directions.x)} tensors each, "
            f"{sum(a.size for a in directions.x):,} numbers",
            f"sha256: {directions.sha256}",
        ]
        return "\n".join(lines + [f"{key}: {value}" for key, value in directions.about.items() if key != "config"])
    surface = read_surface(path)
    lines = [f"surface: {surface.grid}", f"done: {surface.done.sum()} of {surface.grid.size} cells"]
    if surface.predicted:
        lines[-1] += f", interpolated: {surface.interpolated.sum()} cells"
    for name, array in surface.fields.items():
        computed = array[surface.done]
        known = computed[np.isfinite(computed)]
        span = f"{known.min():.6g} to {known.max():.6g}" if known.size else "no finite value"
        odd = computed.size - known.size
        lines.append(f"{name}: {span}" + (f", {odd} cells not finite" if odd else ""))
    if surface.foreign is not None and surface.foreign.any():
        lines.append(f"provenance unknown: {surface.foreign.sum()} cells")
    lines += described_by(surface)
    for title in ("request", "plan", "about"):
        lines += [f"{title}.{key}: {value}" for key, value in getattr(surface, title).items()]
    return "\n".join(lines)


def described_by(surface: Surface) -> list[str]:
    """Who computed how many cells, and how long they took."""
    lines, by = [], surface.provenance.get("computed_by")
    for number, who in enumerate(surface.about.get("computed_by", [])):
        if by is not None and (own := by == number).any():
            seconds = surface.provenance["seconds"][own]
            lines.append(
                f"computed by {who}: {own.sum()} cells, {seconds.sum():.3g} s, {np.median(seconds):.3g} s each "
                f"({seconds.min():.3g} to {seconds.max():.3g})"
            )
    return lines


def describe_findings(findings: Findings) -> str:
    lines = [{"spectrum": "spectrum of a Hessian", "sharpness": "sharpness of a minimum"}[findings.kind]]
    first = (
        "eigenvalues",
        "smallest",
        "bounds",
        "trace",
        "trace_se",
        "effective_dimension",
        "effective_dimension_estimate",
    )
    arrays = {name: findings.arrays[name] for name in (*first, *findings.arrays) if name in findings.arrays}
    for name, array in arrays.items():
        shape = "x".join(map(str, array.shape))
        lines.append(
            f"{name}: {array:.6g}"
            if array.ndim == 0
            else f"{name}: {shape} numbers"
            if array.size > 12
            else f"{name}: " + " ".join(f"{value:.6g}" for value in array.ravel())
        )
    for title in ("request", "plan", "about"):
        lines += [f"{title}.{key}: {value}" for key, value in getattr(findings, title).items()]
    return "\n".join(lines)


def export(path: str | Path, out: str | Path) -> None:
    """Write x, y, done and every field of a surface, or all of a spectrum, as a compressed .npz.

    Raises BadInput, CannotWrite.
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
    write_file(out, lambda file: np.savez_compressed(file, **arrays))  # type: ignore[arg-type]


def check(path: str | Path) -> list[str]:
    """What was found to be right, as lines of text. Raises BadInput for what is damaged, Incomplete for what is not done."""
    with opened(path) as f:
        sealed = "sha256" in f.attrs
    kind = kind_of(path)
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
    for split, statistics in surface.statistics.items():
        used = statistics["n"][surface.done & np.isfinite(statistics["n"])]
        if used.size and not (used.min() >= 1 and used.max() <= surface.populations[split]):
            raise BadInput(
                f"{path}: a cell says that it used {used.max():g} of {surface.populations[split]} {split} samples"
            )
        if used.size:
            lines.append(
                f"{split}: {used.min():g} to {used.max():g} of {surface.populations[split]} samples at each cell"
            )
    lines.append(check_directions(path, surface))
    if not surface.known.all():
        raise Incomplete(f"{path}: {int(surface.known.sum())} of {surface.grid.size} cells are done")
    left_out = f", {surface.interpolated.sum()} of them by interpolation" if surface.interpolated.any() else ""
    return [*lines, f"all {surface.grid.size} cells are done{left_out}"]


def check_directions(path: str | Path, surface: Surface) -> str:
    """Whether the directions are those that the surface was computed along. Raises BadInput."""
    recorded = surface.request.get("directions")
    if " " in str(recorded):  # words, and no checksum: see setting.read_alone
        return f"no directions but {recorded}"
    if "slim" in surface.about:
        return "directions: a slim file has none"
    try:
        saved = read_directions(path)
    except BadInput as error:
        if recorded is None:
            return f"directions: not there ({direction_link(path) or 'the file names none'})"
        raise BadInput(f"{path}: its directions cannot be read: {error}") from error
    used = Directions(saved.x, saved.y if surface.grid.y is not None else None)
    if recorded not in (None, used.sha256):
        raise BadInput(
            f"{path} was computed along directions with the sha256 {recorded}, those it leads to have {used.sha256}"
        )
    return "the directions are those it was computed along" if recorded else "directions are there"


def convert(path: str | Path, out: str | Path) -> None:
    """Write a surface file of another program as one of this version. Raises BadInput, BadUsage, CannotWrite."""
    if Path(out).exists():
        raise BadUsage(f"--convert {out}: the file exists: give another name")
    with opened(path) as f:
        if get_text(f, "format") is not None:
            raise BadUsage(f"{path} is a file of this program already")
    surface = read_surface(path)
    if others := surface.about.get("others"):
        raise BadInput(f"{path} holds {', '.join(others)}, which would be lost: nothing is written")
    write_surface(out, surface, direction_link(path))


def slim(path: str | Path, out: str | Path) -> None:
    """Write a complete surface without the sums that its fields come from, and without directions; or findings without
    vectors as large as the network.

    Raises BadInput, BadUsage, CannotWrite.
    """
    if Path(out).exists():
        raise BadUsage(f"--slim {out}: the file exists: give another name")
    if is_findings(path):
        check(path)
        findings = read_findings(path, "")
        vectors = [name for name in findings.arrays if name.rpartition("/")[2] in VECTORS]
        write_findings(out, findings.without(*vectors).with_arrays({}, slim="without vectors as large as the network"))
        return
    surface = read_surface(path)
    if not surface.known.all():
        raise BadInput(f"{path} is not complete, and a slim file cannot be continued: nothing is written")
    if others := [*added_by_others(path), *surface.about.get("others", [])]:
        raise BadInput(f"{path} holds {', '.join(others)}, which would be lost: nothing is written")
    zero = [name for name, values in surface.fields.items() if name.endswith("_se") and not values.any()]
    values = {name: values for name, values in surface.fields.items() if name not in zero}
    about = {**surface.about, "slim": "fields alone, of a file that holds more", "zero": zero}
    write_surface(out, replace(surface, statistics={}, samples={}, provenance={}, values=values, about=about))
