"""A language model with random weights: RMSNorm, rotary positions, grouped queries, SwiGLU, tied embedding."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Size:
    """The size of a decoder.

    Attributes:
        width: Of the residual stream.
        layers: Blocks.
        heads: Query heads of 64 numbers, four of which share keys and values.
        hidden: Of the feed-forward part.
        vocabulary: Tokens.
    """

    width: int
    layers: int
    heads: int
    hidden: int
    vocabulary: int = 32_000


SIZES = {
    "56M": Size(512, 12, 8, 1536),
    "152M": Size(896, 14, 14, 2432),
    "400M": Size(1280, 20, 20, 3776),
    "1.0B": Size(2048, 20, 32, 5632),
}


class Block(nn.Module):
    """Attention and feed-forward part."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.heads, self.groups = size.heads, max(1, size.heads // 4)
        self.share = -(-self.heads // self.groups)
        self.norms = nn.ModuleList(nn.RMSNorm(size.width) for _ in range(2))
        self.query = nn.Linear(size.width, 64 * self.heads, bias=False)
        self.key_value = nn.Linear(size.width, 128 * self.groups, bias=False)
        self.out = nn.Linear(64 * self.heads, size.width, bias=False)
        self.up, self.gate = (nn.Linear(size.width, size.hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(size.hidden, size.width, bias=False)

    def forward(self, x: Tensor, turn: Tensor) -> Tensor:
        """Return the residual stream (n, t, width) after this block."""
        n, t, _ = x.shape
        own = self.norms[0](x)
        q = rotated(self.query(own).view(n, t, self.heads, 64).transpose(1, 2), turn)
        k, v = self.key_value(own).view(n, t, 2, self.groups, 64).unbind(2)
        k = rotated(k.transpose(1, 2), turn)
        mixed = F.scaled_dot_product_attention(
            q,
            *(
                each.repeat_interleave(-(-self.heads // self.groups), 1)[:, : self.heads]
                for each in (k, v.transpose(1, 2))
            ),
            is_causal=True,
        )
        x = x + self.out(mixed.transpose(1, 2).reshape(n, t, -1))
        own = self.norms[1](x)
        return x + self.down(F.silu(self.gate(own)) * self.up(own))


def rotated(x: Tensor, turn: Tensor) -> Tensor:
    """Return queries or keys (n, heads, t, 64), turned by the angles of their positions (t, 32)."""
    first, second = x.chunk(2, dim=-1)
    c, s = turn.cos().to(x.dtype), turn.sin().to(x.dtype)
    return torch.cat([first * c - second * s, first * s + second * c], dim=-1)


class Decoder(nn.Module):
    """Maps tokens (n, t) to logits (n, t, vocabulary)."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.embedding = nn.Embedding(size.vocabulary, size.width)
        self.blocks = nn.ModuleList(Block(size) for _ in range(size.layers))
        self.norm = nn.RMSNorm(size.width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits."""
        x = self.embedding(tokens)
        turn = torch.arange(tokens.shape[1], device=x.device)[:, None] * 10_000 ** (
            -torch.arange(32, device=x.device) / 32
        )
        for block in self.blocks:
            x = block(x, turn)
        return F.linear(self.norm(x), self.embedding.weight)


def make(name: str, dtype: torch.dtype = torch.bfloat16, seed: int = 0) -> Decoder:
    """Return a decoder of SIZES with random weights, made in its own type, so that nothing larger is ever in memory."""
    torch.manual_seed(seed)
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device("meta"):
            net = Decoder(SIZES[name])
        net.to_empty(device="cpu")
        for parameter in net.parameters():
            if parameter.dim() == 1:
                nn.init.ones_(parameter)
            else:
                nn.init.normal_(parameter, std=0.02)
    finally:
        torch.set_default_dtype(default)
    return net.eval()
