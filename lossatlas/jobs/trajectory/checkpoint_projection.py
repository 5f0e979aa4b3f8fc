"""Project the checkpoints of a training run onto a plane: differences from the last one, and principal components."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lossatlas.choices import Ignore
from lossatlas.errors import BadInput
from lossatlas.parameter_space import Components, Point, Selection, principal_components, project
from lossatlas.parameter_space.layout import norm_parameters
from lossatlas.parameter_space.normalization import is_bias
from lossatlas.parameter_space.points import real_view
from lossatlas.parameter_space.projection import RowMatrix
from lossatlas.parameter_space.selection import EVERYTHING

THIN = 0.1  # of the longer axis: the grid gives a path that is shorter along the other one this extent


@dataclass(frozen=True)
class CheckpointDifferences:
    """Checkpoints minus the origin, as rows of a matrix (count, coordinates) in float32, each read on access.

    See `parameter_space.projection.RowMatrix`.

    Attributes:
        point: Returns the tensors of the k-th checkpoint by name.
        count: The number of checkpoints.
        origin: The tensors of the origin.
        kept: Whether a tensor is kept; the others are zero.
    """

    point: Callable[[int], Mapping[str, Tensor]]
    count: int
    origin: Mapping[str, Tensor]
    kept: Mapping[str, bool]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, k: int) -> np.ndarray:
        point, parts = self.point(k), []
        for name, w in self.origin.items():
            parts.append(real_view((point[name] - w) * self.kept[name]).flatten().cpu().numpy())
        return np.concatenate(parts)


def differences(
    point: Callable[[int], Mapping[str, Tensor]],
    count: int,
    origin: Mapping[str, Tensor],
    net: nn.Module,
    *,
    ignore: Ignore = "",
    selection: Selection = EVERYTHING,
) -> CheckpointDifferences:
    """Return the differences of checkpoints from the origin.

    Args:
        point: Returns the tensors of the k-th checkpoint by name.
        count: The number of checkpoints.
        origin: The tensors of the origin.
        net: The network.
        ignore: 'biasbn' leaves out biases and normalization layers.
        selection: The tensors to keep.
    """
    norms, names = norm_parameters(net), selection.of(origin)
    kept = {name: name in names and not (ignore == "biasbn" and is_bias(name, w, norms)) for name, w in origin.items()}
    return CheckpointDifferences(point, count, origin, kept)


def principal_plane(
    rows: CheckpointDifferences, origin: Mapping[str, Tensor]
) -> tuple[Components, tuple[Point, Point]]:
    """Compute the first two principal components of all checkpoints, the last one included.

    Args:
        rows: The differences from the origin.
        origin: The tensors of the origin.

    Returns:
        The components, and their two unit vectors by tensor name.

    Raises:
        BadInput: when there are fewer than three checkpoints, or when they span no plane beyond rounding.
    """
    try:
        components = principal_components(rows, rounding=rounding_of(rows))
    except ValueError as error:
        raise BadInput(f"no plane through the trajectory: {error}: use more checkpoints") from error
    x, y = (unflattened(vector, origin) for vector in components.vectors)
    return components, (x, y)


def rounding_of(rows: CheckpointDifferences) -> float:
    """Return a bound of the rounding errors in a checkpoint: machine epsilon times the norm of each kept tensor."""
    squares = 0.0
    for name, value in rows.origin.items():
        if rows.kept[name]:
            squares += (torch.finfo(value.dtype).eps * float(real_view(value).double().norm())) ** 2
    return float(np.sqrt(squares))


def unflattened(row: np.ndarray, like: Mapping[str, Tensor]) -> Point:
    """Return a row of real coordinates by tensor name; a complex number takes two of them."""
    parts = torch.from_numpy(row.astype(np.float32)).split([real_view(value).numel() for value in like.values()])
    return {
        name: torch.view_as_complex(part.clone().view(*value.shape, 2))
        if value.is_complex()
        else part.view(value.shape)
        for part, (name, value) in zip(parts, like.items(), strict=True)
    }


def flat_axes(plane: Iterable[Mapping[str, Tensor]]) -> np.ndarray:
    """Return directions as rows of real coordinates (2, coordinates)."""
    return np.stack(
        [np.concatenate([real_view(value).cpu().numpy().ravel() for value in point.values()]) for point in plane]
    )


def plane_coordinates(
    rows: RowMatrix, plane: Iterable[Mapping[str, Tensor]], name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Project rows onto a plane by least squares.

    Args:
        rows: The differences from the origin, (count, coordinates).
        plane: Two directions by tensor name.
        name: The name of the plane in messages.

    Returns:
        The coordinates (count, 2), and the distances from the plane (count,).

    Raises:
        BadInput: The directions span no plane.
    """
    try:
        return project(rows, flat_axes(plane))
    except ValueError as error:
        raise BadInput(f"{name}: {error}") from error


def grid_around(extent: Sequence[tuple[float, float]], margin: float, counts: Sequence[int]) -> tuple[str, str]:
    """Choose axes that hold a path with a margin, with round ends.

    An axis along which the path is short gets a tenth of the longer one.

    Args:
        extent: Lowest and highest coordinate along x and along y.
        margin: Margin on either side, as a share of the extent.
        counts: Points along x and along y.

    Returns:
        The axes as "first:last:count".

    Example:
        >>> grid_around([(0.0, 1.0), (0.0, 0.5)], 0.1, (11, 7))
        ('-0.1:1.1:11', '-0.05:0.55:7')
    """
    widest = max(high - low for low, high in extent)
    axes = []
    for (low, high), count in zip(extent, counts, strict=True):
        axes.append(axis_around(low, high, margin, count, length=max(high - low, THIN * widest)))
    return axes[0], axes[1]


def axis_around(low: float, high: float, margin: float, count: int, *, length: float) -> str:
    """Choose an axis that holds an interval with a margin, with round ends.

    Args:
        low: Lower end of the interval.
        high: Upper end of the interval.
        margin: Margin on either side, as a share of `length`.
        count: Number of points.
        length: Length of the axis without the margins; where it is longer than the interval, this is in the middle.

    Returns:
        The axis as "first:last:count".

    Example:
        >>> axis_around(0.0, 1.0, 0.1, 11, length=1.0)
        '-0.1:1.1:11'
    """
    extra = margin * length + (length - (high - low)) / 2
    unit = 10.0 ** (math.floor(math.log10(length)) - 1) if length > 0 else 1.0
    a, b = math.floor((low - extra) / unit) * unit, math.ceil((high + extra) / unit) * unit
    return f"{a:.6g}:{b:.6g}:{count}"
