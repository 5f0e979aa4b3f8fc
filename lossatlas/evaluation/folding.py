"""BatchNorm in eval mode folded into the convolution or linear layer in front of it.

There BatchNorm is affine: conv followed by (x - mean) / sqrt(var + eps) * gamma + beta is one convolution with other
weights. Which layer feeds which BatchNorm is found once with torch.fx; at every point of a plane the folded weights
follow from the current ones by one product per layer.
"""

import operator
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.func import functional_call

LINEAR = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class NotFoldable(Exception):
    """Why a network is evaluated as it is."""


@dataclass(frozen=True)
class Pair:
    """A layer and the BatchNorm behind it, and the tensors of the folded layer that stands for both."""

    layer: Any
    norm: Any
    weight: Tensor
    bias: Tensor

    def update(self) -> None:
        norm, layer = self.norm, self.layer
        weight, bias = fold(
            layer.weight, layer.bias, norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.eps
        )
        self.weight.copy_(weight)
        self.bias.copy_(bias)


def fold(
    weight: Tensor,
    bias: Tensor | None,
    gamma: Tensor | None,
    beta: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Weight and bias of the layer that stands for a layer and its BatchNorm.

    They are weight * s and (bias - mean) * s + beta, with s = gamma / sqrt(variance + eps).
    """
    scale = torch.rsqrt(variance + eps)
    if gamma is not None:
        scale = scale * gamma
    shift = (-mean if bias is None else bias - mean) * scale
    return weight * scale.view(-1, *[1] * (weight.dim() - 1)), shift if beta is None else shift + beta


class Folded:
    """A network that computes what `net` computes; `update()` follows when net's tensors have changed in place.

    Raises NotFoldable when torch.fx cannot trace the network, or when there is nothing to fold.
    """

    def __init__(self, net: nn.Module) -> None:
        traced, pairs = trace(net)
        self.pairs = [replace(traced, layer, norm) for layer, norm in pairs]
        overwrite(traced)
        traced.recompile()
        self.net = traced
        with torch.no_grad():
            self.update()

    def update(self) -> None:
        for pair in self.pairs:
            pair.update()


def trace(net: nn.Module) -> tuple[fx.GraphModule, list[tuple[fx.Node, fx.Node]]]:
    """The graph of a network and what can be folded in it. Raises NotFoldable."""
    try:
        traced = fx.symbolic_trace(net)
    except Exception as error:  # tracing runs the network's own forward
        reason = str(error).strip().splitlines()
        raise NotFoldable(f"it cannot be traced ({reason[0][:120] if reason else type(error).__name__})") from error
    pairs = foldable(traced)
    if not pairs:
        raise NotFoldable("it has no BatchNorm behind a convolution or linear layer")
    return traced, pairs


def replace(traced: fx.GraphModule, layer: fx.Node, norm: fx.Node) -> Pair:
    modules = dict(traced.named_modules())
    before: Any = modules[str(layer.target)]
    like = before.weight
    after, folded = modules[str(norm.target)], deepcopy(before, {id(like): like})
    folded.weight = nn.Parameter(torch.empty_like(like), requires_grad=False)
    folded.bias = nn.Parameter(like.new_zeros(like.shape[0]), requires_grad=False)
    owner, _, leaf = str(layer.target).rpartition(".")
    setattr(modules[owner], leaf, folded)
    norm.replace_all_uses_with(layer)
    traced.graph.erase_node(norm)
    return Pair(before, after, folded.weight.data, folded.bias.data)


class FoldedFunction:
    """What `net` computes as a function of its tensors, which can be differentiated.

        function = FoldedFunction(net)
        outputs = function(tensors, inputs)     # tensors: parameters and buffers of net by name, tied ones once

    Raises NotFoldable as `Folded` does.
    """

    def __init__(self, net: nn.Module) -> None:
        first: dict[int, str] = {}
        own = [*net.named_parameters(remove_duplicate=False), *net.named_buffers(remove_duplicate=False)]
        self.names = {name: first.setdefault(id(value), name) for name, value in own}
        traced, pairs = trace(net)
        self.folds = [
            (str(layer.target), str(norm.target), replace(traced, layer, norm).norm.eps) for layer, norm in pairs
        ]
        traced.recompile()
        self.net = traced
        self.kept = set(traced.state_dict())

    def __call__(self, tensors: Mapping[str, Tensor], *inputs: Any, **named: Any) -> Any:
        own = {name: tensors[first] for name, first in self.names.items()}
        used = {name: value for name, value in own.items() if name in self.kept}
        for layer, norm, eps in self.folds:
            used[f"{layer}.weight"], used[f"{layer}.bias"] = fold(
                own[f"{layer}.weight"],
                own.get(f"{layer}.bias"),
                own.get(f"{norm}.weight"),
                own.get(f"{norm}.bias"),
                own[f"{norm}.running_mean"],
                own[f"{norm}.running_var"],
                eps,
            )
        return functional_call(self.net, used, inputs, named)


def foldable(traced: fx.GraphModule) -> list[tuple[fx.Node, fx.Node]]:
    """(layer, norm) where the norm is the layer's only user, and each is called once."""
    modules = dict(traced.named_modules())

    def plain(node: fx.Node, kinds: tuple[type, ...]) -> bool:
        """Whether a module computes from its own parameters alone: no parametrization (weight norm), no hooks."""
        module = modules[str(node.target)]
        hooks = (module._forward_pre_hooks, module._forward_hooks)
        return type(module) in kinds and not any(hooks)

    calls = [str(node.target) for node in traced.graph.nodes if node.op == "call_module"]
    found = []
    for node in traced.graph.nodes:
        if node.op != "call_module" or not plain(node, NORM):
            continue
        norm, layer = modules[node.target], node.args[0]
        statistics = norm.running_mean is not None and norm.running_var is not None and not norm.training
        if (
            statistics
            and layer.op == "call_module"
            and plain(layer, LINEAR)
            and len(layer.users) == 1
            and calls.count(layer.target) == calls.count(node.target) == 1
        ):
            found.append((layer, node))
    return found


def overwrite(traced: fx.GraphModule) -> None:
    """Let activations and residual additions overwrite the layer output that nobody else reads: less memory traffic.

    The left operand of an addition alone is overwritten, so its shape must be that of the sum: a layer's output has
    the same shape as what is added to it, or the network's check on real inputs refuses the folded path.
    """
    modules = dict(traced.named_modules())
    own: set[fx.Node] = set()  # outputs that this graph allocated and that have one reader
    for node in traced.graph.nodes:
        readers = len(node.users) == 1
        if node.op == "call_module" and isinstance(modules[node.target], LINEAR) and readers:
            own.add(node)
        elif is_relu(node, modules) and node.args and node.args[0] in own:
            node.op, node.target, node.args, node.kwargs = "call_function", torch.relu_, (node.args[0],), {}
        elif node.op == "call_function" and node.target in (operator.add, operator.iadd, torch.add) and not node.kwargs:
            first = next((n for n in node.args if n in own), None)
            if first is not None and all(isinstance(n, fx.Node) for n in node.args):
                other = node.args[1] if node.args[0] is first else node.args[0]
                node.target, node.args = operator.iadd, (first, other)
        else:
            continue
        if readers:
            own.add(node)


def is_relu(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], nn.ReLU)
    return node.op == "call_function" and node.target in (torch.relu, F.relu, torch.relu_)
