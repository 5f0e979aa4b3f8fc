"""The inputs of a grid job as rank 0 has read them, see `named_grid_inputs`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lossatlas.errors import say
from lossatlas.io import Directions, write_directions
from lossatlas.io.lock import Lock
from lossatlas.jobs.inputs.loaded_inputs import LoadedInputs
from lossatlas.jobs.inputs.make_directions import Origin
from lossatlas.jobs.inputs.origin_curvature import OriginCurvature
from lossatlas.jobs.sweep.grid_points import GridPoints


@dataclass(frozen=True, kw_only=True)
class GridInputs:
    """Inputs of a grid job, as rank 0 has read them.

    Attributes:
        surf_file: The surface file.
        loaded: Networks and data.
        record: The fields that identify the job, for the file.
        points: The points of the grid, whose parametrization is sent to the other ranks.
        lock: The lock on the surface file; None in a dry run.
        origin: The network at the origin of directions; None where no directions are stored.
        dir_file: The direction file; None where no directions are stored (a path of checkpoints, repeats, curves).
        directions: The directions in that file, or to be written into it.
        new_directions: The directions are not written yet.
        new_dir_file: The direction file did not exist before.
        embed: The surface file holds a copy of the directions.
        curvature: Gradient and Hessian at the origin, where second derivatives along the axes are asked for.
    """

    surf_file: Path
    loaded: LoadedInputs
    record: dict[str, Any]
    points: GridPoints
    lock: Lock | None
    origin: Origin | None = None
    dir_file: Path | None = None
    directions: Directions = field(default_factory=lambda: Directions([]))
    new_directions: bool = False
    new_dir_file: bool = True
    embed: bool = False
    curvature: OriginCurvature | None = None

    def write_directions(self) -> None:
        """Write the direction file where it is new.

        Raises:
            BadInput: Another run has just written other directions.
            CannotWrite: The file cannot be written.
        """
        if self.new_directions and self.dir_file is not None:
            write_directions(self.dir_file, self.directions, new=self.new_dir_file)
            say(f"new directions are in {self.dir_file}")
