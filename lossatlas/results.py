"""What is computed, as it is handed to a user: it can be looked at, drawn, saved and gone on with."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lossatlas.hessian import Dimension, Spectrum, TraceEstimate
from lossatlas.io import Directions, Findings, write_findings, write_surface
from lossatlas.jobs.spectrum_parts import CURVES, table
from lossatlas.landscape import Surface
from lossatlas.parameter_space import Point


@dataclass(frozen=True, repr=False)
class Landscape(Surface):
    """A surface that can be drawn and saved: `fields` by name, (ny, nx) or (nx,), on `grid`; `done` where it is computed."""

    directions: Directions | None = None

    @classmethod
    def of(cls, surface: Surface, directions: Directions | None) -> "Landscape":
        return cls(**{f.name: getattr(surface, f.name) for f in fields(Surface)}, directions=directions)

    @property
    def x(self) -> np.ndarray:
        return self.grid.x

    @property
    def y(self) -> np.ndarray | None:
        return self.grid.y

    @property
    def loss(self) -> np.ndarray:
        """The training loss."""
        return self.fields["train_loss"]

    def plot(self, ax: Any = None, **options: Any) -> Any:
        """Draw it with matplotlib and return the figure: a curve, or contours. See `lossatlas.figures`."""
        from lossatlas import figures

        return figures.plot(self, ax, **options)

    def __repr__(self) -> str:
        names = ", ".join(self.fields)
        left_out = f", {self.interpolated.sum()} interpolated" if self.interpolated.any() else ""
        return f"<Landscape on {self.grid}, {int(self.done.sum())} of {self.grid.size} cells done{left_out}: {names}>"

    def save(self, file: str | Path) -> None:
        """Write a surface file, with its directions in it. Raises CannotWrite."""
        write_surface(file, self, embed=self.directions)


@dataclass(frozen=True, repr=False)
class Curvature:
    """What is known of the Hessian of a network's mean loss; None for a part that is not computed (yet).

    findings: all of it as arrays by name, see the README's list of what a spectrum file holds.
    """

    findings: Findings

    @property
    def eigenvalues(self) -> np.ndarray:
        """The largest ones first, then the smallest ones that were asked for, the smallest of all last."""
        return self.joined("eigenvalues", "smallest")

    @property
    def residuals(self) -> np.ndarray:
        return self.joined("residuals", "smallest_residuals")

    @property
    def resolved(self) -> np.ndarray:
        return self.joined("converged", "smallest_converged")

    def joined(self, largest: str, smallest: str) -> np.ndarray:
        arrays = self.findings.arrays
        return np.concatenate([arrays[largest], arrays[smallest][::-1]]) if largest in arrays else np.zeros(0)

    @property
    def bounds(self) -> tuple[float, float] | None:
        """No eigenvalue is below the first or above the second, each but for a probability of 1e-3."""
        found = self.findings.arrays.get("bounds")
        return None if found is None else (float(found[0]), float(found[1]))

    def vector(self, number: int) -> dict[str, Tensor]:
        """The eigenvector that belongs to `eigenvalues[number]`, by tensor name, such as `surface(directions=...)` takes."""
        flat, result = torch.from_numpy(self.findings.arrays["eigenvectors"][number].astype(np.float32)), {}
        for name, shape in self.findings.about["parameters"]:
            count = int(np.prod(shape))
            result[name], flat = flat[:count].view(shape), flat[count:]
        return result

    @property
    def trace(self) -> TraceEstimate | None:
        """With those of the layers' diagonal blocks."""
        a = self.findings.arrays
        if "trace" not in a:
            return None
        blocks = a["layers/trace"], a["layers/trace_se"]
        return TraceEstimate(float(a["trace"]), float(a["trace_se"]), int(a["trace_products"]), *blocks)

    @property
    def density(self) -> Spectrum | None:
        a = self.findings.arrays
        curves: dict[str, Any] = {name: a.get(f"density/{name}") for name in CURVES}
        return None if curves["grid"] is None else Spectrum(**{**curves, "sigma": float(curves["sigma"])}, products=0)

    @property
    def dimension(self) -> Dimension | None:
        """The effective dimension."""
        a = self.findings.arrays
        if "effective_dimension" not in a:
            return None
        return Dimension(*map(float, [*a["effective_dimension"], *a.get("effective_dimension_estimate", ())]))

    def table(self) -> str:
        """All that is there in words."""
        return "\n".join(table(self.findings))

    def plot(self, kind: str = "density") -> Any:
        """Draw it with matplotlib and return the figure: 'density', 'layers' or 'activations'."""
        from lossatlas import figures

        return figures.spectrum(self.findings, kind)

    def save(self, file: str | Path) -> None:
        """Write a spectrum file, whose vectors the commands take as directions. Raises CannotWrite."""
        write_findings(file, self.findings)

    def __repr__(self) -> str:
        shown = ", ".join(f"{value:.6g}" for value in self.eigenvalues)
        trace = "" if self.trace is None else f"; trace {self.trace.value:.6g} +- {self.trace.error:.2g}"
        return f"<Curvature: eigenvalues {shown}{trace}>"


@dataclass(frozen=True, repr=False)
class Trajectory:
    """Checkpoints in a plane. coordinates: (checkpoints, 2), the last one is the origin. explained: shares of the variance.

    distance: (checkpoints,) from the plane. plane: what `surface(..., directions=trajectory.plane)` takes.
    """

    coordinates: np.ndarray
    explained: np.ndarray
    distance: np.ndarray
    plane: tuple[Point, Point]

    def __repr__(self) -> str:
        shares = " + ".join(f"{100 * share:.1f} %" for share in self.explained[:2])
        return f"<Trajectory of {len(self.coordinates)} checkpoints in the plane that explains {shares}>"

    def plot(self, ax: Any = None) -> Any:
        """The path in its plane, on your axis (such as that of a surface along the plane); returns the figure."""
        from lossatlas import figures

        return figures.path(self.coordinates, self.explained, ax)
