"""Directions and their normalizations.

These are of Li et al., Visualizing the loss landscape of neural nets (arXiv 1712.09913, section 4).
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lossatlas.errors import BadInput, BadUsage, named, note
from lossatlas.parameter_space.layout import PLAIN, Layout, by_input, by_output
from lossatlas.parameter_space.points import Point, real_view

SKEWED = 0.3  # cosine between axes from which a note is given
TINY = 1e-10  # keeps a slice of zero norm from dividing by zero, as in the original code


def patterns_of(given: str | Iterable[str]) -> tuple[str, ...]:
    """Return regular expressions as a tuple; a single text is one."""
    return (given,) if isinstance(given, str) else tuple(given)


class Selection:
    """A choice of tensors: those with one of the patterns `only` in their name, and none of `without`.

    Args:
        only: Regular expressions (re.search), or a single one; by default all tensors.
        without: Regular expressions of tensors to leave out.
        net: A network whose tied tensors, which have several names, match under any of them.

    Example:
        >>> selection = Selection(only=["weight"], without="^0")
        >>> [name for name in ("0.weight", "1.weight", "1.bias") if name in selection]
        ['1.weight']
    """

    def __init__(
        self, only: str | Iterable[str] = (), without: str | Iterable[str] = (), net: nn.Module | None = None
    ) -> None:
        self.only, self.without = patterns_of(only), patterns_of(without)
        self.tied = {} if net is None else names_of(net)

    def __contains__(self, name: str) -> bool:
        names = self.tied.get(name, (name,))
        wanted = not self.only or any(re.search(pattern, each) for pattern in self.only for each in names)
        return wanted and not any(re.search(pattern, each) for pattern in self.without for each in names)

    def __bool__(self) -> bool:
        return bool(self.only or self.without)

    def __str__(self) -> str:
        """Describe the selection for records: '' for all tensors."""
        words = ("only", self.only), ("except", self.without)
        return ", ".join(f"{word} {' '.join(patterns)}" for word, patterns in words if patterns)

    def within_net(self, net: nn.Module) -> "Selection":
        """Return the same selection with the further names of a network's tied tensors."""
        return Selection(self.only, self.without, net)

    def of(self, names: Iterable[str]) -> list[str]:
        """Select among names, and note patterns that match none.

        Raises:
            BadUsage: No name is selected.
        """
        every = list(names)
        for pattern in (*self.only, *self.without):
            if not any(re.search(pattern, each) for name in every for each in self.tied.get(name, (name,))):
                note(f"no tensor is called like {pattern}")
        if chosen := [name for name in every if name in self]:
            return chosen
        raise BadUsage(f"no tensor is left by '{self}': there are {', '.join(every[:8])}{', ...' * (len(every) > 8)}")

    def within(self, direction: Mapping[str, Tensor]) -> Point:
        """Set a direction to zero in all tensors that are not selected."""
        return {name: d if name in self else torch.zeros_like(d) for name, d in direction.items()}


def names_of(net: nn.Module) -> dict[str, tuple[str, ...]]:
    """List all names of each parameter and buffer, by each of them."""
    found: dict[int, list[str]] = {}
    every = [*net.named_parameters(remove_duplicate=False), *net.named_buffers(remove_duplicate=False)]
    for name, value in every:
        found.setdefault(id(value), []).append(name)
    return {name: tuple(found[id(value)]) for name, value in every}


EVERYTHING = Selection()


def seed_of(seed: int, idx: int, axis: int) -> int:
    """Derive the seed of a random direction.

    Args:
        seed: The seed of the run.
        idx: Number of the repeat.
        axis: 0 for x, 1 for y.

    Returns:
        A seed; those of different repeats and axes are independent.
    """
    return int(np.random.SeedSequence([seed, idx, axis]).generate_state(2, np.uint32)[0])


def random_direction(
    at: Mapping[str, Tensor],
    norm: str,
    ignore: str,
    seed: int,
    layout: Layout = PLAIN,
    selection: Selection = EVERYTHING,
) -> Point:
    """Draw a Gaussian direction at a point, and normalize it.

    Args:
        at: The point, tensors by name.
        norm: See `normalize`.
        ignore: See `normalize`.
        seed: Of the random numbers; with the shapes it determines the direction before normalization.
        layout: See `normalize`.
        selection: All other tensors are zero; the selected ones do not depend on the selection.

    Returns:
        The direction, in the shapes, types and on the devices of `at`.

    Example:
        >>> at = {"weight": torch.ones(4, 9)}
        >>> random_direction(at, "filter", "biasbn", seed=0)["weight"].norm(dim=1).round(decimals=5).tolist()
        [3.0, 3.0, 3.0, 3.0]
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
    """Scale a direction to the weights (Li et al., arXiv 1712.09913, section 4).

    Tensors with at most one axis (biases, BatchNorm) become zero under ignore='biasbn'; otherwise, as in the original
    code, the direction of these tensors is the tensors themselves, for both axes (except under 'unit', where it is as
    drawn).

    Args:
        direction: The direction, tensors by name.
        at: The weights it belongs to, in the same shapes.
        norm: 'filter': each slice that produces one output channel gets the norm of that slice of the weights, a slice
            along the first axis unless `layout` says otherwise. 'layer': each tensor gets the norm of its weights.
            'weight': elementwise product with the weights. 'dfilter', 'dlayer': unit norm of each slice or tensor.
            'unit': unit norm of the whole. '': unchanged.
        ignore: 'biasbn' or ''.
        layout: Names of tensors that count as BatchNorm whatever their axes, and of weights with their output channels
            along the second axis, see `Layout.of`.

    Returns:
        The scaled direction.
    """
    if norm == "unit":
        return unit(without_biases(direction, ignore, layout.norms))
    return normalized_tensors(direction, at, norm, layout, lambda name, d: of_bias(d, at[name], ignore))


def scale_to(
    direction: Mapping[str, Tensor],
    at: Mapping[str, Tensor],
    norm: str = "",
    ignore: str = "",
    layout: Layout = PLAIN,
    selection: Selection = EVERYTHING,
) -> Point:
    """Normalize a direction that is meaningful in every tensor, such as a gradient.

    A tensor with one axis counts as one slice, and keeps its direction.

    Args:
        direction: See `normalize`.
        at: See `normalize`.
        norm: See `normalize`.
        ignore: 'biasbn' sets tensors with at most one axis and normalization layers to zero.
        layout: See `normalize`.
        selection: All other tensors become zero.

    Returns:
        The scaled direction.
    """
    direction = selection.within(without_biases(direction, ignore, layout.norms))
    if norm in ("", "unit"):
        return unit(direction) if norm else dict(direction)
    return normalized_tensors(
        direction,
        at,
        norm,
        layout,
        lambda name, d: normalized(d.reshape(1, -1), at[name].reshape(1, -1), norm).view_as(d),
    )


def normalized_tensors(
    direction: Mapping[str, Tensor],
    at: Mapping[str, Tensor],
    norm: str,
    layout: Layout,
    bias: Callable[[str, Tensor], Tensor],
) -> Point:
    """Normalize tensor by tensor; `bias` normalizes those that count as biases."""
    return {
        name: bias(name, d)
        if is_bias(name, d, layout.norms)
        else normalized_layer(d, at[name], norm, layout.transposed.get(name, 0))
        for name, d in direction.items()
    }


def is_bias(name: str, d: Tensor, norms: Collection[str]) -> bool:
    """Test whether a tensor counts as bias or normalization layer; norms: names of parameters of the latter."""
    return d.dim() <= 1 or name in norms


def of_bias(d: Tensor, w: Tensor, ignore: str) -> Tensor:
    return torch.zeros_like(d) if ignore == "biasbn" else w.clone()


def without_biases(direction: Mapping[str, Tensor], ignore: str, norms: Collection[str] = ()) -> Point:
    return {
        name: torch.zeros_like(d) if ignore == "biasbn" and is_bias(name, d, norms) else d
        for name, d in direction.items()
    }


def unit(direction: Mapping[str, Tensor]) -> Point:
    """Scale a direction to unit length."""
    length = inner(direction, direction) ** 0.5
    return {name: d / max(length, TINY) for name, d in direction.items()}


def inner(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """Compute the inner product of two directions in float64."""
    return sum(float(torch.dot(coordinates(a[name]), coordinates(b[name]))) for name in a)


def coordinates(value: Tensor) -> Tensor:
    """Flatten a tensor to real coordinates in float64; a complex number has two."""
    return real_view(value).double().flatten()


def orthogonal(direction: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> Point:
    """Project a direction on the complement of another one, and restore its length.

    Args:
        direction: The y direction.
        other: The x direction.

    Returns:
        The projected direction, as long as `direction`.

    Raises:
        BadInput: The directions are parallel.
    """
    length = inner(direction, direction) ** 0.5
    result = dict(direction)
    for _ in range(2):  # one projection leaves rounding errors
        share = inner(result, other) / max(inner(other, other), 1e-300)
        result = {name: d - share * other[name] for name, d in result.items()}
    left = inner(result, result) ** 0.5
    if left <= 1e-4 * length:
        raise BadInput(f"{named('orthogonalize')}: the y direction is parallel to the x direction")
    return {name: d * (length / left) for name, d in result.items()}


def normalized_layer(d: Tensor, w: Tensor, norm: str, groups: int) -> Tensor:
    """Normalize one tensor; groups: of a weight whose output channels are along its second axis, otherwise 0."""
    if not groups or norm not in ("filter", "dfilter"):
        return normalized(d, w, norm)
    return by_input(normalized(by_output(d, groups), by_output(w, groups), norm), groups, d.shape)


def normalized(d: Tensor, w: Tensor, norm: str) -> Tensor:
    """Normalize one tensor with its output channels along the first axis, see `normalize`."""
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
    """Compute the direction from one network to another: coordinate 1 is the second network in the selected tensors."""
    return selection.within({name: end[name] - value for name, value in start.items()})


def cosine(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """Compute the cosine of the angle between two directions; 0 where one of them has no length."""
    size = (inner(a, a) * inner(b, b)) ** 0.5
    return inner(a, b) / size if size else 0.0


def note_skewed(x: Mapping[str, Tensor], y: Mapping[str, Tensor], cure: str) -> None:
    """Give a note where axes, which figures draw at right angles, are not; cure: a way to avoid that."""
    if abs(value := cosine(x, y)) > SKEWED:
        note(f"the cosine between the directions is {value:.2f}, though figures draw them at right angles: {cure}")


def lengths(origin: Mapping[str, Tensor], directions: Sequence[Mapping[str, Tensor]]) -> np.ndarray:
    """Compute the norm of each tensor at the origin and in each direction: (tensors, 1 + directions) float64."""
    points = (origin, *directions)
    return np.array([[float(coordinates(point[name]).norm()) for point in points] for name in origin])
