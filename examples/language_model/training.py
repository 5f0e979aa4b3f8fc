"""Training, fine-tuning and low-rank adapters of the small decoder in examples/todays_networks/gpt.py."""

import json
import math
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from pydoc_data.topics import topics

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.func import functional_call

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples" / "todays_networks"))

from gpt import CONTEXT, GPT  # noqa: E402

Pairs = tuple[Tensor, Tensor]
RANK, ALPHA = 4, 8.0
ADAPTED = ("attention", "projection")  # the layers of a block that adapters change


def windows(text: str) -> tuple[Pairs, Pairs]:
    """Tokens (n, CONTEXT) and those that follow them, for training and, from the end of the text, for testing."""
    tokens = torch.tensor(list(text.encode("ascii", "replace")))
    cut = len(tokens) * 9 // 10
    parts = (part.unfold(0, CONTEXT + 1, CONTEXT) for part in (tokens[:cut], tokens[cut:]))
    train, test = ((part[:, :-1].clone(), part[:, 1:].clone()) for part in parts)
    return train, test


def prose() -> tuple[Pairs, Pairs]:
    """The documentation that comes with Python."""
    return windows("".join(topics[name] for name in sorted(topics))[:400_000])


def code() -> tuple[Pairs, Pairs]:
    """The source code of this package, which the models see in fine-tuning alone."""
    return windows("".join(file.read_text() for file in sorted((ROOT / "lossatlas").rglob("*.py")))[:400_000])


def train(
    loss: Callable[[Tensor], Tensor], parameters: list[Tensor], samples: int, *, steps: int, rate: float
) -> float:
    """Minimize loss(numbers of a random batch) by AdamW, whose rate rises and falls once; return its last value."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # faster for so small tensors, and always the same bits
    optimizer = torch.optim.AdamW(parameters, lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    value = torch.zeros(())
    for _ in range(steps):
        value = loss(torch.randint(samples, (32,)))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
    torch.set_num_threads(threads)
    return float(value.detach())


def token_loss(net: Callable[[Tensor], Tensor], data: Pairs) -> Callable[[Tensor], Tensor]:
    """The cross-entropy of the tokens of a batch, as a function of its numbers."""
    inputs, targets = data
    return lambda n: F.cross_entropy(net(inputs[n]).flatten(0, 1), targets[n].flatten())


def pretrained(width: int, data: Pairs, steps: int) -> nn.Module:
    torch.manual_seed(0)
    net = GPT(width)
    train(token_loss(net, data), list(net.parameters()), len(data[0]), steps=steps, rate=3e-3)
    return net.eval()


def fine_tuned(net: nn.Module, data: Pairs, *, steps: int, rate: float, sign: float = 1.0) -> nn.Module:
    """A copy of a network after further training; `sign` -1 maximizes the loss, as an attack does."""
    result = deepcopy(net)
    loss = token_loss(result, data)
    torch.manual_seed(1)
    train(lambda n: sign * loss(n), list(result.parameters()), len(data[0]), steps=steps, rate=rate)
    return result.eval()


def adapter(net: nn.Module, data: Pairs, folder: Path, steps: int) -> Path:
    """Train low-rank adapters on a frozen network, and write them as the library peft does."""
    torch.manual_seed(2)
    weights = dict(net.named_parameters())
    names = [name for name in weights if name.endswith(tuple(f"{layer}.weight" for layer in ADAPTED))]
    down = {
        n: (torch.randn(RANK, weights[n].shape[1]) / math.sqrt(weights[n].shape[1])).requires_grad_() for n in names
    }
    up = {n: torch.zeros(weights[n].shape[0], RANK, requires_grad=True) for n in names}

    def adapted(tokens: Tensor) -> Tensor:
        changed = {n: weights[n].detach() + ALPHA / RANK * up[n] @ down[n] for n in names}
        return functional_call(net, changed, (tokens,))

    train(token_loss(adapted, data), [*down.values(), *up.values()], len(data[0]), steps=steps, rate=3e-3)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "target_modules": list(ADAPTED)})
    )
    tensors = {
        f"base_model.model.{n.removesuffix('weight')}lora_{letter}.weight": value.detach()
        for letter, values in (("A", down), ("B", up))
        for n, value in values.items()
    }
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder
