"""Saved files as figures, animations and the interactive page need them: read, or refused in one line."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lossatlas.choices import SurfaceLayout
from lossatlas.errors import BadInput, BadUsage, counted, named, note, say
from lossatlas.figures import chosen_field, mathtext
from lossatlas.io import read_projection, read_surface
from lossatlas.io.surface_files import PLANE_MARK
from lossatlas.io.trajectory_files import loss_key, projection_plane
from lossatlas.landscape import Surface
from lossatlas.programs import program

DRAWN_BY = {"repeats": "plot_1D", "layers": "plot_layers"}  # commands for surfaces whose rows are no coordinate
COMPUTED_WITH = {"repeats": "repeat N", "layers": "per_layer"}  # options of plot_surface.py that make such rows


def check_label_count(
    labels: Sequence[str] | None, files: Sequence[str | Path], option: str = "labels", one: str = "file"
) -> None:
    """Check that there is one label for each file.

    Args:
        labels: The labels that the user gives; None for none.
        files: What they belong to.
        option: Name of the option that gives them.
        one: Noun of what they belong to.

    Raises:
        BadUsage: Their numbers differ.
    """
    if labels and len(labels) != len(files):
        count = counted(len(labels), "name", "names")
        raise BadUsage(f"{named(option)} gives {count} for {counted(len(files), one, one + 's')}")


def figure_labels(labels: Sequence[str] | None, files: Sequence[Path], *, ending: bool = True) -> list[str]:
    """Choose the name of each file in a figure: its label, or the name of the file.

    Args:
        labels: Labels that the user gives, see `check_label_count`.
        files: The files.
        ending: Keep ".h5" in the names of files.

    Returns:
        Texts for matplotlib, one for each file.
    """
    names = [path.name if ending else path.name.removesuffix(".h5") for path in files]
    return [mathtext(name) for name in labels or names]


def check_out(field: str, out: str | Path | None, inputs: Sequence[str | Path]) -> None:
    """Check that an output does not replace a file that is read.

    Args:
        field: Name of the option that names the output, for the message.
        out: The output; None where there is none.
        inputs: Files that are read.

    Raises:
        BadUsage: The output is one of them.
    """
    if out is not None and Path(out).resolve() in {Path(path).resolve() for path in inputs}:
        raise BadUsage(f"{named(field, out)} is one of the files that are read: choose another name")


def check_layout(layout: SurfaceLayout, files: Sequence[Path]) -> bool:
    """Tell whether surfaces are drawn in one box.

    Args:
        layout: "grid" or "overlay".
        files: Surface files.

    Returns:
        True for "overlay".

    Raises:
        BadUsage: An overlay is asked for, and there is one file.
    """
    if layout == "overlay" and len(files) < 2:
        raise BadUsage(f"{named('layout', 'overlay')} needs at least two surface files")
    return layout == "overlay"


def read_started(path: Path, rows_of: str = "", *, volumes: bool = False) -> Surface:
    """Read a surface of which at least one cell is done.

    Args:
        path: A surface file.
        rows_of: Meaning of its rows: "repeats", "layers", or "" for a curve or a plane.
        volumes: It may be a volume.

    Returns:
        The surface.

    Raises:
        BadInput: The file is damaged, of another kind, or has no finished cell.
    """
    surface = read_surface(path)
    if surface.rows_of != rows_of:
        if not surface.rows_of:
            raise BadInput(
                f"{path} holds no curves of {rows_of}: compute them with {program('plot_surface')} "
                f"--{COMPUTED_WITH[rows_of]}"
            )
        raise BadInput(
            f"{path} holds {len(surface.known)} curves of {surface.rows_of}, which "
            f"{program(DRAWN_BY[surface.rows_of])} draws"
        )
    if not volumes:
        check_no_volume(path, surface)
    if not surface.known.any():
        raise BadInput(f"{path} has no finished cell yet")
    return surface


def check_no_volume(path: Path, surface: Surface) -> None:
    """Raise BadInput for a volume, and name one of its planes and the command that draws it."""
    if surface.grid.z is not None:
        z = surface.grid.z[np.abs(surface.grid.z).argmin()]
        raise BadInput(
            f"{path} holds a volume, which {program('plot_volume')} draws: name one of its planes, as in "
            f"{path}{PLANE_MARK}{z:.6g}"
        )


def read_volume(path: Path) -> Surface:
    """Read a volume of which at least one cell is done.

    Raises:
        BadInput: The file is damaged, holds no volume, or has no finished cell.
    """
    surface = read_surface(path)
    if surface.grid.z is None:
        what, command = ("a curve", "plot_1D") if surface.grid.y is None else ("a plane", "plot_2D")
        if surface.rows_of:
            what, command = f"curves of {surface.rows_of}", DRAWN_BY[surface.rows_of]
        raise BadInput(f"{path} holds {what}, and no volume: draw it with {program(command)}")
    if min(surface.grid.shape) < 2:
        raise BadInput(f"{path} has the grid {surface.grid}: a volume needs at least 2 points on each axis")
    if not surface.known.any():
        raise BadInput(f"{path} has no finished cell yet")
    return surface


def read_plane(path: Path) -> Surface:
    """Read a surface over a plane of which at least one cell is done.

    Raises:
        BadInput: The file is damaged, holds no plane, or has no finished cell.
    """
    surface = read_surface(path)
    if surface.rows_of:
        return read_started(path)  # its message names the command that draws it
    if surface.grid.y is None:
        raise BadInput(f"{path} holds a curve, not a surface: draw it with {program('plot_1D')}")
    check_no_volume(path, surface)
    if min(surface.grid.shape) < 2:
        raise BadInput(f"{path} has the grid {surface.grid}: contours need at least 2 points on each axis")
    return read_started(path)


def read_curve(path: Path) -> Surface:
    """Read a curve of which at least one cell is done.

    Raises:
        BadInput: The file is damaged, holds no curve, or has no finished cell.
    """
    surface = read_surface(path)
    check_no_volume(path, surface)
    if surface.grid.y is not None and not surface.rows_of:
        raise BadInput(f"{path} holds a surface, not a curve: draw it with {program('plot_2D')}")
    return read_started(path)


def with_common_field(
    surfaces: Sequence[Surface], paths: Sequence[Path], name: str | None
) -> tuple[list[Surface], str]:
    """Choose the field to draw of several surfaces: the named one, otherwise the default of the first surface.

    Args:
        surfaces: The surfaces.
        paths: Their files.
        name: Name of a field, or an expression of fields; None for the default.

    Returns:
        Surfaces that hold the field, and its name.

    Raises:
        BadUsage: One of them has no field of this name, or the expression is not allowed.
    """
    first, chosen = chosen_field(surfaces[0], name, paths[0])
    others = zip(surfaces[1:], paths[1:], strict=True)
    return [first, *(chosen_field(surface, name or chosen, path)[0] for surface, path in others)], chosen


def check_plane(proj_file: str, surfaces: Sequence[Surface], paths: Sequence[Path]) -> None:
    """Check that a trajectory lies in the plane of surfaces, and note where the files do not record it.

    Args:
        proj_file: Projection file of the trajectory.
        surfaces: Surfaces on which it is drawn.
        paths: Their files.

    Raises:
        BadInput: Directions, origin, data or loss differ.
    """
    plane, losses_of = projection_plane(proj_file), read_projection(proj_file).losses_of
    for surface, path in zip(surfaces, paths, strict=True):
        if losses_of and (here := loss_key(surface.request)) and here != losses_of:
            raise BadInput(
                f"the losses of the checkpoints in {proj_file} are of other data, or another loss, than {path}: use "
                "the one that was made with this surface"
            )
        for name, words in (("directions", "directions"), ("checkpoint", "checkpoint at the origin")):
            unknown = surface.foreign is not None and surface.foreign.any()  # cells of another program
            ours, theirs = plane.get(name), None if unknown else surface.request.get(name)
            if ours is None or theirs is None:
                say(
                    f"note: {proj_file if ours is None else path} does not say which {words} it belongs to; the path "
                    "may be misplaced"
                )
            elif ours != theirs:
                raise BadInput(
                    f"the trajectory in {proj_file} has another {words} ({ours[:12]}) than {path} ({theirs[:12]})"
                )


def note_unfinished(path: Path, surface: Surface) -> None:
    """Print a note where a surface is not complete."""
    if not surface.known.all():
        say(f"note: {path} is not complete: {surface.known.sum()} of {surface.known.size} cells")


def note_interpolated(path: Path, surface: Surface) -> None:
    """Warn that some cells are interpolated, where numbers are taken from them."""
    if count := int(surface.interpolated.sum()):
        note(
            f"{count} of {surface.grid.size} cells of {path} are not computed, but interpolated from those around them"
        )


def note_not_finite(path: Path, surface: Surface, name: str) -> None:
    """Warn of computed values that are infinite or NaN."""
    values = surface.fields[name][surface.done]
    for count, words in (
        (int(np.isposinf(values).sum()), "infinite, which is above every level"),
        (int(np.isneginf(values).sum()), "minus infinity, which is below every level"),
        (int(np.isnan(values).sum()), "NaN, and left out"),
    ):
        if count:
            note(f"{count} of {surface.grid.size} cells of {path} are {words}")
