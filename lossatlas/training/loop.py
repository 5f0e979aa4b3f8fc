"""Training loop: SGD or Adam on data in memory or streamed.

The order of the samples, the augmentation and the corrupted labels are drawn from (seed, epoch) alone. So a run that is
continued from a checkpoint equals the run that was never interrupted.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossatlas.choices import LossName, OptimizerName, Schedule
from lossatlas.data import LOSSES, AnyData, Dataset, FixedBatches, Loss, as_loss
from lossatlas.data.structures import Structure, leaves, mapped
from lossatlas.errors import BadUsage, named
from lossatlas.evaluation.sample_storage import map_inputs

STEPS_AT = (1 / 2, 3 / 4, 11 / 12)  # of the epochs: drops of the schedule "step", as in the release of Li et al.


@dataclass(frozen=True)
class TrainingRecipe:
    """Recipe of a training, which its checkpoints record.

    Attributes:
        epochs: Passes over the data.
        batch_size: Samples per step.
        lr: Peak learning rate.
        momentum: Momentum of SGD.
        weight_decay: Factor of the squared norm of all parameters.
        schedule: "cosine", "step" (times `lr_decay` at each of `STEPS_AT`) or "constant".
        warmup: Steps in which the rate grows linearly.
        seed: Seed of all that is random.
        bfloat16: Run forward and backward passes in bfloat16, with weights in float32.
        optimizer: "sgd" or "adam".
        lr_decay: Factor of the schedule "step".
        loss: Name of the loss, or of the user's function.
        augment: Shift images by up to 4 pixels, and mirror them.
        label_corrupt_prob: Probability with which a label is replaced by a random one.
    """

    epochs: int
    batch_size: int = 128
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: Schedule = "cosine"
    warmup: int = 200
    seed: int = 0
    bfloat16: bool = False
    optimizer: OptimizerName = "sgd"
    lr_decay: float = 0.1
    loss: str = "crossentropy"
    augment: bool = False
    label_corrupt_prob: float = 0.0


def initialize(net: nn.Module, seed: int) -> None:
    """Initialize convolutions and linear layers as He et al. (arXiv 1502.01852), with fan in; a classifier nearly zero.

    Args:
        net: Network that is changed in place; parameters of other layers stay.
        seed: Seed of torch's global generator, which is set.
    """
    torch.manual_seed(seed)
    layers = [module for module in net.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    nn.init.normal_(layers[-1].weight, std=1e-3)


def make_optimizer(net: nn.Module, recipe: TrainingRecipe) -> torch.optim.Optimizer:
    """Make the optimizer of a recipe for the parameters that need gradients."""
    trained = [p for p in net.parameters() if p.requires_grad]
    if recipe.optimizer == "adam":
        return torch.optim.Adam(trained, recipe.lr, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(trained, recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay)


def rate(recipe: TrainingRecipe, step: int, steps: int) -> float:
    """Return the learning rate of a step, after a linear warm-up.

    Args:
        recipe: Recipe of the training.
        step: Number of the step, from 0.
        steps: Steps in all.

    Returns:
        The rate.
    """
    done = step / steps
    factor = {
        "cosine": 0.5 * (1 + math.cos(math.pi * done)),
        "step": recipe.lr_decay ** sum(done >= mark for mark in STEPS_AT),
        "constant": 1.0,
    }[recipe.schedule]
    return recipe.lr * factor * min(1.0, (step + 1) / max(1, recipe.warmup))


def corrupted(targets: Tensor, classes: int, probability: float, seed: int) -> Tensor:
    """Replace labels at random (Zhang et al., arXiv 1611.03530).

    Args:
        targets: (n,) labels.
        classes: Number of classes.
        probability: Probability with which a label is replaced by one that is drawn uniformly.
        seed: Seed of the draws.

    Returns:
        (n,) labels.
    """
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.rand(targets.shape, generator=generator) < probability
    return torch.where(chosen, torch.randint(classes, targets.shape, generator=generator), targets)


def augmented(inputs: Tensor, generator: torch.Generator, padding: int = 4) -> Tensor:
    """Shift and mirror each image on its own.

    Args:
        inputs: (B, C, H, W) images.
        generator: Generator of the draws.
        padding: Largest shift, in pixels; pixels from outside are zero.

    Returns:
        (B, C, H, W) images.
    """
    count, channels, height, width = inputs.shape
    shift = torch.randint(2 * padding + 1, (2, count), generator=generator).to(inputs.device)
    mirror = (torch.rand(count, generator=generator) < 0.5).to(inputs.device)
    rows = (shift[0, :, None] + torch.arange(height, device=inputs.device))[:, None, :, None]
    columns = (shift[1, :, None] + torch.arange(width, device=inputs.device))[:, None, None, :]
    sample = torch.arange(count, device=inputs.device)[:, None, None, None]
    channel = torch.arange(channels, device=inputs.device)[None, :, None, None]
    moved = F.pad(inputs, (padding,) * 4)[sample, channel, rows, columns]
    return torch.where(mirror[:, None, None, None], moved.flip(3), moved)


def batches_per_epoch(data: AnyData, batch_size: int) -> int:
    """Return the number of steps in an epoch; the last batch may be smaller."""
    return len(data.contents) if isinstance(data, FixedBatches) else math.ceil(len(data) / batch_size)


def train(
    net: nn.Module,
    data: AnyData,
    recipe: TrainingRecipe,
    on_step: Callable[[int, int, float], None] = lambda epoch, step, loss: None,
    on_epoch: Callable[[int, torch.optim.Optimizer], None] = lambda epoch, optimizer: None,
    *,
    on_start: Callable[[torch.optim.Optimizer], None] = lambda optimizer: None,
    loss: Loss | None = None,
    channels_last: bool = True,
    start: int = 0,
    optimizer_state: dict | None = None,
) -> None:
    """Train a network in place; parameters that need no gradient stay.

    Args:
        net: Network on its device.
        data: Training data.
        recipe: Recipe of the training.
        on_step: Called with (epoch, step, batch loss) after every step.
        on_epoch: Called with (epochs done, optimizer) after every epoch.
        on_start: Called with the optimizer before the first step of all.
        loss: Loss; by default the one that the recipe names.
        channels_last: Store images and filters with the channels last, which is faster.
        start: Epochs that are done.
        optimizer_state: State of the optimizer after them.

    Raises:
        BadUsage: The recipe does not suit the data.

    Example:
        >>> from lossatlas.datasets.registry import load
        >>> from lossatlas.models import build
        >>> net = build("mlp", (1, 28, 28))
        >>> train(net, load("fashion_mnist_mini", limit=256), TrainingRecipe(epochs=1, lr=0.01))
    """
    if channels_last:
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    net.train()
    device, loss = next(net.parameters()).device, loss or as_loss(recipe.loss)
    data = _prepared(data, recipe, device)
    optimizer = make_optimizer(net, recipe)
    if optimizer_state is not None:
        optimizer.load_state_dict(optimizer_state)
    if start == 0:
        on_start(optimizer)
    steps = batches_per_epoch(data, recipe.batch_size)
    for epoch in range(start, recipe.epochs):
        generator = torch.Generator().manual_seed(recipe.seed * 100_003 + epoch)
        torch.manual_seed(recipe.seed * 100_003 + epoch)  # of the network's own draws, as in dropout
        for step, samples in enumerate(_shuffled(data, recipe.batch_size, generator)):
            for group in optimizer.param_groups:
                group["lr"] = rate(recipe, epoch * steps + step, recipe.epochs * steps)
            batch = mapped(samples, lambda tensor: tensor.to(device))
            if recipe.augment:
                batch = map_inputs(batch, lambda inputs: augmented(inputs, generator))  # noqa: B023
            if channels_last:
                batch = map_inputs(batch, _in_channels_last)
            on_step(epoch, step, _training_step(net, batch, optimizer, recipe, loss))
        on_epoch(epoch + 1, optimizer)


def _prepared(data: AnyData, recipe: TrainingRecipe, device: torch.device) -> AnyData:
    """Return the data with the labels of the recipe, on the device if they are in memory."""
    if recipe.label_corrupt_prob > 0:
        if not isinstance(data, Dataset) or not _is_pair(data.samples) or data.targets.is_floating_point():
            raise BadUsage(f"{named('label_corrupt_prob')}: only labels of samples in memory can be replaced at random")
        classes = data.classes or int(data.targets.max()) + 1
        labels = corrupted(data.targets, classes, recipe.label_corrupt_prob, recipe.seed)
        data = replace(data, samples=(data.inputs, labels))
    if recipe.augment and not (_is_pair(first := next(data.batches(1))) and first[0].dim() == 4):
        raise BadUsage(
            f"{named('augment')} shifts and mirrors images, and these samples are no pairs of an image and a label"
        )
    if isinstance(data, Dataset):
        data = replace(data, samples=mapped(data.samples, lambda tensor: tensor.to(device)))
    return data


def _is_pair(samples: Structure) -> bool:
    return isinstance(samples, list | tuple) and len(samples) == 2 and isinstance(samples[0], Tensor)


def _shuffled(data: AnyData, size: int, generator: torch.Generator) -> Iterator[Structure]:
    """Yield the batches of an epoch; batches of fixed content come in a random order."""
    if isinstance(data, FixedBatches):
        for k in torch.randperm(len(data.contents), generator=generator).tolist():
            yield data.contents[k]
        return
    order = torch.randperm(len(data), generator=generator)
    if isinstance(data, Dataset):
        order = order.to(next(leaf for _, leaf in leaves(data.samples) if isinstance(leaf, Tensor)).device)
    yield from data.stream(order.split(size))


def _in_channels_last(inputs: Tensor) -> Tensor:
    return inputs.contiguous(memory_format=torch.channels_last) if inputs.dim() == 4 else inputs


def _training_step(
    net: nn.Module, batch: Structure, optimizer: torch.optim.Optimizer, recipe: TrainingRecipe, loss: Loss
) -> float:
    model = InBfloat16(net) if recipe.bfloat16 else net
    value = loss(model, batch).mean()
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
    return value.item()


class InBfloat16:
    """A network whose forward pass runs in bfloat16, with the attributes of the network.

    Args:
        net: The network.
    """

    def __init__(self, net: nn.Module) -> None:
        self.net = net

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        with torch.autocast(next(self.net.parameters()).device.type, dtype=torch.bfloat16):
            return self.net(*arguments, **keywords)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.net, name)


@torch.no_grad()
def measure(
    net: nn.Module, data: AnyData, loss: LossName | Loss = "crossentropy", batch_size: int = 128
) -> tuple[float, float]:
    """Measure a network in evaluation mode; its mode is restored afterwards.

    Args:
        net: Network on its device.
        data: Data of any kind.
        loss: Loss, or its name.
        batch_size: Samples per forward pass.

    Returns:
        The mean loss, and the accuracy in percent; NaN where the loss gives none.
    """
    mode, device = net.training, next(net.parameters()).device
    loss = LOSSES[loss] if isinstance(loss, str) else loss
    net.eval()
    total = weight = correct = penalty = 0.0
    for batch in data.batches(batch_size):
        result = loss(net, mapped(batch, lambda tensor: tensor.clone().to(device)))  # it may overwrite its input
        weights = torch.ones_like(result.per_sample) if result.weights is None else result.weights
        weight += weights.sum().item()
        total += (weights * result.per_sample).sum().item()
        correct += (weights * result.metrics["accuracy"]).sum().item() if "accuracy" in result.metrics else math.nan
        penalty = 0.0 if result.penalty is None else float(result.penalty)
    net.train(mode)
    return total / weight + penalty, 100 * correct / weight
