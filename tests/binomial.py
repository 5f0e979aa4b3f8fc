"""Counts of hits in tests of coverage: few seeds by default, many with `make test-all`."""

from typing import Any

import pytest
from scipy.stats import binom


def least_hits(trials: int, share: float, risk: float = 1e-3) -> int:
    """Fewest hits in independent trials that a true share leaves, with probability 1 - risk (exact binomial)."""
    return int(binom.ppf(risk, trials, share))


def counts(few: int, many: int) -> list[Any]:
    """Values of a parameter: few by default, many in the full suite."""
    return [few, pytest.param(many, marks=pytest.mark.full)]
