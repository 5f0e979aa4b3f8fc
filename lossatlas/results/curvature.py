"""Results on the Hessian of a loss, as the Python functions return them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lossatlas.choices import LookName, SpectrumPart
from lossatlas.landscape.spectrum import Dimension, Spectrum, TraceEstimate
from lossatlas.results import summaries
from lossatlas.results.findings_result import FindingsResult

if TYPE_CHECKING:
    from torch import Tensor

    from lossatlas.figures.matplotlib_style import Figure


@dataclass(frozen=True, repr=False)
class Curvature(FindingsResult):
    """Results on the Hessian of a network's mean loss; a part that is not computed yet is None.

    Attributes:
        findings: Arrays by name, as a spectrum file holds them.

    Example:
        >>> import lossatlas
        >>> from lossatlas.io import read_findings
        >>> found = lossatlas.Curvature(read_findings("docs/surfaces/spectrum.h5"))
        >>> fig = found.plot("density")
    """

    @property
    def eigenvalues(self) -> np.ndarray:
        """(k,) eigenvalues: the largest ones from the top, then the smallest ones, the smallest of all last."""
        return self.findings.eigenpairs().values

    @property
    def residuals(self) -> np.ndarray:
        """(k,) norms of H v - lambda v of the eigenvectors v of unit length."""
        return self.findings.eigenpairs().residuals

    @property
    def resolved(self) -> np.ndarray:
        """(k,) mask of the eigenvalues that are resolved."""
        return self.findings.eigenpairs().resolved

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Lower and upper bound of all eigenvalues, each with probability 1 - 1e-3."""
        found = self.findings.arrays.get("bounds")
        return None if found is None else (float(found[0]), float(found[1]))

    def vector(self, number: int) -> "dict[str, Tensor]":
        """Take an eigenvector, as `surface(directions=...)` takes it.

        Args:
            number: Number of its eigenvalue in `eigenvalues`.

        Returns:
            Tensors by name, float32, of unit length together.
        """
        import torch

        return {name: torch.from_numpy(value) for name, value in self.findings.vector(number).items()}

    @property
    def trace(self) -> TraceEstimate | None:
        """Trace, with the traces of the layers' diagonal blocks and standard errors."""
        return self.findings.trace()

    @property
    def density(self) -> Spectrum | None:
        """Density of the spectrum."""
        return self.findings.density()

    @property
    def dimension(self) -> Dimension | None:
        """Effective dimension."""
        return self.findings.dimension()

    def table(self) -> str:
        """Format all parts as text."""
        from lossatlas.figures.spectrum_table import spectrum_table

        return "\n".join(spectrum_table(self.findings))

    def plot(self, kind: SpectrumPart | str = "density", look: LookName | str | None = None) -> "Figure":
        """Draw a part with matplotlib.

        Args:
            kind: "density", "layers" or "activations".
            look: "paper", "dark" or "print"; None for paper.

        Returns:
            The figure.

        Raises:
            BadUsage: The part is not computed yet, or there is no such look.
        """
        from lossatlas import figures

        return figures.spectrum(self.findings, kind, look)

    def __repr__(self) -> str:
        a = self.findings.arrays
        shown = ", ".join(f"{value:.6g}" for value in self.eigenvalues)
        trace = f"; trace {float(a['trace']):.6g} +- {float(a['trace_se']):.2g}" if "trace" in a else ""
        return f"<Curvature: eigenvalues {shown}{trace}>"

    def _repr_html_(self) -> str:
        from lossatlas.figures.thumbnails import spectrum_picture

        picture = spectrum_picture(self.findings)
        rows = summaries.findings_rows(self.findings)
        return summaries.html_of("Curvature", rows, picture, width=summaries.WIDE_PICTURE)
