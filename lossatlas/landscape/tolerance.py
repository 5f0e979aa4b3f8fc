"""How many samples a cell needs for a standard error that is small enough."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lossatlas.errors import BadUsage
from lossatlas.landscape.statistics import as_statistics, carriers, rare_error, squared_deviations, summarize

FEWEST_SAMPLES = 1000
FEWEST_CARRIERS = 20  # samples that the spread of the losses has to rest on before a standard error is believed
WELL_BELOW = 10  # with fewer, the standard error has to be so many times smaller than allowed; nor is it stated smaller
ROUNDING = 1e-12  # of the squares of equal losses: what the sums over them may leave of a variance


@dataclass(frozen=True)
class Tolerance:
    """The standard error of a cell's loss that is small enough: the larger of relative * |loss| and absolute.

    The default, zero, asks for all samples.

    Where few samples carry the loss, the first ones may hold none of these, and agree all the better. So a standard error
    is not believed until FEWEST_CARRIERS samples carry the spread (see `carriers`), unless it is WELL_BELOW what is
    allowed; and none is stated that is smaller than allowed / WELL_BELOW. `benchmarks/tolerance.py` counts how often it
    holds. What fewer than one sample in 300 carry may still be missed by the first FEWEST_SAMPLES. Equal losses are
    no certainty either, see `unseen`.
    """

    relative: float = 0.0
    absolute: float = 0.0

    @classmethod
    def parse(cls, text: str, option: str = "--tolerance") -> "Tolerance":
        """From 'REL' or 'REL,ABS'. Raises BadUsage."""
        try:
            values = [float(part) for part in text.split(",")]
            if len(values) > 2 or not all(math.isfinite(value) and value >= 0 for value in values) or not any(values):
                raise ValueError
        except ValueError:
            raise BadUsage(
                f"{option} {text}: give REL or REL,ABS, one of them positive, as in {option} 0.02,0.05"
            ) from None
        return cls(*values)

    @property
    def exact(self) -> bool:
        return not (self.relative or self.absolute)

    def excess(
        self, statistics: Mapping[str, np.ndarray], population: int, share: float | np.ndarray = 1.0
    ) -> np.ndarray:
        """The standard error in units of what is allowed: at most 1 where the samples are enough, or not finite.

        share: of what the tolerance allows.
        """
        known = summarize(statistics, population)
        with np.errstate(divide="ignore", invalid="ignore"):
            allowed = share * self.allowed(known["loss"])
            excess = np.where(known["loss_se"] > allowed, known["loss_se"] / allowed, 0.0)
        return np.where(np.isnan(known["loss_se"]) & np.isfinite(known["loss"]), np.inf, excess)

    def allowed(self, loss: np.ndarray) -> np.ndarray:
        return np.maximum(self.relative * np.abs(loss), self.absolute)

    def least_se(self, row: np.ndarray, population: int) -> float:
        """What a cell that stops with these statistics (in the order of STATISTICS) has to state at least."""
        if self.exact or row[0] >= population:
            return 0.0
        least = float(self.allowed(summarize(as_statistics(row), population)["loss"])[0]) / WELL_BELOW
        return max(least, unseen(row, population))

    def samples(self, row: np.ndarray, population: int) -> int:
        """How many samples a cell with these statistics (in the order of STATISTICS) needs, as far as they tell."""
        n = int(row[0])
        if self.exact:
            return population
        if n < min(FEWEST_SAMPLES, population):
            return min(FEWEST_SAMPLES, population)
        equal = unseen(row, population)
        statistics = as_statistics(row, least_se=equal)
        excess = float(self.excess(statistics, population)[0])
        if not excess > 1:
            strict = Tolerance(self.relative / WELL_BELOW, self.absolute / WELL_BELOW)
            few = equal > 0 or carriers(statistics)[0] < FEWEST_CARRIERS
            believed = not few or not strict.excess(statistics, population)[0] > 1
            return n if believed else min(population, 2 * n)
        # With a standard error of c * sqrt(1/n - 1/N), the allowed one takes 1/m = 1/N + (1/n - 1/N) / excess^2.
        wanted = 1 / (1 / population + (1 / n - 1 / population) / excess**2)
        return min(population, max(n + 1, min(math.ceil(wanted), 4 * n)))


def unseen(row: np.ndarray, population: int) -> float:
    """The standard error of a mean of equal losses, of which one not drawn may differ by 1, or by the loss if that is more.

    By Laplace's rule of succession; 0 where the losses (a row in the order of STATISTICS) differ.
    """
    statistics = as_statistics(row)
    n, weight, total, weight2 = (float(statistics[name][0]) for name in ("n", "weight", "weight_loss", "weight2"))
    if not 0 < n < population or not weight or not math.isfinite(total):
        return 0.0
    mean = abs(total / weight)
    if float(squared_deviations(statistics)[0][0]) > ROUNDING * mean**2 * weight2:
        return 0.0
    return max(1.0, mean) * rare_error(int(n), weight**2 / weight2, population)
