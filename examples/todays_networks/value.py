"""The temporal-difference loss of Q-learning in the mountain car, with a frozen target network.

    python examples/todays_networks/value.py value.pt [STEPS]          trains it
    python plot_surface.py --model examples/todays_networks/value.py:make --model_file value.pt --only ^online ...

The target network is a part of the checkpoint. Nothing is differentiated through it, and --only ^online leaves it where
it is.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.append(str(Path(__file__).resolve().parents[2]))

from lossatlas import Losses

DISCOUNT = 0.98
SCALE = torch.tensor([1.0, 0.05])  # of position and velocity


class Values(nn.Module):
    """The values of the three actions: of the network that learns, and of an older one for the targets."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.online, self.target = (
            nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 3))
            for _ in range(2)
        )
        self.target.requires_grad_(False)

    def forward(self, states: Tensor) -> Tensor:
        return self.online(states)


def make() -> nn.Module:
    return Values()


def data(split: str) -> dict[str, Tensor]:
    """Steps of cars that start anywhere and do anything (Sutton, Barto, example 10.1); an episode ends at the top."""
    draw = np.random.default_rng({"train": 0, "test": 1}[split])
    position, velocity = draw.uniform(-1.2, 0.5, 4000), draw.uniform(-0.07, 0.07, 4000)
    action = draw.integers(0, 3, 4000)
    faster = np.clip(velocity + 0.001 * (action - 1) - 0.0025 * np.cos(3 * position), -0.07, 0.07)
    farther = np.clip(position + faster, -1.2, 0.5)
    faster = np.where(farther <= -1.2, 0.0, faster)
    states, following = (
        torch.tensor(np.stack(pair, axis=1), dtype=torch.float32) / SCALE
        for pair in ((position, velocity), (farther, faster))
    )
    ends = torch.from_numpy(farther >= 0.5)
    return {"state": states, "action": torch.from_numpy(action), "next": following, "goes_on": (~ends).float()}


def loss(model, batch: dict[str, Tensor]) -> Losses:
    """The Huber loss of Q(s, a) against -1 + discount * max_b Q_target(s', b)."""
    value = model(batch["state"]).gather(1, batch["action"][:, None])[:, 0]
    best = model.target(batch["next"]).detach().amax(dim=1)
    error = value - (-1 + DISCOUNT * batch["goes_on"] * best)
    return Losses(F.huber_loss(error, torch.zeros_like(error), reduction="none"), metrics={"value": value})


def main(path: str, steps: int = 6000) -> None:
    from fitting import fit

    torch.manual_seed(0)
    net, seen = make(), data("train")
    net.target.load_state_dict(net.online.state_dict())
    optimizer = torch.optim.Adam(net.online.parameters(), lr=1e-3)

    def error(n: Tensor) -> Tensor:
        return loss(net, {name: tensor[n] for name, tensor in seen.items()}).mean()

    def follow(step: int) -> None:
        if step % 100 == 0:
            net.target.load_state_dict(net.online.state_dict())

    fit(optimizer, error, len(seen["action"]), batch=128, steps=steps, cycle=False, each=follow)
    torch.save({"model_state_dict": net.state_dict()}, path)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
