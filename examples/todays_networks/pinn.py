"""A physics-informed network for the heat equation u_t = u_xx / 10, whose solution is exp(-pi^2 t / 10) sin(pi x).

python examples/todays_networks/pinn.py pinn.pt [STEPS]          trains it

The loss takes derivatives with respect to the inputs, here by torch.func; torch.autograd.grad would do as well.
The initial and boundary values are at fixed places: a term of the parameters alone.
"""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import grad, vmap

sys.path.append(str(Path(__file__).resolve().parents[2]))

from lossatlas import Losses

DIFFUSION = 0.1


def make(width: int = 32) -> nn.Module:
    return nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1))


def solution(places: Tensor) -> Tensor:
    return torch.exp(-DIFFUSION * torch.pi**2 * places[:, 0]) * torch.sin(torch.pi * places[:, 1])


def data(split: str) -> dict[str, Tensor]:
    """A thousand places (t, x) in the unit square where the equation is to hold."""
    generator = torch.Generator().manual_seed({"train": 0, "test": 1}[split])
    return {"places": torch.rand(1000, 2, generator=generator)}


def edges(like: Tensor, count: int = 50) -> Tensor:
    """Places at t = 0, at x = 0 and at x = 1, where the solution is given."""
    along, zero = torch.linspace(0, 1, count, dtype=like.dtype, device=like.device), like.new_zeros(count)
    sides = (zero, along), (along, zero), (along, zero + 1)
    return torch.cat([torch.stack(side, dim=1) for side in sides])


def loss(model, batch: dict[str, Tensor]) -> Losses:
    def u(place: Tensor) -> Tensor:
        return model(place[None])[0, 0]

    def first(place: Tensor) -> tuple[Tensor, Tensor]:
        slope = grad(u)(place)
        return slope[1], slope[0]

    places = batch["places"]
    u_xx, u_t = vmap(grad(first, has_aux=True))(places)
    residual = u_t - DIFFUSION * u_xx[:, 1]
    given = edges(places)
    error = (model(places)[:, 0] - solution(places)) ** 2
    penalty = ((model(given)[:, 0] - solution(given)) ** 2).mean()
    return Losses(residual**2, metrics={"squared_error": error}, penalty=penalty)


def main(path: str, steps: int = 3000) -> None:
    from fitting import fit

    torch.manual_seed(0)
    net, places = make(), data("train")["places"]
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    fit(optimizer, lambda n: loss(net, {"places": places[n]}).mean(), len(places), batch=256, steps=steps)
    torch.save({"model_state_dict": net.state_dict()}, path)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
