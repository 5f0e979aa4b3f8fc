"""Turn the arguments of a Python function into the inputs of a grid job: plane, directions and record.

Wherever an argument names a network, it is a `Net`: the module, a state dict, or the name of a checkpoint.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from lossatlas import config
from lossatlas.choices import DirType, Ignore, NormOrNone
from lossatlas.data import LossLike
from lossatlas.errors import BadUsage, counted, named
from lossatlas.evaluation.parallel_batches import frozen_copy
from lossatlas.jobs.inputs.direction_rules import AskedKind, DirectionFacts, check_direction_facts
from lossatlas.jobs.inputs.fingerprint import user_loss_name
from lossatlas.jobs.inputs.make_directions import AxisRequest, DirectionRequest, Origin, vector_hash
from lossatlas.jobs.inputs.networks import NamedState, Net, point_of, state_of
from lossatlas.jobs.inputs.origin_curvature import OriginCurvature
from lossatlas.jobs.inputs.stored_vectors import from_file
from lossatlas.models.adapters import is_adapter
from lossatlas.models.checkpoint import state_digest
from lossatlas.parameter_space import (
    Point,
    Selection,
)
from lossatlas.parameter_space.directions import widened_dtype
from lossatlas.parameter_space.local_planes import LocalChart
from lossatlas.parameter_space.selection import EVERYTHING

Direction = str | Mapping[str, Tensor]
MAX_NETWORKS = 2  # at coordinate 1 of the x and the y axis


@dataclass(frozen=True, kw_only=True)
class DirectionArguments:
    """The arguments of a Python function that define the axes, see `lossatlas.surface`.

    Attributes:
        directions: A direction for each axis, one for a line, or None for random ones.
        towards: One or two networks at coordinate 1 of the axes.
        norm: The normalization; None for the default of each kind of direction.
        ignore: 'biasbn' or ''.
        seed: The seed of random directions.
        selection: The parameters that move.
        orthogonalize: Make each direction orthogonal to those before it.
        curvature: Compute the second derivatives of the loss along the axes.
        repeat: The number of lines along random directions; None for a single line or a plane.
        per_layer: Move each layer alone, along its block of the direction.
        path: Checkpoints that are the points themselves, instead of directions: the k-th one at x = k.
        chart: The chart along these checkpoints that is the plane instead.
    """

    directions: Direction | Sequence[Direction] | None = None
    towards: Net | Sequence[Net] | None = None
    norm: NormOrNone | None = None
    ignore: Ignore = ""
    seed: int = config.DIRECTION_SEED
    selection: Selection = EVERYTHING
    orthogonalize: bool = False
    curvature: bool = False
    repeat: int | None = None
    per_layer: bool = False
    path: tuple[Net, ...] = ()
    chart: LocalChart | None = None

    def check(self, axes: int, dir_type: DirType | None) -> None:
        """Raise BadUsage where arguments contradict each other.

        Args:
            axes: The number of axes of the grid.
            dir_type: 'weights', 'states', or None where that is not known yet.
        """
        check_direction_facts(self.facts(axes, dir_type))

    def facts(self, axes: int, dir_type: DirType | None) -> DirectionFacts:
        """Return the facts that `direction_rules.check_direction_facts` checks."""
        kinds = [direction_kind(direction) for direction in self.wanted(axes)[:axes]]
        there = len(self.given_networks)
        return DirectionFacts(
            axes=axes,
            xdirection=kinds[0] if kinds else "random",
            ydirection=kinds[1] if len(kinds) > 1 else "random",
            zdirection=kinds[2] if len(kinds) > 2 else "random",
            model_file2=there > 0,
            model_file3=there > 1,
            dir_type=dir_type,
            orthogonalize=self.orthogonalize,
            curvature=self.curvature,
            repeat=self.repeat,
            per_layer=self.per_layer,
        )

    def check_axes(self, axes: int) -> None:
        """Raise BadUsage where networks and directions are too many or too few for so many axes."""
        towards, wanted = len(self.others), len(self.wanted(axes))
        if towards > MAX_NETWORKS:
            raise BadUsage(f"{named('towards')}: {towards} networks, and axes lead to {MAX_NETWORKS} at most")
        if wanted > axes:
            given, there = counted(wanted, "direction", "directions"), counted(axes, "axis", "axes")
            more = f", or give {named('xyz'[axes])} too" if axes < 3 else ""
            raise BadUsage(f"{named('directions')}: {given} for {there}: leave out the others{more}")
        if towards > axes or wanted < axes:
            needed = counted(axes, "direction is", "directions are")
            networks = f"{counted(towards, 'network', 'networks')} in {named('towards')}"
            raise BadUsage(f"{needed} needed: there are {networks}, {counted(wanted, 'direction', 'directions')}")

    @property
    def random_norm(self) -> NormOrNone:
        """The normalization of random directions."""
        return "filter" if self.norm is None else self.norm

    @property
    def given_networks(self) -> list[Net]:
        """The networks at coordinate 1 of the axes, as the user gave them."""
        if self.towards is None:
            return []
        if not isinstance(self.towards, nn.Module | Mapping | str | Path | Sequence) or self.towards == "":
            raise BadUsage(
                f"{named('towards', self.towards)}: give a network, a state dict, a checkpoint, or two of them"
            )
        single = isinstance(self.towards, nn.Module | Mapping | str | Path)
        return [self.towards] if single else list(self.towards)  # type: ignore[list-item,arg-type]

    @cached_property
    def others(self) -> list[Net]:
        """The networks at coordinate 1 of the axes; checkpoints are read once, adapters belong to a base network."""
        nets = self.given_networks
        return [net if isinstance(net, nn.Module) or is_adapter(net) else NamedState.of(net) for net in nets]

    def wanted(self, axes: int) -> list[Direction]:
        """Return the directions of so many axes."""
        if self.directions is None:
            return ["random"] * axes
        return [self.directions] if isinstance(self.directions, str | Mapping) else list(self.directions)

    def axis(self, k: int, axes: int, origin: Origin) -> AxisRequest:
        """Return the request for the axis with the number k, see `request`."""
        if k < len(self.others):
            other = self.others[k]
            there = point_of(origin.net, other, origin.dir_type, as_stored=origin.scratch is not None)
            return AxisRequest("network", vector=there, digest=state_digest(state_of(other, base=origin.net)))
        direction = self.wanted(axes)[k]
        if isinstance(direction, Mapping):
            vector = given_direction(direction, origin.point)
            return AxisRequest("vector", self.norm or "", "", vector=vector, digest=vector_hash(vector))
        asked = parsed_direction(direction)
        if asked.kind == "random":
            return AxisRequest("random", self.random_norm, self.ignore)
        if asked.kind == "file":
            vector = from_file(asked, origin.net)
            return AxisRequest("vector", self.norm or "", "", vector=vector, digest=vector_hash(vector))
        return AxisRequest(asked.kind, "unit" if self.norm is None else self.norm, self.ignore, asked.number)

    def request(self, origin: Origin, axes: int, curvature: OriginCurvature) -> DirectionRequest:
        """Return the request for the directions.

        Args:
            origin: The network at the origin.
            axes: The number of axes.
            curvature: Gradient and eigenvectors at the origin.

        Raises:
            BadUsage: Directions and networks do not fit the number of axes.
            BadInput: A network does not fit.
        """
        self.check_axes(axes)
        return DirectionRequest(
            origin=origin,
            axes=[self.axis(k, axes, origin) for k in range(axes)],
            curvature=curvature,
            seed=self.seed,
            orthogonalize=self.orthogonalize,
        )


def parsed_direction(direction: str) -> config.AxisConfig:
    """Return the direction that a text describes.

    Raises:
        BadUsage: As `config.AxisConfig.parse`, or it is no text.
    """
    if not isinstance(direction, str):
        raise BadUsage(f"a direction is a text or a dict of tensors by name, not {type(direction).__name__}")
    return config.AxisConfig.parse(named("directions"), direction, "", "")


def direction_kind(direction: Direction) -> AskedKind:
    """Return the kind of a direction, see `DirectionFacts`.

    Raises:
        BadUsage: As `parsed_direction`.
    """
    return "vector" if isinstance(direction, Mapping) else parsed_direction(direction).kind


def recorded_loss_name(loss: LossLike) -> str:
    """Return the name of a loss as the user gave it, for the record."""
    return loss if isinstance(loss, str) else user_loss_name(loss)


def given_direction(direction: Mapping[str, Tensor], origin: Mapping[str, Tensor]) -> Point:
    """Return a direction by tensor name.

    Args:
        direction: Tensors by name.
        origin: The tensors of the network by name.

    Returns:
        The direction, zero for the tensors that it does not name.

    Raises:
        BadUsage: The network has no tensor of a name, or one of another shape.
    """
    for name, value in direction.items():
        if name not in origin:
            raise BadUsage(
                f"a direction names '{name}', which the network does not have: {', '.join(list(origin)[:3])}, ..."
            )
        if tuple(value.shape) != tuple(origin[name].shape):
            raise BadUsage(
                f"a direction has shape {tuple(value.shape)} for '{name}', the network {tuple(origin[name].shape)}"
            )
    return {
        n: torch.as_tensor(direction[n]).to(w.device, widened_dtype(w))
        if n in direction
        else torch.zeros_like(w, dtype=widened_dtype(w))
        for n, w in origin.items()
    }


def shared_copy(net: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode; the network itself where it cannot be copied, and so is evaluated in place."""
    try:
        return frozen_copy(net)
    except Exception:
        return net
