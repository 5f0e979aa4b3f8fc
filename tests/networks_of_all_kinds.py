"""Small networks of every kind that people have: one line, or one class, for each; see tests/test_any_network.py.

    @kind("tied weights")                      # or: kind("MLP")(lambda: nn.Sequential(...))
    class Tied(nn.Module): ...

`built(entry, dtype)` makes a network in one precision: factories take no argument, and what they make has torch's
default dtype, so lists, closures and partials refer to tensors of it. Networks are called with data of the same
precision.
"""

import functools
import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm
from torch.utils.checkpoint import checkpoint

N, CLASSES = 16, 3


@dataclass(frozen=True)
class Kind:
    """One network and what is expected of it.

    data: a name in DATA. loss: 'crossentropy', 'mse', or a loss(model, batch). dtypes: in which it is compared.
    refused, no_curvature: regular expressions of the line that refuses surfaces, or curvature alone; '' where losses,
    or the extreme eigenvalues, have to be right. either: a refusal is as good as the right loss. curvature: whether
    eigenvalues are compared. mode: 'train' or 'eval', as a user passes it. same: directions of tensors that share their
    numbers with others. tolerance: relative, where it is not that of the precision. slow: takes more than a few
    seconds.
    """

    name: str
    make: Callable[[], nn.Module]
    data: str = "vectors"
    loss: Any = "crossentropy"
    dtypes: tuple[str, ...] = ("float64",)
    refused: str = ""
    no_curvature: str = ""
    either: bool = False
    curvature: bool = True
    mode: str = "eval"
    dir_type: str = "weights"
    same: Mapping[str, str] = field(default_factory=dict)
    tolerance: float = 0.0
    slow: bool = False


KINDS: list[Kind] = []
SINGLE = ("float32",)
BOTH = ("float64", "float32")
CUT = r"gradient|derivative|detach|graph"


def kind(name: str, **options: Any) -> Callable[[Any], Any]:
    """Add a factory, or a class, to the table."""

    def add(make: Any) -> Any:
        KINDS.append(Kind(name, make, **options))
        return make

    return add


def built(entry: Kind, dtype: str, seed: int = 1) -> nn.Module:
    """The network in one precision, the same at every call, in the mode in which a user passes it."""
    before = torch.get_default_dtype()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        torch.set_default_dtype(getattr(torch, dtype))
        try:
            net = entry.make()
        finally:
            torch.set_default_dtype(before)
    return net.train(entry.mode == "train") if net.training != (entry.mode == "train") else net


# --- data: a function of the precision and a generator for each

DATA: dict[str, Callable[[torch.dtype, torch.Generator], Any]] = {}


def labels(g: torch.Generator, *shape: int) -> Tensor:
    return torch.randint(0, CLASSES, shape or (N,), generator=g)


def normal(g: torch.Generator, dtype: torch.dtype, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)


DATA["vectors"] = lambda dtype, g: (normal(g, dtype, N, 5), labels(g))
DATA["vectors by name"] = lambda dtype, g: {"x": normal(g, dtype, N, 5), "labels": labels(g)}
DATA["regression"] = lambda dtype, g: (normal(g, dtype, N, 5), normal(g, dtype, N, 3))
DATA["images"] = lambda dtype, g: (normal(g, dtype, 12, 2, 6, 6), labels(g, 12))
DATA["masks"] = lambda dtype, g: (normal(g, dtype, 12, 2, 4, 4), labels(g, 12, 4, 4))
DATA["large masks"] = lambda dtype, g: (normal(g, dtype, 12, 2, 4, 4), labels(g, 12, 8, 8))
DATA["signals"] = lambda dtype, g: (normal(g, dtype, 12, 2, 9), labels(g, 12))
DATA["volumes"] = lambda dtype, g: (normal(g, dtype, 12, 1, 4, 4, 4), labels(g, 12))
DATA["sequences"] = lambda dtype, g: (normal(g, dtype, 12, 5, 4), labels(g, 12))
DATA["tokens"] = lambda dtype, g: (torch.randint(0, 7, (12, 6), generator=g), labels(g, 12))
DATA["text"] = lambda dtype, g: {"tokens": torch.randint(0, 7, (12, 6), generator=g)}
DATA["points"] = lambda dtype, g: {"x": normal(g, dtype, 20, 1)}
DATA["graphs"] = lambda dtype, g: (
    normal(g, dtype, 12, 4, 5),
    (torch.rand(12, 4, 4, generator=g) < 0.5).to(dtype),
    labels(g, 12),
)
DATA["boxes"] = lambda dtype, g: {
    "image": normal(g, dtype, 12, 2, 6, 6),
    "box": normal(g, dtype, 12, 4),
    "label": labels(g, 12),
}
DATA["two targets"] = lambda dtype, g: {"x": normal(g, dtype, N, 5), "kind": labels(g), "size": normal(g, dtype, N)}


# --- losses(model, batch)


def next_token(model: Any, batch: Any) -> Tensor:
    logits, tokens = model(batch["tokens"])[:, :-1], batch["tokens"][:, 1:]
    return F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction="none").view(len(tokens), -1).mean(1)


def residual(model: Any, batch: Any) -> Tensor:
    """Of u' = -u with u(0) = 1."""
    x = batch["x"].requires_grad_()
    u = model(x)[:, 0]
    (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
    return (slope[:, 0] + u) ** 2 + (model(torch.zeros_like(x))[:, 0] - 1) ** 2


def detection(model: Any, batch: Any) -> Tensor:
    found = model(batch["image"])  # a list with a dict for each image
    boxes, scores = torch.stack([one["box"] for one in found]), torch.stack([one["scores"] for one in found])
    return ((boxes - batch["box"]) ** 2).mean(1) + F.cross_entropy(scores, batch["label"], reduction="none")


def two_losses(model: Any, batch: Any) -> Tensor:
    kinds, size = model(batch["x"])
    return F.cross_entropy(kinds, batch["kind"], reduction="none") + (size[:, 0] - batch["size"]) ** 2


# --- pieces


class Two(nn.Module):
    """Two layers, from which other kinds differ in one thing."""

    def __init__(self, hidden: int = 6) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, hidden), nn.Linear(hidden, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.tanh(self.a(x)))


class Square(nn.Module):
    """Two layers whose weights have one shape, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.b(torch.tanh(self.a(x)))))


class Mean(nn.Module):
    """Means over axes."""

    def __init__(self, *axes: int) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(self.axes)


class First(nn.Module):
    """Of what a recurrent network gives, the output of the last step."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.head = net, nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.net(x)[0][:, -1])


def with_statistics(net: nn.Module) -> nn.Module:
    """BatchNorm as after a training."""
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
    return net


def normed(norm: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: with_statistics(
        nn.Sequential(nn.Conv2d(2, 4, 3), norm(), nn.GELU(), Mean(2, 3), nn.Linear(4, CLASSES))
    )


def layers() -> list[nn.Module]:
    return [nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, CLASSES)]


# --- usual networks

kind("MLP", dtypes=BOTH)(lambda: nn.Sequential(*layers()))
kind("MLP in train mode", mode="train", dtypes=BOTH)(lambda: nn.Sequential(*layers()))
kind("MLP of named inputs", data="vectors by name")(Two)
kind("MLP for regression", data="regression", loss="mse")(Two)
kind("CNN", data="images")(
    lambda: nn.Sequential(nn.Conv2d(2, 4, 3, stride=2), nn.GELU(), nn.Flatten(), nn.Linear(16, CLASSES))
)
kind("BatchNorm", data="images", dtypes=BOTH)(normed(lambda: nn.BatchNorm2d(4)))
kind("BatchNorm in train mode", data="images", mode="train")(normed(lambda: nn.BatchNorm2d(4)))
kind("BatchNorm moved with its statistics", data="images", dir_type="states")(normed(lambda: nn.BatchNorm2d(4)))
kind("LayerNorm", data="images")(normed(lambda: nn.LayerNorm([4, 4, 4])))
kind("GroupNorm", data="images")(normed(lambda: nn.GroupNorm(2, 4)))
kind("InstanceNorm", data="images")(normed(lambda: nn.InstanceNorm2d(4, affine=True)))
kind("RNN", data="sequences")(lambda: First(nn.RNN(4, 5, batch_first=True)))
kind("LSTM", data="sequences", dtypes=BOTH)(lambda: First(nn.LSTM(4, 5, batch_first=True)))
kind("GRU in train mode", data="sequences", mode="train")(lambda: First(nn.GRU(4, 5, batch_first=True)))
kind("bidirectional LSTM", data="sequences")(
    lambda: nn.Sequential(
        OnlyOutput(nn.LSTM(4, 3, batch_first=True, bidirectional=True)), Mean(1), nn.Linear(6, CLASSES)
    )
)
kind("TransformerEncoder", data="sequences")(
    lambda: nn.Sequential(
        nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 6, batch_first=True, activation="gelu"), 1),
        Mean(1),
        nn.Linear(4, CLASSES),
    )
)
kind("TransformerEncoder in train mode, with dropout", data="sequences", mode="train")(
    lambda: nn.Sequential(
        nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 6, 0.3, batch_first=True, activation="gelu"), 1),
        Mean(1),
        nn.Linear(4, CLASSES),
    )
)
kind("dropout", mode="train")(lambda: nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Dropout(0.5), nn.Linear(6, CLASSES)))
kind("Conv1d", data="signals")(lambda: nn.Sequential(nn.Conv1d(2, 3, 3), nn.Tanh(), Mean(2), nn.Linear(3, CLASSES)))
kind("Conv3d", data="volumes")(
    lambda: nn.Sequential(nn.Conv3d(1, 3, 2), nn.Tanh(), Mean(2, 3, 4), nn.Linear(3, CLASSES))
)
kind("ConvTranspose", data="large masks")(
    lambda: nn.Sequential(nn.Conv2d(2, 3, 1), nn.Tanh(), nn.ConvTranspose2d(3, CLASSES, 2, stride=2))
)
kind("depthwise convolution", data="images")(
    lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, groups=2), nn.Tanh(), nn.Conv2d(4, 4, 3, groups=4), Mean(2, 3), nn.Linear(4, 3)
    )
)
kind("PixelShuffle", data="large masks")(
    lambda: nn.Sequential(nn.Conv2d(2, 4 * CLASSES, 1), nn.PixelShuffle(2), nn.Tanh(), nn.Conv2d(CLASSES, CLASSES, 1))
)
kind(
    "EmbeddingBag",
    data="tokens",
    no_curvature="no second derivative of a part of this network.*embedding_bag",
    either=True,
)(lambda: nn.Sequential(nn.EmbeddingBag(7, 4), nn.Linear(4, CLASSES)))
kind("Embedding with sparse gradients", data="tokens", no_curvature="sparse", either=True)(
    lambda: nn.Sequential(nn.Embedding(7, 4, sparse=True), Mean(1), nn.Linear(4, CLASSES))
)
kind("old weight_norm", no_curvature="weight_norm", either=True)(
    lambda: nn.Sequential(weight_norm(nn.Linear(5, 6)), nn.Tanh(), nn.Linear(6, CLASSES))
)
kind("old weight_norm, called before", mode="train", no_curvature="weight_norm", either=True)(
    lambda: called(nn.Sequential(weight_norm(nn.Linear(5, 6)), nn.Linear(6, 3)))
)
kind("weight_norm", no_curvature="weight_norm", either=True)(
    lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(5, 6)), nn.Tanh(), nn.Linear(6, CLASSES))
)
kind("old spectral_norm")(lambda: nn.Sequential(spectral_norm(nn.Linear(5, 6)), nn.Tanh(), nn.Linear(6, CLASSES)))
kind("spectral_norm in train mode", mode="train")(
    lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(5, 6)), nn.Tanh(), nn.Linear(6, CLASSES))
)
kind("orthogonal weight")(
    lambda: nn.Sequential(parametrizations.orthogonal(nn.Linear(5, 5)), nn.Tanh(), nn.Linear(5, CLASSES))
)
kind("DataParallel")(lambda: nn.DataParallel(Two()))
kind("lazy, materialized")(lambda: called(nn.Sequential(nn.LazyLinear(6), nn.Tanh(), nn.LazyLinear(CLASSES))))
kind("lazy, not materialized", refused="[Ll]azy|not (yet )?(initialized|materialized)|uninitialized")(
    lambda: nn.Sequential(nn.LazyLinear(6), nn.Tanh(), nn.LazyLinear(CLASSES))
)
kind("TorchScript", either=True, refused="TorchScript|torch.jit|ScriptModule")(lambda: torch.jit.script(Two()))
kind("traced by torch.jit", either=True, refused="TorchScript|torch.jit|ScriptModule|TopLevelTraced")(
    lambda: torch.jit.trace(Two(), torch.zeros(2, 5))
)
kind("compiled", no_curvature="compile", either=True)(lambda: torch.compile(Two(), backend="eager"))
kind("compiled by inductor", no_curvature="compile", either=True, slow=True)(lambda: torch.compile(Two()))
kind(
    "dynamically quantized", dtypes=SINGLE, curvature=False, either=True, refused="quantize|integer|no (floating|param)"
)(lambda: torch.ao.quantization.quantize_dynamic(Two(), {nn.Linear}, dtype=torch.qint8))
kind(
    "quantized in part", dtypes=SINGLE, curvature=False, either=True, refused="quantize|integer|depends on the others"
)(lambda: nn.Sequential(nn.LayerNorm(5), torch.ao.quantization.quantize_dynamic(Two(), {nn.Linear}, dtype=torch.qint8)))
kind("bfloat16", dtypes=("bfloat16",), curvature=False, tolerance=2e-2)(Two)
kind("bfloat16 with BatchNorm", dtypes=("bfloat16",), curvature=False, tolerance=2e-2, data="images")(
    normed(lambda: nn.BatchNorm2d(4))
)
kind("float16", dtypes=("float16",), curvature=False, tolerance=3e-3)(Two)


def called(net: nn.Module) -> nn.Module:
    """After one call, which leaves things behind."""
    net(torch.ones(2, 5))
    return net


class OnlyOutput(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)[0]


# --- attention, language, mixtures, graphs, physics, operators


@kind("MultiheadAttention", data="sequences", dtypes=BOTH)
class Attends(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attention(x, x, x)[0].mean(1))


@kind("attention by hand", data="sequences")
class AttendsByHand(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.head = nn.Linear(4, 12), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        return self.head(((q @ k.mT / 2).softmax(-1) @ v).mean(1))


@kind("decoder with tied embeddings", data="text", loss=next_token, dtypes=BOTH)
class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.places = nn.Embedding(7, 4), nn.Parameter(torch.randn(6, 4))
        self.qkv, self.norm, self.out = nn.Linear(4, 12), nn.LayerNorm(4), nn.Linear(4, 7, bias=False)
        self.out.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) + self.places
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        return self.out(x + F.scaled_dot_product_attention(q, k, v, is_causal=True))


@kind("mixture of experts, the best one")
class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.router, self.experts = nn.Linear(5, 3), nn.ModuleList(nn.Linear(5, CLASSES) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        gate, chosen = self.router(x).softmax(1).max(1)
        out = x.new_zeros(len(x), CLASSES)
        for k, expert in enumerate(self.experts):
            rows = (chosen == k).nonzero()[:, 0]
            out = out.index_add(0, rows, gate[rows, None] * torch.tanh(expert(x[rows])))
        return out


@kind("graph network", data="graphs")
class Graphs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 6), nn.Linear(6, CLASSES)

    def forward(self, nodes: Tensor, adjacency: Tensor) -> Tensor:
        return self.b((adjacency @ torch.tanh(self.a(adjacency @ nodes))).mean(1))


kind("physics-informed", data="points", loss=residual)(
    lambda: nn.Sequential(nn.Linear(1, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 1))
)


@kind(
    "complex weights (Fourier operator)", data="signals", dtypes=BOTH, no_curvature="real parameters, and .* is complex"
)
class Fourier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.spectral = nn.Parameter(0.5 * torch.randn(2, 3, 4, dtype=torch.get_default_dtype().to_complex()))
        self.head = nn.Linear(3, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        modes = torch.einsum("nik,iok->nok", torch.fft.rfft(x)[..., :4], self.spectral)
        return self.head(torch.tanh(torch.fft.irfft(modes, n=x.shape[-1])).mean(2))


@kind("complex buffer", dtypes=BOTH)
class ComplexBuffer(Two):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("phase", torch.polar(torch.ones(6), torch.randn(6)))

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.tanh((self.a(x) * self.phase).abs() + (self.a(x) * self.phase).imag))


# --- outputs


@kind("detection: a dict for each image", data="boxes", loss=detection)
class Detector(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk, self.box, self.scores = nn.Conv2d(2, 4, 3), nn.Linear(4, 4), nn.Linear(4, CLASSES)

    def forward(self, images: Tensor) -> list[dict[str, Tensor]]:
        h = torch.tanh(self.trunk(images)).mean((2, 3))
        return [{"box": box, "scores": s} for box, s in zip(self.box(h), self.scores(h), strict=True)]


@kind("two heads", data="two targets", loss=two_losses)
class TwoHeads(Two):
    def __init__(self) -> None:
        super().__init__()
        self.size = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.a(x))
        return self.b(h), self.size(h)


@kind("a tuple of outputs")
class Tuple(Two):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(x), x


@kind("a dict of outputs")
class Dict(Two):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"features": x, "logits": super().forward(x)}


# --- weights that are reached in other ways than as attributes of their modules


@kind("tied weights")
class Tied(Square):
    def __init__(self) -> None:
        super().__init__()
        self.b.weight = self.a.weight


@kind("weights in a list", dtypes=BOTH)
class InList(Two):
    def __init__(self) -> None:
        super().__init__()
        self.ws = [self.a.weight, self.b.weight]

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.ws[0].T + self.a.bias) @ self.ws[1].T + self.b.bias


@kind("weights in a dict")
class InDict(Two):
    def __init__(self) -> None:
        super().__init__()
        self.ws = {"a": self.a.weight, "b": {"weight": self.b.weight}}

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.ws["a"].T + self.a.bias) @ self.ws["b"]["weight"].T


@kind("weights in a tuple", mode="train")
class InTuple(InList):
    def __init__(self) -> None:
        super().__init__()
        self.ws = tuple(self.ws)


@kind("weights in a partial")
class InPartial(Two):
    def __init__(self) -> None:
        super().__init__()
        self.head = functools.partial(F.linear, weight=self.b.weight, bias=self.b.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.a(x)))


@kind("weights in a closure", dtypes=BOTH)
class InClosure(InPartial):
    def __init__(self) -> None:
        super().__init__()
        self.head = lambda h: F.linear(h, self.b.weight, self.b.bias)


@kind("weights in a closure over tensors", mode="train")
class InClosureOfTensors(InPartial):
    def __init__(self) -> None:
        super().__init__()
        weight, bias = self.b.weight, self.b.bias
        self.head = lambda h: F.linear(h, weight, bias)


@kind("module in a list")
class ModuleInList(Two):
    """Whose parameters torch does not list, but for those of `b`, which is in both."""

    def __init__(self) -> None:
        super().__init__()
        self.chain = [nn.Linear(5, 5), nn.Tanh(), self.a, nn.Tanh(), self.b]

    def forward(self, x: Tensor) -> Tensor:
        for module in self.chain:
            x = module(x)
        return x


@kind("modules in a dict and a partial")
class ModuleInDict(Two):
    def __init__(self) -> None:
        super().__init__()
        self.chain = {"first": functools.partial(self.a), "last": {"head": self.b}}

    def forward(self, x: Tensor) -> Tensor:
        return self.chain["last"]["head"](torch.tanh(self.chain["first"](x)))


@kind("bound method of a module")
class BoundMethod(InPartial):
    def __init__(self) -> None:
        super().__init__()
        self.head = self.b.forward


@kind("parameters that share their numbers through .data", same={"b.weight": "a.weight"}, curvature=False)
class SharesData(Square):
    def __init__(self) -> None:
        super().__init__()
        self.b.weight.data = self.a.weight.data


@kind("buffer that is a view of a parameter", curvature=False)
class BufferIsView(Square):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("view", self.a.weight.data)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.b(torch.tanh(x @ self.view.T))))


@kind("attribute that is a view of a parameter", curvature=False)
class AttributeIsView(Square):
    def __init__(self) -> None:
        super().__init__()
        self.view = self.a.weight.data[:3]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.b(torch.tanh(self.a(x))))) + x @ self.view.T


@kind("buffer that forward derives from parameters", curvature=False)
class DerivedBuffer(Two):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(1.0))

    def forward(self, x: Tensor) -> Tensor:
        self.scale = self.a.weight.abs().max().detach()
        return self.b(torch.tanh(self.a(x) / self.scale))


@kind("result that is kept once it is there", either=True, refused="keeps|cache|function of|differ", curvature=False)
class Cached(Two):
    def __init__(self) -> None:
        super().__init__()
        self.kept: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if self.kept is None:
            self.kept = self.a.weight.detach().tanh()
        return self.b(torch.tanh(x @ self.kept.T + self.a.bias))


@kind("property that computes the weight")
class Property(Two):
    @property
    def weight(self) -> Tensor:
        return self.b.weight.exp()

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.a(x)) @ self.weight.T


@kind("weights in __slots__")
class Slots(InList):
    __slots__ = ("kept",)

    def __init__(self) -> None:
        super().__init__()
        self.kept = [self.b.weight]

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.a(x)) @ self.kept[0].T


@kind("forward hook that changes the output")
def hooked() -> nn.Module:
    net = Two()
    net.a.register_forward_hook(lambda module, inputs, output: output * 2)
    return net


@kind("forward hook that uses a weight of another layer")
def hooked_across() -> nn.Module:
    net = Two()
    net.a.register_forward_hook(lambda module, inputs, output: output + net.b.weight.sum(0))
    return net


@kind("forward pre-hook")
def pre_hooked() -> nn.Module:
    net = Two()
    net.b.register_forward_pre_hook(lambda module, inputs: (inputs[0] ** 2 + module.weight.mean(),))
    return net


@kind("ParameterList and ParameterDict")
class Lists(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.ParameterList([nn.Parameter(torch.randn(5, 4)), nn.Parameter(torch.randn(4))])
        self.last = nn.ParameterDict({"weight": nn.Parameter(torch.randn(4, CLASSES))})

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.first[0] + self.first[1]) @ self.last["weight"]


@kind("one submodule used twice")
class Twice(nn.Sequential):
    def __init__(self) -> None:
        shared = nn.Linear(5, 5)
        super().__init__(shared, nn.Tanh(), shared, nn.Tanh(), nn.Linear(5, CLASSES))


@kind("fixed point of a layer")
class Equilibrium(Square):
    def forward(self, x: Tensor) -> Tensor:
        z = torch.zeros_like(x)
        for _ in range(5):
            z = torch.tanh(self.a(x) + 0.5 * self.b(z))
        return self.head(z)


@kind("hypernetwork")
class Hyper(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.code, self.maker = nn.Parameter(torch.randn(3)), nn.Linear(3, 5 * CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x) @ self.maker(torch.tanh(self.code)).view(5, CLASSES)


@kind("symmetric weight by parametrize", mode="train")
def symmetric() -> nn.Module:
    class Symmetric(nn.Module):
        def forward(self, w: Tensor) -> Tensor:
            return w.triu() + w.triu(1).mT

    net = Square()
    parametrize.register_parametrization(net.a, "weight", Symmetric())
    return net


# --- modes


class Adapter(nn.Module):
    """A linear layer with a part of low rank, which is merged into the weight in eval mode."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.base, self.merged = nn.Linear(inputs, outputs), False
        self.down, self.up = nn.Parameter(torch.randn(2, inputs)), nn.Parameter(torch.randn(outputs, 2))

    def train(self, mode: bool = True) -> "Adapter":
        super().train(mode)
        if mode == self.merged:
            self.base.weight.data += (-1 if mode else 1) * (self.up @ self.down).data
            self.merged = not mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) if self.merged else self.base(x) + x @ self.down.T @ self.up.T


kind("adapter that merges on eval(), in train mode", mode="train", curvature=False, dtypes=BOTH)(
    lambda: nn.Sequential(Adapter(5, 6), nn.Tanh(), nn.Linear(6, CLASSES))
)
kind("adapter that is merged")(lambda: nn.Sequential(Adapter(5, 6), nn.Tanh(), nn.Linear(6, CLASSES)))


@kind("merges on train() instead", curvature=False)
class MergesOnTrain(Adapter):
    """Whoever calls eval() and then train() on it changes it."""

    def __init__(self) -> None:
        super().__init__(5, CLASSES)

    def train(self, mode: bool = True) -> "MergesOnTrain":
        nn.Module.train(self, mode)
        if mode:
            self.base.weight.data.mul_(1.5)
        return self


@kind("freezes BatchNorm in train()", data="images", mode="train")
class FreezesNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = normed(lambda: nn.BatchNorm2d(4))()

    def train(self, mode: bool = True) -> "FreezesNorm":
        super().train(mode)
        self.net[1].eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


# --- tensors of all shapes and types


@kind("0-dimensional temperature", dtypes=BOTH)
class Temperature(Two):
    def __init__(self) -> None:
        super().__init__()
        self.logit_scale = nn.Parameter(torch.tensor(math.log(2.0)))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.logit_scale.exp()


@kind("0-dimensional gate in train mode", mode="train")
class Gate(Square):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Parameter(torch.tensor(0.3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x + self.gate * torch.tanh(self.a(x)))


@kind("0-dimensional buffer that moves", dir_type="states", dtypes=BOTH)
class Scale(Two):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(1.3))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * self.scale)


@kind("float64 buffer in a float32 network", dtypes=SINGLE, curvature=False)
class DoubleBuffer(Two):
    """Whose loss is lost if the buffer is rounded: its digits behind the seventh count a thousandfold."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("times", 1e7 + torch.rand(5, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x * torch.frac(self.times).to(x))


@kind("mixed precisions", dtypes=SINGLE, curvature=False, tolerance=2e-2)
class Mixed(Two):
    def __init__(self) -> None:
        super().__init__()
        self.b.to(torch.bfloat16)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.tanh(self.a(x)).bfloat16()).float()


@kind("float64 layer in a float32 network", dtypes=SINGLE, curvature=False)
class DoubleLayer(Two):
    def __init__(self) -> None:
        super().__init__()
        self.b.double()

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.tanh(self.a(x)).double())


@kind("int8 weights with a float adapter", dtypes=BOTH)
class IntegerBase(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        whole = torch.randint(-100, 100, (CLASSES, 5), dtype=torch.int8)
        self.base, self.scale = nn.Parameter(whole, requires_grad=False), nn.Parameter(torch.full((CLASSES,), 0.01))
        self.down, self.up = nn.Linear(5, 2), nn.Linear(2, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.base.to(x) * self.scale[:, None]).T + self.up(torch.tanh(self.down(x)))


@kind("complex buffer that moves", dir_type="states")
class MovingPhase(ComplexBuffer):
    pass


@kind("parameters in other orders of memory, and an empty one", data="images", dtypes=BOTH)
class Strided(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3).to(memory_format=torch.channels_last)
        self.turned, self.empty = nn.Parameter(torch.randn(CLASSES, 4).T), nn.Parameter(torch.zeros(0, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.conv(x)).mean((2, 3)) @ self.turned + self.empty.sum()


@kind("pruned", mode="train")
def pruned() -> nn.Module:
    net = Two()
    prune.random_unstructured(net.a, "weight", 0.5)
    return net


@kind("a float attribute")
class FloatAttribute(Two):
    def __init__(self) -> None:
        super().__init__()
        self.slope = 1.7

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.tanh(self.slope * self.a(x)))


@kind("a frozen layer", mode="train")
def frozen() -> nn.Module:
    net = Two()
    net.a.requires_grad_(False)
    return net


@kind("U-Net", data="masks")
class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.inner, self.out = (
            nn.Conv2d(2, 3, 3, padding=1),
            nn.Conv2d(3, 3, 3, padding=1),
            nn.Conv2d(6, 3, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.down(x))
        inner = F.interpolate(torch.tanh(self.inner(F.avg_pool2d(x, 2))), scale_factor=2)
        return self.out(torch.cat([x, inner], 1))


# --- gradients that are cut, or are not those of the loss


@kind("reentrant checkpointing", no_curvature="use_reentrant|" + CUT)
class Reentrant(Square):
    reentrant = True

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.a(x))
        return self.head(checkpoint(lambda z: torch.tanh(self.b(z)), h, use_reentrant=self.reentrant))


@kind("reentrant checkpointing of the first layer", no_curvature="use_reentrant|" + CUT)
class ReentrantFirst(Two):
    """Whose input needs no gradient, so the gradient of its weights is lost without an error."""

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.tanh(checkpoint(self.a, x, use_reentrant=True)))


@kind("checkpointing")
class Checkpointed(Reentrant):
    reentrant = False


@kind("no_grad in forward", no_curvature=CUT)
class NoGrad(Square):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            x = torch.tanh(self.a(x))
        return self.head(torch.tanh(self.b(x)))


@kind("detach in forward", no_curvature=CUT)
class Detached(Square):
    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        return self.head(torch.tanh(self.b(h * h.detach())))


@kind("straight-through rounding", no_curvature=CUT)
class StraightThrough(Two):
    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.a(x))
        return self.b(h + (torch.round(4 * h) / 4 - h).detach())


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return -gradient


@kind("gradient reversal", no_curvature=CUT)
class Reversal(Two):
    def forward(self, x: Tensor) -> Tensor:
        return self.b(Reversed.apply(torch.tanh(self.a(x))))


# --- states that change, randomness, and things that cannot be copied


@kind("noise in eval mode", refused="random|differs")
class Noise(Two):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + 0.1 * torch.randn_like(x))


@kind("counts its calls")
class Counter(Two):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x)


@kind("depends on the number of its calls", refused="random|differs")
class DependsOnCalls(Counter):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (1 + 0.1 * self.calls)


@kind("overwrites its input")
class Overwrites(Two):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mul_(2))


@kind("normalizes over the batch", refused="depends on the others")
class OverBatch(Two):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward((x - x.mean(0)) / x.std(0))


@kind("holds a lock")
class Locked(Two):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()

    def forward(self, x: Tensor) -> Tensor:
        with self.lock:
            return super().forward(x)


@kind("holds its optimizer", mode="train")
class Trains(Two):
    def __init__(self) -> None:
        super().__init__()
        self.optimizer = torch.optim.Adam(self.parameters())


@kind("holds a generator", mode="train")
class Draws(Two):
    """At random while it trains alone."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(3)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            x = x + torch.randn(x.shape, generator=self.generator, dtype=x.dtype)
        return super().forward(x)
