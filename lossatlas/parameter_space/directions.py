"""Directions: random ones, and those towards another network.

They are of Li et al., Visualizing the loss landscape of neural nets (arXiv 1712.09913, section 4).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from lossatlas.choices import Ignore, NormOrNone
from lossatlas.errors import BadInput, note
from lossatlas.io.seeded_directions import DRAWN_BLOCK, SeededTensor, blocks, fill_normal, finish
from lossatlas.parameter_space.layout import PLAIN_LAYOUT, Layout
from lossatlas.parameter_space.normalization import (
    LARGE_TENSOR,
    TINY,
    dot,
    inner,
    is_bias,
    normalize,
    real_coordinates,
    unit_length,
)
from lossatlas.parameter_space.points import Point, widened
from lossatlas.parameter_space.scratch import MappedPoint, Scratch
from lossatlas.parameter_space.selection import EVERYTHING, Selection

SKEWED = 0.3  # cosine between axes from which a note is given


def seed_of(seed: int, idx: int, axis: int) -> int:
    """Derive the seed of a random direction.

    Args:
        seed: The seed of the run.
        idx: Number of the repeat.
        axis: 0 for x, 1 for y, 2 for z.

    Returns:
        A seed; seeds of different repeats and axes are independent.
    """
    return int(np.random.SeedSequence([seed, idx, axis]).generate_state(2, np.uint32)[0])


def random_direction(
    at: Mapping[str, Tensor],
    norm: NormOrNone,
    ignore: Ignore,
    seed: int,
    layout: Layout = PLAIN_LAYOUT,
    *,
    selection: Selection = EVERYTHING,
    scratch: Scratch | None = None,
) -> Point:
    """Draw a Gaussian direction at a point, and normalize it.

    Args:
        at: The point, tensors by name.
        norm: See `normalize`.
        ignore: See `normalize`.
        seed: Seed of the random numbers; with the shapes it determines the direction before normalization.
        layout: See `normalize`.
        selection: All other tensors are zero; the selected ones do not depend on the selection.
        scratch: Makes the file of a direction in float32, see `drawn_in_file`; None for memory.

    Returns:
        The direction, in the shapes of `at`, in its types, of which half precision becomes float32, and on its devices;
        on the CPU in files.

    Example:
        >>> at = {"weight": torch.ones(4, 9)}
        >>> random_direction(at, "filter", "biasbn", seed=0)["weight"].norm(dim=1).round(decimals=5).tolist()
        [3.0, 3.0, 3.0, 3.0]
    """
    if scratch is not None and all(widened_dtype(value) == torch.float32 for value in at.values()):
        return drawn_in_file(at, norm, ignore, seed, layout, selection=selection, scratch=scratch)
    generator = torch.Generator().manual_seed(seed)
    drawn = {
        name: torch.randn(value.shape, generator=generator, dtype=widened_dtype(value)).to(value.device)
        for name, value in at.items()
    }
    return selection.within(normalize(selection.within(drawn), at, norm, ignore, layout))


class DrawnPoint(MappedPoint):
    """A random direction in a file, with the record from which it can be drawn again.

    Attributes:
        seed: The seed of the generator.
        records: How each tensor is drawn, by name.
    """

    seed: int
    records: dict[str, SeededTensor]


def drawn_in_file(
    at: Mapping[str, Tensor],
    norm: NormOrNone,
    ignore: Ignore,
    seed: int,
    layout: Layout,
    *,
    selection: Selection,
    scratch: Scratch,
) -> DrawnPoint:
    """Draw and normalize a direction in a file; a block of it is in memory at a time.

    Args:
        at: The point, tensors by name.
        norm: See `normalize`.
        ignore: See `normalize`.
        seed: Seed of the random numbers, the same as of `random_direction`.
        layout: See `normalize`.
        selection: All other tensors are zero.
        scratch: Makes the file.

    Returns:
        The direction in float32 on the CPU, with the records by which it is drawn again.
    """
    formats = [(name, tuple(value.shape), torch.float32) for name, value in at.items()]
    result = DrawnPoint(scratch.empty(formats).file, formats)
    result.seed, result.records, generator = seed, {}, torch.Generator().manual_seed(seed)
    for name, w in at.items():
        fill_normal(result[name].view(-1), generator)
        record = record_of(name, result[name], w, norm, ignore, layout=layout) if name in selection else None
        result.records[name] = record or SeededTensor(tuple(w.shape), "zero")
        finish(result[name].view(-1), result.records[name])
    if norm == "unit":
        length = np.array(unit_length(result))
        for name, record in result.records.items():
            if record.kind == "drawn":
                result.records[name] = replace(record, factor=length, divided=True)
                finish(result[name].view(-1), result.records[name])
    return result


def record_of(
    name: str, d: Tensor, w: Tensor, norm: NormOrNone, ignore: Ignore, *, layout: Layout
) -> SeededTensor | None:
    """Return how a tensor is normalized, see `normalize`; None for one that becomes zero.

    Args:
        name: Its name.
        d: The drawn numbers.
        w: The weights.
        norm: See `normalize`.
        ignore: See `normalize`.
        layout: See `normalize`.
    """
    shape, bias = tuple(w.shape), is_bias(name, d, layout.norms)
    if bias and ignore == "biasbn":
        return None
    if norm in ("", "unit") and not (bias and not norm):
        return SeededTensor(shape, "drawn")
    if bias or norm == "weight" or (norm in ("filter", "dfilter") and layout.transposed.get(name)):
        scaled = normalize({name: d}, {name: w.cpu()}, norm, ignore, layout)[name]
        return SeededTensor(shape, "stored", scaled.contiguous().numpy())
    rows = torch.cat([row_norms(d[k]) for k in row_blocks(d)]) if norm in ("filter", "dfilter") else d.norm()
    if norm in ("dfilter", "dlayer"):
        return SeededTensor(shape, "drawn", (rows + TINY).numpy(), divided=True)
    own = (widened(w[k]).cpu() for k in row_blocks(w))
    size = torch.cat([row_norms(part) for part in own]) if norm == "filter" else widened(w).cpu().norm()
    return SeededTensor(shape, "drawn", (size / (rows + TINY)).numpy())


def row_norms(value: Tensor) -> Tensor:
    """Return the norm of each slice along the first axis, (n,)."""
    return value.flatten(1).norm(dim=1)


def row_blocks(value: Tensor) -> Iterator[slice]:
    """Yield slices of rows of about DRAWN_BLOCK numbers."""
    rows = max(1, DRAWN_BLOCK * len(value) // max(value.numel(), 1))
    for start in range(0, len(value), rows):
        yield slice(start, start + rows)


def wide_like(point: Mapping[str, Tensor], scratch: Scratch) -> Point:
    """Return tensors of zeros in files, in the shapes and types of a point; half precision becomes float32."""
    return scratch.empty([(name, tuple(value.shape), widened_dtype(value)) for name, value in point.items()])


def widened_dtype(value: Tensor) -> torch.dtype:
    """Return the type of a direction's tensor: float32 for half precision."""
    return torch.float32 if value.dtype in (torch.bfloat16, torch.float16) else value.dtype


def orthogonal(direction: Mapping[str, Tensor], other: Mapping[str, Tensor], letter: str = "y") -> Point:
    """Project a direction on the complement of another one, and restore its length.

    Args:
        direction: The y or the z direction; one in a file (`MappedPoint`) is overwritten.
        other: The x direction, or the y direction for z.
        letter: The name of the direction, for the message.

    Returns:
        The projected direction, as long as `direction`.

    Raises:
        BadInput: The direction lies along those before it, or is zero.
    """
    length, in_place = inner(direction, direction) ** 0.5, isinstance(direction, MappedPoint)
    result = dict(direction)
    for _ in range(2):  # one projection leaves rounding errors
        share = inner(result, other) / max(inner(other, other), 1e-300)
        result = {name: minus(d, share, other[name], out=in_place) for name, d in result.items()}
    left = inner(result, result) ** 0.5
    if left <= 1e-4 * length:
        before = "is parallel to the x direction" if letter == "y" else "lies in the plane of the x and the y direction"
        raise BadInput(f"the {letter} direction {before}, or is zero: no direction at a right angle is left of it")
    return {name: d.mul_(length / left) if in_place else d * (length / left) for name, d in result.items()}


def minus(d: Tensor, share: float, other: Tensor, *, out: bool) -> Tensor:
    """Subtract a multiple of another tensor.

    Args:
        d: The tensor.
        share: The factor of `other`.
        other: A tensor of the same shape.
        out: Write the result into `d`, block by block; otherwise `d` does not change.

    Returns:
        d - share * other.
    """
    if not out:
        return d - share * other
    own, along = d.view(-1), other.reshape(-1)
    for block in blocks(len(own)):
        own[block] -= share * along[block]
    return d


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
    """Give a note where axes, which figures draw at right angles, are not.

    Args:
        x: The first direction by tensor name.
        y: The second direction.
        advice: A way to avoid that.
    """
    if abs(value := cosine(x, y)) > SKEWED:
        note(f"the cosine between the directions is {value:.2f}, though figures draw them at right angles: {advice}")


def lengths(origin: Mapping[str, Tensor], directions: Sequence[Mapping[str, Tensor]]) -> np.ndarray:
    """Compute the norm of each tensor at the origin and in each direction: (tensors, 1 + directions) float64."""
    points = (origin, *directions)
    return np.array([[length(point[name]) for point in points] for name in origin])


def length(value: Tensor) -> float:
    """Compute the norm of a tensor in float64."""
    return float(real_coordinates(value).norm()) if value.numel() <= LARGE_TENSOR else dot(value, value) ** 0.5
