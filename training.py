"""The training loop: SGD with momentum on a resident data set.

The order of the samples is drawn from (seed, epoch) alone, so a run can be repeated.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dataloader import Dataset

SCHEDULES = ("cosine", "step", "constant")


@dataclass(frozen=True)
class Recipe:
    """How to train. `lr` is the peak rate; `step` divides it by 10 at 1/2, 3/4 and 11/12 of the epochs."""

    epochs: int
    batch_size: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "cosine"
    warmup: int = 200
    seed: int = 0
    bfloat16: bool = False


def initialize(net: nn.Module, seed: int) -> None:
    """He initialization (fan in) of convolutions and linear layers, a nearly zero classifier; the rest as torch does."""
    torch.manual_seed(seed)
    layers = [module for module in net.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    nn.init.normal_(layers[-1].weight, std=1e-3)


def rate(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate at `step` of `steps`, after a linear warm-up."""
    done = step / steps
    factor = {
        "cosine": 0.5 * (1 + math.cos(math.pi * done)),
        "step": 0.1 ** sum(done >= mark for mark in (1 / 2, 3 / 4, 11 / 12)),
        "constant": 1.0,
    }[recipe.schedule]
    return recipe.lr * factor * min(1.0, (step + 1) / max(1, recipe.warmup))


def train(
    net: nn.Module,
    data: Dataset,
    recipe: Recipe,
    on_step: Callable[[int, int, float], None] = lambda epoch, step, loss: None,
    on_epoch: Callable[[int], None] = lambda epoch: None,
) -> None:
    """Train in place. `on_step` hears (epoch, step, batch loss) after every step, `on_epoch` the epochs done."""
    net.to(memory_format=torch.channels_last).train().requires_grad_(True)  # type: ignore[call-overload]
    device = next(net.parameters()).device
    inputs, targets = data.inputs.to(device), data.targets.to(device)
    optimizer = torch.optim.SGD(net.parameters(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay)
    per_epoch = math.ceil(len(data) / recipe.batch_size)
    for epoch in range(recipe.epochs):
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(recipe.seed * 100_003 + epoch))
        for step, index in enumerate(order.to(device).split(recipe.batch_size)):
            for group in optimizer.param_groups:
                group["lr"] = rate(recipe, epoch * per_epoch + step, recipe.epochs * per_epoch)
            on_step(epoch, step, training_step(net, inputs[index], targets[index], optimizer, recipe.bfloat16))
        on_epoch(epoch + 1)


def training_step(
    net: nn.Module, inputs: Tensor, targets: Tensor, optimizer: torch.optim.Optimizer, bfloat16: bool
) -> float:
    inputs = inputs.contiguous(memory_format=torch.channels_last) if inputs.dim() == 4 else inputs
    with torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=bfloat16):
        outputs = net(inputs)
    loss = F.cross_entropy(outputs.float(), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@torch.inference_mode()
def measure(net: nn.Module, data: Dataset, batch_size: int = 128) -> tuple[float, float]:
    """Mean cross-entropy and accuracy in percent, in eval mode; the mode is put back afterwards."""
    mode, device = net.training, next(net.parameters()).device
    net.eval()
    loss = right = 0.0
    for inputs, targets in data.batches(batch_size):
        outputs, targets = net(inputs.to(device)), targets.to(device)
        loss += F.cross_entropy(outputs, targets, reduction="sum").item()
        right += (outputs.argmax(1) == targets).sum().item()
    net.train(mode)
    return loss / len(data), 100 * right / len(data)
