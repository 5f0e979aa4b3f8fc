"""The standard error that is allowed for a cell's loss."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lossatlas.errors import BadUsage, named
from lossatlas.landscape.statistics import summarize

FEWEST_SAMPLES = 1000  # that a cell without control variates draws
MIN_EFFECTIVE_SAMPLES = 20  # from which the variance has to be estimated before a standard error is reliable
WELL_BELOW = 10  # an unreliable error suffices if it is this many times smaller than the allowed one


@dataclass(frozen=True)
class Tolerance:
    """The allowed standard error of a cell's loss: the larger of relative * |loss| and absolute.

    Zero asks for all samples. A few samples may dominate the loss. Where none of them is drawn, the estimated variance
    is far too small. So `sample_count` draws samples until the variance is estimated from MIN_EFFECTIVE_SAMPLES (see
    `statistics.effective_samples`), or until the standard error is at most the allowed one divided by WELL_BELOW. No
    smaller standard error is stated. The first FEWEST_SAMPLES can miss losses that are concentrated in fewer than one
    sample in 300.
    `benchmarks/levels.py` counts how often stated errors hold.

    Attributes:
        relative: Relative to the absolute value of the loss.
        absolute: In units of the loss.

    Example:
        >>> Tolerance.parse("0.02,0.05")
        Tolerance(relative=0.02, absolute=0.05)
    """

    relative: float = 0.0
    absolute: float = 0.0

    @classmethod
    def parse(cls, text: str, field: str = "tolerance") -> "Tolerance":
        """Return the tolerance of 'REL' or 'REL,ABS'.

        Args:
            text: The numbers.
            field: The field of the configuration that they are of, for the message.

        Raises:
            BadUsage: The text is malformed, or both numbers are zero.
        """
        try:
            values = [float(part) for part in text.split(",")]
            if len(values) > 2 or not all(math.isfinite(value) and value >= 0 for value in values) or not any(values):
                raise ValueError
        except ValueError:
            raise BadUsage(
                f"{named(field, text)}: give REL or REL,ABS, one of them positive, such as 0.02 or 0.02,0.05"
            ) from None
        return cls(*values)

    @property
    def exact(self) -> bool:
        """True if all samples are used."""
        return not (self.relative or self.absolute)

    def excess(
        self, statistics: Mapping[str, np.ndarray], population: int, share: float | np.ndarray = 1.0
    ) -> np.ndarray:
        """Return the standard error in units of the allowed one.

        Args:
            statistics: Sums by name, see `statistics.summarize`.
            population: The number of all samples.
            share: Share of the tolerance that is allowed.

        Returns:
            At most 1 where samples suffice; infinite where the error is not known but the loss is finite; 0 where it is
            not.
        """
        known = summarize(statistics, population)
        with np.errstate(divide="ignore", invalid="ignore"):
            allowed = share * self.allowed(known["loss"])
            excess = np.where(known["loss_se"] > allowed, known["loss_se"] / allowed, 0.0)
        return np.where(np.isnan(known["loss_se"]) & np.isfinite(known["loss"]), np.inf, excess)

    def allowed(self, loss: np.ndarray) -> np.ndarray:
        """Return the allowed standard error at some losses."""
        return np.maximum(self.relative * np.abs(loss), self.absolute)
