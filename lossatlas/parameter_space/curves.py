"""Curves between two networks whose bends are networks too, as trained by Garipov et al. (arXiv 1802.10026): Bezier curves, and
polygonal chains.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lossatlas.parameter_space.points import Point
from lossatlas.parameter_space.schemes import placed

KINDS = ("bezier", "polygonal")


def shares(kind: str, t: float, count: int) -> list[float]:
    """How much of each of `count` networks is in the point t of a curve; they add up to 1. t = 0 and 1 are the ends."""
    last = count - 1
    if kind == "bezier":
        return [math.comb(last, k) * t**k * (1 - t) ** (last - k) for k in range(count)]
    return [max(0.0, 1 - abs(t * last - k)) for k in range(count)] if 0 <= t <= 1 else beyond(t, last)


def beyond(t: float, last: int) -> list[float]:
    """A polygonal chain goes straight on at its ends."""
    result = [0.0] * (last + 1)
    k = 0 if t < 0 else last - 1
    result[k], result[k + 1] = 1 - (t * last - k), t * last - k
    return result


@dataclass(frozen=True)
class CurvePlane:
    """The curve from the first of some networks to the last; the coordinate along it is t, the other one changes nothing."""

    kind: str
    points: Sequence[Mapping[str, Tensor]]

    def point(self, a: float, b: float = 0.0) -> Point:
        parts = shares(self.kind, a, len(self.points))
        return {
            name: torch.stack([part * point[name] for part, point in zip(parts, self.points, strict=True)]).sum(0)
            for name in self.points[0]
        }

    def on(self, device: torch.device, dtype: torch.dtype) -> "CurvePlane":
        return CurvePlane(self.kind, [placed(point, device, dtype) for point in self.points])
