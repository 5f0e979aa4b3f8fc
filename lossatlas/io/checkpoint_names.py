"""Names of checkpoints: a file, a folder, or `FILE:WORD` for one of several sets of weights; checkpoints in a folder.

split_word("run/last.ckpt:state_dict_ema")      # (Path("run/last.ckpt"), "state_dict_ema")
checkpoints_in("run/")                          # [(0, Path("run/model_0.safetensors")), ...]
"""

import re
from pathlib import Path

from lossatlas.errors import BadInput
from lossatlas.io.run_folder import LOG, read_log

# Names of the checkpoints of a run, the first that is there: train.py and the release of 2018, the recorder, the
# Trainer of Hugging Face, Lightning.
SERIES = (
    re.compile(r"model_(\d+)\.t7"),
    re.compile(r"model_(\d+)\.(?:safetensors|pth?|ckpt|bin)"),
    re.compile(r"checkpoint-(\d+)"),
    re.compile(r"(?:.*[-_])?step=(\d+)(?:-v\d+)?\.ckpt"),
    re.compile(r"(?:.*[-_])?epoch=(\d+)(?:-v\d+)?\.ckpt"),
)
STEPS = "checkpoint-", "(?:.*[-_])?step="  # beginnings of the patterns whose numbers are steps


def split_word(name: str | Path) -> tuple[Path, str]:
    """Split the name of a checkpoint into its file and the word that chooses its weights.

    Args:
        name: A file or folder, or `FILE:WORD`. A file that has this whole name is taken as it is.

    Returns:
        The path, and the word; '' without one.

    Example:
        >>> split_word("no/such/file.pt")[1]
        ''
    """
    whole = Path(name)
    if not whole.exists():
        file, _, word = str(name).rpartition(":")
        if file and word and Path(file).exists():
            return Path(file), word
    return whole, ""


def checkpoint_exists(name: str | Path) -> bool:
    """Return whether there is a checkpoint of this name, with or without a word."""
    return split_word(name)[0].exists()


def checkpoints_in(folder: str | Path) -> list[tuple[int, Path]]:
    """List the checkpoints of a training run in a folder.

    Args:
        folder: The folder of `lossatlas.Recorder`, of `train.py --save`, or of another program with names as in
            `SERIES`.

    Returns:
        The number (of an epoch or a step) and the path of each, by number; empty where there is none.

    Raises:
        BadInput: A number is there twice.
    """
    if (log := read_log(Path(folder))) is not None:  # files that it does not name are not of this run
        return [(entry.step, Path(folder) / entry.file) for entry in log.entries]
    entries = sorted(Path(folder).iterdir())
    for pattern in SERIES:
        found = [(int(match.group(1)), path) for path in entries if (match := pattern.fullmatch(path.name))]
        if found:
            numbers = [number for number, _ in found]
            if twice := [number for number in numbers if numbers.count(number) > 1]:
                raise BadInput(f"{folder} holds checkpoint {twice[0]} twice: name the checkpoints, or remove one")
            return sorted(found)
    return []


def counted_in(checkpoint: str | Path) -> str:
    """Return the unit of the number in the name of a run's checkpoint: "step" or "epoch".

    A recorder counts its steps, which are steps of the optimizer or epochs; Hugging Face and Lightning write the word.

    Args:
        checkpoint: Path of the checkpoint.

    Example:
        >>> counted_in("run/checkpoint-500"), counted_in("run/model_3.t7")
        ('step', 'epoch')
    """
    path = split_word(checkpoint)[0]
    named_step = any(pattern.fullmatch(path.name) for pattern in SERIES if pattern.pattern.startswith(STEPS))
    return "step" if named_step or (path.parent / LOG).is_file() else "epoch"
