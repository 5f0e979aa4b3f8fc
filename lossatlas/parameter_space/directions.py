"""Directions: random ones, and those towards another network.

They are of Li et al., Visualizing the loss landscape of neural nets (arXiv 1712.09913, section 4).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from lossatlas.errors import BadInput, note
from lossatlas.parameter_space.layout import PLAIN, Layout
from lossatlas.parameter_space.normalization import coordinates, inner, normalize
from lossatlas.parameter_space.points import Point
from lossatlas.parameter_space.selection import EVERYTHING, Selection

SKEWED = 0.3  # cosine between axes from which a note is given


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


def orthogonal(direction: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> Point:
    """Project a direction on the complement of another one, and restore its length.

    Args:
        direction: The y direction.
        other: The x direction.

    Returns:
        The projected direction, as long as `direction`.

    Raises:
        BadInput: The directions are parallel, or one of them is zero.
    """
    length = inner(direction, direction) ** 0.5
    result = dict(direction)
    for _ in range(2):  # one projection leaves rounding errors
        share = inner(result, other) / max(inner(other, other), 1e-300)
        result = {name: d - share * other[name] for name, d in result.items()}
    left = inner(result, result) ** 0.5
    if left <= 1e-4 * length:
        raise BadInput(
            "the y direction is parallel to the x direction, or zero: no direction at a right angle is left of it"
        )
    return {name: d * (length / left) for name, d in result.items()}


def target_direction(
    start: Mapping[str, Tensor], end: Mapping[str, Tensor], selection: Selection = EVERYTHING
) -> Point:
    """Compute the direction from one network to another: coordinate 1 is the second network in the selected tensors."""
    return selection.within({name: end[name] - value for name, value in start.items()})


def cosine(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """Compute the cosine of the angle between two directions; 0 where one of them has no length."""
    size = (inner(a, a) * inner(b, b)) ** 0.5
    return inner(a, b) / size if size else 0.0


def note_skewed(x: Mapping[str, Tensor], y: Mapping[str, Tensor], advice: str) -> None:
    """Give a note where axes, which figures draw at right angles, are not; advice: a way to avoid that."""
    if abs(value := cosine(x, y)) > SKEWED:
        note(f"the cosine between the directions is {value:.2f}, though figures draw them at right angles: {advice}")


def lengths(origin: Mapping[str, Tensor], directions: Sequence[Mapping[str, Tensor]]) -> np.ndarray:
    """Compute the norm of each tensor at the origin and in each direction: (tensors, 1 + directions) float64."""
    points = (origin, *directions)
    return np.array([[float(coordinates(point[name]).norm()) for point in points] for name in origin])
