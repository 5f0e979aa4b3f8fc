"""Oracles that several files compare with: slow, in float64, and without any code of lossatlas."""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

Model = Callable[..., Any]


def in_float64(net: nn.Module) -> nn.Module:
    """Return a copy in float64 and evaluation mode, of which every parameter may be differentiated."""
    return copy.deepcopy(net).double().eval().requires_grad_(True)


def mean_cross_entropy(inputs: Tensor, targets: Tensor) -> Callable[[Model], Tensor]:
    """Return the mean cross-entropy of these samples as a function of a network."""
    return lambda model: F.cross_entropy(model(inputs.double()), targets)


def explicit_hessian(net: nn.Module, loss: Callable[[Model], Tensor], names: Sequence[str] = ()) -> Tensor:
    """Return all second derivatives of a loss, by torch's own double differentiation.

    Args:
        net: A network; its copy in float64 and evaluation mode is differentiated.
        loss: A scalar function of a callable that takes the inputs of the network.
        names: The parameters, in the order of rows and columns; all of the network's where none are given.
    """
    net = in_float64(net)
    own = {name: net.get_parameter(name).detach() for name in names or dict(net.named_parameters())}

    def loss_at(flat: Tensor) -> Tensor:
        pieces = flat.split([value.numel() for value in own.values()])
        point = {name: piece.view_as(own[name]) for name, piece in zip(own, pieces, strict=True)}
        return loss(lambda *inputs: torch.func.functional_call(net, point, inputs))

    with sdpa_kernel(SDPBackend.MATH):  # no other attention has second derivatives
        return torch.autograd.functional.hessian(loss_at, torch.cat([value.flatten() for value in own.values()]))


def differenced_hessian(net: nn.Module, loss: Callable[[nn.Module], Tensor], step: float = 1e-5) -> Tensor:
    """Return all second derivatives of a loss, by central differences of gradients.

    Args:
        net: A network; its copy in float64 and evaluation mode is moved. Parameters without a gradient have rows of 0.
        loss: A scalar function of the moved network, which may read its parameters.
        step: The distance to either side.
    """
    net = in_float64(net)
    own = list(net.parameters())

    def gradient() -> Tensor:
        found = torch.autograd.grad(loss(net), own, allow_unused=True)
        pieces = [torch.zeros_like(p) if g is None else g for g, p in zip(found, own, strict=True)]
        return torch.cat([piece.flatten() for piece in pieces])

    rows = []
    for flat in (p.data.view(-1) for p in own):
        for k in range(len(flat)):
            flat[k] += step
            after = gradient()
            flat[k] -= 2 * step
            rows.append((after - gradient()) / (2 * step))
            flat[k] += step
    matrix = torch.stack(rows)
    return (matrix + matrix.T) / 2


@torch.no_grad()
def loss_at(
    net: nn.Module, loss: Callable[[nn.Module], Tensor], moves: Iterable[tuple[float, Mapping[str, Tensor]]] = ()
) -> float:
    """Return the loss of a copy in float64 and evaluation mode that is moved by coefficients of directions.

    Args:
        net: A network.
        loss: A scalar function of the moved network, which may read its parameters.
        moves: Coefficients, each with a direction that has a tensor for every parameter.
    """
    net = in_float64(net)
    for coefficient, direction in moves:
        for name, parameter in net.named_parameters():
            parameter += coefficient * direction[name].double()
    return float(loss(net))
