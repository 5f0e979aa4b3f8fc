"""Checkpoints as safetensors or as torch files of plain tensors; nothing in a file is ever executed.

A file holds a state dict, bare or under one of `WITHIN`, with or without the prefixes that wrappers add (`PREFIXES`), with
or without the counters `num_batches_tracked`, which files written before torch 0.4.1 lack.
"""

import hashlib
import io
import re
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from lossatlas.data.plain_tensors import raw_bytes, unsupported_kind
from lossatlas.errors import BadInput, CannotWrite
from lossatlas.io.archives import check_archive
from lossatlas.io.atomic_write import write_file

COUNTER = "num_batches_tracked"
WITHIN = ("state_dict", "model_state_dict", "model", "net", "network", "module")  # keys that lead to a state dict
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.")  # DataParallel, torch.compile, Lightning and habit
SHOWN = 3  # names of a file that a message lists


def check_exists(file: str | Path) -> None:
    """Raise BadInput where there is no such checkpoint; those of trained_nets/ are not part of the installed package."""
    path = Path(file)
    if not path.is_file():
        hint = ": the networks of trained_nets/ come with the repository, not with the installed package"
        raise BadInput(f"no checkpoint at {path}{hint * (path.parent.name == 'trained_nets')}")


def read_state(file: str | Path) -> dict[str, Tensor]:
    """Read the state dict in a checkpoint.

    Args:
        file: The checkpoint: safetensors, or a torch file of tensors.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        BadInput: The file is missing or damaged, or holds anything else.
    """
    path = Path(file)
    check_exists(path)
    content = read_content(path)
    if isinstance(content, Mapping):
        content = next((content[key] for key in WITHIN if isinstance(content.get(key), Mapping)), content)
    if not isinstance(content, Mapping) or not content:
        raise BadInput(f"{path} holds {type(content).__name__}, not a state dict")
    for name, value in content.items():
        if not isinstance(value, Tensor):
            raise BadInput(f"{path}: '{name}' is {type(value).__name__}, not a tensor: not a state dict")
        if odd := unsupported_kind(value, path):
            raise BadInput(f"{path}: '{name}' is {odd}: save it as plain numbers (float32, float16, bfloat16)")
    state = {str(name).removeprefix("module."): _plain(value) for name, value in content.items()}
    if len(state) < len(content):
        names = [str(name).removeprefix("module.") for name in content]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadInput(f"{path} holds '{twice}' twice, with and without 'module.'")
    return state


def _plain(value: Tensor) -> Tensor:
    """The numbers of a tensor, without a gradient or a lazy conjugation that a file may have attached."""
    return Tensor.detach(value).resolve_conj().resolve_neg()


def read_content(path: Path) -> object:
    """Read the objects in a checkpoint file.

    Args:
        path: A safetensors file, or a torch file of plain tensors, containers and numbers.

    Returns:
        Its content, on the CPU.

    Raises:
        BadInput: The file is damaged, or holds code.
    """
    check_archive(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load, load_file

            return load_file(path) if str(path).isprintable() else load(path.read_bytes())  # it takes UTF-8 alone
        with warnings.catch_warnings():  # about the pickle protocol of files that are refused anyway
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise nearly anything
        reason = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines()  # torch writes in bold
        raise BadInput(
            f"{path} is not readable as {'safetensors' if path.suffix == '.safetensors' else 'a torch file of tensors'}"
            f" ({type(error).__name__}: {reason[0][:150] if reason else 'no message'}): save its state_dict() instead"
        ) from error


def load_into(net: nn.Module, state: Mapping[str, Tensor], source: str = "the checkpoint") -> None:
    """Load a state dict strictly; the counters of BatchNorm may be missing.

    Args:
        net: Network that is changed in place.
        state: Tensors by name, with or without a wrapper's prefix.
        source: Name of the checkpoint, for messages.

    Raises:
        BadInput: A tensor is missing, too many, of another shape or kind, or not finite; the message names it.
    """
    own = net.state_dict()
    state = _without_prefixes(state, own)
    for name, value in own.items():
        if name not in state:
            if name.endswith(COUNTER):
                continue
            listed = ", ".join(f"'{key}' {tuple(tensor.shape)}" for key, tensor in list(state.items())[:SHOWN])
            raise BadInput(
                f"{source} lacks '{name}' {tuple(value.shape)}: it is of another architecture; it holds {listed}"
                + ", ..." * (len(state) > SHOWN)
            )
        if state[name].shape != value.shape:
            raise BadInput(
                f"{source}: '{name}' has shape {tuple(state[name].shape)}, the model expects {tuple(value.shape)}"
            )
        if not torch.can_cast(state[name].dtype, value.dtype):
            there, own_kind = (str(t.dtype).removeprefix("torch.") for t in (state[name], value))
            raise BadInput(f"{source}: '{name}' is {there}, the model's is {own_kind}, which would lose a part of it")
        if not torch.isfinite(state[name]).all():
            raise BadInput(f"{source}: '{name}' holds NaN or infinite values")
    if extra := [name for name in state if name not in own]:
        raise BadInput(f"{source} holds '{extra[0]}' {tuple(state[extra[0]].shape)}, which the model does not have")
    net.load_state_dict({name: state.get(name, value) for name, value in own.items()})


def _without_prefixes(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The network's part of a state, under the network's names: wrappers' prefixes are removed until a name fits.

    Other tensors of the wrapper, such as the weights of a loss, are left out.
    """
    wanted = {name for name in own if not name.endswith(COUNTER)}
    while not wanted & set(state):
        prefix = next((p for p in PREFIXES if any(name.startswith(p) for name in state)), None)
        if prefix is None:
            return state
        state = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    return state


def save_state(file: str | Path, net: nn.Module) -> None:
    """Write a network's state dict atomically.

    Args:
        file: File to write: safetensors if it ends so, otherwise a torch file.
        net: The network. Tied tensors are written under each of their names.

    Raises:
        CannotWrite: The file cannot be written.
    """
    from safetensors.torch import save

    path = Path(file)
    state: dict[str, Tensor] = {}
    for name, value in net.state_dict().items():
        own = value.contiguous().cpu()
        twice = any(own.untyped_storage().data_ptr() == other.untyped_storage().data_ptr() for other in state.values())
        state[name] = own.clone() if twice else own
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(f"cannot make the folder {path.parent}: {error.strerror}") from error
    if path.suffix == ".safetensors":
        write_file(path, save(state))
    else:
        put_torch(path, {"state_dict": state})


def put_torch(path: str | Path, content: object) -> None:
    """Write a torch file atomically.

    Args:
        path: File to write.
        content: Objects that `torch.save` can write.

    Raises:
        CannotWrite: The file cannot be written.
    """
    image = io.BytesIO()  # torch itself may crash on a full disk
    torch.save(content, image)
    write_file(path, image.getvalue())


def digest(state: Mapping[str, Tensor]) -> str:
    """Compute the SHA-256 hash of a state dict, which is the same in every file format.

    Args:
        state: Tensors by name.

    Returns:
        Hexadecimal hash over names, shapes, kinds and values; the counters of BatchNorm do not count.
    """
    result = hashlib.sha256()
    for name in sorted(name for name in state if not name.endswith(COUNTER)):
        result.update(f"{name} {tuple(state[name].shape)} {state[name].dtype}\n".encode())
        result.update(raw_bytes(state[name]))
    return result.hexdigest()
