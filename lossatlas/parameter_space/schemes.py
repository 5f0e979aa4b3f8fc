"""Surfaces through the space of a network's parameters that are not planes: lines side by side, and two scaled schemes.

The schemes are those of the notebook "Visualizing the loss landscape" in Julia, whose points are scaled to the size of
the network.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from lossatlas.choices import Scheme
from lossatlas.parameter_space.layout import PLAIN_LAYOUT, Layout
from lossatlas.parameter_space.normalization import scale_to
from lossatlas.parameter_space.points import Point, on_device
from lossatlas.parameter_space.selection import EVERYTHING, Selection


@dataclass(frozen=True)
class RowLines:
    """Lines through one point: at (a, k) the point a steps along the k-th line.

    Attributes:
        origin: The point, tensors by name.
        line: Maps k to a direction; tensors that it does not name stay.
    """

    origin: Mapping[str, Tensor]
    line: Callable[[int], Mapping[str, Tensor]]

    def point(self, *at: float) -> Point:
        """Compute the point a steps along the line with the number b; `at` is (a, b)."""
        a, number = at
        line = self.line(round(number))
        return {name: torch.add(w, line[name].to(w), alpha=a) if name in line else w for name, w in self.origin.items()}

    def on(self, device: torch.device, dtype: torch.dtype) -> "RowLines":
        """Return the same lines with the origin on a device."""
        return RowLines(on_device(self.origin, device, dtype), self.line)


@dataclass(frozen=True)
class SchemePlane:
    """A surface between three networks, scaled to the size of the first.

    'linear2x' is b * third + (1 - b) * L(a * second + (1 - a) * first). 'barycentric' is, with p = first + a * (second
    - first) and q = first + b * (third - first), a * F(p) + (1 - b) * F(q). L scales each tensor to the norm it has in
    `first`, F each filter; the bias of a layer counts as one filter.

    Attributes:
        kind: 'linear2x' or 'barycentric'.
        first: The network at the origin, tensors by name.
        second: Another network.
        third: Another network.
        free: Names of the tensors that move; others, such as BatchNorm, stay as in `first`.
        layout: Filters that are not along the first axis.
    """

    kind: Scheme
    first: Mapping[str, Tensor]
    second: Mapping[str, Tensor]
    third: Mapping[str, Tensor]
    free: Collection[str]
    layout: Layout = PLAIN_LAYOUT

    def point(self, *at: float) -> Point:
        """Compute the point at coordinates (a, b)."""
        a, b = at
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
        """Return the same surface with its tensors on a device."""
        first, second, third = (on_device(p, device, dtype) for p in (self.first, self.second, self.third))
        return SchemePlane(self.kind, first, second, third, self.free, self.layout)


def other_network(
    at: Mapping[str, Tensor], seed: int, layout: Layout = PLAIN_LAYOUT, selection: Selection = EVERYTHING
) -> Point:
    """Draw the second or third network of a scheme: Gaussian, each filter and each bias as long as in `at`.

    Args:
        at: The first network, tensors by name.
        seed: Of the random numbers.
        layout: Filters that are not along the first axis, and the parameters of normalization layers, which stay.
        selection: All other tensors stay.

    Returns:
        The network, tensors by name.
    """
    generator = torch.Generator().manual_seed(seed)
    moved = set(free(at, layout.norms, selection))
    drawn = {name: torch.randn(value.shape, generator=generator, dtype=value.dtype) for name, value in at.items()}
    scaled = scale_to(drawn, at, "filter", layout=layout)
    return {name: scaled[name] if name in moved else value for name, value in at.items()}


def free(names: Iterable[str], norms: Collection[str], selection: Selection = EVERYTHING) -> list[str]:
    """List the tensors that a scheme moves: the selected ones that are not of normalization layers."""
    return [name for name in names if name not in norms and name in selection]


def layers_of(direction: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Group the tensors in which a direction is not zero by layer, in order."""
    layers: dict[str, list[str]] = {}
    for name, value in direction.items():
        if bool(value.any()):
            layers.setdefault(name.rpartition(".")[0] or name, []).append(name)
    return layers
