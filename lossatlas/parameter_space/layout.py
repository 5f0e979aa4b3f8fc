"""Layout of a network's tensors: normalization layers, and the slices of a weight that produce one output channel.

    layout = Layout.of(net)
    rows = by_output(weight, layout.transposed[name])      # (out, ...): one slice for each output channel
    weight = by_input(rows, layout.transposed[name], weight.shape)

Most layers store their outputs along the first axis. `ConvTranspose1d`, `2d`, `3d` store (in, out / groups, ...), the
`Conv1D` of transformers stores (in, out).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd

from lossatlas.choices import NormOrNone

NORM_LAYERS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase, nn.LocalResponseNorm)
RULE = " by output channel"  # recorded of filter-normalized directions of networks with transposed weights


def norm_parameters(net: nn.Module) -> frozenset[str]:
    """List the names of the parameters of normalization layers, of any shape.

    They scale and shift outputs of other layers: a LayerNorm over [8, 16, 16] has weights with three axes, which are no
    filters.
    """
    return frozenset(
        f"{prefix}.{name}" if prefix else name
        for prefix, module in net.named_modules(remove_duplicate=False)
        if isinstance(module, NORM_LAYERS) or type(module).__name__.endswith("Norm")
        for name, _ in module.named_parameters(recurse=False)
    )


@dataclass(frozen=True)
class Layout:
    """Properties of a network's tensors that their shapes do not show.

    Args:
        norms: Names of the parameters of normalization layers, see `norm_parameters`.
        transposed: Number of groups, by name, of each weight whose output channels are along its second axis. A tensor
            with several names (tied weights) has the layout of the layer under whose name a direction lists it.
    """

    norms: frozenset[str] = frozenset()
    transposed: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, net: nn.Module) -> "Layout":
        """Read the layout from the types of a network's modules.

        Example:
            >>> Layout.of(nn.ConvTranspose2d(8, 4, 3, groups=2)).transposed
            {'weight': 2}
        """
        return cls(norm_parameters(net), dict(transposed_weights(net)))

    def rule(self, norm: NormOrNone) -> str:
        """Return the text that records add to a normalization, '' where filters are slices along the first axis."""
        return RULE if self.transposed and norm in ("filter", "dfilter") else ""


PLAIN_LAYOUT = Layout()


def transposed_weights(net: nn.Module) -> Iterator[tuple[str, int]]:
    """Iterate over the tensors with output channels along the second axis: their names and numbers of groups.

    Reparametrized weights (weight_norm, spectral_norm, parametrize) are found by their shape, in which each axis has
    the size of the weight's axis, or 1.
    """
    for prefix, module in net.named_modules(remove_duplicate=False):
        shape, groups = transposed_shape(module)
        if shape is None:
            continue
        parametrized = getattr(module, "parametrizations", None)
        own = dict(module.named_parameters(recurse=False, remove_duplicate=False))
        if isinstance(parametrized, nn.ModuleDict):
            for tensor, name in (
                (t, n) for n, each in parametrized.items() for t in each.named_parameters(recurse=False)
            ):
                own[f"parametrizations.{name}.{tensor[0]}"] = tensor[1]
        for name, value in own.items():
            if "bias" not in name and fits(value.shape, shape):
                yield f"{prefix}.{name}" if prefix else name, groups if value.shape[0] % groups == 0 else 1


def transposed_shape(module: nn.Module) -> tuple[tuple[int, ...] | None, int]:
    """Return shape and groups of a module's weight that is stored with its output channels second, or None."""
    if isinstance(module, _ConvTransposeNd):
        per_group = module.out_channels // module.groups
        return (module.in_channels, per_group, *module.kernel_size), module.groups
    if any(base.__name__ == "Conv1D" for base in type(module).__mro__) and isinstance(
        outputs := vars(module).get("nf"), int
    ):
        inputs = vars(module).get("nx", 0)  # 0: any number
        return (inputs, outputs), 1
    return None, 1


def fits(found: torch.Size, shape: tuple[int, ...]) -> bool:
    """Test that each axis has the size of the weight's axis, or 1 as in the lengths that weight_norm stores."""
    return len(found) == len(shape) and all(a in (b, 1) or not b for a, b in zip(found, shape, strict=True))


def by_output(value: Tensor, groups: int) -> Tensor:
    """Rearrange a weight so that each row produces one output channel.

    Args:
        value: (in, out / groups, ...).
        groups: Number of groups of the layer.

    Returns:
        (out, in / groups, ...).
    """
    split = value.reshape(groups, value.shape[0] // groups, *value.shape[1:])
    return split.transpose(1, 2).flatten(0, 1)


def by_input(rows: Tensor, groups: int, shape: torch.Size) -> Tensor:
    """Invert `by_output`.

    Args:
        rows: (out, in / groups, ...).
        groups: Number of groups of the layer.
        shape: Shape of the result, (in, out / groups, ...).
    """
    split = rows.reshape(groups, shape[1], shape[0] // groups, *shape[2:])
    return split.transpose(1, 2).reshape(shape)
