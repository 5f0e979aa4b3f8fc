"""Checkpoints as safetensors or as torch files of tensors; nothing in a file is ever executed.

A checkpoint is a file, a folder with one (also in shards), or `FILE:WORD`, where WORD chooses one of several sets of
weights in the file, such as those of an exponential moving average (EMA), or the tensors whose names begin with
`WORD.`. It holds a state dict, bare or under one of `WITHIN`; wrappers' names are those of `state_names`; counters may
be missing, as in files written before torch 0.4.1.
"""

import hashlib
import io
import json
import pickle
import re
import warnings
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lossatlas.data.plain_tensors import raw_bytes, unsupported_kind
from lossatlas.errors import BadInput, CannotWrite, named, note
from lossatlas.io.archives import check_archive
from lossatlas.io.atomic_write import write_file
from lossatlas.io.checkpoint_names import checkpoints_in, split_word
from lossatlas.models.foreign_files import check_kind, is_safetensors, is_text_file
from lossatlas.models.inert_pickle import StandIn, read_inert
from lossatlas.models.state_names import Match, match_names, state_tensors

COUNTER = "num_batches_tracked"
WITHIN = ("state_dict", "model_state_dict", "model", "net", "network", "module")  # keys that lead to a state dict
EMA = ("state_dict_ema", "ema_state_dict", "model_ema", "ema_model", "ema")  # keys of averaged weights
OPTIMIZER = ("optimizer", "optimizer_state_dict", "optimizer_states", "param_groups")
IN_FOLDER = (  # of Hugging Face, diffusers, and others
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "diffusion_pytorch_model.safetensors",
)
MAPPED = 1 << 30  # bytes of a torch file from which on it is mapped instead of read; safetensors files always are
SHOWN = 3  # names of a file that a message lists


def check_exists(name: str | Path) -> None:
    """Raise BadInput where there is no such checkpoint; the installed package has none of trained_nets/."""
    path, _ = split_word(name)
    if not path.exists():
        hint = ": the networks of trained_nets/ come with the repository, not with the installed package"
        raise BadInput(f"no checkpoint at {path}{hint * (path.parent.name == 'trained_nets')}")


def read_state(name: str | Path, *, announce: bool = True) -> dict[str, Tensor]:
    """Read the state dict in a checkpoint.

    Args:
        name: The checkpoint: a file of safetensors or torch.save, a folder with one, or either with `:WORD` (see
            above).
        announce: Note that the file holds EMA weights too, where it does and none are chosen.

    Returns:
        Tensors by name, on the CPU.

    Raises:
        BadInput: The file is missing or damaged, or holds anything else.
    """
    path, word = split_word(name)
    check_exists(path)
    path = file_of(path) if path.is_dir() else path
    if path.name.endswith(".index.json"):
        return _read_shards(path, word, announce=announce)
    return weights_in(read_content(path), path, word, announce=announce)


def file_of(folder: Path) -> Path:
    """Return the checkpoint in a folder.

    Raises:
        BadInput: There is none, or there are several.
    """
    if known := next((folder / name for name in IN_FOLDER if (folder / name).is_file()), None):
        return known
    if (folder / "adapter_config.json").is_file():
        raise BadInput(
            f"{folder} holds an adapter, which is no whole network: give it as "
            f"{named('model_file2')} of its base network"
        )
    if (folder / ".metadata").exists():
        raise BadInput(
            f"{folder} is a distributed checkpoint: convert it by python -m torch.distributed.checkpoint.format_utils "
            f"dcp_to_torch {folder} FILE.pt"
        )
    if run := checkpoints_in(folder):
        raise BadInput(f"{folder} holds {len(run)} checkpoints of a run: name one of them, such as {run[-1][1]}")
    files = sorted(
        file for ending in ("safetensors", "bin", "pt", "pth", "ckpt") for file in folder.glob(f"*.{ending}")
    )
    if len(files) == 1:
        return files[0]
    if not files:
        raise BadInput(f"the folder {folder} holds no checkpoint (safetensors, or a torch file)")
    raise BadInput(f"{folder} holds {len(files)} checkpoints: name one of them, such as {files[-1]}")


def _read_shards(index: Path, word: str, *, announce: bool) -> dict[str, Tensor]:
    """Read the files that an index.json of Hugging Face lists."""
    try:
        places = json.loads(index.read_text())["weight_map"]
        files = sorted({index.parent / file for file in places.values()})
        if not files or any(file.parent != index.parent for file in files):
            raise ValueError("files elsewhere")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{index} is no list of the files of a checkpoint ({type(error).__name__})") from error
    if missing := [file for file in files if not file.is_file()]:
        raise BadInput(f"{index} lists {missing[0].name}, which is not there ({len(missing)} of {len(files)} files)")
    state: dict[str, Tensor] = {}
    for file in files:
        state |= weights_in(read_content(file), file, word, announce=announce)
    return state


def weights_in(content: object, source: Path | str, word: str = "", *, announce: bool = True) -> dict[str, Tensor]:
    """Find the state dict in the content of a checkpoint.

    Args:
        content: A state dict, or a mapping that holds one.
        source: The checkpoint, for messages.
        word: The key of the weights, or the beginning of their names; '' for the ordinary ones.
        announce: Note that there are EMA weights too.

    Returns:
        Tensors by name.

    Raises:
        BadInput: There is no state dict in it, or none of this word.
    """
    if isinstance(content, StandIn):
        raise BadInput(
            f"{source} is a pickled object of class {content.of}, which only its code can read: where you trust it, "
            f"save torch.load({str(source)!r}, weights_only=False).state_dict()"
        )
    chosen = _chosen(content, source, word, announce=announce)
    if not isinstance(chosen, Mapping) or not chosen:
        raise BadInput(f"{source} holds {type(content).__name__}, not a state dict")
    for name, value in chosen.items():
        if not isinstance(value, Tensor):
            raise BadInput(_not_a_tensor(chosen, source, name))
        if odd := unsupported_kind(value, source) if isinstance(source, Path) else "":
            raise BadInput(f"{source}: '{name}' is {odd}: save it as plain numbers (float32, float16, bfloat16)")
    state = {str(name).removeprefix("module."): _plain(value) for name, value in chosen.items()}
    if len(state) < len(chosen):
        names = [str(name).removeprefix("module.") for name in chosen]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadInput(f"{source} holds '{twice}' twice, with and without 'module.'")
    return state


def _chosen(content: object, source: Path | str, word: str, *, announce: bool) -> object:
    """Return the part of a checkpoint that holds the weights."""
    if not isinstance(content, Mapping):
        return content
    parts = [str(key) for key, value in content.items() if _is_state(value)]
    if word in parts:
        return content[word]
    ordinary = next((content[key] for key in WITHIN if isinstance(content.get(key), Mapping)), None)
    averaged = next((key for key in EMA if key in parts), "")
    state = content if ordinary is None else ordinary
    if word:
        inner = {str(name).removeprefix(f"{word}."): v for name, v in state.items() if str(name).startswith(f"{word}.")}
        if inner:
            return inner
        raise BadInput(
            f"{source} holds nothing under '{word}': it has {', '.join(_choices(parts, state)) or 'no parts'}"
        )
    if averaged and ordinary is not None and announce:
        _note_averaged(str(Path(source).parent), averaged, str(source))
    return content[averaged] if averaged and ordinary is None else state


def _is_state(value: object) -> bool:
    return isinstance(value, Mapping) and bool(value) and all(isinstance(each, Tensor) for each in value.values())


def _choices(parts: Iterable[str], state: Mapping[Any, object]) -> list[str]:
    """List the words that choose weights: keys of state dicts, and first parts of names."""
    firsts = {str(name).partition(".")[0]: None for name in state if "." in str(name)}
    return [f"'{each}'" for each in (*parts, *firsts)][: 4 * SHOWN]


@cache  # once for the files of a folder: each may be read several times
def _note_averaged(folder: str, key: str, source: str) -> None:
    note(f"{source} holds averaged weights '{key}' too, which are not used: choose them as {source}:{key}")


def _not_a_tensor(content: Mapping[Any, object], source: Path | str, name: object) -> str:
    """Write the message about a mapping that is no state dict, by what it seems to be."""
    if found := next((key for key in OPTIMIZER if key in content), ""):
        return f"{source} holds the state of an optimizer ('{found}') and no weights: name the file of the network"
    objects = {key: value for key, value in content.items() if isinstance(value, StandIn)}
    if key := next((key for key in (*WITHIN, *EMA, name) if key in objects), None):
        return (
            f"{source}: '{key}' is a pickled object of class {objects[key].of}, which only its code can read: save its "
            "state_dict() instead"
        )
    value = content[name]
    return f"{source}: '{name}' is {type(value).__name__}, not a tensor: not a state dict"


def _plain(value: Tensor) -> Tensor:
    """Return the numbers of a tensor, without a gradient or a lazy conjugation that a file may have attached."""
    return Tensor.detach(value).resolve_conj().resolve_neg()


def read_content(path: Path) -> object:
    """Read the objects in a checkpoint file.

    Args:
        path: A safetensors file, or a torch file of tensors, containers and numbers.

    Returns:
        Its content, on the CPU; `StandIn` for an object of any other class.

    Raises:
        BadInput: The file is damaged, or of another kind.
    """
    check_archive(path)
    head = check_kind(path)
    safe = is_safetensors(head) or (path.suffix == ".safetensors" and not head.startswith(b"PK"))
    try:
        if safe:
            from safetensors.torch import load, load_file

            return load_file(path) if str(path).isprintable() else load(path.read_bytes())  # it takes UTF-8 alone
        with warnings.catch_warnings():  # about the pickle protocol of files that are refused anyway
            warnings.simplefilter("ignore")
            if head.startswith(b"PK") and path.stat().st_size >= MAPPED:
                return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            with open(path, "rb") as file:  # by the content, not by the name
                return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise nearly anything
        if isinstance(error, pickle.UnpicklingError) and "global" in str(error).lower() and head.startswith(b"PK"):
            return _without_objects(path, error)
        raise BadInput(_unreadable(path, error, safe=safe)) from error


def _without_objects(path: Path, refused: Exception) -> object:
    """Read a file that holds objects of classes beside its tensors."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read_inert(path)
    except Exception as error:
        raise BadInput(_unreadable(path, refused, safe=False)) from error


def _unreadable(path: Path, error: Exception, *, safe: bool) -> str:
    if is_text_file(path):
        return f"{path} is a text file, not a checkpoint: name the file of the weights"
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()  # torch writes in bold
    if found := re.search(r"GLOBAL ([\w.]+)", text):
        reason = f"it holds an object of class {found.group(1)}"
    elif text.startswith("Weights only load failed"):  # of which the first line tells how to run what the file holds
        reason = "it is damaged, or another program wrote it"
    else:
        reason = text.splitlines()[0][:150] if text else "no message"
    kind = "safetensors" if safe else "a torch file of tensors"
    return f"{path} is not readable as {kind} ({type(error).__name__}: {reason}): save its state_dict() instead"


def load_into(net: nn.Module, state: Mapping[str, Tensor], source: str = "the checkpoint") -> None:
    """Load a state dict strictly; counters may be missing.

    Args:
        net: Network that is changed in place.
        state: Tensors by name, with or without a wrapper's prefix.
        source: Name of the checkpoint, for messages.

    Raises:
        BadInput: A tensor is missing, too many, of another shape or kind, or not finite; the message names it.
    """
    own = net.state_dict()
    matched = matched_state(net, state, source)
    net.load_state_dict({name: matched.get(name, value) for name, value in own.items()})


def matched_state(
    net: nn.Module, state: Mapping[str, Tensor], source: str = "the checkpoint", needed: Collection[str] | None = None
) -> dict[str, Tensor]:
    """Give the tensors of a state dict the names of a network.

    Args:
        net: The network.
        state: Tensors by name, with or without a wrapper's prefix.
        source: Name of the checkpoint, for messages.
        needed: Names of the tensors that it has to have; all, except for counters, by default.

    Returns:
        The tensors of the state by the network's names. A tensor of tied weights may come under either name.

    Raises:
        BadInput: A tensor is missing, too many, of another shape or kind, or not finite; the message names it.
    """
    own = state_tensors(net)
    match = match_names(net, own, state, own if needed is None else needed)
    if len(match.others) > 1:
        words = " or ".join(f"{source}:{prefix.removesuffix('.')}" for prefix in match.others)
        raise BadInput(f"{source} holds several networks whose names fit: choose one as {words}")
    result = {name: state[there] for name, there in match.names.items()}
    wrong = [name for name, value in result.items() if value.shape != own[name].shape]
    if match.missing or wrong or match.extra:
        raise BadInput(f"{source}{_misfit(own, state, match, wrong, source)}")
    for name, value in result.items():
        if not torch.can_cast(value.dtype, own[name].dtype):
            kinds = [str(t.dtype).removeprefix("torch.") for t in (value, own[name])]
            raise BadInput(
                f"{source}: '{name}' is {kinds[0]}, the model's is {kinds[1]}, which would lose a part of it"
            )
        if not torch.isfinite(value).all() and not is_same_mask(value, own[name]):
            raise BadInput(f"{source}: '{name}' holds NaN or infinite values")
    return result


def is_same_mask(value: Tensor, own: Tensor) -> bool:
    """Return whether a tensor is infinite where the network's own is, as the mask of an attention, and nowhere NaN."""
    infinite = torch.isinf(value)
    return not bool(torch.isnan(value).any()) and torch.equal(infinite.cpu(), torch.isinf(own.detach()).cpu())


def _misfit(
    own: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    match: Match,
    wrong: Collection[str],
    source: str,
) -> str:
    """Name the tensors that do not fit, in words that follow the name of the checkpoint."""
    parts = []
    if match.missing:
        parts.append(f" lacks {_listed(match.missing, own)}")
    if match.extra:
        parts.append(f"{' and' * bool(parts)} holds {_listed(match.extra, state)}, which the model does not have")
    if wrong:
        shapes = [
            f"'{name}' has shape {tuple(state[match.names[name]].shape)}, the model expects {tuple(own[name].shape)}"
            for name in list(wrong)[:SHOWN]
        ]
        more = f" ({len(wrong)} such tensors)" if len(wrong) > SHOWN else ""
        parts.append(f"{';' if parts else ':'} {'; '.join(shapes)}{more}")
    tried = f" (names were compared {match.tried})" if match.tried else ""
    hint = f"; the names under '{match.others[0]}.' fit: name it as {source}:{match.others[0]}" if match.others else ""
    return f"{''.join(parts)}{tried}{hint or ': it is of another architecture' * bool(match.missing)}"


def _listed(names: Collection[str], tensors: Mapping[str, Tensor]) -> str:
    """List some names with their shapes, and the number of all."""
    shown = ", ".join(f"'{name}' {tuple(tensors[name].shape)}" for name in list(names)[:SHOWN])
    return shown + (f", ... ({len(names)} tensors)" if len(names) > SHOWN else "")


def save_state(file: str | Path, net: nn.Module) -> None:
    """Write a network's state dict atomically.

    Args:
        file: File to write: safetensors if it ends so, otherwise a torch file.
        net: The network. Tied tensors are written under each of their names.

    Raises:
        CannotWrite: The file cannot be written.
    """
    path = Path(file)
    state = state_tensors(net)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(f"cannot make the folder {path.parent}: {error.strerror}") from error
    if path.suffix == ".safetensors":
        write_tensors(path, state)
    else:
        put_torch(path, {"state_dict": separate(state)})


def write_tensors(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write tensors to a safetensors file, atomically and bit for bit.

    Raises:
        BadInput: The format has no name for the type of a tensor.
        CannotWrite: The file cannot be written.
    """
    from safetensors.torch import save

    try:
        image = save(separate(state))
    except KeyError as error:  # a type without a name there
        raise BadInput(f"{path.name}: safetensors files cannot hold {error}, and a tensor has this type") from error
    write_file(path, image)


def separate(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return contiguous tensors on the CPU, of which no two share memory."""
    result: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, value in state.items():
        own = value.detach().contiguous().cpu()
        place = own.untyped_storage().data_ptr()
        result[name] = own.clone() if place in seen else own
        seen.add(place)
    return result


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


def state_digest(state: Mapping[str, Tensor]) -> str:
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


def batchnorm_statistics(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the running means and variances of BatchNorm in a state."""
    return {name: value for name, value in state.items() if name.rsplit(".", 1)[-1] in ("running_mean", "running_var")}


def have_same_statistics(state: Mapping[str, Tensor], others: Iterable[Mapping[str, Tensor]]) -> bool:
    """Return whether other states have the BatchNorm statistics of a state, in the same layers."""
    own = batchnorm_statistics(state)
    return all(
        own.keys() == theirs.keys() and all(torch.equal(own[n].detach().cpu(), theirs[n].detach().cpu()) for n in own)
        for theirs in map(batchnorm_statistics, others)
    )
