"""Saved files as figures, films and the page want them: read, or refused in one line."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lossatlas.errors import BadInput, BadUsage, note, say
from lossatlas.io import read_projection, read_surface
from lossatlas.io.trajectory_files import loss_key, projection_plane
from lossatlas.landscape import Surface
from lossatlas.programs import program


def check_labels(labels: Sequence[str] | None, files: Sequence[Path]) -> None:
    """Raise BadUsage where there is not one for each file."""
    if labels and len(labels) != len(files):
        raise BadUsage(f"--labels gives {len(labels)} names for {len(files)} files")


def check_out(option: str, out: str | Path | None, inputs: Sequence[str | Path]) -> None:
    """Raise BadUsage where an output would replace one of the files that are read."""
    if out is not None and Path(out).resolve() in {Path(path).resolve() for path in inputs}:
        raise BadUsage(f"{option} {out} is one of the files that are read: choose another name")


DRAWN_BY = {"repeats": "plot_1D", "layers": "plot_layers"}
FLAGS = {"repeats": "repeat N", "layers": "per_layer"}


def read_started(path: Path, rows_of: str = "") -> Surface:
    """A curve or a plane of which at least one cell is done, or rows of curves of this kind. Raises BadInput."""
    surface = read_surface(path)
    if surface.rows_of != rows_of:
        if not surface.rows_of:
            raise BadInput(
                f"{path} holds no curves of {rows_of}: compute them with {program('plot_surface')} --{FLAGS[rows_of]}"
            )
        raise BadInput(
            f"{path} holds {len(surface.known)} curves of {surface.rows_of}, which {program(DRAWN_BY[surface.rows_of])} draws"
        )
    if not surface.known.any():
        raise BadInput(f"{path} has no finished cell yet")
    return surface


def read_plane(path: Path) -> Surface:
    """Raises BadInput where there is no plane, or nothing done."""
    surface = read_surface(path)
    if surface.rows_of:
        return read_started(path)  # which says what draws it
    if surface.grid.y is None:
        raise BadInput(f"{path} holds a curve, not a surface: draw it with {program('plot_1D')}")
    if min(surface.grid.shape) < 2:
        raise BadInput(f"{path} has the grid {surface.grid}: contours need at least 2 points on each axis")
    return read_started(path)


def read_curve(path: Path) -> Surface:
    """Raises BadInput where there is no curve, or nothing done."""
    surface = read_surface(path)
    if surface.grid.y is not None and not surface.rows_of:
        raise BadInput(f"{path} holds a surface, not a curve: draw it with {program('plot_2D')}")
    return read_started(path)


def check_plane(proj_file: str, surfaces: Sequence[Surface], paths: Sequence[Path]) -> None:
    """Raise BadInput where a trajectory's coordinates are not those of a surface; say where that is not known."""
    plane, losses_of = projection_plane(proj_file), read_projection(proj_file).losses_of
    for surface, path in zip(surfaces, paths, strict=True):
        if losses_of and (here := loss_key(surface.request)) and here != losses_of:
            raise BadInput(
                f"the losses of the checkpoints in {proj_file} are of other data, or another loss, than {path}: use the one that "
                "was made with this surface"
            )
        for name, what in (("directions", "directions"), ("checkpoint", "checkpoint at the origin")):
            unknown = surface.foreign is not None and surface.foreign.any()  # cells of another program
            ours, theirs = plane.get(name), None if unknown else surface.request.get(name)
            if ours is None or theirs is None:
                say(
                    f"note: {proj_file if ours is None else path} does not say which {what} it belongs to; the path may be "
                    "misplaced"
                )
            elif ours != theirs:
                raise BadInput(
                    f"the trajectory in {proj_file} has another {what} ({ours[:12]}) than {path} ({theirs[:12]})"
                )


def note_interpolated(path: Path, surface: Surface) -> None:
    """Say that some of the cells were not computed, where numbers are taken from them."""
    if left_out := int(surface.interpolated.sum()):
        note(
            f"{left_out} of {surface.grid.size} cells of {path} are not computed, but interpolated from those around them"
        )


def note_not_finite(path: Path, surface: Surface, name: str) -> None:
    """Say how many of the computed values are infinite, and how many are no number."""
    values = surface.fields[name][surface.done]
    for count, what in (
        (int(np.isposinf(values).sum()), "infinite, which is above every level"),
        (int(np.isneginf(values).sum()), "minus infinity, which is below every level"),
        (int(np.isnan(values).sum()), "NaN, and left out"),
    ):
        if count:
            note(f"{count} of {surface.grid.size} cells of {path} are {what}")
