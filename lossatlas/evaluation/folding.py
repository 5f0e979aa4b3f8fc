"""BatchNorm in evaluation mode, folded into the convolution or linear layer in front of it.

There BatchNorm is affine: a convolution followed by (x - mean) / sqrt(variance + eps) * gamma + beta is one convolution
with other weights. Pairs of layers are found once with torch.fx; at every point of a plane, the folded weights follow
from the current ones by one product per layer.
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

from lossatlas.parameter_space.points import named_tensors

LINEAR = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class NotFoldable(Exception):
    """The reason why a network cannot be evaluated with BatchNorm folded."""


@dataclass(frozen=True)
class FoldedPair:
    """A layer and the BatchNorm behind it, and the tensors of the layer that replaces both.

    Attributes:
        layer: The convolution or linear layer of the network.
        norm: The BatchNorm of the network.
        weight: Weight of the folded layer.
        bias: Bias of the folded layer, (out,).
    """

    layer: Any
    norm: Any
    weight: Tensor
    bias: Tensor

    def update(self) -> None:
        """Compute the folded weight and bias from the current tensors of the network."""
        norm, layer = self.norm, self.layer
        weight, bias = fold(
            layer.weight,
            layer.bias,
            norm.weight,
            norm.bias,
            mean=norm.running_mean,
            variance=norm.running_var,
            eps=norm.eps,
        )
        self.weight.copy_(weight)
        self.bias.copy_(bias)


def fold(
    weight: Tensor,
    bias: Tensor | None,
    gamma: Tensor | None,
    beta: Tensor | None,
    *,
    mean: Tensor,
    variance: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the layer that replaces a layer and its BatchNorm.

    They are weight * s and (bias - mean) * s + beta, with s = gamma / sqrt(variance + eps).

    Args:
        weight: (out, in, ...) of the layer.
        bias: (out,) of the layer, or None.
        gamma: Weight (out,) of BatchNorm, or None for 1.
        beta: Bias (out,) of BatchNorm, or None for 0.
        mean: Running mean, (out,).
        variance: Running variance, (out,).
        eps: Of BatchNorm.

    Returns:
        Weight (out, in, ...) and bias (out,).
    """
    scale = torch.rsqrt(variance + eps)
    if gamma is not None:
        scale = scale * gamma
    shift = (-mean if bias is None else bias - mean) * scale
    return weight * scale.view(-1, *[1] * (weight.dim() - 1)), shift if beta is None else shift + beta


class Folded:
    """A network that computes what another one computes, without its BatchNorm layers.

    Args:
        net: The network, in evaluation mode. After its tensors have changed in place, `update` has to be called.

    Attributes:
        net: The folded network.
        pairs: The layers that were folded.

    Raises:
        NotFoldable: torch.fx cannot trace the network, or there is nothing to fold.
    """

    def __init__(self, net: nn.Module) -> None:
        traced, pairs = trace(net)
        self.pairs = [insert_folded_layer(traced, layer, norm) for layer, norm in pairs]
        use_in_place_operations(traced)
        traced.recompile()
        self.net = traced
        with torch.no_grad():
            self.update()

    def update(self) -> None:
        """Compute all folded weights from the current tensors of the network."""
        for pair in self.pairs:
            pair.update()


def trace(net: nn.Module) -> tuple[fx.GraphModule, list[tuple[fx.Node, fx.Node]]]:
    """Return the graph of a network and the pairs (layer, norm) that can be folded in it.

    Raises:
        NotFoldable: torch.fx cannot trace the network, or there is nothing to fold.
    """
    try:
        traced = fx.symbolic_trace(net)
    except Exception as error:  # tracing runs the network's own forward
        reason = str(error).strip().splitlines()
        raise NotFoldable(f"it cannot be traced ({reason[0][:120] if reason else type(error).__name__})") from error
    pairs = foldable_pairs(traced)
    if not pairs:
        raise NotFoldable("it has no BatchNorm behind a convolution or linear layer")
    return traced, pairs


def insert_folded_layer(traced: fx.GraphModule, layer: fx.Node, norm: fx.Node) -> FoldedPair:
    """Replace a layer and its norm in the graph by a layer with new weight and bias, which are not yet computed."""
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
    return FoldedPair(before, after, folded.weight.data, folded.bias.data)


class FoldedFunction:
    """A network with BatchNorm folded as a differentiable function of its tensors.

    Args:
        net: The network, in evaluation mode.

    Raises:
        NotFoldable: torch.fx cannot trace the network, or there is nothing to fold.
    """

    def __init__(self, net: nn.Module) -> None:
        first: dict[int, str] = {}
        allocated = named_tensors(net, every_name=True)
        self.names = {name: first.setdefault(id(value), name) for name, value in allocated.items()}
        traced, pairs = trace(net)
        self.folds = [
            (str(layer.target), str(norm.target), insert_folded_layer(traced, layer, norm).norm.eps)
            for layer, norm in pairs
        ]
        traced.recompile()
        self.net = traced
        self.traced_names = set(traced.state_dict())

    def __call__(self, tensors: Mapping[str, Tensor], *inputs: Any, **keywords: Any) -> Any:
        """Return the output of the network.

        Args:
            tensors: Parameters and buffers of the network by name, tied ones under their first name.
            *inputs: Arguments of the network.
            **keywords: Keyword arguments of the network.
        """
        allocated = {name: tensors[first] for name, first in self.names.items()}
        used = {name: value for name, value in allocated.items() if name in self.traced_names}
        for layer, norm, eps in self.folds:
            used[f"{layer}.weight"], used[f"{layer}.bias"] = fold(
                allocated[f"{layer}.weight"],
                allocated.get(f"{layer}.bias"),
                allocated.get(f"{norm}.weight"),
                allocated.get(f"{norm}.bias"),
                mean=allocated[f"{norm}.running_mean"],
                variance=allocated[f"{norm}.running_var"],
                eps=eps,
            )
        return functional_call(self.net, used, inputs, keywords)


def foldable_pairs(traced: fx.GraphModule) -> list[tuple[fx.Node, fx.Node]]:
    """Return the pairs (layer, norm) in which the norm is the layer's only user, and each is called once."""
    modules = dict(traced.named_modules())

    def is_plain(node: fx.Node, kinds: tuple[type, ...]) -> bool:
        """Return whether a module computes from its parameters alone: no parametrization (weight norm), no hooks."""
        module = modules[str(node.target)]
        hooks = (module._forward_pre_hooks, module._forward_hooks)
        return type(module) in kinds and not any(hooks)

    calls = [str(node.target) for node in traced.graph.nodes if node.op == "call_module"]
    found = []
    for node in traced.graph.nodes:
        if node.op != "call_module" or not is_plain(node, NORM):
            continue
        norm, layer = modules[node.target], node.args[0]
        statistics = norm.running_mean is not None and norm.running_var is not None and not norm.training
        if (
            statistics
            and layer.op == "call_module"
            and is_plain(layer, LINEAR)
            and len(layer.users) == 1
            and calls.count(layer.target) == calls.count(node.target) == 1
        ):
            found.append((layer, node))
    return found


def use_in_place_operations(traced: fx.GraphModule) -> None:
    """Overwrite a layer's output that nothing else reads by activations and residual additions: less memory traffic.

    Only the left operand of an addition is overwritten, so it must have the shape of the sum. If it is not, the
    comparison on real inputs (`evaluator.choose_path`) rejects the folded network.
    """
    modules = dict(traced.named_modules())
    allocated: set[fx.Node] = set()  # outputs that this graph allocated and that have one reader
    for node in traced.graph.nodes:
        readers = len(node.users) == 1
        if node.op == "call_module" and isinstance(modules[node.target], LINEAR) and readers:
            allocated.add(node)
        elif is_relu(node, modules) and node.args and node.args[0] in allocated:
            node.op, node.target, node.args, node.kwargs = "call_function", torch.relu_, (node.args[0],), {}
        elif node.op == "call_function" and node.target in (operator.add, operator.iadd, torch.add) and not node.kwargs:
            first = next((n for n in node.args if n in allocated), None)
            if first is not None and all(isinstance(n, fx.Node) for n in node.args):
                other = node.args[1] if node.args[0] is first else node.args[0]
                node.target, node.args = operator.iadd, (first, other)
        else:
            continue
        if readers:
            allocated.add(node)


def is_relu(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Return whether a node is a ReLU, as a module or as a function."""
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], nn.ReLU)
    return node.op == "call_function" and node.target in (torch.relu, F.relu, torch.relu_)
