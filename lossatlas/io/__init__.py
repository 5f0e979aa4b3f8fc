"""Files: surfaces, directions, spectra and trajectories; rules of resuming, locks, atomic writes and progress."""

from lossatlas.io.direction_files import Directions, read_directions, write_directions
from lossatlas.io.spectrum_files import Findings, read_findings, write_findings
from lossatlas.io.surface_files import read_surface, write_surface
from lossatlas.io.trajectory_files import Projection, read_projection, write_projection

__all__ = [
    "Directions",
    "Findings",
    "Projection",
    "read_directions",
    "read_findings",
    "read_projection",
    "read_surface",
    "write_directions",
    "write_findings",
    "write_projection",
    "write_surface",
]
