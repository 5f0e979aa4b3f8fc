"""The points of a grid as they travel to other ranks: each parametrization gives its plane there."""

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

    from lossatlas.parameter_space import Plane, Point

KEPT = 4  # random directions that a rank remembers


@dataclass(frozen=True)
class AffineParametrization:
    """Directions, each in one buffer: so they travel, and so a place keeps them."""

    dir_type: str
    x: np.ndarray
    y: np.ndarray | None

    @classmethod
    def of(cls, dir_type: str, used: Directions, net: "nn.Module") -> "AffineParametrization":
        """The arrays of `used` lie in the buffers from now on, so that none is there twice."""
        lists = (axis if axis is None or isinstance(axis, list) else list(axis) for axis in (used.x, used.y))
        x, y = (None if axis is None else gather_in_buffer(axis, net, dir_type) for axis in lists)
        assert x is not None
        return cls(dir_type, x, y)

    def plane(self, net: "nn.Module") -> "Plane":
        """It shares the buffers' memory."""
        import torch

        from lossatlas.evaluation.parameter_buffers import FlatLayout
        from lossatlas.parameter_space import AffinePlane, wide_tensors

        origin = wide_tensors(net, self.dir_type)
        layout = FlatLayout.of(origin, net)
        dx, dy = (None if flat is None else layout.point(torch.from_numpy(flat)) for flat in (self.x, self.y))
        assert dx is not None
        return AffinePlane(origin, dx, dy)


def gather_in_buffer(arrays: list[np.ndarray], net: "nn.Module", dir_type: str) -> np.ndarray:
    """What moves the network, in one buffer; the arrays are replaced by views of it, one after the other.

    Those of another type, as of another program, stay what they are: their digest is over their own bytes.
    """
    import torch

    from lossatlas.evaluation.parameter_buffers import FlatLayout
    from lossatlas.parameter_space import as_point, tensors
    from lossatlas.parameter_space.points import entries_of, real_view

    if not arrays:  # none is computed in a dry run
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
    """The type in which a direction moves a network."""
    return np.complex64 if np.iscomplexobj(array) else np.float32


@dataclass(frozen=True)
class CheckpointPath:
    """Checkpoints, which every rank reads when it needs them: the k-th one at x = k."""

    path: tuple[tuple[str, str], ...]

    def plane(self, net: "nn.Module") -> "Plane":
        import copy

        from lossatlas.models import load_into, read_state
        from lossatlas.models.checkpoint import digest
        from lossatlas.parameter_space import MappedPlane, tensors

        other = copy.deepcopy(net)

        def point(a: float, _: float) -> "Point":
            file, wanted = self.path[round(a)]
            state = read_state(file)
            if digest(state) != wanted:
                raise BadInput(f"{file} is another one on {socket.gethostname()} than rank 0 has read")
            load_into(other, state, file)
            return tensors(other, "states")

        return MappedPlane(point)


@dataclass(frozen=True)
class RandomLines:
    """Random directions, which every rank draws when it needs them: row k along the one of --idx k."""

    dir_type: str
    axis: config.AxisConfig
    seed: int
    only: tuple[str, ...]
    without: tuple[str, ...]

    def plane(self, net: "nn.Module") -> "Plane":
        from lossatlas.parameter_space import Layout, RowLines, Selection, random_direction, wide_tensors
        from lossatlas.parameter_space.directions import seed_of

        origin, layout = wide_tensors(net, self.dir_type), Layout.of(net)
        selection = Selection(self.only, self.without).within_net(net)

        @lru_cache(maxsize=KEPT)
        def line(k: int) -> "Point":
            return random_direction(
                origin, self.axis.norm, self.axis.ignore, seed_of(self.seed, k, 0), layout, selection
            )

        return RowLines(origin, line)


@dataclass(frozen=True)
class LayerLines:
    """A direction, of which row k takes the part of the k-th layer alone."""

    dir_type: str
    x: Sequence[np.ndarray]
    layers: tuple[tuple[str, ...], ...]

    def plane(self, net: "nn.Module") -> "Plane":
        from lossatlas.parameter_space import RowLines, as_point, wide_tensors

        x = as_point(self.x, net, self.dir_type, "the x direction")
        return RowLines(wide_tensors(net, self.dir_type), lambda k: {name: x[name] for name in self.layers[k]})


@dataclass(frozen=True)
class SchemeParametrization:
    """The network and two more, between which a scheme goes."""

    kind: str
    second: Sequence[np.ndarray]
    third: Sequence[np.ndarray]
    only: tuple[str, ...]
    without: tuple[str, ...]

    def plane(self, net: "nn.Module") -> "Plane":
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
    """A curve from the network through bends to another one: these, by tensor name."""

    kind: str
    dir_type: str
    points: Sequence[dict[str, np.ndarray]]

    def plane(self, net: "nn.Module") -> "Plane":
        from lossatlas.jobs.packed_inputs import as_tensor
        from lossatlas.parameter_space import CurvePlane, wide_tensors

        others = [{name: as_tensor(array) for name, array in point.items()} for point in self.points]
        return CurvePlane(self.kind, [wide_tensors(net, self.dir_type), *others])


Parametrization = (
    AffineParametrization | CheckpointPath | RandomLines | LayerLines | SchemeParametrization | CurveParametrization
)
