"""A training run in a plane, as the Python functions return it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import numpy as np

from lossatlas.choices import PlotKind
from lossatlas.errors import BadUsage, counted
from lossatlas.figures.plot_options import ContourKeywords, with_keywords
from lossatlas.io import Projection
from lossatlas.io.trajectory_files import OwnPlaneLosses, loss_key
from lossatlas.results import summaries

if TYPE_CHECKING:
    from lossatlas.figures.matplotlib_style import Axes, Figure
    from lossatlas.parameter_space import Point
    from lossatlas.results.landscape import Landscape
    from lossatlas.viewer import Page


@dataclass(frozen=True, repr=False)
class Trajectory:
    """Checkpoints of a training run in a plane.

    Attributes:
        coordinates: (checkpoints, 2) coordinates; the last checkpoint is the origin.
        explained: (components,) shares of the variance that the principal components explain, from 0 to 1.
        distance: (checkpoints,) distances from the plane.
        plane: The two directions of unit length, as `surface(..., directions=trajectory.plane)` takes them; empty on a
            chart of local planes.
        epochs: (checkpoints,) epochs or steps; None where they are not known.
        surface: Surface under the path; None where it is not computed.
        losses: (checkpoints,) losses of the checkpoints themselves, which lie off the plane; None where they are not
            computed.
        name: Name of the run; '' where it has none.
        drops: Epochs at which the learning rate dropped, where they are known.
        axes: Names of the axes; empty where they are not known.
        others: Further runs in the same plane, with the same surface.
        counted: What `epochs` are numbers of, "epoch" or "step".
        own_planes: On a chart of local planes, losses of its cells in their own planes.

    Example:
        >>> import torch, lossatlas
        >>> nets = [torch.nn.Linear(2, 2) for _ in range(4)]
        >>> path = lossatlas.trajectory(nets[-1], nets)
        >>> path.distance.shape
        (4,)
    """

    coordinates: np.ndarray
    explained: np.ndarray
    distance: np.ndarray
    plane: "tuple[Point, Point] | tuple[()]"
    epochs: np.ndarray | None = None
    surface: "Landscape | None" = None
    losses: np.ndarray | None = None
    name: str = ""
    drops: tuple[float, ...] = ()
    axes: tuple[str, ...] = ()
    others: "tuple[Trajectory, ...]" = ()
    counted: str = "epoch"
    own_planes: OwnPlaneLosses | None = None

    @property
    def projection(self) -> Projection:
        """The path as figures and files take it."""
        x, y = self.coordinates.T
        losses_of = "" if self.surface is None else loss_key(self.surface.request)
        explained = tuple(float(share) for share in self.explained)
        plane = "" if self.surface is None else str(self.surface.request.get("directions", ""))
        return Projection(
            x,
            y,
            epochs=self.epochs,
            loss=self.losses,
            distance=self.distance if self.plane else None,
            explained=explained,
            drops=self.drops,
            run=self.name,
            axes=self.axes,
            losses_of=losses_of,
            plane=plane,
            counted=self.counted,
            own_planes=self.own_planes,
        )

    def __repr__(self) -> str:
        shares = " + ".join(f"{100 * share:.1f} %" for share in self.explained[:2])
        plane = (
            f"the plane that explains {shares}" if shares else f"the plane of {' and '.join(self.axes) or 'x and y'}"
        )
        more = f", and {counted(len(self.others), 'further run', 'further runs')}" if self.others else ""
        return f"<Trajectory of {len(self.coordinates)} checkpoints in {plane}{more}>"

    @with_keywords(ContourKeywords)
    def plot(
        self, ax: "Axes | None" = None, kind: PlotKind | str = "contour", **keywords: Unpack[ContourKeywords]
    ) -> "Figure":
        """Draw the path in its plane, on the surface under it where one is computed.

        Args:
            ax: Axes to draw on, such as the Axes of a surface along the plane; None makes a figure.
            kind: "contour", "filled" or "heat", of the surface.
            **keywords: As for `Landscape.plot`, of the surface.

        Returns:
            The figure. Checkpoints have the colours of their own losses where these are known.

        Raises:
            BadUsage: A keyword is unknown, does not suit the kind, or needs a surface that is not computed.
        """
        from lossatlas import figures

        runs = [each.projection for each in (self, *self.others)]
        if self.surface is not None:
            return figures.path_on(self.surface, runs, ax, kind, **keywords)
        look = keywords.pop("look", None)
        if keywords:
            raise BadUsage(
                f"{next(iter(keywords))}: there is no surface under this path: give lossatlas.trajectory data too"
            )
        return figures.paths(runs, ax, look)

    def view(
        self,
        *,
        height: int = 700,
        file: str | Path | None = None,
        title: str = "",
        story: str | Path | None = None,
        vmax: float | None = None,
    ) -> "Page":
        """Make the interactive page of the surface with the path on it.

        Args:
            height: Height of the frame in a notebook, in pixels.
            file: File to write as well, which ends in .html.
            title: Title; by default "training path".
            story: Markdown file of steps that explain the page, see `lossatlas.viewer.story`.
            vmax: Top of the scale of the field that is shown first, see `Landscape.view`.

        Returns:
            The page.

        Raises:
            BadInput: The story cannot be read.
            BadUsage: The surface under the path is not computed, or an argument cannot be used.
            CannotWrite: The file cannot be written.
        """
        from lossatlas.viewer import Page, Shown
        from lossatlas.viewer.notebook import flatness_in_words

        if self.surface is None:
            raise BadUsage("there is no surface under this path: give lossatlas.trajectory data too")
        label = title or "training path"
        shown = Shown(
            self.surface,
            label,
            self.surface.directions_about,
            trajectory=self.projection,
            flatness=flatness_in_words(self.surface),
        )
        return Page.of([shown], title=title, height=height, file=file, story=story, vmax=vmax)

    def _repr_html_(self) -> str:
        from lossatlas.figures.thumbnails import path_picture

        return summaries.html_of("Trajectory", self._rows(), path_picture(self.projection, self.surface))

    def _rows(self) -> summaries.Rows:
        shares = " + ".join(f"{100 * share:.1f} %" for share in self.explained[:2])
        rows = [("checkpoints", str(len(self.coordinates))), ("variance in the plane", shares or "not known")]
        if (known := self.distance[np.isfinite(self.distance)]).size:
            rows.append(("distance from the plane", f"up to {known.max():.4g}"))
        if self.losses is not None:
            rows.append(("own loss, first and last", f"{self.losses[0]:.4g}, {self.losses[-1]:.4g}"))
        return rows
