"""Curves between two networks, with control points that are networks too: Bezier curves and polygonal chains.

Trained as by Garipov et al., Loss surfaces, mode connectivity, and fast ensembling of DNNs (arXiv 1802.10026, section
3).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lossatlas.choices import CurveKind
from lossatlas.parameter_space.points import Point, on_device


def control_weights(kind: CurveKind, t: float, count: int) -> list[float]:
    """Compute the weights of the control points at a point of a curve (Garipov et al., section 3.2).

    Args:
        kind: 'bezier' or 'polygonal'.
        t: The coordinate along the curve; the ends are at 0 and 1.
        count: Number of control points, the ends included.

    Returns:
        `count` weights, whose sum is 1.

    Example:
        >>> control_weights("bezier", 0.5, 3)
        [0.25, 0.5, 0.25]
    """
    last = count - 1
    if kind == "bezier":
        return [math.comb(last, k) * t**k * (1 - t) ** (last - k) for k in range(count)]
    return [max(0.0, 1 - abs(t * last - k)) for k in range(count)] if 0 <= t <= 1 else extrapolated(t, last)


def extrapolated(t: float, last: int) -> list[float]:
    """Extend a polygonal chain straight beyond its ends."""
    result = [0.0] * (last + 1)
    k = 0 if t < 0 else last - 1
    result[k], result[k + 1] = 1 - (t * last - k), t * last - k
    return result


@dataclass(frozen=True)
class CurvePlane:
    """The curve from the first of some networks to the last; the first coordinate is t, the second has no effect.

    Attributes:
        kind: 'bezier' or 'polygonal'.
        points: The control points, tensors by name.
    """

    kind: CurveKind
    points: Sequence[Mapping[str, Tensor]]

    def point(self, *at: float) -> Point:
        """Return the network at t = a, where `at` begins with a."""
        parts = control_weights(self.kind, at[0], len(self.points))
        return {
            name: torch.stack([part * point[name] for part, point in zip(parts, self.points, strict=True)]).sum(0)
            for name in self.points[0]
        }

    def on(self, device: torch.device, dtype: torch.dtype) -> "CurvePlane":
        """Return the same curve with its tensors on a device."""
        return CurvePlane(self.kind, [on_device(point, device, dtype) for point in self.points])
