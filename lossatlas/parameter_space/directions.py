"""Directions: random ones, and those towards another network.

They are of Li et al., Visualizing the loss landscape of neural nets (arXiv 1712.09913, section 4).
"""

from collections.abc import Iterator, Mapping, Sequence
from types import EllipsisType

import numpy as np
import torch
from torch import Tensor

from lossatlas.errors import BadInput, note
from lossatlas.parameter_space.layout import PLAIN, Layout
from lossatlas.parameter_space.normalization import LARGE, coordinates, dot, inner, normalize, unit_length, without_biases
from lossatlas.parameter_space.points import Point, widened
from lossatlas.parameter_space.scratch import BLOCK, Scratch, blocks
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
    scratch: Scratch | None = None,
) -> Point:
    """Draw a Gaussian direction at a point, and normalize it.

    Args:
        at: The point, tensors by name.
        norm: See `normalize`.
        ignore: See `normalize`.
        seed: Of the random numbers; with the shapes it determines the direction before normalization.
        layout: See `normalize`.
        selection: All other tensors are zero; the selected ones do not depend on the selection.
        scratch: Makes files for the direction, which then is drawn in blocks; None for memory.

    Returns:
        The direction, in the shapes of `at`, in its types, of which half precision becomes float32, and on its devices;
        on the CPU in files.

    Example:
        >>> at = {"weight": torch.ones(4, 9)}
        >>> random_direction(at, "filter", "biasbn", seed=0)["weight"].norm(dim=1).round(decimals=5).tolist()
        [3.0, 3.0, 3.0, 3.0]
    """
    generator = torch.Generator().manual_seed(seed)
    if scratch is not None:
        return drawn_in_blocks(at, norm, ignore, generator, layout, selection, scratch)
    drawn = {
        name: torch.randn(value.shape, generator=generator, dtype=widened_dtype(value)).to(value.device)
        for name, value in at.items()
    }
    return selection.within(normalize(selection.within(drawn), at, norm, ignore, layout))


def drawn_in_blocks(
    at: Mapping[str, Tensor],
    norm: str,
    ignore: str,
    generator: torch.Generator,
    layout: Layout,
    selection: Selection,
    scratch: Scratch,
) -> Point:
    """Draw and normalize a direction in files, see `random_direction`: at most one tensor is in memory at a time."""
    result = wide_like(at, scratch)
    for name, w in at.items():
        own = result[name]
        if own.is_complex():
            own.copy_(torch.randn(own.shape, generator=generator, dtype=own.dtype))
        else:
            for block in blocks(own.numel()):
                own.view(-1)[block].normal_(generator=generator)
        if name not in selection:
            own.zero_()
        elif norm == "unit":
            own.copy_(without_biases({name: own}, ignore, layout.norms)[name])
        else:
            for rows in row_blocks(name, own, norm, layout):
                own[rows] = normalize({name: own[rows]}, {name: w[rows].cpu()}, norm, ignore, layout)[name]
    if norm == "unit":
        length = unit_length(result)
        for own in result.values():
            own.div_(length)
    return result


def wide_like(point: Mapping[str, Tensor], scratch: Scratch) -> Point:
    """Return tensors of zeros in files, in the shapes of a point and its types, of which half precision becomes float32."""
    return scratch.empty([(name, tuple(value.shape), widened_dtype(value)) for name, value in point.items()])


def widened_dtype(value: Tensor) -> torch.dtype:
    """Return the type of a direction's tensor: float32 for half precision."""
    return torch.float32 if value.dtype in (torch.bfloat16, torch.float16) else value.dtype


def row_blocks(name: str, value: Tensor, norm: str, layout: Layout) -> Iterator[slice | EllipsisType]:
    """Yield the parts of a tensor that are normalized apart from each other: rows along the first axis, or all of it."""
    apart = norm in ("", "filter", "dfilter", "weight") and value.dim() > 1
    if not apart or name in layout.norms or layout.transposed.get(name):
        yield ...
        return
    rows = max(1, BLOCK * len(value) // max(value.numel(), 1))
    for start in range(0, len(value), rows):
        yield slice(start, start + rows)


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
    start: Mapping[str, Tensor],
    end: Mapping[str, Tensor],
    selection: Selection = EVERYTHING,
    scratch: Scratch | None = None,
) -> Point:
    """Compute the direction from one network to another: coordinate 1 is the second network in the selected tensors.

    Args:
        start: The first network by tensor name.
        end: The second one.
        selection: All other tensors are zero.
        scratch: Makes files for the direction; None for memory.
    """
    if scratch is None:
        return selection.within({name: widened(end[name]) - value for name, value in start.items()})
    result = wide_like(start, scratch)
    for name, own in result.items():
        if name in selection:
            first, second, flat = start[name].reshape(-1), end[name].reshape(-1), own.view(-1)
            for block in blocks(len(flat)):
                flat[block] = widened(second[block]).cpu() - widened(first[block]).cpu()
    return result


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
    return np.array([[length(point[name]) for point in points] for name in origin])


def length(value: Tensor) -> float:
    """Compute the norm of a tensor in float64."""
    return float(coordinates(value).norm()) if value.numel() <= LARGE else dot(value, value) ** 0.5
