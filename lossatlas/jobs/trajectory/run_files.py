"""Files of a trajectory: the folder of its plane, coordinates beside the plane, paths with losses beside a surface."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lossatlas.errors import BadInput
from lossatlas.io import Projection, read_projection, write_projection
from lossatlas.io.trajectory_files import loss_key, projection_plane
from lossatlas.jobs.inputs.file_names import plain, shortened_name
from lossatlas.jobs.inputs.output_files import keep_aside
from lossatlas.jobs.trajectory.checkpoint_series import CheckpointSeries
from lossatlas.jobs.trajectory.local_chart import ChartedRun, own_plane_losses
from lossatlas.jobs.trajectory.run_projection import PlaneChoice, ProjectedRuns
from lossatlas.landscape import Surface


def plane_file(
    runs: Sequence[CheckpointSeries], choice: PlaneChoice, *, every: int | None = None, listed: bool = False
) -> Path:
    """Name the direction file of a plane if none is given: in a folder of the plane beside the first run's checkpoints.

    Args:
        runs: The runs; the checkpoints of the first one are files.
        choice: The plane.
        every: Distance of epochs that was asked for; None for all there are.
        listed: The checkpoints were listed: another name than that of the whole run, whose plane may lie in the same
            folder.
    """
    first = runs[0]
    ignore = f"_ignore={choice.ignore}" if choice.ignore else ""
    chosen = "".join(f"_{plain(part)}" for part in str(choice.selection).split(", ") if part)
    epochs = first.epochs
    between = epochs[1] - epochs[0] if epochs is not None and len(epochs) > 1 else 1
    which = f"save_epoch={every or between}"
    if listed:
        names = "\n".join(str(file.resolve()) for file in first.files)
        which = f"of_{len(first.files)}_{hashlib.sha256(os.fsencode(names)).hexdigest()[:8]}"
    others = "".join(f"_with_{run.slug}" for run in runs[1:])
    kind = "PCA" if choice.kind == "pca" else choice.kind
    name = f"{kind}_{choice.dir_type}{ignore}{chosen}_{which}{others}"
    return shortened_name(first.folder / f"{name}.h5").with_suffix("") / "directions.h5"


def write_projections(dir_file: Path, projected: ProjectedRuns, *, own: bool) -> list[Path]:
    """Write the coordinates of each run beside the direction file of the plane.

    Args:
        dir_file: The direction file.
        projected: The runs.
        own: The plane belongs to the first run, whose file has no name of a run: a given plane may have such a file
            already.

    Returns:
        The files.

    Raises:
        CannotWrite: A file cannot be written.
    """
    files = []
    for k, (run, path) in enumerate(zip(projected.runs, projected.paths, strict=True)):
        suffix = "" if k == 0 and own else f"_{run.slug}"
        files.append(dir_file.with_name(f"{dir_file.name}{suffix}_proj_cos.h5"))
        write_projection(files[-1], path, projected.directions.sha256, projected.origin_hash)
    return files


def beside(surf_file: Path, suffix: str) -> Path:
    """Name a file that belongs to a surface: NAME_suffix.h5."""
    return surf_file.with_name(f"{surf_file.name.removesuffix('.h5')}_{suffix}.h5")


def checkpoints_file(surf_file: Path) -> Path:
    """Name the file of the checkpoints' own losses that belongs to a surface."""
    return beside(surf_file, "checkpoints")


def own_planes_file(surf_file: Path) -> Path:
    """Name the file of the losses in their own planes that belongs to the surface of a chart."""
    return beside(surf_file, "own_planes")


def with_losses(
    projected: ProjectedRuns | ChartedRun, surface: Surface, own: Surface, field: str, *, cells: Surface | None = None
) -> list[Projection]:
    """Return the path of each run with the losses of its checkpoints.

    Args:
        projected: The runs.
        surface: The surface under them.
        own: The losses of all checkpoints, run by run.
        field: Name of the field.
        cells: Cells of a chart in their own planes; None for a plane.
    """
    in_planes = None if cells is None else own_plane_losses(surface, cells, field)
    key, start, paths = loss_key(surface.request), 0, []
    for run, path in zip(projected.runs, projected.paths, strict=True):
        losses: np.ndarray = own.fields[field][start : start + len(run.checkpoints)]
        start += len(run.checkpoints)
        drops = tuple(map(float, path.drops))
        paths.append(replace(path, loss=losses, field=field, losses_of=key, drops=drops, own_planes=in_planes))
    return paths


def write_paths(
    surf_file: Path, projected: ProjectedRuns | ChartedRun, paths: Sequence[Projection], plane: str, *, force: bool
) -> list[Path]:
    """Write the path of each run beside a surface. A file that holds something else is kept under another name.

    Args:
        surf_file: The surface file.
        projected: The runs.
        paths: The path of each, with the losses of its checkpoints.
        plane: SHA-256 of the surface's directions.
        force: Keep every file that is there under another name.

    Returns:
        The files.

    Raises:
        CannotWrite: A file cannot be written.
    """
    files = []
    for k, (run, path) in enumerate(zip(projected.runs, paths, strict=True)):
        file = beside(surf_file, "path" if k == 0 else f"path_{run.slug}")
        if file.exists() and (force or not is_path_in(file, plane)):
            keep_aside(file)
        write_projection(file, path, plane, projected.origin_hash)
        files.append(file)
    return files


def is_path_in(file: Path, plane: str) -> bool:
    """Return whether a file holds a path in the plane with this SHA-256 of its directions."""
    try:
        read_projection(file)
        return projection_plane(file).get("directions") == plane
    except BadInput:
        return False
