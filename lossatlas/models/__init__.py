"""The zoo: networks by name, and their checkpoints.

from lossatlas.models import build, load_network
net = load_network("resnet56", "model_300.t7", shape=(3, 32, 32), classes=10)
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from lossatlas import programs
from lossatlas.argument_checks import checked_word
from lossatlas.errors import BadInput, BadUsage, named
from lossatlas.models.checkpoint import load_into, read_state, save_state
from lossatlas.models.densenet import DenseNet
from lossatlas.models.mlp import mlp
from lossatlas.models.resnet import Block, Bottleneck, cifar_resnet, imagenet_resnet
from lossatlas.models.vgg import Vgg9, Vgg13
from lossatlas.mpi.model_groups import ModelGroup
from lossatlas.parameter_space.offloaded import load_on_host
from lossatlas.user_code import UserFunction

__all__ = ["MODELS", "build", "classes_in", "load_into", "load_network", "read_state", "save_state"]

NO_PROCESS_GROUP = "process group has not been initialized"  # in the error of torch.distributed
# Every factory takes the shape of one sample, (C, H, W), and the number of classes.
MODELS: dict[str, Callable[[Sequence[int], int], nn.Module]] = {
    "mlp": mlp,
    "vgg9": Vgg9,
    "vgg13": Vgg13,
    "densenet121": partial(DenseNet, (6, 12, 24, 16), 32),
}
IMAGENET: dict[int, tuple[type[Block], Sequence[int]]] = {
    18: (Block, (2, 2, 2, 2)),
    34: (Block, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}

for depth, (block, blocks) in IMAGENET.items():
    MODELS[f"resnet{depth}"] = partial(imagenet_resnet, block, blocks, shortcut=True)
    MODELS[f"resnet{depth}_noshort"] = partial(imagenet_resnet, block, blocks, shortcut=False)

for depth in (20, 56, 110):
    MODELS[f"resnet{depth}"] = partial(cifar_resnet, depth, 1, shortcut=True)
for depth in (20, 32, 44, 56, 110):
    MODELS[f"resnet{depth}_noshort"] = partial(cifar_resnet, depth, 1, shortcut=False)
MODELS["resnet50_16_noshort"] = partial(cifar_resnet, 50, 1, shortcut=False)
for width in (2, 4, 8):
    MODELS[f"wrn56_{width}"] = partial(cifar_resnet, 56, width, shortcut=True)
    MODELS[f"wrn56_{width}_noshort"] = partial(cifar_resnet, 56, width, shortcut=False)
for width in (2, 4):
    MODELS[f"wrn110_{width}_noshort"] = partial(cifar_resnet, 110, width, shortcut=False)


def build(name: str | UserFunction, shape: Sequence[int] = (3, 32, 32), classes: int = 10, seed: int = 0) -> nn.Module:
    """Build a freshly initialized network.

    Args:
        name: Name in the zoo, one of `MODELS`, or a user's function.
        shape: Shape (C, H, W) of one sample, for a network of the zoo.
        classes: Number of classes, for a network of the zoo.
        seed: Seed of the state that a user's function draws. Everything else that it draws comes from seed 0, so it is
            the same on every rank and in every run.

    Returns:
        The network.

    Raises:
        BadUsage: The name is unknown.
        BadInput: The user's function fails, or returns no network.

    Example:
        >>> sum(p.numel() for p in build("mlp", (1, 28, 28)).parameters())
        55050
    """
    group = ModelGroup.current
    if group is not None and (not isinstance(name, UserFunction) or name.short):
        raise BadUsage(
            f"{named('ranks_per_model', group.ranks.size)} is for a function of yours that spreads its network over "
            f"the ranks (DTensor, fully_shard): {named('model', name)} is none"
        )
    if isinstance(name, UserFunction):
        net = _call_seeded(name, 0)
        if seed:
            net.load_state_dict(_call_seeded(name, seed).state_dict())
        return net
    return MODELS[checked_word("model", name, sorted(MODELS))](shape, classes)


def _call_seeded(function: UserFunction, seed: int) -> nn.Module:
    """Return the network that a user's function returns when torch has this seed."""
    if ModelGroup.current is not None:
        from lossatlas.models.spread_networks import make_spread

        return make_spread(function, seed, ModelGroup.current)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            net = function()
        except BadInput as error:
            if NO_PROCESS_GROUP not in str(error):
                raise
            command = f"{programs.program('surface')} --ranks_per_model N"
            raise BadInput(f"{error} (a network that is spread over N ranks needs {command})") from error
    if not isinstance(net, nn.Module):
        raise BadInput(f"{named('model')} {function} gives {type(net).__name__}, not a torch.nn.Module")
    load_on_host(net)
    return net


def classes_in(name: str | UserFunction, shape: Sequence[int], state: Mapping[str, Tensor]) -> int | None:
    """Find the number of classes that a checkpoint is for.

    It is the length of the first axis whose length follows the number of classes.

    Args:
        name: Name in the zoo, or a user's function.
        shape: Shape (C, H, W) of one sample.
        state: Tensors of the checkpoint by name, in any order.

    Returns:
        The number; None for a checkpoint of another architecture, or of a user's network.
    """
    if isinstance(name, UserFunction):
        return None
    with torch.device("meta"), warnings.catch_warnings():  # shapes alone
        warnings.simplefilter("ignore")
        two, three = (build(name, shape, classes).state_dict() for classes in (2, 3))
    for key, value in two.items():
        axes = [k for k, (a, b) in enumerate(zip(value.shape, three[key].shape, strict=True)) if a != b]
        if axes and key in state and state[key].dim() == value.dim():
            return state[key].shape[axes[0]]
    return None


def load_network(name: str, file: str | Path, shape: Sequence[int] = (3, 32, 32), classes: int = 10) -> nn.Module:
    """Load a network of the zoo with the weights of a checkpoint.

    Args:
        name: Name in the zoo, one of `MODELS`.
        file: The checkpoint, see `read_state`.
        shape: Shape (C, H, W) of one sample.
        classes: Number of classes.

    Returns:
        The network in evaluation mode, with parameters that need no gradient.

    Raises:
        BadUsage: The name is unknown.
        BadInput: The file is missing or damaged, or of another architecture.
    """
    net = build(name, shape, classes)
    load_into(net, read_state(file), str(file))
    return net.eval().requires_grad_(False)
