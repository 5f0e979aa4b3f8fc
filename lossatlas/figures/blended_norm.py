"""Colours that blend the value of a cell with its rank among the cells; the module loads matplotlib."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import Normalize

VALUE_SHARE = 0.4  # of the value in blended colours; the rest is the rank among the cells


class BlendedNorm(Normalize):
    """Piecewise linear and strictly monotone map of heights to [0, 1].

    Args:
        vmin: Height of the lower end of the range.
        vmax: Height of its upper end.
        ranks: Heights at evenly spaced ranks, ascending.
    """

    def __init__(self, vmin: float, vmax: float, ranks: Sequence[float]) -> None:
        super().__init__(vmin, vmax)
        inner = np.clip(ranks, vmin, vmax)
        rank = np.linspace(0, 1, len(inner))
        self.heights = np.unique(np.concatenate([[vmin], inner, [vmax]]))
        # Equal heights share the middle of their ranks; the ends of the range are the ends of the map.
        first = np.searchsorted(inner, self.heights, "left").clip(0, len(inner) - 1)
        last = (np.searchsorted(inner, self.heights, "right") - 1).clip(0)
        shares = (rank[np.minimum(first, last)] + rank[np.maximum(first, last)]) / 2
        shares[0], shares[-1] = 0.0, 1.0
        self.shares = VALUE_SHARE * (self.heights - vmin) / (vmax - vmin) + (1 - VALUE_SHARE) * shares

    def __call__(self, value: Any, clip: bool | None = None) -> Any:
        """Return the share of the colour map at heights; beyond the range it goes on in proportion to them."""
        heights, is_scalar = self.process_value(value)
        assert self.vmin is not None
        assert self.vmax is not None
        data = np.asarray(heights.filled(np.nan), float)
        with np.errstate(invalid="ignore"):
            beyond = np.minimum(data - self.vmin, 0) + np.maximum(data - self.vmax, 0)
        inside = np.interp(data, self.heights, self.shares) + beyond / (self.vmax - self.vmin)
        result = np.ma.masked_array(np.clip(inside, 0, 1) if clip else inside, heights.mask)
        return result[0] if is_scalar else result

    def inverse(self, value: Any) -> Any:
        """Return the heights at shares of the colour map: the exact inverse."""
        assert self.vmin is not None
        assert self.vmax is not None
        share = np.asarray(value, float)
        beyond = np.minimum(share, 0) + np.maximum(share - 1, 0)
        found = np.interp(share, self.shares, self.heights) + beyond * (self.vmax - self.vmin)
        return float(found) if np.ndim(value) == 0 else found
