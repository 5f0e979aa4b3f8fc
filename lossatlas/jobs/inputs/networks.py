"""Networks in any form in which a user gives them: a module, a state dict, or the name of a checkpoint."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from lossatlas.choices import DirType
from lossatlas.models.adapters import is_adapter, with_adapter
from lossatlas.models.checkpoint import (
    batchnorm_statistics,
    have_same_statistics,
    matched_state,
    read_state,
    weights_in,
)
from lossatlas.models.state_names import state_tensors
from lossatlas.parameter_space import Point, tensors
from lossatlas.parameter_space.directions import widened_dtype

Net = nn.Module | Mapping[str, Any] | str | Path  # a network, state dict, checkpoint, or adapter folder


def statistics_differ(net: nn.Module, others: Sequence[Net]) -> bool:
    """Return whether any other network has other BatchNorm statistics than `net`."""
    own = batchnorm_statistics(net.state_dict())
    for other in others if own else ():
        state = state_for(net, other, tensors(net))
        there = [name for name in own if name in state]
        if not have_same_statistics({name: own[name] for name in there}, [{name: state[name] for name in there}]):
            return True
    return False


class NamedState(dict[str, Tensor]):
    """A state dict with the name of its checkpoint, for messages."""

    source = "the other network"

    @classmethod
    def of(cls, net: Net, *, announce: bool = True) -> "NamedState":
        """Read a checkpoint, or take a state dict.

        Raises:
            BadInput: As `state_of`.
        """
        return cls.read(state_of(net, announce=announce), str(net) if isinstance(net, str | Path) else cls.source)

    @classmethod
    def read(cls, state: Mapping[str, Tensor], source: str) -> "NamedState":
        """Return a state that was read from a checkpoint."""
        result = cls(state)
        result.source = source
        return result


def state_of(net: Net, *, announce: bool = True, base: nn.Module | None = None) -> Mapping[str, Tensor]:
    """Return the state of a network, under the names that it has there.

    Args:
        net: The network, a state dict or a mapping that holds one, or a checkpoint, which is read.
        announce: Note that a checkpoint holds EMA weights too, see `models.checkpoint.read_state`.
        base: The network whose weights the folder of an adapter (LoRA) changes, where `net` is one.

    Raises:
        BadInput: There is no such checkpoint, or it holds no state dict.
    """
    if base is not None and is_adapter(net):
        return with_adapter(base, state_tensors(base), cast("str | Path", net))
    if isinstance(net, nn.Module):
        return state_tensors(net)
    if isinstance(net, Mapping):
        return weights_in(net, "the state dict")
    return read_state(net, announce=announce)


def state_unless_module(net: nn.Module, other: Net) -> nn.Module | Mapping[str, Tensor]:
    """Return another network as it is, or its state; an adapter's has the weights of `net` as its base."""
    return other if isinstance(other, nn.Module) else state_of(other, base=net)


def state_for(net: nn.Module, other: Net, needed: Collection[str] | None = None) -> dict[str, Tensor]:
    """Return the state of another network under the names of `net`.

    Args:
        net: The network.
        other: The other one, see `Net`.
        needed: Names of tensors that it has to have; all by default.

    Raises:
        BadInput: The names or shapes do not fit, or a checkpoint cannot be read.
    """
    source = str(other) if isinstance(other, str | Path) else getattr(other, "source", "the other network")
    return matched_state(net, state_of(other, base=net), source, needed)


def point_of(
    net: nn.Module, other: Net, dir_type: DirType, *, complete: bool = False, as_stored: bool = False
) -> Point:
    """Return the tensors of another network under the names of `net`.

    Args:
        net: The network.
        other: The other one, see `Net`.
        dir_type: 'weights' for parameters, 'states' for buffers too.
        complete: The other one has to hold all tensors of the network.
        as_stored: Its tensors are not converted and not copied.

    Raises:
        BadInput: They do not fit.
    """
    own = tensors(net, dir_type)
    state = state_for(net, other, None if complete else own)
    if as_stored:
        return {name: state[name].detach() for name in own}
    return {name: state[name].detach().to(value.device, widened_dtype(value)) for name, value in own.items()}
