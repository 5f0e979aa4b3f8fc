"""The training loop: SGD or Adam on a resident data set.

The order of the samples, the augmentation and the corrupted labels are drawn from (seed, epoch) alone, so a run that is
continued from a checkpoint is the run that was never interrupted.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossatlas.data import LOSSES, Dataset

SCHEDULES = ("cosine", "step", "constant")


@dataclass(frozen=True)
class Recipe:
    """How to train. `lr` is the peak rate; `step` multiplies it by `lr_decay` at 1/2, 3/4 and 11/12 of the epochs."""

    epochs: int
    batch_size: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "cosine"
    warmup: int = 200
    seed: int = 0
    bfloat16: bool = False
    optimizer: str = "sgd"
    lr_decay: float = 0.1
    loss: str = "crossentropy"
    augment: bool = False
    label_corrupt_prob: float = 0.0


def initialize(net: nn.Module, seed: int) -> None:
    """He initialization (fan in) of convolutions and linear layers, a nearly zero classifier; the rest as torch."""
    torch.manual_seed(seed)
    layers = [module for module in net.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    nn.init.normal_(layers[-1].weight, std=1e-3)


def make_optimizer(net: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "adam":
        return torch.optim.Adam(net.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(net.parameters(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay)


def rate(recipe: Recipe, step: int, steps: int) -> float:
    """The learning rate at `step` of `steps`, after a linear warm-up."""
    done = step / steps
    factor = {
        "cosine": 0.5 * (1 + math.cos(math.pi * done)),
        "step": recipe.lr_decay ** sum(done >= mark for mark in (1 / 2, 3 / 4, 11 / 12)),
        "constant": 1.0,
    }[recipe.schedule]
    return recipe.lr * factor * min(1.0, (step + 1) / max(1, recipe.warmup))


def corrupted(targets: Tensor, classes: int, probability: float, seed: int) -> Tensor:
    """Labels of which each is replaced, with this probability, by a random one (Zhang et al., arXiv 1611.03530)."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.rand(targets.shape, generator=generator) < probability
    return torch.where(chosen, torch.randint(classes, targets.shape, generator=generator), targets)


def augmented(inputs: Tensor, generator: torch.Generator, padding: int = 4) -> Tensor:
    """Images (B, C, H, W) shifted by up to `padding` pixels and mirrored, each on its own."""
    count, channels, height, width = inputs.shape
    shift = torch.randint(2 * padding + 1, (2, count), generator=generator).to(inputs.device)
    mirror = (torch.rand(count, generator=generator) < 0.5).to(inputs.device)
    rows = (shift[0, :, None] + torch.arange(height, device=inputs.device))[:, None, :, None]
    columns = (shift[1, :, None] + torch.arange(width, device=inputs.device))[:, None, None, :]
    sample = torch.arange(count, device=inputs.device)[:, None, None, None]
    channel = torch.arange(channels, device=inputs.device)[None, :, None, None]
    moved = F.pad(inputs, (padding,) * 4)[sample, channel, rows, columns]
    return torch.where(mirror[:, None, None, None], moved.flip(3), moved)


def train(
    net: nn.Module,
    data: Dataset,
    recipe: Recipe,
    on_step: Callable[[int, int, float], None] = lambda epoch, step, loss: None,
    on_epoch: Callable[[int, torch.optim.Optimizer], None] = lambda epoch, optimizer: None,
    on_start: Callable[[torch.optim.Optimizer], None] = lambda optimizer: None,
    *,
    start: int = 0,
    optimizer_state: dict | None = None,
) -> None:
    """Train in place, from epoch `start` with the optimizer's state of then.

    `on_step` hears (epoch, step, batch loss) after every step, `on_epoch` the epochs done and the optimizer, `on_start` the
    optimizer before the first step of all.
    """
    net.to(memory_format=torch.channels_last).train().requires_grad_(True)  # type: ignore[call-overload]
    device = next(net.parameters()).device
    inputs = data.inputs.to(device)
    targets = corrupted(data.targets, data.classes, recipe.label_corrupt_prob, recipe.seed).to(device)
    optimizer = make_optimizer(net, recipe)
    if optimizer_state is not None:
        optimizer.load_state_dict(optimizer_state)
    if start == 0:
        on_start(optimizer)
    per_epoch = math.ceil(len(data) / recipe.batch_size)
    for epoch in range(start, recipe.epochs):
        generator = torch.Generator().manual_seed(recipe.seed * 100_003 + epoch)
        order = torch.randperm(len(data), generator=generator)
        for step, index in enumerate(order.to(device).split(recipe.batch_size)):
            for group in optimizer.param_groups:
                group["lr"] = rate(recipe, epoch * per_epoch + step, recipe.epochs * per_epoch)
            batch = augmented(inputs[index], generator) if recipe.augment else inputs[index]
            on_step(epoch, step, training_step(net, batch, targets[index], optimizer, recipe))
        on_epoch(epoch + 1, optimizer)


def training_step(
    net: nn.Module, inputs: Tensor, targets: Tensor, optimizer: torch.optim.Optimizer, recipe: Recipe
) -> float:
    inputs = inputs.contiguous(memory_format=torch.channels_last) if inputs.dim() == 4 else inputs

    def forward(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=recipe.bfloat16):
            return net(x)

    loss = LOSSES[recipe.loss](forward, (inputs, targets)).per_sample.mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@torch.inference_mode()
def measure(net: nn.Module, data: Dataset, loss: str = "crossentropy", batch_size: int = 128) -> tuple[float, float]:
    """Mean loss and accuracy in percent, in eval mode; the mode is put back afterwards."""
    mode, device = net.training, next(net.parameters()).device
    net.eval()
    total = right = 0.0
    for inputs, targets in data.batches(batch_size):
        found = LOSSES[loss](net, (inputs.clone().to(device), targets.to(device)))  # it may overwrite its input
        total += found.per_sample.sum().item()
        right += found.metrics["accuracy"].sum().item()
    net.train(mode)
    return total / len(data), 100 * right / len(data)
