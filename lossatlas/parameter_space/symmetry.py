"""Permutations of a network's units that do not change its function, found by tracing its operations.

    groups = symmetries(net, inputs)            # units that are permuted together: hidden units, residual channels
    other = permuted(state, groups, orders)     # the same function, its units in another order

These are the symmetries that Git Re-Basin (Ainsworth, Hayase and Srinivasa, arXiv 2209.04836) aligns
networks by. Every axis of every tensor starts with units of its own (`axis_units`); each operation unifies axes
(`operation_rules`, applied by `graph_walk`). Arguments of an operation without a rule are fixed, which
`TracedNetwork.report` tells, as are inputs and outputs. Symmetries are to be checked on samples before they are used,
see `lossatlas.jobs.inputs.alignment`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lossatlas.errors import BadInput, first_line
from lossatlas.parameter_space.axis_units import Axes, Units, fresh, pin, resolved_axis
from lossatlas.parameter_space.graph_walk import GraphWalk
from lossatlas.parameter_space.operation_rules import rule_for
from lossatlas.parameter_space.points import named_tensors


class Location(NamedTuple):
    """A part of a tensor's axis that holds the units of a group.

    Attributes:
        tensor: Name of the tensor.
        axis: Number of the axis.
        start: Index of the first number.
        inner: Consecutive numbers of each unit.
    """

    tensor: str
    axis: int
    start: int
    inner: int


@dataclass(frozen=True)
class UnitGroup:
    """Units that are permuted together.

    Attributes:
        count: Their number.
        locations: All their locations in the network's tensors.
    """

    count: int
    locations: tuple[Location, ...] = field(repr=False)


@dataclass(frozen=True)
class TracedNetwork:
    """The hidden units of a network, and which of them can be permuted.

    Attributes:
        groups: Units that can be permuted, group by group.
        permutable: Number of the units that layers produce among these.
        blocked: Number of the others, by the operation that prevents it. Inputs and outputs are not counted.
        in_blocks: Number of those that are permuted in blocks only, because a view splits their axis.
    """

    groups: list[UnitGroup]
    permutable: int
    blocked: Mapping[str, int]
    in_blocks: int = 0

    def report(self) -> str:
        """Return a line about the hidden units that could not be permuted; '' where all can."""
        count, parts = sum(self.blocked.values()), list[str]()
        if count:
            causes = ", ".join(f"{number} because of {why}" for why, number in sorted(self.blocked.items()))
            parts.append(f"{count} of {count + self.permutable} units could not be permuted: {causes}")
        if self.in_blocks:
            parts.append(f"{self.in_blocks} units are permuted in blocks only, because a view splits their axis")
        return "; ".join(parts)


def symmetries(net: nn.Module, inputs: Any) -> list[UnitGroup]:
    """Find the groups of units of a network that can be permuted, see `trace_symmetries`.

    Example:
        >>> net = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
        >>> symmetries(net, torch.ones(2, 3))
        [UnitGroup(count=5)]
    """
    return trace_symmetries(net, inputs).groups


def trace_symmetries(net: nn.Module, inputs: Any) -> TracedNetwork:
    """Trace a network in evaluation mode, and find which of its hidden units can be permuted.

    Args:
        net: The network; its tensors are copied.
        inputs: A batch of at least two samples, as the network is called with.

    Returns:
        The groups of units, and the numbers of units that can and cannot be permuted.

    Raises:
        BadInput: Its operations cannot be traced.
    """
    from torch.fx.experimental.proxy_tensor import make_fx

    tensors = named_tensors(net, every_name=False)
    names = list(tensors)

    saved = set(net.state_dict())

    def call(values: list[Tensor], batch: Any) -> Any:
        return functional_call(net, dict(zip(names, values, strict=True)), (batch,))

    try:
        with torch.no_grad():
            graph = make_fx(call)([value.detach().clone() for value in tensors.values()], inputs).graph
        own = {name: tuple(fresh(size) for size in value.shape) for name, value in tensors.items()}
        for name in own.keys() - saved:
            pin(*own[name], why="a buffer that no checkpoint holds")
        walk = GraphWalk(list(own.values()), rule_for)
        walk.over(graph)
    except Exception as error:
        reason = first_line(error)
        raise BadInput(f"the operations of this network cannot be traced: {reason}") from error
    return TracedNetwork(groups_in(own), *walk.counted())


def groups_in(own: Mapping[str, Axes]) -> list[UnitGroup]:
    """List the units that can be permuted, with their locations in the tensors."""
    found: dict[int, tuple[Units, list[Location]]] = {}
    for name, axes in own.items():
        for k, axis in enumerate(axes):
            start = 0
            for block in resolved_axis(axis):
                if not block.units.fixed and block.units.count > 1:
                    found.setdefault(id(block.units), (block.units, []))[1].append(
                        Location(name, k, start, block.inner)
                    )
                start += block.size
    return [UnitGroup(units.count, tuple(locations)) for units, locations in found.values()]


def axis_order(group: UnitGroup, location: Location, order: Tensor, size: int) -> Tensor:
    """Compute the index of an axis on which the units of a group are reordered.

    Args:
        group: The group.
        location: Where it is on this axis.
        order: (group.count,), number of the old unit at each new one.
        size: Size of the axis.

    Returns:
        (size,), for `index_select`.
    """
    _, _, start, inner = location
    index = torch.arange(size)
    index[start : start + group.count * inner] = start + (order[:, None] * inner + torch.arange(inner)).flatten()
    return index


def permuted(state: Mapping[str, Tensor], groups: Sequence[UnitGroup], orders: Sequence[Tensor]) -> dict[str, Tensor]:
    """Permute the units of a network's state.

    Args:
        state: Tensors by name.
        groups: Groups of units.
        orders: (count,) for each group; the new unit k is the old one with the number order[k].

    Returns:
        The permuted state.

    Example:
        >>> net = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2))
        >>> other = permuted(net.state_dict(), symmetries(net, torch.ones(2, 3)), [torch.tensor([1, 0])])
        >>> bool((other["0.weight"] == net[0].weight.flip(0)).all())
        True
    """
    result = dict(state)
    for group, order in zip(groups, orders, strict=True):
        for location in group.locations:
            name, axis = location.tensor, location.axis
            if name in result:
                value = result[name]
                result[name] = value.index_select(axis, axis_order(group, location, order, value.shape[axis]))
    return result
