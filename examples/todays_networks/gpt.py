"""A GPT of two layers over the characters of Python's own documentation; the usual cross-entropy, over tokens.

python examples/todays_networks/gpt.py gpt.pt [STEPS]          trains it
"""

import sys
from pydoc_data.topics import topics

import torch
import torch.nn.functional as F
from torch import Tensor, nn

VOCABULARY, CONTEXT = 128, 32


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.projection = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, length, width = x.shape
        shape = n, length, self.heads, width // self.heads
        q, k, v = (part.view(shape).transpose(1, 2) for part in self.attention(self.norm_1(x)).split(width, dim=2))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (n, heads, length, width / heads)
        x = x + self.projection(mixed.transpose(1, 2).reshape(n, length, width))
        return x + self.down(F.gelu(self.up(self.norm_2(x))))


class GPT(nn.Module):
    """The output layer shares its weights with the embedding."""

    def __init__(self, width: int = 64, depth: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.tokens, self.places = nn.Embedding(VOCABULARY, width), nn.Embedding(CONTEXT, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, VOCABULARY, bias=False)
        for embedding in (self.tokens, self.places):
            nn.init.normal_(embedding.weight, std=0.02)
        self.head.weight = self.tokens.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.tokens(tokens) + self.places(torch.arange(tokens.shape[1], device=tokens.device))
        return self.head(self.norm(self.blocks(x)))


def make() -> nn.Module:
    return GPT()


def data(split: str) -> tuple[Tensor, Tensor]:
    """Tokens (n, CONTEXT), and those that follow them; the last tenth of the text is for testing."""
    text = "".join(topics[name] for name in sorted(topics))[:50_000]
    tokens = torch.tensor(list(text.encode("ascii", "replace")))
    cut = len(tokens) * 9 // 10
    windows = (tokens[:cut] if split == "train" else tokens[cut:]).unfold(0, CONTEXT + 1, CONTEXT)
    return windows[:, :-1].clone(), windows[:, 1:].clone()


def main(path: str, steps: int = 600) -> None:
    from fitting import fit

    torch.manual_seed(0)
    net, (inputs, targets) = make(), data("train")
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)

    def loss(n: Tensor) -> Tensor:
        return F.cross_entropy(net(inputs[n]).flatten(0, 1), targets[n].flatten())

    fit(optimizer, loss, len(inputs), batch=32, steps=steps)
    torch.save({"model_state_dict": net.state_dict()}, path)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
