"""The sharpness of a minimum, as the Python function returns it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lossatlas.choices import LookName
from lossatlas.errors import BadUsage
from lossatlas.results.findings_result import FindingsResult

if TYPE_CHECKING:
    from torch import Tensor

    from lossatlas.figures.matplotlib_style import Figure


@dataclass(frozen=True, repr=False)
class Sharpness(FindingsResult):
    """The rise of the loss within distances from a network.

    Attributes:
        findings: Arrays by name, as the file holds them.

    Example:
        >>> import torch, lossatlas
        >>> net = torch.nn.Linear(2, 2)
        >>> data = torch.randn(20, 2), torch.randint(0, 2, (20,))
        >>> found = lossatlas.sharpness(net, data, rho=[0.1], adaptive_rho=[0.5], progress=False)
        >>> found.radii(adaptive=True), found.change()["weight"].shape
        (array([0.5]), torch.Size([2, 2]))
        >>> fig = found.plot()
    """

    def radii(self, *, adaptive: bool = False) -> np.ndarray:
        """Return (radii,) the radii that are finished, increasing.

        Args:
            adaptive: Those of changes relative to each parameter.
        """
        return self._column("rises", 0, adaptive)

    def worst(self, *, adaptive: bool = False) -> np.ndarray:
        """Return (radii,) the largest rise of the loss that was found within each radius; arguments as for `radii`."""
        return self._column("rises", 1, adaptive)

    def average(self, *, adaptive: bool = False) -> np.ndarray:
        """Return (radii, 2) the mean rise over random directions, and its standard error; arguments as for `radii`."""
        return np.stack([self._column("rises", column, adaptive) for column in (3, 4)], axis=-1)

    def minibatches(self, *, adaptive: bool = False) -> np.ndarray:
        """Return (mini-batches, radii) the rise of the loss of each mini-batch; empty where none were asked for.

        Args:
            adaptive: For changes relative to each parameter.
        """
        return self.findings.arrays.get(f"{kind_word(adaptive)}/minibatches", np.zeros((0, 0)))

    @property
    def critical(self) -> float:
        """The critical sharpness; NaN where it is not computed yet."""
        return float(self.findings.arrays.get("critical", np.nan))

    def change(self, *, adaptive: bool = False) -> "dict[str, Tensor]":
        """Return the change with the largest rise within the largest radius, which `surface(directions=...)` accepts.

        Args:
            adaptive: Among changes relative to each parameter.

        Returns:
            Tensors by name, float32.

        Raises:
            BadUsage: There is no radius of this kind.
        """
        import torch

        kind = kind_word(adaptive)
        if f"{kind}/change" not in self.findings.arrays:
            raise BadUsage(f"no radius of a {kind} change is finished: there is no change with the largest rise")
        flat, result = self.findings.arrays[f"{kind}/change"].astype(np.float32), dict[str, torch.Tensor]()
        for name, shape in self.findings.about["parameters"]:
            count = int(np.prod(shape))
            result[name], flat = torch.from_numpy(flat[:count].reshape(shape).copy()), flat[count:]
        return result

    def table(self) -> str:
        """Format all rises as text."""
        from lossatlas.figures.sharpness_plots import minibatch_table, table

        return "\n".join([*table([self.findings], [""]), *minibatch_table([self.findings])])

    def plot(self, look: LookName | str | None = None) -> "Figure":
        """Draw the rises over the radius with matplotlib.

        Args:
            look: "paper", "dark" or "print"; None for paper.

        Returns:
            The figure.

        Raises:
            BadUsage: There is no such look.
        """
        from lossatlas import figures

        return figures.rises(self.findings, look)

    def _column(self, array: str, number: int, adaptive: bool) -> np.ndarray:
        return self.findings.arrays.get(f"{kind_word(adaptive)}/{array}", np.zeros((0, 5)))[:, number]

    def __repr__(self) -> str:
        rises = [
            f"{word} {radius:g}: {rise:.4g}"
            for adaptive, word in ((False, "rho"), (True, "adaptive rho"))
            for radius, rise in zip(self.radii(adaptive=adaptive), self.worst(adaptive=adaptive), strict=True)
        ]
        return f"<Sharpness: worst rises {', '.join(rises)}>"


def kind_word(adaptive: bool) -> str:
    """Return the word that the names of arrays begin with."""
    return "adaptive" if adaptive else "plain"
