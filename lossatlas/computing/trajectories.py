"""A path of training: checkpoints as differences from the last one, their principal plane, and where they are in a plane."""

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from lossatlas.errors import BadInput
from lossatlas.space import Components, Point, Selection, principal_components, project
from lossatlas.space.directions import EVERYTHING, is_bias, norm_parameters


def differences(
    points: Iterable[Mapping[str, Tensor]],
    count: int,
    origin: Mapping[str, Tensor],
    net: nn.Module,
    ignore: str = "",
    selection: Selection = EVERYTHING,
) -> np.ndarray:
    """(count, parameters) float32: each point minus the origin, zero where `ignore` or the selection leave tensors out."""
    norms, names = norm_parameters(net), selection.of(origin)
    kept = {name: name in names and not (ignore == "biasbn" and is_bias(name, w, norms)) for name, w in origin.items()}
    rows = np.zeros((count, sum(w.numel() for w in origin.values())), np.float32)
    for row, point in zip(rows, points, strict=True):
        row[:] = np.concatenate(
            [((point[name] - w) * kept[name]).flatten().cpu().numpy() for name, w in origin.items()]
        )
    return rows


def principal_plane(rows: np.ndarray, origin: Mapping[str, Tensor]) -> tuple[Components, tuple[Point, Point]]:
    """The first two principal components of all rows but the last, the origin; also by tensor name. Raises BadInput."""
    try:
        found = principal_components(rows[:-1])
    except ValueError as error:
        raise BadInput(f"no plane through the trajectory: {error}: use more checkpoints") from error
    x, y = (unflattened(vector, origin) for vector in found.vectors)
    return found, (x, y)


def unflattened(row: np.ndarray, like: Mapping[str, Tensor]) -> Point:
    parts = torch.from_numpy(row.astype(np.float32)).split([value.numel() for value in like.values()])
    return {name: part.view(value.shape) for part, (name, value) in zip(parts, like.items(), strict=True)}


def coordinates(rows: np.ndarray, plane: Iterable[Mapping[str, Tensor]], what: str) -> tuple[np.ndarray, np.ndarray]:
    """(rows, 2), and each row's distance from the plane of two directions. Raises BadInput where they are no plane."""
    axes = np.stack([np.concatenate([value.cpu().numpy().ravel() for value in point.values()]) for point in plane])
    try:
        return project(rows, axes)
    except ValueError as error:
        raise BadInput(f"{what}: {error}") from error
