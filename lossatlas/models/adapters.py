"""Low-rank adapters (LoRA) in folders of the library peft, as changes of the weights of a base network.

The change of a weight is scale * B A (Hu et al., LoRA, arXiv 2106.09685, section 4.1), where the scale is alpha / rank,
or alpha / sqrt(rank) for rank-stabilized adapters (Kalajdzievski, arXiv 2312.03732).
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lossatlas.errors import BadInput

CONFIG, WEIGHTS = "adapter_config.json", ("adapter_model.safetensors", "adapter_model.bin")
NO_SUM = {"use_dora": "DoRA", "alora_invocation_tokens": "activated LoRA", "layer_replication": "repeated layers"}
PLAIN_STARTS = {"gaussian", "orthogonal", "eva"}  # of the factors, which leave the base weights as they are
PREFIX = "base_model.model."  # of the names in the file
WRAPPED = re.compile(r"\.base_layer(?=\.)|\.modules_to_save(\.default)?(?=\.)")  # components of names of whole tensors
FACTOR = re.compile(r"(?P<module>.+)\.lora_(?P<embedding>embedding_)?(?P<letter>[AB])(\.weight)?")


def is_adapter(name: object) -> bool:
    """Return whether this is the folder of an adapter."""
    return isinstance(name, str | Path) and (Path(name) / CONFIG).is_file()


@dataclass(frozen=True)
class AdapterConfig:
    """The settings of an adapter that decide the change of the weights.

    Attributes:
        alpha: Numerator of the scale.
        alphas: Other numerators, by patterns of the ends of module names.
        rank_stabilized: The scale is alpha / sqrt(rank).
    """

    alpha: float
    alphas: Mapping[str, float]
    rank_stabilized: bool

    @classmethod
    def read(cls, folder: Path) -> "AdapterConfig":
        """Read the settings in a folder.

        Raises:
            BadInput: The settings are damaged, or of another adapter than a plain LoRA.
        """
        try:
            found = json.loads((folder / CONFIG).read_text())
            kind = str(found.get("peft_type", "")).upper()
            config = cls(
                float(found["lora_alpha"]) if kind == "LORA" else 0.0,
                {str(key): float(value) for key, value in (found.get("alpha_pattern") or {}).items()},
                bool(found.get("use_rslora")),
            )
            start = found.get("init_lora_weights", True)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadInput(f"{folder / CONFIG} cannot be read ({type(error).__name__}: {error})") from error
        what = (kind or "unknown") * (kind != "LORA")
        what = what or next((name for key, name in NO_SUM.items() if found.get(key)), "")
        if not what and isinstance(start, str) and start not in PLAIN_STARTS:
            what = f"{start} (its start changes the base weights)"
        if what:
            raise BadInput(
                f"{folder} holds an adapter of the kind {what}: plain LoRA alone is a sum of the base weights and a "
                "change; merge it into its base network, and give that"
            )
        return config

    def scale(self, module: str, rank: int) -> float:
        """Return the factor of B A of a module."""
        alpha = next((v for key, v in self.alphas.items() if re.match(rf"(.*\.)?({key})$", module)), self.alpha)
        return alpha / (math.sqrt(rank) if self.rank_stabilized else rank)


def with_adapter(net: nn.Module, state: Mapping[str, Tensor], folder: str | Path) -> dict[str, Tensor]:
    """Return the weights of a base network with an adapter merged into them.

    Args:
        net: The base network, for the kinds of its modules; it is not changed.
        state: Its tensors by name.
        folder: The folder of the adapter.

    Returns:
        The tensors by name. Those that the adapter changes are new, in float32 or wider, so that their difference from
        `state` is the change that the adapter makes, not rounded to a narrower type of the network; others are the
        same tensors.

    Raises:
        BadInput: The folder is damaged, holds another kind of adapter, or does not fit the network.

    Example:
        >>> import json, tempfile, torch
        >>> from safetensors.torch import save_file
        >>> config = {"peft_type": "LORA", "r": 1, "lora_alpha": 2}
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "adapter_config.json").write_text(json.dumps(config))
        >>> factors = {"0.lora_A.weight": torch.tensor([[1.0, 0.0]]), "0.lora_B.weight": torch.tensor([[0.0], [3.0]])}
        >>> save_file({PREFIX + k: v for k, v in factors.items()}, folder / "adapter_model.safetensors")
        >>> net = torch.nn.Sequential(torch.nn.Linear(2, 2))
        >>> (with_adapter(net, net.state_dict(), folder)["0.weight"] - net[0].weight).tolist()
        [[0.0, 0.0], [6.0, 0.0]]
    """
    path = Path(folder)
    config, factors, result = AdapterConfig.read(path), _read_factors(path), dict(state)
    names = _own_names(state)
    for name, value in factors.whole.items():
        if name not in names or state[names[name]].shape != value.shape:
            raise BadInput(
                f"{folder} holds '{name}' of the shape {tuple(value.shape)}, which the network does not have"
            )
        _check_not_tied(net, names[name], folder)
        result[names[name]] = value
    for module, pair in factors.pairs.items():
        changed = names.get(f"{module}.weight")
        if changed is None:
            raise BadInput(
                f"{folder} changes '{module}.weight', which the network does not have: is it for another one?"
            )
        if {"A", "B"} - pair.keys():
            raise BadInput(f"{folder} lacks one of the two factors of '{module}'")
        _check_not_tied(net, changed, folder)
        change = _change(config, module, pair, transposed=_is_transposed(net, module))
        result[changed] = _sum(result[changed], change, changed, folder)
    return result


@dataclass(frozen=True)
class _Factors:
    """The tensors of an adapter: the factors by module and letter, and tensors that replace whole ones."""

    pairs: Mapping[str, Mapping[str, Tensor]]
    whole: Mapping[str, Tensor]


def _read_factors(folder: Path) -> _Factors:
    from lossatlas.models.checkpoint import read_content

    file = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if file is None:
        raise BadInput(f"{folder} holds {CONFIG} and no {WEIGHTS[0]}")
    content = read_content(file)
    if not isinstance(content, Mapping) or not all(isinstance(each, Tensor) for each in content.values()):
        raise BadInput(f"{file} holds no tensors of an adapter")
    pairs: dict[str, dict[str, Tensor]] = {}
    whole: dict[str, Tensor] = {}
    for name, value in content.items():
        plain = str(name).removeprefix(PREFIX)
        if not torch.isfinite(value).all():
            raise BadInput(f"{file}: '{name}' holds NaN or infinite values")
        if found := FACTOR.fullmatch(plain):
            factor = value.T if found["embedding"] else value  # an embedding is (words, width), its change (B A)^T
            letter = {"A": "B", "B": "A"}[found["letter"]] if found["embedding"] else found["letter"]
            pairs.setdefault(found["module"], {})[letter] = factor
        elif "lora_" in plain:
            raise BadInput(f"{file} holds '{name}', which is no part of a plain LoRA: merge it into its base network")
        elif ".original_module." not in plain:  # of a module that is replaced as a whole
            whole[WRAPPED.sub("", plain)] = value
    if not pairs and not whole:
        raise BadInput(f"{file} is empty")
    return _Factors(pairs, whole)


def _own_names(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the names of a network without the components that wrappers add, as an adapter spells them."""
    from lossatlas.models.state_names import plain_name

    return {plain_name(name): name for name in state}


def _change(config: AdapterConfig, module: str, pair: Mapping[str, Tensor], *, transposed: bool) -> Tensor:
    """Compute the change of a weight, in float32 or wider."""
    a, b = (pair[letter].to(torch.promote_types(pair[letter].dtype, torch.float32)) for letter in "AB")
    rank = a.shape[0]
    product = (b.flatten(1) @ a.flatten(1)).unflatten(1, a.shape[1:])  # convolutions: to `rank` channels, and from them
    return config.scale(module, rank) * (product.T if transposed else product)


def _is_transposed(net: nn.Module, module: str) -> bool:
    """Return whether the weight of a module is (inputs, outputs), as of the Conv1D of transformers."""
    found: Any = dict(net.named_modules()).get(module)
    return type(found).__name__ == "Conv1D"


def _sum(weight: Tensor, change: Tensor, name: str, folder: str | Path) -> Tensor:
    if weight.shape != change.shape:
        raise BadInput(
            f"{folder} changes '{name}' by a tensor of the shape {tuple(change.shape)}; that of the network is "
            f"{tuple(weight.shape)}"
        )
    wide = torch.promote_types(weight.dtype, change.dtype)
    return weight.detach().to(wide) + change.to(weight.device, wide)


def _check_not_tied(net: nn.Module, name: str, folder: str | Path) -> None:
    """Raise BadInput for a tensor with several names: peft changes it under one of them only, until it is merged."""
    own: Any = dict(net.named_parameters(remove_duplicate=False))
    others = [other for other, each in own.items() if each is own.get(name) and other != name]
    if others:
        raise BadInput(
            f"{folder} changes '{name}', which is '{others[0]}' too: merge the adapter into its base network, and give "
            "that"
        )
