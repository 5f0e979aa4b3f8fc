"""Directions and their normalizations, which follow Li et al., arXiv 1712.09913, section 4."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lossatlas.errors import BadInput, BadUsage, note
from lossatlas.parameter_space.layout import PLAIN, Layout, by_input, by_output
from lossatlas.parameter_space.points import Point, real_view

SKEWED = 0.3  # cosine of axes that are worth a word
TINY = 1e-10  # keeps a slice of zero norm from dividing by zero, as in the original release


def patterns_of(given: str | Iterable[str]) -> tuple[str, ...]:
    """Regular expressions; a single text is one."""
    return (given,) if isinstance(given, str) else tuple(given)


class Selection:
    """Which tensors a direction moves: those with one of the patterns `only` in their name, and none of `without`.

    Patterns are regular expressions (re.search); a single text is one of them. By default all tensors are moved. A tensor
    with several names (tied weights) is meant by any of them, see `within_net`.
    """

    def __init__(
        self, only: str | Iterable[str] = (), without: str | Iterable[str] = (), net: nn.Module | None = None
    ) -> None:
        self.only, self.without = patterns_of(only), patterns_of(without)
        self.others = {} if net is None else names_of(net)

    def __contains__(self, name: str) -> bool:
        names = self.others.get(name, (name,))
        wanted = not self.only or any(re.search(pattern, each) for pattern in self.only for each in names)
        return wanted and not any(re.search(pattern, each) for pattern in self.without for each in names)

    def __bool__(self) -> bool:
        return bool(self.only or self.without)

    def __str__(self) -> str:
        """For records: '' where everything is moved."""
        words = ("only", self.only), ("except", self.without)
        return ", ".join(f"{word} {' '.join(patterns)}" for word, patterns in words if patterns)

    def within_net(self, net: nn.Module) -> "Selection":
        """The same, which knows the further names of tied tensors."""
        return Selection(self.only, self.without, net)

    def of(self, names: Iterable[str]) -> list[str]:
        """The names among these. Raises BadUsage where there is none."""
        every = list(names)
        for pattern in (*self.only, *self.without):
            if not any(re.search(pattern, each) for name in every for each in self.others.get(name, (name,))):
                note(f"no tensor is called like {pattern}")
        if chosen := [name for name in every if name in self]:
            return chosen
        raise BadUsage(f"no tensor is left by '{self}': there are {', '.join(every[:8])}{', ...' * (len(every) > 8)}")

    def within(self, direction: Mapping[str, Tensor]) -> Point:
        """A direction that is zero in all other tensors."""
        return {name: d if name in self else torch.zeros_like(d) for name, d in direction.items()}


def names_of(net: nn.Module) -> dict[str, tuple[str, ...]]:
    """All names of each parameter and buffer, by each of them."""
    found: dict[int, list[str]] = {}
    every = [*net.named_parameters(remove_duplicate=False), *net.named_buffers(remove_duplicate=False)]
    for name, value in every:
        found.setdefault(id(value), []).append(name)
    return {name: tuple(found[id(value)]) for name, value in every}


EVERYTHING = Selection()


def seed_of(seed: int, idx: int, axis: int) -> int:
    """The seed of a random direction: repeats (idx) and axes of one seed are independent."""
    return int(np.random.SeedSequence([seed, idx, axis]).generate_state(2, np.uint32)[0])


def random_direction(
    at: Mapping[str, Tensor],
    norm: str,
    ignore: str,
    seed: int,
    layout: Layout = PLAIN,
    selection: Selection = EVERYTHING,
) -> Point:
    """A Gaussian direction at the point `at`, normalized. Depends on the seed and the shapes alone.

    norm, ignore, layout: see `normalize`. selection: all other tensors stay zero; the rest is as it would be without.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = {
        name: torch.randn(value.shape, generator=generator, dtype=value.dtype).to(value.device)
        for name, value in at.items()
    }
    return selection.within(normalize(selection.within(drawn), at, norm, ignore, layout))


def normalize(
    direction: Mapping[str, Tensor],
    at: Mapping[str, Tensor],
    norm: str = "",
    ignore: str = "",
    layout: Layout = PLAIN,
) -> Point:
    """Scale a direction to the weights it belongs to.

    norm: 'filter' (each slice that produces one output channel gets the norm of the same slice of the weights: a slice
    along the first axis, unless `layout` says otherwise), 'layer' (each tensor), 'weight' (elementwise product with the
    weights), 'dfilter' and 'dlayer' (unit norm per slice or tensor), 'unit' (unit norm of the whole), or '' (as it is).
    Tensors with at most one axis (biases, BatchNorm) become zero under ignore='biasbn'; otherwise they become the weights
    themselves, as in the original release, so two axes share that component (except under 'unit', where they are as drawn).
    layout: the names of tensors that count among these whatever their axes, and of weights with their output channels
    along the second axis, see `Layout.of`.
    """
    if norm == "unit":
        return unit(without_biases(direction, ignore, layout.norms))
    return {
        name: of_bias(d, at[name], ignore)
        if is_bias(name, d, layout.norms)
        else normalized_layer(d, at[name], norm, layout.transposed.get(name, 0))
        for name, d in direction.items()
    }


def scale_to(
    direction: Mapping[str, Tensor],
    at: Mapping[str, Tensor],
    norm: str = "",
    ignore: str = "",
    layout: Layout = PLAIN,
    selection: Selection = EVERYTHING,
) -> Point:
    """Normalize a direction that says something in every tensor, such as a gradient: see `normalize`.

    A tensor with one axis counts as one slice, and keeps its direction.
    """
    direction = selection.within(without_biases(direction, ignore, layout.norms))
    if norm in ("", "unit"):
        return unit(direction) if norm else dict(direction)
    return {
        name: normalized(d.reshape(1, -1), at[name].reshape(1, -1), norm).view_as(d)
        if is_bias(name, d, layout.norms)
        else normalized_layer(d, at[name], norm, layout.transposed.get(name, 0))
        for name, d in direction.items()
    }


def is_bias(name: str, d: Tensor, norms: Collection[str]) -> bool:
    """Whether a tensor counts as bias or normalization."""
    return d.dim() <= 1 or name in norms


def of_bias(d: Tensor, w: Tensor, ignore: str) -> Tensor:
    return torch.zeros_like(d) if ignore == "biasbn" else w.clone()


def without_biases(direction: Mapping[str, Tensor], ignore: str, norms: Collection[str] = ()) -> Point:
    return {
        name: torch.zeros_like(d) if ignore == "biasbn" and is_bias(name, d, norms) else d
        for name, d in direction.items()
    }


def unit(direction: Mapping[str, Tensor]) -> Point:
    length = inner(direction, direction) ** 0.5
    return {name: d / max(length, TINY) for name, d in direction.items()}


def inner(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    return sum(float(torch.dot(coordinates(a[name]), coordinates(b[name]))) for name in a)


def coordinates(value: Tensor) -> Tensor:
    """The real coordinates of a tensor in float64: of a complex number its real and its imaginary part."""
    return real_view(value).double().flatten()


def orthogonal(direction: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> Point:
    """A direction without its part along another one, with the length it had. Raises BadInput where nothing is left."""
    length = inner(direction, direction) ** 0.5
    result = dict(direction)
    for _ in range(2):  # once leaves rounding behind
        share = inner(result, other) / max(inner(other, other), 1e-300)
        result = {name: d - share * other[name] for name, d in result.items()}
    left = inner(result, result) ** 0.5
    if left <= 1e-4 * length:
        raise BadInput("--orthogonalize: the y direction is along the x direction, and nothing is left of it")
    return {name: d * (length / left) for name, d in result.items()}


def normalized_layer(d: Tensor, w: Tensor, norm: str, groups: int) -> Tensor:
    """Normalize one tensor. groups: of a weight whose output channels are along its second axis, otherwise 0."""
    if not groups or norm not in ("filter", "dfilter"):
        return normalized(d, w, norm)
    return by_input(normalized(by_output(d, groups), by_output(w, groups), norm), groups, d.shape)


def normalized(d: Tensor, w: Tensor, norm: str) -> Tensor:
    rows = d.flatten(1).norm(dim=1).view(-1, *[1] * (d.dim() - 1))
    if norm == "filter":
        return d * (w.flatten(1).norm(dim=1).view_as(rows) / (rows + TINY))
    if norm == "layer":
        return d * (w.norm() / (d.norm() + TINY))
    if norm == "weight":
        return d * w
    if norm == "dfilter":
        return d / (rows + TINY)
    if norm == "dlayer":
        return d / (d.norm() + TINY)
    return d.clone()


def target_direction(
    start: Mapping[str, Tensor], end: Mapping[str, Tensor], selection: Selection = EVERYTHING
) -> Point:
    """The direction from one network to another, so that coordinate 1 is the second network (where it is moved)."""
    return selection.within({name: end[name] - value for name, value in start.items()})


def cosine(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """Between two directions; 0 where one of them has no length."""
    size = (inner(a, a) * inner(b, b)) ** 0.5
    return inner(a, b) / size if size else 0.0


def note_skewed(x: Mapping[str, Tensor], y: Mapping[str, Tensor], cure: str) -> None:
    """Warn of axes that are drawn at right angles and are not."""
    if abs(value := cosine(x, y)) > SKEWED:
        note(f"the cosine between the directions is {value:.2f}, though figures draw them at right angles: {cure}")


def lengths(origin: Mapping[str, Tensor], directions: Sequence[Mapping[str, Tensor]]) -> np.ndarray:
    """(tensors, 1 + directions) float64: how long each tensor is, and how far each direction moves it."""
    points = (origin, *directions)
    return np.array([[float(coordinates(point[name]).norm()) for point in points] for name in origin])
