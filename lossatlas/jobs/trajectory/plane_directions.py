"""Directions of a trajectory's plane: principal components, or drift and top eigenvector; stored ones if they fit."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from lossatlas.data import AnyData
from lossatlas.errors import BadInput, FrontEnd, named, note
from lossatlas.io import Directions, atomic_write, read_directions, write_directions
from lossatlas.io.atomic_write import set_aside
from lossatlas.io.trajectory_files import EXPLAINED
from lossatlas.jobs.inputs.fingerprint import settings_digest, without_classes
from lossatlas.jobs.inputs.networks import state_of
from lossatlas.jobs.inputs.origin_curvature import OriginCurvature
from lossatlas.jobs.trajectory.checkpoint_projection import principal_plane, unflattened
from lossatlas.jobs.trajectory.run_projection import RunDifferences
from lossatlas.models.checkpoint import state_digest
from lossatlas.parameter_space import Layout, Point, Selection, as_arrays, lengths, orthogonal, scale_to

# Fields by which a plane of a command and one of a Python function are compared: names of networks and files differ.
DECISIVE = (
    "checkpoint",
    "dir_type",
    "ignore",
    "selection",
    "drift",
    "samples",
    "model_settings",
    "loss_settings",
    "hessian_of",
)
ADDED = {"selection", "samples", "model_settings", "loss_settings"}  # fields that files of earlier versions lack


@dataclass(frozen=True, kw_only=True)
class EndCurvature:
    """The Hessian of the mean loss at the end of the first run, whose top eigenvector is an axis of the river plane.

    Attributes:
        record: Fields that identify it.
        make: Returns it with respect to the selected parameters; called where the eigenvector is computed.
    """

    record: Mapping[str, str]
    make: Callable[[Selection], OriginCurvature]

    @staticmethod
    def record_of(net: Any, data: AnyData, loss: Any, loss_record: Mapping[str, Any]) -> dict[str, str]:
        """Return the fields that identify a Hessian.

        Args:
            net: The network.
            data: The samples of the mean loss.
            loss: The loss as the user gave it.
            loss_record: The fields that name the loss.
        """
        return {
            "curvature": f"of {dict(loss_record)} on {data.digest}",
            "samples": without_classes(data).digest,
            "model_settings": settings_digest(net),
            "loss_settings": settings_digest(loss),
        }


@dataclass(frozen=True, kw_only=True)
class FoundPlane:
    """The directions of a plane.

    Attributes:
        directions: The directions.
        source: Their name in messages.
        stored: The file that they were read from; None where they are new.
        own: The plane is made from these runs, not given.
    """

    directions: Directions
    source: str
    stored: Path | None = None
    own: bool = True


@dataclass(frozen=True, kw_only=True)
class PlaneSource:
    """Inputs from which the plane of training runs is found.

    Attributes:
        found: Differences of the checkpoints from the origin.
        model: Name of the network in the record; '' in Python, where it has none.
        curvature: The Hessian at the end of the first run, for the river plane.
        stored: Files that may hold the river plane of these runs; an eigenvector computed again has other last bits.
    """

    found: RunDifferences
    model: str = ""
    curvature: EndCurvature | None = None
    stored: Sequence[Path] = field(default=())

    def plane(self) -> FoundPlane:
        """Return the plane of the runs.

        Raises:
            BadInput: The checkpoints span no plane, or the eigenvector is not resolved.
        """
        if self.found.choice.kind == "pca":
            return FoundPlane(directions=self.principal(), source="the trajectory")
        about = {**self.record, **self.river_record}
        for file in self.stored:
            previous = directions_in(file)
            if previous is not None and is_same_plane(previous.about, about):
                return FoundPlane(directions=previous, source=str(file), stored=file)
        return FoundPlane(directions=self.river(about), source="the river plane")

    @property
    def record(self) -> dict[str, str]:
        """The fields that identify the plane of these runs."""
        choice, parts = self.found.choice, []
        for run in self.found.runs:
            parts.append(f"{len(run.checkpoints)} checkpoints, {run.file_name(0)} to {run.file_name(-1)}")
        selection = choice.selection
        chosen = [*selection.only, *(f"not {each}" for each in selection.without)]
        return {
            **({"model": self.model} if self.model else {}),
            "checkpoint": self.found.origin_hash,
            "dir_type": choice.dir_type,
            "ignore": choice.ignore,
            "of": "; ".join(parts) + "".join(f", {part}" for part in chosen),
        }

    @property
    def river_record(self) -> dict[str, str]:
        """The fields that identify the river plane, beside the fields of every plane."""
        assert self.curvature is not None
        drift = state_digest(state_of(self.found.runs[0].checkpoints[0]))
        fields = {"drift": f"from {drift}", "selection": str(self.found.choice.selection), **self.curvature.record}
        if self.found.choice.ignore:  # earlier versions took the eigenvector of all parameters
            fields["hessian_of"] = "the parameters that move"
        return fields

    @property
    def moving(self) -> Selection:
        """The tensors that the plane moves: those selected, without the ignored ones."""
        if not self.found.choice.ignore:
            return self.found.choice.selection
        return Selection([f"^{re.escape(name)}$" for name, is_kept in self.found.rows.kept.items() if is_kept])

    def principal(self) -> Directions:
        """Compute the two principal components of the checkpoints, as Li et al. do (arXiv 1712.09913, section 7)."""
        components, plane = principal_plane(self.found.rows, self.found.origin)
        x, y = (as_arrays(point, self.found.net, self.found.choice.dir_type) for point in plane)
        extra = {
            EXPLAINED: components.explained_variance_ratio,
            "singular_values_": components.singular_values,
            "explained_variance_": components.explained_variance,
            "tensors": np.array([name.encode() for name in self.found.origin]),
            "lengths": lengths({n: w.cpu() for n, w in self.found.origin.items()}, plane),
        }
        names = {"x": "1st principal component", "y": "2nd principal component"}
        return Directions(x, y, {**self.record, **names}, extra)

    def river(self, about: Mapping[str, str]) -> Directions:
        """Compute the drift of the first run, and the top eigenvector of the Hessian at its end orthogonal to it.

        Both have unit length.

        Args:
            about: The fields that identify the plane.
        """
        found, run = self.found, self.found.runs[0]
        assert self.curvature is not None
        origin = {name: value.cpu() for name, value in found.origin.items()}
        difference = found.rows[0]
        if not difference.any():
            raise BadInput(f"{run.source(0)} and {run.source(-1)} are the same network: there is no drift")
        steepest = self.curvature.make(self.moving).eigenvector(1)
        steepest = {
            name: steepest[name].to(w) if name in steepest else w.new_zeros(w.shape) for name, w in origin.items()
        }
        layout, choice = Layout.of(found.net), found.choice

        def unit(direction: Mapping[str, Tensor]) -> Point:
            return scale_to(direction, origin, "unit", ignore=choice.ignore, layout=layout, selection=choice.selection)

        x = unit(unflattened(-difference, origin))
        y = unit(orthogonal(steepest, x))
        extra = {"tensors": np.array([name.encode() for name in origin]), "lengths": lengths(origin, (x, y))}
        names = {
            "x": f"drift from {run.file_name(0)} to {run.file_name(-1)}",
            "y": "top eigenvector, at a right angle",
        }
        first, second = (as_arrays(axis, found.net, "weights") for axis in (x, y))
        return Directions(first, second, about={**about, **names}, extra=extra)


def is_same_plane(saved: Mapping[str, Any], asked: Mapping[str, Any]) -> bool:
    """Return whether a stored plane is the one of a record.

    Two commands compare all fields that the file has. A command and a Python function, or two of these, compare
    digests.

    Args:
        saved: The record of the stored plane.
        asked: The record of this run's plane.
    """
    if "model" in saved and "model" in asked:
        return all(saved.get(name) == asked[name] for name in asked if name in saved or name not in ADDED)
    return all(saved.get(name) == asked.get(name) for name in DECISIVE)


def directions_in(file: Path) -> Directions | None:
    """Return the directions of a direction or surface file; None where it does not exist or a surface file has none."""
    if not file.exists():
        return None
    try:
        return read_directions(file)
    except BadInput:
        return None  # reported where the file is written


def given_plane(file: str | Path) -> FoundPlane:
    """Return the plane in a direction or surface file.

    Raises:
        BadInput: As `read_directions`, or the file holds one direction alone.
    """
    directions = read_directions(file)
    if directions.y is None:
        raise BadInput(f"{file} holds one direction, a plane needs two")
    return FoundPlane(directions=directions, source=str(file), stored=Path(file), own=False)


def store_plane(file: Path, plane: FoundPlane, configuration: object, *, force: bool) -> None:
    """Write a plane to its direction file. Another plane that is there is kept, or set aside with `force`.

    Args:
        file: The direction file.
        plane: The plane.
        configuration: Options of the command, for the record; None in Python.
        force: Set another plane aside.

    Raises:
        BadInput: The file holds other directions.
        CannotWrite: The file cannot be written.
    """
    if plane.stored == file:
        return
    atomic_write.make_folder(file.parent)
    if file.exists() and (previous := read_directions(file)).sha256 != plane.directions.sha256:
        if not force:
            command = FrontEnd.command
            raise BadInput(
                f"{file} holds other directions ({previous.about.get('of', 'unknown')}), on which surfaces may rest: "
                f"use them with {named('dir_file') if command else named('directions', str(file))}, or replace them "
                f"with {named('force') if command else named('force', True)}"
            )
        note(f"the directions that were there are now in {set_aside(file)}")
    about = dict(plane.directions.about)
    if configuration is not None:
        about["config"] = configuration
    write_directions(file, replace(plane.directions, about=about))
