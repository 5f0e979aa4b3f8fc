"""The plane that a user asks for: directions at random, towards networks, along gradient or eigenvectors, or their own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lossatlas.data import AnyData, Loss
from lossatlas.errors import BadInput, BadUsage
from lossatlas.hessian import Hessian, lanczos
from lossatlas.io import Directions
from lossatlas.landscape import Grid
from lossatlas.parameter_space import (
    AffinePlane,
    Layout,
    Point,
    Selection,
    as_arrays,
    lengths,
    position,
    random_direction,
    scale_to,
    target_direction,
    wide_tensors,
)
from lossatlas.parameter_space.directions import note_skewed, seed_of

RESOLVED, MOST = 1e-3, 500  # of eigenvectors as directions
Net = nn.Module | Mapping[str, Tensor]  # a network, or its state


@dataclass(frozen=True)
class Ends:
    """What the axes are, see `lossatlas.surface`. norm: None for the usual one of each kind of direction."""

    directions: str | Mapping[str, Tensor] | Sequence[str | Mapping[str, Tensor]] | None
    towards: Net | Sequence[Net] | None
    norm: str | None
    ignore: str
    seed: int
    selection: Selection


def plane_of(
    ends: Ends, net: nn.Module, grid: Grid, dir_type: str, data: AnyData, loss: Loss, device: torch.device
) -> tuple[AffinePlane, Directions]:
    """The plane, and its directions as they are stored. Raises BadUsage, BadInput."""
    axes = 1 if grid.y is None else 2
    origin = position(net, dir_type)
    selection = ends.selection.within_net(net)
    selection.of(origin)
    towards, wanted = networks_in(ends.towards), directions_in(ends.directions, axes)
    if len(towards) > axes or len(wanted) < axes:
        raise BadUsage(
            f"{axes} direction(s) are needed: there are {len(towards)} networks to go to, {len(wanted)} directions"
        )
    layout, vectors, made_as = Layout.of(net), [], list[str]()
    normal, special = ("filter", "unit") if ends.norm is None else (ends.norm, ends.norm)
    operator = None
    for k in range(axes):
        if k < len(towards):
            vector = target_direction(origin, point_of(net, towards[k], dir_type), selection)
        elif isinstance(what := wanted[k], Mapping):
            vector = selection.within(given(what, origin))
            if ends.norm:
                vector = scale_to(vector, origin, ends.norm, "", layout)
        elif what == "random":
            seed = seed_of(ends.seed, 0, k)
            vector = random_direction(origin, normal, ends.ignore, seed, layout, selection)
        else:
            if dir_type == "states":
                raise BadUsage(f"{what}: the curvature belongs to the parameters alone: use dir_type='weights'")
            operator = operator or Hessian(
                net, data, loss, device=device, parameters=ends.selection.only, without=ends.selection.without
            )
            pieces = dict(zip(operator.names, operator.unflatten(operator_direction(operator, what)), strict=True))
            made = {n: pieces[n].to(w) if n in pieces else torch.zeros_like(w) for n, w in origin.items()}
            vector = scale_to(made, origin, special, ends.ignore, layout)
        vectors.append(vector)
        made_as.append(description(ends, k, what if k >= len(towards) else None, normal, special, layout))
    if axes == 2:
        note_skewed(vectors[0], vectors[1], "the surface is sheared")
    arrays = [as_arrays({n: v.cpu() for n, v in vector.items()}, net, dir_type) for vector in vectors]
    about = {"dir_type": dir_type, **dict(zip("xy", made_as, strict=False))}
    if selection:
        about["moved"] = str(selection)
    extra = {"tensors": np.array([name.encode() for name in origin]), "lengths": lengths(origin, vectors)}
    return AffinePlane(origin, *vectors), Directions(arrays[0], arrays[1] if axes == 2 else None, about, extra)


def statistics_differ(net: nn.Module, others: Sequence[Net]) -> bool:
    """Tell whether the BatchNorm statistics of any other network differ from those of `net`."""
    own = net.state_dict()
    names = [name for name in own if name.rsplit(".", 1)[-1] in ("running_mean", "running_var")]
    for other in others:
        state = other.state_dict() if isinstance(other, nn.Module) else other
        if any(name in state and not torch.equal(own[name].cpu(), state[name].detach().cpu()) for name in names):
            return True
    return False


def description(ends: Ends, axis: int, what: Any, normal: str, special: str, layout: Layout) -> str:
    """Describe a direction for the record. what: None for one towards a network."""
    if what is None:
        return "towards a network"
    if isinstance(what, Mapping):
        return f"given{f', norm={ends.norm}{layout.rule(ends.norm)}' if ends.norm else ''}"
    norm = normal if what == "random" else special
    scaled = f"norm={norm or 'none'}{layout.rule(norm)}, ignore={ends.ignore or 'none'}"
    return f"random, {scaled}, seed={ends.seed}, axis {axis}" if what == "random" else f"{what}, {scaled}"


def networks_at(ends: Ends) -> dict[str, Any]:
    """The networks that the axes reach at coordinate 1, and the own one, as a surface records them; none where only a part of
    the parameters moves."""
    towards = networks_in(ends.towards)
    if not towards or ends.selection:
        return {}
    places = [("network", 0.0, 0.0), ("second network", 1.0, 0.0), ("third network", 0.0, 1.0)]
    return {"networks": places[: 1 + len(towards)]}


def directions_in(given: Any, axes: int) -> list[str | Mapping[str, Tensor]]:
    if given is None:
        return ["random"] * axes
    return [given] if isinstance(given, str | Mapping) else list(given)


def networks_in(towards: Net | Sequence[Net] | None) -> list[Net]:
    if towards is None:
        return []
    return [towards] if isinstance(towards, nn.Module | Mapping) else list(towards)


def given(direction: Mapping[str, Tensor], origin: Mapping[str, Tensor]) -> Point:
    """A direction of a user's, zero where it does not say anything. Raises BadUsage."""
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
        n: torch.as_tensor(direction[n]).to(w) if n in direction else torch.zeros_like(w) for n, w in origin.items()
    }


def operator_direction(operator: Hessian, what: str) -> Tensor:
    """The gradient, or the eigenvector with the K-th largest eigenvalue."""
    name, _, number = what.partition(":")
    if name == "gradient":
        return operator.gradient()[1]
    if name != "eigenvector" or (number and not number.isdigit()):
        raise BadUsage(
            f"a direction is 'random', 'gradient', 'eigenvector', 'eigenvector:K' or a dict of tensors, not {what!r}"
        )
    pairs = lanczos(operator, top=int(number or 1), tolerance=RESOLVED, max_products=MOST)
    if not pairs.converged[-1]:
        raise BadInput(f"the {what} is not resolved within {MOST} products")
    vector = pairs.vectors[-1]
    return vector * vector[vector.abs().argmax()].sign()


def point_of(net: nn.Module, other: Net, dir_type: str) -> Point:
    """Where another network, or a state, is, under the names of `net`. Raises BadInput where it does not fit."""
    own = wide_tensors(net, dir_type)
    state = other.state_dict() if isinstance(other, nn.Module) else other
    for name, value in own.items():
        if name not in state or state[name].shape != value.shape:
            there = tuple(state[name].shape) if name in state else "nothing"
            raise BadInput(f"'{name}' has shape {tuple(value.shape)} in the network, and {there} in the other one")
    return {name: state[name].detach().to(value.device, value.dtype) for name, value in own.items()}
