"""BatchNorm in eval mode folded into the convolution or linear layer in front of it.

There BatchNorm is affine: conv followed by (x - mean) / sqrt(var + eps) * gamma + beta is one convolution with other
weights. Which layer feeds which BatchNorm is found once with torch.fx; at every point of a plane the folded weights
follow from the current ones by one product per layer.
"""

import operator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

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
        """weight * s and (bias - mean) * s + beta, with s = gamma / sqrt(var + eps), in place."""
        norm, layer = self.norm, self.layer
        scale = torch.rsqrt(norm.running_var + norm.eps)
        if norm.weight is not None:
            scale = scale * norm.weight
        shift = -norm.running_mean if layer.bias is None else layer.bias - norm.running_mean
        torch.mul(layer.weight, scale.view(-1, *[1] * (layer.weight.dim() - 1)), out=self.weight)
        self.bias.copy_(shift * scale if norm.bias is None else torch.addcmul(norm.bias, shift, scale))


class Folded:
    """A network that computes what `net` computes; `update()` follows when net's tensors have changed in place.

    Raises NotFoldable when torch.fx cannot trace the network, or when there is nothing to fold.
    """

    def __init__(self, net: nn.Module) -> None:
        try:
            traced = fx.symbolic_trace(net)
        except Exception as error:  # tracing runs the network's own forward
            reason = str(error).strip().splitlines()
            raise NotFoldable(f"it cannot be traced ({reason[0][:120] if reason else type(error).__name__})") from error
        pairs = foldable(traced)
        if not pairs:
            raise NotFoldable("it has no BatchNorm behind a convolution or linear layer")
        self.pairs = [self.replace(traced, layer, norm) for layer, norm in pairs]
        overwrite(traced)
        traced.recompile()
        self.net = traced
        with torch.no_grad():
            self.update()

    def replace(self, traced: fx.GraphModule, layer: fx.Node, norm: fx.Node) -> Pair:
        modules = dict(traced.named_modules())
        before: Any = modules[str(layer.target)]
        after, folded, like = modules[str(norm.target)], deepcopy(before), before.weight
        folded.weight = nn.Parameter(torch.empty_like(like), requires_grad=False)
        folded.bias = nn.Parameter(like.new_zeros(like.shape[0]), requires_grad=False)
        owner, _, leaf = str(layer.target).rpartition(".")
        setattr(modules[owner], leaf, folded)
        norm.replace_all_uses_with(layer)
        traced.graph.erase_node(norm)
        return Pair(before, after, folded.weight.data, folded.bias.data)

    def update(self) -> None:
        for pair in self.pairs:
            pair.update()


def foldable(traced: fx.GraphModule) -> list[tuple[fx.Node, fx.Node]]:
    """(layer, norm) where the norm is the layer's only user, and each is called once."""
    modules = dict(traced.named_modules())
    calls = [str(node.target) for node in traced.graph.nodes if node.op == "call_module"]
    found = []
    for node in traced.graph.nodes:
        if node.op != "call_module" or not isinstance(modules[node.target], NORM):
            continue
        norm, layer = modules[node.target], node.args[0]
        statistics = norm.running_mean is not None and norm.running_var is not None and not norm.training
        if (
            statistics
            and layer.op == "call_module"
            and isinstance(modules[layer.target], LINEAR)
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
