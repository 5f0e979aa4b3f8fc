"""The cells of a chart along a training path: the checkpoints that each comes from, and its distance from a plane."""

from dataclasses import dataclass, replace

import numpy as np

from lossatlas.landscape.surface import Surface

DISTORTION, CHART_FOLDS = "distortion", "folded"  # fields of a surface
CHART_SOURCES = ("first_checkpoint", "second_checkpoint", "second_weight")  # of its provenance


@dataclass(frozen=True, kw_only=True)
class ChartCells:
    """The columns and cells of a chart, see `parameter_space.local_planes`.

    Attributes:
        first: (nx,) number of the checkpoint before each column, from 0 on.
        second: (nx,) number of the checkpoint after it.
        weight: (nx,) weight of the second checkpoint's plane, from 0 to 1; that of the first one is the rest.
        distortion: (ny, nx) share of each cell's displacement from its nearest checkpoint that lies outside the plane
            of this checkpoint, from 0 to 1; None for cells that are moved into this plane.
        folded: (ny, nx) mask of the cells within which the chart folds: they go back along the path while s grows,
            because they lie too far aside for its turns; None as for `distortion`.
    """

    first: np.ndarray
    second: np.ndarray
    weight: np.ndarray
    distortion: np.ndarray | None = None
    folded: np.ndarray | None = None

    def on(self, surface: Surface) -> Surface:
        """Return a surface of these cells that records where they come from."""
        rows = np.ones(surface.grid.shape)
        of_columns = np.asarray(self.first, np.int32), np.asarray(self.second, np.int32), self.weight
        sources = {
            name: np.asarray(each * rows, each.dtype) for name, each in zip(CHART_SOURCES, of_columns, strict=True)
        }
        distorted: dict[str, np.ndarray] = {} if self.distortion is None else {DISTORTION: self.distortion}
        if self.folded is not None:
            distorted[CHART_FOLDS] = self.folded.astype(float)
        return replace(surface, provenance={**surface.provenance, **sources}, values={**surface.values, **distorted})
