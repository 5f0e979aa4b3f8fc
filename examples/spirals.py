"""Two spirals, and a perceptron that tells them apart: a network, data and a loss that the commands have never seen.

    python plot_surface.py --model examples/spirals.py:make_net --model_file examples/spirals.pt \\
        --dataset examples/spirals.py:data --loss_name examples/spirals.py:smooth --x=-1:1:21 \\
        --surf_file spirals.h5 --plot
    python examples/spirals.py          trains it again, and writes spirals.pt
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def make_net(width: int = 32) -> nn.Module:
    first = (nn.Linear(2, width), nn.Tanh(), nn.LayerNorm(width))
    return nn.Sequential(*first, nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 2))


def data(split: str) -> torch.utils.data.TensorDataset:
    """A thousand points of either split: (x, y), and which of the arms they belong to."""
    generator = torch.Generator().manual_seed({"train": 0, "test": 1}[split])
    labels = torch.arange(1000) % 2
    angle = 1 + 8 * torch.rand(1000, generator=generator)
    points = torch.stack([angle.cos(), angle.sin()], dim=1) * (angle * (1 - 2 * labels))[:, None] / 9
    return torch.utils.data.TensorDataset(points + 0.02 * torch.randn(1000, 2, generator=generator), labels)


def smooth(output: Tensor, target: Tensor, reduction: str = "mean") -> Tensor:
    return F.cross_entropy(output, target, label_smoothing=0.1, reduction=reduction)


def main() -> None:
    torch.manual_seed(0)
    net, (inputs, labels) = make_net(), data("train").tensors
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for step in range(600):
        loss = F.cross_entropy(net(inputs), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 99:
            print(f"step {step + 1}: loss {loss.item():.4f}")
    torch.save({"model_state_dict": net.state_dict()}, __file__.replace(".py", ".pt"))


if __name__ == "__main__":
    main()
