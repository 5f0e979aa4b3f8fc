"""A path of training: checkpoints as differences from the last one, their principal plane, and where they are in a plane."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from lossatlas.errors import BadInput
from lossatlas.parameter_space import Components, Point, Selection, principal_components, project
from lossatlas.parameter_space.directions import EVERYTHING, is_bias
from lossatlas.parameter_space.layout import norm_parameters
from lossatlas.parameter_space.points import real_view
from lossatlas.parameter_space.projection import RowMatrix


@dataclass(frozen=True)
class CheckpointDifferences:
    """(count, coordinates) float32: each point minus the origin, zero where tensors are not kept; read when it is asked for.

    point: the k-th one. See space.projection.Rows.
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
    ignore: str = "",
    selection: Selection = EVERYTHING,
) -> CheckpointDifferences:
    """Of points from the origin, without the tensors that `ignore` or the selection leave out."""
    norms, names = norm_parameters(net), selection.of(origin)
    kept = {name: name in names and not (ignore == "biasbn" and is_bias(name, w, norms)) for name, w in origin.items()}
    return CheckpointDifferences(point, count, origin, kept)


def principal_plane(
    rows: CheckpointDifferences, origin: Mapping[str, Tensor]
) -> tuple[Components, tuple[Point, Point]]:
    """The first two principal components of all checkpoints, the last one included; also by tensor name.

    Raises:
        BadInput: when there are fewer than three checkpoints, or when they span no plane beyond rounding.
    """
    try:
        found = principal_components(rows, rounding=rounding_of(rows))
    except ValueError as error:
        raise BadInput(f"no plane through the trajectory: {error}: use more checkpoints") from error
    x, y = (unflattened(vector, origin) for vector in found.vectors)
    return found, (x, y)


def rounding_of(rows: CheckpointDifferences) -> float:
    """Length of the rounding errors in a checkpoint as large as the origin, at most twice over: the machine epsilon of each
    moving tensor times its norm.
    """
    squares = 0.0
    for name, value in rows.origin.items():
        if rows.kept[name]:
            squares += (torch.finfo(value.dtype).eps * float(real_view(value).double().norm())) ** 2
    return float(np.sqrt(squares))


def unflattened(row: np.ndarray, like: Mapping[str, Tensor]) -> Point:
    """A row of real coordinates by tensor name, two of them for each complex number."""
    parts = torch.from_numpy(row.astype(np.float32)).split([real_view(value).numel() for value in like.values()])
    return {
        name: torch.view_as_complex(part.clone().view(*value.shape, 2))
        if value.is_complex()
        else part.view(value.shape)
        for part, (name, value) in zip(parts, like.items(), strict=True)
    }


def coordinates(rows: RowMatrix, plane: Iterable[Mapping[str, Tensor]], what: str) -> tuple[np.ndarray, np.ndarray]:
    """(rows, 2), and each row's distance from the plane of two directions. Raises BadInput where they are no plane."""
    axes = np.stack(
        [np.concatenate([real_view(value).cpu().numpy().ravel() for value in point.values()]) for point in plane]
    )
    try:
        return project(rows, axes)
    except ValueError as error:
        raise BadInput(f"{what}: {error}") from error
