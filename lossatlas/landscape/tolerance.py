"""The standard error that is small enough; how many samples a cell draws for it: see `levels`."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lossatlas.errors import BadUsage
from lossatlas.landscape.statistics import summarize

FEWEST_SAMPLES = 1000
MIN_EFFECTIVE_SAMPLES = 20  # samples that the spread of the losses has to rest on before a standard error is believed
WELL_BELOW = 10  # with fewer, the standard error has to be so many times smaller than allowed; nor is it stated smaller
ROUNDING = 1e-12  # of the squares of equal losses: what the sums over them may leave of a variance


@dataclass(frozen=True)
class Tolerance:
    """The standard error of a cell's loss that is small enough: the larger of relative * |loss| and absolute.

    The default, zero, asks for all samples.

    Where few samples carry the loss, the first ones may hold none of these, and agree all the better. So `levels` draws
    more until FEWEST_CARRIERS samples carry the spread (see `carriers`), unless the standard error is WELL_BELOW what is
    allowed, and states none that is smaller than allowed / WELL_BELOW. Losses that fewer than one sample in 300 carries may
    be missed by the first FEWEST_SAMPLES. `benchmarks/levels.py` counts how often stated errors hold.
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
