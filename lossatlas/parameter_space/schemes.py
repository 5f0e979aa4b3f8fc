"""Surfaces through the space of a network's parameters that are no planes: lines beside each other, and the two schemes of
the notebook "Visualizing the loss landscape" in Julia, whose points are scaled back to the size of the network.

Each has `on(device, dtype)`, the same with its tensors there.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lossatlas.parameter_space.directions import EVERYTHING, Selection, scale_to
from lossatlas.parameter_space.layout import PLAIN, Layout
from lossatlas.parameter_space.points import Point

SCHEMES = ("linear2x", "barycentric")


@dataclass(frozen=True)
class RowLines:
    """Lines through one point beside each other: at (a, k) it is the point a steps along the k-th line."""

    origin: Mapping[str, Tensor]
    line: Callable[[int], Mapping[str, Tensor]]  # what it does not name does not move

    def point(self, a: float, b: float) -> Point:
        line = self.line(round(b))
        return {name: torch.add(w, line[name].to(w), alpha=a) if name in line else w for name, w in self.origin.items()}

    def on(self, device: torch.device, dtype: torch.dtype) -> "RowLines":
        return RowLines(placed(self.origin, device, dtype), self.line)


@dataclass(frozen=True)
class SchemePlane:
    """kind 'linear2x': b * third + (1 - b) * L(a * second + (1 - a) * first); 'barycentric': with
    p = first + a * (second - first) and q = first + b * (third - first), a * F(p) + (1 - b) * F(q).

    L scales each tensor to the norm it has in `first`, F each filter (the bias of a layer being one; layout: where
    filters are not along the first axis). What is not in `free`, such as BatchNorm, stays as it is in `first`.
    """

    kind: str
    first: Mapping[str, Tensor]
    second: Mapping[str, Tensor]
    third: Mapping[str, Tensor]
    free: Collection[str]
    layout: Layout = PLAIN

    def point(self, a: float, b: float) -> Point:
        w, u, v = ({name: p[name] for name in self.free} for p in (self.first, self.second, self.third))
        if self.kind == "linear2x":
            between = scale_to({name: a * u[name] + (1 - a) * w[name] for name in w}, w, "layer")
            found = {name: b * v[name] + (1 - b) * between[name] for name in w}
        else:
            p = scale_to({name: w[name] + a * (u[name] - w[name]) for name in w}, w, "filter", layout=self.layout)
            q = scale_to({name: w[name] + b * (v[name] - w[name]) for name in w}, w, "filter", layout=self.layout)
            found = {name: a * p[name] + (1 - b) * q[name] for name in w}
        return {**self.first, **found}

    def on(self, device: torch.device, dtype: torch.dtype) -> "SchemePlane":
        first, second, third = (placed(p, device, dtype) for p in (self.first, self.second, self.third))
        return SchemePlane(self.kind, first, second, third, self.free, self.layout)


def placed(point: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype) -> Point:
    return {
        name: value.to(device, dtype.to_complex() if value.is_complex() else dtype) for name, value in point.items()
    }


def other_network(
    at: Mapping[str, Tensor], seed: int, layout: Layout = PLAIN, selection: Selection = EVERYTHING
) -> Point:
    """The second or third network of a scheme: Gaussian, each filter, and each bias, as long as in `at`.

    layout: where filters are, and the parameters of normalization layers, which stay as they are.
    """
    generator = torch.Generator().manual_seed(seed)
    moved = set(free(at, layout.norms, selection))
    drawn = {name: torch.randn(value.shape, generator=generator, dtype=value.dtype) for name, value in at.items()}
    scaled = scale_to(drawn, at, "filter", layout=layout)
    return {name: scaled[name] if name in moved else value for name, value in at.items()}


def free(names: Iterable[str], norms: Collection[str], selection: Selection = EVERYTHING) -> list[str]:
    """Which tensors a scheme moves."""
    return [name for name in names if name not in norms and name in selection]


def layers_of(direction: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """The tensors that a direction moves, by the layer they belong to, in order."""
    layers: dict[str, list[str]] = {}
    for name, value in direction.items():
        if bool(value.any()):
            layers.setdefault(name.rpartition(".")[0] or name, []).append(name)
    return layers
