"""The local learning coefficients of the checkpoints of a run, as the Python function returns them."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from lossatlas.choices import LookName
from lossatlas.io.spectrum_files import PathCheckpoint
from lossatlas.results.coefficient import LearningCoefficient
from lossatlas.results.findings_result import FindingsResult

if TYPE_CHECKING:
    from lossatlas.figures.matplotlib_style import Figure


@dataclass(frozen=True, repr=False)
class LearningCoefficientPath(FindingsResult):
    """The local learning coefficients of the checkpoints of a training run, those that are finished.

    Attributes:
        findings: Arrays by name, as the file holds them.

    Example:
        >>> import torch, lossatlas
        >>> nets, data = [torch.nn.Linear(2, 2) for _ in range(3)], (torch.randn(20, 2), torch.randint(0, 2, (20,)))
        >>> few = {"chains": 2, "draws": 20, "burn_in": 10, "progress": False}
        >>> found = lossatlas.learning_coefficients(nets[0], nets, data, **few)
        >>> found.values.shape, len(found.coefficients)
        ((3,), 3)
        >>> fig = found.plot()
    """

    @cached_property
    def finished(self) -> list[PathCheckpoint]:
        """The checkpoints that have all of their chains, in their order."""
        return [each for each in self.findings.path_checkpoints() if f"{each.key}/value" in self.findings.arrays]

    @cached_property
    def coefficients(self) -> list[LearningCoefficient]:
        """The estimate of each of them, with its chains."""
        return [LearningCoefficient(self.findings.of_checkpoint(each)) for each in self.finished]

    @property
    def epochs(self) -> np.ndarray:
        """(checkpoints,) the epoch or step of each; NaN where it is not known."""
        return np.array([np.nan if each.epoch is None else each.epoch for each in self.finished])

    @property
    def values(self) -> np.ndarray:
        """(checkpoints,) the estimates."""
        return np.array([each.value for each in self.coefficients])

    @property
    def errors(self) -> np.ndarray:
        """(checkpoints,) their standard errors over the chains; NaN for one chain."""
        return np.array([each.error for each in self.coefficients])

    @property
    def losses(self) -> np.ndarray:
        """(checkpoints,) the loss of each checkpoint."""
        return np.array([float(each.findings.arrays["loss"]) for each in self.coefficients])

    def table(self) -> str:
        """Format the estimates, and what speaks against them, as text."""
        from lossatlas.figures.coefficient_path_plots import path_table

        return "\n".join(path_table(self.findings))

    def plot(self, look: LookName | str | None = None) -> "Figure":
        """Draw the estimates with two standard errors beside the losses, with matplotlib.

        Args:
            look: "paper", "dark" or "print"; None for paper.

        Returns:
            The figure.

        Raises:
            BadUsage: There is no such look, or no checkpoint is finished.
        """
        from lossatlas import figures

        return figures.coefficients([self.findings], [str(self.findings.about["run"])], look)

    def __repr__(self) -> str:
        doubtful = sum(bool(each.doubts) for each in self.coefficients)
        return f"<LearningCoefficientPath: {len(self.finished)} checkpoints, {doubtful} doubtful>"
