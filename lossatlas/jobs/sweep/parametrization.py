"""Parametrizations of a grid, to be sent to other ranks: `plane(net)` returns the map from coordinates to parameters."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from lossatlas import config
from lossatlas.errors import BadInput
from lossatlas.io import Directions

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from torch import nn

    from lossatlas.parameter_space import Plane, Point, RowLines

KEPT = 4  # random directions in a rank's cache


@dataclass(frozen=True)
class AffineParametrization:
    """An affine plane.

    Attributes:
        dir_type: 'weights' or 'states'.
        x: The first direction, flattened into one buffer.
        y: The second direction; None for a line.
    """

    dir_type: str
    x: np.ndarray
    y: np.ndarray | None

    @classmethod
    def of(cls, dir_type: str, used: Directions, net: "nn.Module") -> "AffineParametrization":
        """Return the plane along directions, whose arrays become views of its buffers, so that no array exists twice."""
        lists = (axis if axis is None or isinstance(axis, list) else list(axis) for axis in (used.x, used.y))
        x, y = (None if axis is None else gather_in_buffer(axis, net, dir_type) for axis in lists)
        assert x is not None
        return cls(dir_type, x, y)

    def plane(self, net: "nn.Module") -> "Plane":
        """Return the plane, which shares the buffers' memory."""
        import torch

        from lossatlas.evaluation.parameter_buffers import FlatLayout
        from lossatlas.parameter_space import AffinePlane, wide_tensors

        origin = wide_tensors(net, self.dir_type)
        layout = FlatLayout.of(origin, net)
        dx, dy = (None if flat is None else layout.point(torch.from_numpy(flat)) for flat in (self.x, self.y))
        assert dx is not None
        return AffinePlane(origin, dx, dy)


def gather_in_buffer(arrays: list[np.ndarray], net: "nn.Module", dir_type: str) -> np.ndarray:
    """Copy the arrays of a direction that move the network into one buffer, and replace them by views of it.

    Arrays of another type than float32, as other programs write, are not replaced: their digest is that of their own bytes.

    Args:
        arrays: The arrays of a direction, in the order of the file.
        net: The network.
        dir_type: 'weights' or 'states'.

    Returns:
        The buffer, float32 of shape (coordinates,).
    """
    import torch

    from lossatlas.evaluation.parameter_buffers import FlatLayout
    from lossatlas.parameter_space import as_point, tensors
    from lossatlas.parameter_space.points import entries_of, real_view

    if not arrays:  # of a dry run
        return np.zeros(0, np.float32)
    as_point(arrays, net, dir_type, "the direction")
    layout = FlatLayout.of(tensors(net, dir_type), net)
    buffer = torch.empty(layout.total, dtype=torch.float32)
    views = layout.views(buffer)
    for k, name in enumerate(entries_of(arrays, net, dir_type)):
        if name not in views:
            continue
        views[name].copy_(
            real_view(torch.from_numpy(np.require(arrays[k], None, ["C", "W"]).astype(kind_of(arrays[k]))))
        )
        if arrays[k].dtype == np.float32:
            arrays[k] = views[name].numpy()
    return buffer.numpy()


def kind_of(array: np.ndarray) -> type:
    """Return the type of a direction's array in a buffer."""
    return np.complex64 if np.iscomplexobj(array) else np.float32


@dataclass(frozen=True)
class CheckpointPath:
    """Checkpoints, which every rank reads itself: the k-th one at x = k.

    Attributes:
        path: (file, digest) of each checkpoint.
    """

    path: tuple[tuple[str, str], ...]

    def plane(self, net: "nn.Module") -> "Plane":
        """Return the path. A point raises BadInput where the checkpoint differs from that of rank 0."""
        import copy

        from lossatlas.models import load_into, read_state
        from lossatlas.models.checkpoint import digest
        from lossatlas.parameter_space import MappedPlane, tensors

        other = copy.deepcopy(net)

        def point(a: float, _: float) -> "Point":
            file, wanted = self.path[round(a)]
            state = read_state(file, announce=False)
            if digest(state) != wanted:
                raise BadInput(f"{file} is another one on {socket.gethostname()} than rank 0 has read")
            load_into(other, state, file)
            return tensors(other, "states")

        return MappedPlane(point)


@dataclass(frozen=True)
class RandomLines:
    """Lines along random directions, which every rank draws itself: row k along the direction of repeat k.

    Attributes:
        dir_type: 'weights' or 'states'.
        axis: Normalization of the directions.
        seed: The seed.
        only: Regular expressions of the parameters that move; empty for all.
        without: Regular expressions of the parameters that do not move.
    """

    dir_type: str
    axis: config.AxisConfig
    seed: int
    only: tuple[str, ...]
    without: tuple[str, ...]

    def plane(self, net: "nn.Module") -> "Plane":
        """Return the lines."""
        from lossatlas.parameter_space import wide_tensors

        return self.lines(net, wide_tensors(net, self.dir_type))

    def lines(self, net: "nn.Module", origin: "Point") -> "RowLines":
        """Return the lines through a point; net: the network, of which only the layers are needed."""
        from lossatlas.parameter_space import Layout, RowLines, Selection, random_direction
        from lossatlas.parameter_space.directions import seed_of

        layout = Layout.of(net)
        selection = Selection(self.only, self.without).within_net(net)

        @lru_cache(maxsize=KEPT)
        def line(k: int) -> "Point":
            return random_direction(
                origin, self.axis.norm, self.axis.ignore, seed_of(self.seed, k, 0), layout, selection
            )

        return RowLines(origin, line)


@dataclass(frozen=True)
class LayerLines:
    """Lines along the blocks of a direction: row k moves the k-th layer alone.

    Attributes:
        dir_type: 'weights' or 'states'.
        x: The arrays of the direction.
        layers: The names of the tensors of each layer.
    """

    dir_type: str
    x: Sequence[np.ndarray]
    layers: tuple[tuple[str, ...], ...]

    def plane(self, net: "nn.Module") -> "Plane":
        """Return the lines."""
        from lossatlas.parameter_space import RowLines, as_point, wide_tensors

        x = as_point(self.x, net, self.dir_type, "the x direction")
        return RowLines(wide_tensors(net, self.dir_type), lambda k: {name: x[name] for name in self.layers[k]})


@dataclass(frozen=True)
class SchemeParametrization:
    """A nonlinear interpolation between the network and two more, see `parameter_space.schemes`.

    Attributes:
        kind: The name of the scheme.
        second: The arrays of the second network.
        third: The arrays of the third network.
        only: Regular expressions of the parameters that move; empty for all.
        without: Regular expressions of the parameters that do not move.
    """

    kind: str
    second: Sequence[np.ndarray]
    third: Sequence[np.ndarray]
    only: tuple[str, ...]
    without: tuple[str, ...]

    def plane(self, net: "nn.Module") -> "Plane":
        """Return the surface of the scheme."""
        from lossatlas.parameter_space import Layout, SchemePlane, Selection, as_point, wide_tensors
        from lossatlas.parameter_space.schemes import free

        first, layout = wide_tensors(net, "weights"), Layout.of(net)
        second, third = (
            as_point(arrays, net, "weights", "a network of the scheme") for arrays in (self.second, self.third)
        )
        names = free(first, layout.norms, Selection(self.only, self.without).within_net(net))
        return SchemePlane(self.kind, first, second, third, names, layout)


@dataclass(frozen=True)
class CurveParametrization:
    """A curve from the network to another one.

    Attributes:
        kind: 'bezier' or 'polygonal'.
        dir_type: 'weights' or 'states'.
        points: The arrays of the control points and of the other network by tensor name.
    """

    kind: str
    dir_type: str
    points: Sequence[dict[str, np.ndarray]]

    def plane(self, net: "nn.Module") -> "Plane":
        """Return the curve."""
        from lossatlas.jobs.inputs.packed_inputs import as_tensor
        from lossatlas.parameter_space import CurvePlane, wide_tensors

        others = [{name: as_tensor(array) for name, array in point.items()} for point in self.points]
        return CurvePlane(self.kind, [wide_tensors(net, self.dir_type), *others])


Parametrization = (
    AffineParametrization | CheckpointPath | RandomLines | LayerLines | SchemeParametrization | CurveParametrization
)
