"""A local learning coefficient, as the Python function returns it."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from lossatlas.choices import LookName
from lossatlas.landscape.chain_statistics import LearningCoefficientEstimate
from lossatlas.results.findings_result import FindingsResult

if TYPE_CHECKING:
    from lossatlas.figures.matplotlib_style import Figure


@dataclass(frozen=True, repr=False)
class LearningCoefficient(FindingsResult):
    """A local learning coefficient with its chains.

    Attributes:
        findings: Arrays by name, as the file holds them.

    Example:
        >>> import torch, lossatlas
        >>> net = torch.nn.Linear(2, 2)
        >>> data = torch.randn(20, 2), torch.randint(0, 2, (20,))
        >>> found = lossatlas.learning_coefficient(net, data, chains=2, draws=20, burn_in=10, progress=False)
        >>> fig = found.plot()
    """

    @cached_property
    def estimate(self) -> LearningCoefficientEstimate:
        """The estimate, and what it rests on.

        Raises:
            BadInput: No chain is finished.
        """
        return self.findings.learning_coefficient()

    @property
    def value(self) -> float:
        """The mean over the chains."""
        return self.estimate.value

    @property
    def error(self) -> float:
        """Its standard error over the chains; NaN for one chain."""
        return self.estimate.error

    @property
    def chains(self) -> np.ndarray:
        """(chains,) the estimate of each chain."""
        return self.estimate.chains

    @property
    def doubts(self) -> tuple[str, ...]:
        """Sentences that say why not to believe the value; none where nothing was found."""
        return self.estimate.doubts

    def table(self) -> str:
        """Format the estimate, and what speaks against it, as text."""
        from lossatlas.figures.learning_coefficient_plots import coefficient_table

        return "\n".join(coefficient_table([self.findings], [""]))

    def plot(self, look: LookName | str | None = None) -> "Figure":
        """Draw the chains with matplotlib.

        Args:
            look: "paper", "dark" or "print"; None for paper.

        Returns:
            The figure.

        Raises:
            BadUsage: There is no such look.
        """
        from lossatlas import figures

        return figures.chains(self.findings, look)

    def __repr__(self) -> str:
        doubtful = f", doubtful: {'; '.join(self.doubts)}" if self.doubts else ""
        return f"<LearningCoefficient: {self.value:.6g} +- {self.error:.2g}{doubtful}>"
