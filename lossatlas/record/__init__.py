"""Files: surfaces, directions, spectra, trajectories; what may be continued; snapshots and progress."""

from lossatlas.record.directions import Directions, read_directions, write_directions
from lossatlas.record.spectra import Findings, read_findings, write_findings
from lossatlas.record.surfaces import read_surface, write_surface
from lossatlas.record.trajectories import Projection, read_projection, write_projection

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
