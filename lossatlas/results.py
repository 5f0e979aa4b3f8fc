"""Results of the Python functions: they can be drawn, saved, and given to other functions."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import torch
from torch import Tensor

from lossatlas.figures.plot_options import PlotKeywords, with_keywords
from lossatlas.hessian import Dimension, Spectrum, TraceEstimate
from lossatlas.io import Directions, Findings, write_findings, write_surface
from lossatlas.jobs.spectrum_parts import CURVES, table
from lossatlas.landscape import Surface
from lossatlas.parameter_space import Point

if TYPE_CHECKING:
    from lossatlas.figures.matplotlib_style import Axes, Figure


@dataclass(frozen=True, repr=False)
class Landscape(Surface):
    """A surface that can be drawn and saved.

    `fields` holds values by name, (ny, nx) or (nx,), on `grid`; `done` is the mask of the computed cells.

    Attributes:
        directions: Directions of the axes; None where they are not known.
    """

    directions: Directions | None = None

    @classmethod
    def of(cls, surface: Surface, directions: Directions | None) -> "Landscape":
        """Make a landscape of a surface and its directions."""
        return cls(**{f.name: getattr(surface, f.name) for f in fields(Surface)}, directions=directions)

    @property
    def x(self) -> np.ndarray:
        """(nx,) coordinates along the first direction."""
        return self.grid.x

    @property
    def y(self) -> np.ndarray | None:
        """(ny,) coordinates along the second direction; None of a curve."""
        return self.grid.y

    @property
    def loss(self) -> np.ndarray:
        """Training loss, (ny, nx) or (nx,)."""
        return self.fields["train_loss"]

    @with_keywords(PlotKeywords)
    def plot(self, ax: "Axes | None" = None, kind: str = "", **keywords: Unpack[PlotKeywords]) -> "Figure":
        """Draw the landscape with matplotlib: a curve, or contours.

        Args:
            ax: Axes to draw on, of which no text and no font changes; None makes a figure.
            kind: "curve", "contour", "filled", "heat" or "solid"; by default a curve, or contours of a plane.
            **keywords: name, field, cmap, title, levels, vmin, vmax, vlevel, log, colorbar, elev, azim, zlim, figsize,
                columns, and looks of a curve, see `lossatlas.figures.plot`.

        Returns:
            The figure.

        Raises:
            BadUsage: A keyword is unknown, or does not suit the landscape.

        Example:
            >>> import lossatlas
            >>> s = lossatlas.read("docs/surfaces/resnet56_cifar10.h5")
            >>> fig = s.plot(kind="filled", field="log10(train_loss)", cmap="magma", vmax=1)
        """
        from lossatlas import figures

        return figures.plot(self, ax, kind, **keywords)

    def __repr__(self) -> str:
        names = ", ".join(self.fields)
        interpolated = f", {self.interpolated.sum()} interpolated" if self.interpolated.any() else ""
        return (
            f"<Landscape on {self.grid}, {int(self.done.sum())} of {self.grid.size} cells done{interpolated}: {names}>"
        )

    def save(self, file: str | Path) -> None:
        """Write a surface file that contains the directions.

        Raises:
            CannotWrite: The file cannot be written.
        """
        write_surface(file, self, embed=self.directions)


@dataclass(frozen=True, repr=False)
class Curvature:
    """Results on the Hessian of a network's mean loss; a part that is not computed yet is None.

    Attributes:
        findings: Arrays by name, as a spectrum file holds them.
    """

    findings: Findings

    @property
    def eigenvalues(self) -> np.ndarray:
        """(k,) eigenvalues: the largest ones from the top, then the smallest ones, the smallest of all last."""
        return self._largest_and_smallest("eigenvalues", "smallest")

    @property
    def residuals(self) -> np.ndarray:
        """(k,) norms of H v - lambda v of the eigenvectors v of unit length."""
        return self._largest_and_smallest("residuals", "smallest_residuals")

    @property
    def resolved(self) -> np.ndarray:
        """(k,) mask of the eigenvalues that are resolved."""
        return self._largest_and_smallest("converged", "smallest_converged")

    def _largest_and_smallest(self, largest: str, smallest: str) -> np.ndarray:
        arrays = self.findings.arrays
        return np.concatenate([arrays[largest], arrays[smallest][::-1]]) if largest in arrays else np.zeros(0)

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Lower and upper bound of all eigenvalues, each with probability 1 - 1e-3."""
        found = self.findings.arrays.get("bounds")
        return None if found is None else (float(found[0]), float(found[1]))

    def vector(self, number: int) -> dict[str, Tensor]:
        """Take an eigenvector, as `surface(directions=...)` takes it.

        Args:
            number: Number of its eigenvalue in `eigenvalues`.

        Returns:
            Tensors by name, float32, of unit length together.
        """
        flat, result = torch.from_numpy(self.findings.arrays["eigenvectors"][number].astype(np.float32)), {}
        for name, shape in self.findings.about["parameters"]:
            count = int(np.prod(shape))
            result[name], flat = flat[:count].view(shape), flat[count:]
        return result

    @property
    def trace(self) -> TraceEstimate | None:
        """Trace, with the traces of the layers' diagonal blocks and standard errors."""
        a = self.findings.arrays
        if "trace" not in a:
            return None
        blocks = a["layers/trace"], a["layers/trace_se"]
        return TraceEstimate(float(a["trace"]), float(a["trace_se"]), int(a["trace_products"]), *blocks)

    @property
    def density(self) -> Spectrum | None:
        """Density of the spectrum."""
        a = self.findings.arrays
        curves: dict[str, Any] = {name: a.get(f"density/{name}") for name in CURVES}
        return None if curves["grid"] is None else Spectrum(**{**curves, "sigma": float(curves["sigma"])}, products=0)

    @property
    def dimension(self) -> Dimension | None:
        """Effective dimension."""
        a = self.findings.arrays
        if "effective_dimension" not in a:
            return None
        return Dimension(*map(float, [*a["effective_dimension"], *a.get("effective_dimension_estimate", ())]))

    def table(self) -> str:
        """Format all parts as text."""
        return "\n".join(table(self.findings))

    def plot(self, kind: str = "density") -> "Figure":
        """Draw a part with matplotlib.

        Args:
            kind: "density", "layers" or "activations".

        Returns:
            The figure.

        Raises:
            BadUsage: The part is not computed yet.
        """
        from lossatlas import figures

        return figures.spectrum(self.findings, kind)

    def save(self, file: str | Path) -> None:
        """Write a spectrum file, whose vectors the commands take as directions.

        Raises:
            CannotWrite: The file cannot be written.
        """
        write_findings(file, self.findings)

    def __repr__(self) -> str:
        shown = ", ".join(f"{value:.6g}" for value in self.eigenvalues)
        trace = "" if self.trace is None else f"; trace {self.trace.value:.6g} +- {self.trace.error:.2g}"
        return f"<Curvature: eigenvalues {shown}{trace}>"


@dataclass(frozen=True, repr=False)
class Trajectory:
    """Checkpoints of a training run in a plane.

    Attributes:
        coordinates: (checkpoints, 2) coordinates; the last checkpoint is the origin.
        explained: (components,) shares of the variance that the principal components explain, from 0 to 1.
        distance: (checkpoints,) distances from the plane.
        plane: The two directions of unit length, as `surface(..., directions=trajectory.plane)` takes them.
    """

    coordinates: np.ndarray
    explained: np.ndarray
    distance: np.ndarray
    plane: tuple[Point, Point]

    def __repr__(self) -> str:
        shares = " + ".join(f"{100 * share:.1f} %" for share in self.explained[:2])
        return f"<Trajectory of {len(self.coordinates)} checkpoints in the plane that explains {shares}>"

    def plot(self, ax: "Axes | None" = None) -> "Figure":
        """Draw the path in its plane.

        Args:
            ax: Axis to draw on, such as that of a surface along the plane; None makes a figure.

        Returns:
            The figure.
        """
        from lossatlas import figures

        return figures.path(self.coordinates, self.explained, ax)
