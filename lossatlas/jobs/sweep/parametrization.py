"""Parametrizations of a grid, to be sent to other ranks: `plane(net)` returns the map from coordinates to parameters.

`plane(net, origin)` returns the map through a copy of the network's tensors, for a network that is moved in place
itself.
"""

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lossatlas.choices import CurveKind, DirType, Ignore, NormOrNone, Scheme
from lossatlas.errors import BadInput
from lossatlas.io import Directions

if TYPE_CHECKING:  # torch takes seconds to import, and --help needs none of it
    from torch import nn

    from lossatlas.jobs.inputs.networks import Net
    from lossatlas.parameter_space import AffinePlane, Plane, Point
    from lossatlas.parameter_space.local_planes import LocalChart

KEPT = 4  # random directions in a rank's cache
CHECKPOINTS_KEPT = 6  # in a rank's cache: most cells of a chart are made of four
KEPT_BYTES = 1 << 28  # of checkpoints that are kept in any case


@dataclass(frozen=True)
class AffineParametrization:
    """An affine plane, or a volume.

    Attributes:
        dir_type: 'weights' or 'states'.
        x: The first direction, flattened into one buffer of float32, or of float64 if the network has tensors of this
            type.
        y: The second direction; None for a line.
        z: The third direction; None for a line or a plane.
    """

    dir_type: DirType
    x: np.ndarray
    y: np.ndarray | None
    z: np.ndarray | None = None

    @classmethod
    def of(cls, dir_type: DirType, used: Directions, net: "nn.Module") -> "AffineParametrization":
        """Return the plane along directions; their arrays become views of its buffers, so that none exists twice."""
        lists = (axis if isinstance(axis, list) else list(axis) for axis in used.axes)
        x, *more = (gather_in_buffer(axis, net, dir_type) for axis in lists)
        y, z = (*more, None, None)[:2]
        return cls(dir_type, x, y, z)

    def plane(self, net: "nn.Module", origin: "Point | None" = None) -> "AffinePlane":
        """Return the plane, which shares the buffers' memory on the CPU."""
        import torch

        from lossatlas.evaluation.parameter_buffers import FlatLayout
        from lossatlas.parameter_space import AffinePlane, wide_tensors

        origin = origin or wide_tensors(net, self.dir_type)
        layout, device = FlatLayout.of(origin, net), next(iter(origin.values())).device

        def direction(flat: np.ndarray) -> "Point":
            own = layout.point(torch.from_numpy(flat).to(device))
            return {name: own[name].to(value.dtype) for name, value in origin.items()}

        return AffinePlane(origin, *(direction(flat) for flat in (self.x, self.y, self.z) if flat is not None))


@dataclass(frozen=True)
class MappedParametrization:
    """An affine plane or a volume of a large network, along directions in memory-mapped files.

    Attributes:
        dir_type: 'weights' or 'states'.
        directions: The arrays of the direction of each axis.
    """

    dir_type: DirType
    directions: tuple[Sequence[np.ndarray], ...]

    def plane(self, net: "nn.Module", origin: "Point | None" = None) -> "AffinePlane":
        """Return the plane, which shares the arrays' memory; `origin` may be in half precision."""
        from lossatlas.parameter_space import AffinePlane, as_point, tensors

        vectors = (
            as_point(arrays, net, self.dir_type, f"the {letter} direction")
            for letter, arrays in zip("xyz", self.directions, strict=False)
        )
        return AffinePlane(origin or tensors(net, self.dir_type), *vectors)


def gather_in_buffer(arrays: list[np.ndarray], net: "nn.Module", dir_type: DirType) -> np.ndarray:
    """Copy the arrays of a direction that move the network into one buffer, and replace them by views of it.

    Arrays of another type than the buffer, as other programs write, are not replaced: their digest is taken of their
    own bytes.

    Args:
        arrays: The arrays of a direction, in the order of the file.
        net: The network.
        dir_type: 'weights' or 'states'.

    Returns:
        The buffer of shape (coordinates,), see `AffineParametrization`.
    """
    import torch

    from lossatlas.evaluation.parameter_buffers import FlatLayout, point_dtype
    from lossatlas.parameter_space import as_point, tensors
    from lossatlas.parameter_space.points import entries_of, real_view

    if not arrays:  # of a dry run
        return np.zeros(0, np.float32)
    as_point(arrays, net, dir_type, "the direction")
    own = tensors(net, dir_type)
    layout, dtype = FlatLayout.of(own, net), point_dtype(own.values())
    buffer = torch.empty(layout.total, dtype=dtype)
    views, real = layout.views(buffer), buffer.numpy()
    for k, name in enumerate(entries_of(arrays, net, dir_type)):
        if name not in views:
            continue
        kind = np.result_type(real.dtype, np.complex64) if np.iscomplexobj(arrays[k]) else real.dtype
        views[name].copy_(real_view(torch.from_numpy(np.require(arrays[k], None, ["C", "W"]).astype(kind))))
        if arrays[k].dtype == real.dtype:
            arrays[k] = views[name].numpy()
    return real


@dataclass(frozen=True)
class CheckpointPath:
    """Checkpoints, of which every rank reads the files itself: the k-th one at x = k.

    Attributes:
        dir_type: 'weights' or 'states'.
        path: Each network, by the name of its file from a command, and its digest.
    """

    dir_type: DirType
    path: "tuple[tuple[Net, str], ...]"

    def plane(self, net: "nn.Module", origin: "Point | None" = None) -> "Plane":
        """Return the path. A point raises BadInput where the checkpoint differs from rank 0's."""
        from lossatlas.parameter_space import MappedPlane

        return MappedPlane(lambda *at: self.checkpoint(net, round(at[0])))

    def checkpoint(self, net: "nn.Module", k: int) -> "Point":
        """Read the k-th checkpoint.

        Args:
            net: The network, which says which tensors are read.
            k: The number of the checkpoint, from 0 on.

        Raises:
            BadInput: It differs from rank 0's, or does not fit the network.
        """
        from lossatlas.jobs.inputs.networks import NamedState, point_of
        from lossatlas.models.checkpoint import state_digest

        network, wanted = self.path[k]
        if not isinstance(network, str | Path):
            return point_of(net, network, self.dir_type)
        state = NamedState.of(network, announce=False)
        if state_digest(state) != wanted:
            raise BadInput(f"{network} is another one on {socket.gethostname()} than rank 0 has read")
        return point_of(net, state, self.dir_type)


@dataclass(frozen=True)
class ChartParametrization:
    """A chart along a path of checkpoints, see `parameter_space.local_planes`.

    Attributes:
        path: The checkpoints, with all their tensors.
        chart: The planes at them.
    """

    path: CheckpointPath
    chart: "LocalChart"

    def plane(self, net: "nn.Module", origin: "Point | None" = None) -> "Plane":
        """Return the chart, which keeps a few checkpoints that it has read; all of a small network."""
        from lossatlas.parameter_space import MappedPlane, tensors
        from lossatlas.parameter_space.local_planes import combined

        size = sum(value.nbytes for value in tensors(net, self.path.dir_type).values())
        kept = max(CHECKPOINTS_KEPT, KEPT_BYTES // max(1, size))
        checkpoint = lru_cache(maxsize=kept)(lambda k: self.path.checkpoint(net, k))
        moved = frozenset(self.chart.moved)
        return MappedPlane(lambda s, t: combined(self.chart.column(s), t, checkpoint, moved))


@dataclass(frozen=True)
class RandomLines:
    """Lines along random directions, which every rank draws itself: row k along the direction of repeat k.

    Attributes:
        dir_type: 'weights' or 'states'.
        norm: The normalization of the directions.
        ignore: 'biasbn' or ''.
        seed: The seed.
        only: Regular expressions of the parameters that move; empty for all.
        without: Regular expressions of the parameters that do not move.
    """

    dir_type: DirType
    norm: NormOrNone
    ignore: Ignore
    seed: int
    only: tuple[str, ...]
    without: tuple[str, ...]

    def plane(self, net: "nn.Module", origin: "Point | None" = None) -> "Plane":
        """Return the lines."""
        from lossatlas.parameter_space import Layout, RowLines, Selection, random_direction, wide_tensors
        from lossatlas.parameter_space.directions import seed_of

        start, layout = origin or wide_tensors(net, self.dir_type), Layout.of(net)
        selection = Selection(self.only, self.without).within_net(net)

        @lru_cache(maxsize=KEPT)
        def line(k: int) -> "Point":
            return random_direction(
                start, self.norm, self.ignore, seed_of(self.seed, k, 0), layout, selection=selection
            )

        return RowLines(start, line)


@dataclass(frozen=True)
class LayerLines:
    """Lines along the blocks of a direction: row k moves the k-th layer alone.

    Attributes:
        along: The line along the whole direction.
        layers: The names of the tensors of each layer.
    """

    along: AffineParametrization
    layers: tuple[tuple[str, ...], ...]

    def plane(self, net: "nn.Module", origin: "Point | None" = None) -> "Plane":
        """Return the lines."""
        from lossatlas.parameter_space import RowLines

        whole = self.along.plane(net, origin)
        return RowLines(whole.origin, lambda k: {name: whole.dx[name] for name in self.layers[k]})


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

    kind: Scheme
    second: Sequence[np.ndarray]
    third: Sequence[np.ndarray]
    only: tuple[str, ...]
    without: tuple[str, ...]

    def plane(self, net: "nn.Module", origin: "Point | None" = None) -> "Plane":
        """Return the surface of the scheme."""
        from lossatlas.parameter_space import Layout, SchemePlane, Selection, as_point, wide_tensors
        from lossatlas.parameter_space.schemes import free

        first, layout = origin or wide_tensors(net, "weights"), Layout.of(net)
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

    kind: CurveKind
    dir_type: DirType
    points: Sequence[dict[str, np.ndarray]]

    def plane(self, net: "nn.Module", origin: "Point | None" = None) -> "Plane":
        """Return the curve."""
        from lossatlas.jobs.inputs.packed_inputs import as_tensor
        from lossatlas.parameter_space import CurvePlane, wide_tensors

        others = [{name: as_tensor(array) for name, array in point.items()} for point in self.points]
        return CurvePlane(self.kind, [origin or wide_tensors(net, self.dir_type), *others])


Parametrization = (
    AffineParametrization
    | MappedParametrization
    | CheckpointPath
    | ChartParametrization
    | RandomLines
    | LayerLines
    | SchemeParametrization
    | CurveParametrization
)
