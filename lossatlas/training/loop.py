"""The training loop: SGD or Adam on a resident data set.

The order of the samples, the augmentation and the corrupted labels are drawn from (seed, epoch) alone, so a run that is
continued from a checkpoint is the run that was never interrupted.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossatlas.data import LOSSES, AnyData, Dataset, FixedBatches, Loss
from lossatlas.data.structures import Structure, leaves, mapped
from lossatlas.errors import BadUsage
from lossatlas.evaluation.sample_storage import map_inputs


@dataclass(frozen=True)
class TrainingRecipe:
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


def make_optimizer(net: nn.Module, recipe: TrainingRecipe) -> torch.optim.Optimizer:
    moving = [p for p in net.parameters() if p.requires_grad]
    if recipe.optimizer == "adam":
        return torch.optim.Adam(moving, recipe.lr, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(moving, recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay)


def rate(recipe: TrainingRecipe, step: int, steps: int) -> float:
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
    data: AnyData,
    recipe: TrainingRecipe,
    on_step: Callable[[int, int, float], None] = lambda epoch, step, loss: None,
    on_epoch: Callable[[int, torch.optim.Optimizer], None] = lambda epoch, optimizer: None,
    on_start: Callable[[torch.optim.Optimizer], None] = lambda optimizer: None,
    *,
    loss: Loss | None = None,
    channels_last: bool = True,
    start: int = 0,
    optimizer_state: dict | None = None,
) -> None:
    """Train in place, from epoch `start` with the optimizer's state of then; what needs no gradient stays as it is.

    `on_step` hears (epoch, step, batch loss) after every step, `on_epoch` the epochs done and the optimizer, `on_start` the
    optimizer before the first step of all. loss: by default the one that the recipe names. channels_last: the order in
    which images and filters lie, which is the faster one.
    """
    if channels_last:
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    net.train()
    device, loss = next(net.parameters()).device, loss or LOSSES[recipe.loss]
    data = prepared(data, recipe, device)
    optimizer = make_optimizer(net, recipe)
    if optimizer_state is not None:
        optimizer.load_state_dict(optimizer_state)
    if start == 0:
        on_start(optimizer)
    per_epoch = len(data.contents) if isinstance(data, FixedBatches) else math.ceil(len(data) / recipe.batch_size)
    for epoch in range(start, recipe.epochs):
        generator = torch.Generator().manual_seed(recipe.seed * 100_003 + epoch)
        torch.manual_seed(recipe.seed * 100_003 + epoch)  # of what the network draws, as in dropout
        for step, found in enumerate(shuffled(data, recipe.batch_size, generator)):
            for group in optimizer.param_groups:
                group["lr"] = rate(recipe, epoch * per_epoch + step, recipe.epochs * per_epoch)
            batch = mapped(found, lambda tensor: tensor.to(device))
            if recipe.augment:
                batch = map_inputs(batch, lambda inputs: augmented(inputs, generator))  # noqa: B023
            if channels_last:
                batch = map_inputs(batch, in_channels_last)
            on_step(epoch, step, training_step(net, batch, optimizer, recipe, loss))
        on_epoch(epoch + 1, optimizer)


def prepared(data: AnyData, recipe: TrainingRecipe, device: torch.device) -> AnyData:
    """What fits on the device there, with the labels of the recipe. Raises BadUsage where there are none."""
    if recipe.label_corrupt_prob > 0:
        if not isinstance(data, Dataset) or not is_pair(data.samples) or data.targets.is_floating_point():
            raise BadUsage("--label_corrupt_prob: only labels of samples in memory can be replaced at random")
        classes = data.classes or int(data.targets.max()) + 1
        labels = corrupted(data.targets, classes, recipe.label_corrupt_prob, recipe.seed)
        data = replace(data, samples=(data.inputs, labels))
    if recipe.augment and not (is_pair(first := next(data.batches(1))) and first[0].dim() == 4):
        raise BadUsage("--augment shifts and mirrors images, and these samples are no pairs of an image and a label")
    if isinstance(data, Dataset):
        data = replace(data, samples=mapped(data.samples, lambda tensor: tensor.to(device)))
    return data


def is_pair(samples: Structure) -> bool:
    return isinstance(samples, list | tuple) and len(samples) == 2 and isinstance(samples[0], Tensor)


def shuffled(data: AnyData, size: int, generator: torch.Generator) -> Iterator[Structure]:
    """The batches of an epoch; those whose shapes differ stay together, and come in a random order."""
    if isinstance(data, FixedBatches):
        for k in torch.randperm(len(data.contents), generator=generator).tolist():
            yield data.contents[k]
        return
    order = torch.randperm(len(data), generator=generator)
    if isinstance(data, Dataset):
        order = order.to(next(leaf for _, leaf in leaves(data.samples) if isinstance(leaf, Tensor)).device)
    yield from data.stream(order.split(size))


def in_channels_last(inputs: Tensor) -> Tensor:
    return inputs.contiguous(memory_format=torch.channels_last) if inputs.dim() == 4 else inputs


def training_step(
    net: nn.Module, batch: Structure, optimizer: torch.optim.Optimizer, recipe: TrainingRecipe, loss: Loss
) -> float:
    model = InBfloat16(net) if recipe.bfloat16 else net
    value = loss(model, batch).mean()
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return value.item()


class InBfloat16:
    """Stands for a network whose forward pass is in bfloat16; everything else of it is its own."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        with torch.autocast(next(self.net.parameters()).device.type, dtype=torch.bfloat16):
            return self.net(*arguments, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.net, name)


@torch.no_grad()
def measure(
    net: nn.Module, data: AnyData, loss: str | Loss = "crossentropy", batch_size: int = 128
) -> tuple[float, float]:
    """Mean loss and accuracy in percent (NaN where there is none), in eval mode; the mode is put back afterwards."""
    mode, device = net.training, next(net.parameters()).device
    loss = LOSSES[loss] if isinstance(loss, str) else loss
    net.eval()
    total = weight = right = penalty = 0.0
    for batch in data.batches(batch_size):
        found = loss(net, mapped(batch, lambda tensor: tensor.clone().to(device)))  # it may overwrite its input
        weights = torch.ones_like(found.per_sample) if found.weights is None else found.weights
        weight += weights.sum().item()
        total += (weights * found.per_sample).sum().item()
        right += (weights * found.metrics["accuracy"]).sum().item() if "accuracy" in found.metrics else math.nan
        penalty = 0.0 if found.penalty is None else float(found.penalty)
    net.train(mode)
    return total / weight + penalty, 100 * right / weight
